//! Lists for people: a `SELECT` with only those conditions that were asked for, so that each combination gets its own plan.
//! All text in it is constant; values are parameters.

use crate::backend::{Arg, Sql};
use crate::{Result, StoreError};

pub(crate) struct Listing {
    sql: String,
    args: Vec<Arg>,
    narrowed: bool,
}

impl Listing {
    pub(crate) fn new(select: &'static str) -> Self {
        Self { sql: select.to_owned(), args: Vec::new(), narrowed: false }
    }

    /// `condition` with a `?` where its parameter goes.
    pub(crate) fn and(&mut self, condition: &'static str, value: Option<String>) {
        let Some(value) = value else { return };
        self.sql.push_str(if self.narrowed { " AND " } else { " WHERE " });
        self.narrowed = true;
        self.args.push(value.into());
        self.sql.push_str(&condition.replace('?', &format!("${}", self.args.len())));
    }

    /// A condition without a parameter: the one that a partial index has.
    pub(crate) fn and_where(&mut self, condition: &'static str) {
        self.sql.push_str(if self.narrowed { " AND " } else { " WHERE " });
        self.sql.push_str(condition);
        self.narrowed = true;
    }

    /// `condition` is a `LIKE ? ESCAPE '\\'`; the part is found anywhere, and means itself.
    pub(crate) fn and_contains(&mut self, condition: &'static str, part: Option<String>) {
        let part = part.filter(|part| !part.is_empty());
        let escape = |part: String| part.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        self.and(condition, part.map(|part| format!("%{}%", escape(part))));
    }

    /// One row more than `limit`, for `Page::cut`.
    pub(crate) fn ordered_by(mut self, order: &'static str, limit: u32) -> (Sql, Vec<Arg>) {
        self.args.push((i64::from(limit) + 1).into());
        self.sql.push_str(&format!(" ORDER BY {order} LIMIT ${}", self.args.len()));
        (Sql::Joined(self.sql), self.args)
    }
}

/// The cursor of a list that goes down by number.
pub(crate) fn number_cursor(cursor: Option<&str>) -> Result<i64> {
    cursor.map_or(Ok(i64::MAX), |text| text.parse().map_err(|_| StoreError::BadCursor))
}

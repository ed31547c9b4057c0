//! Who changed what: one row a change, written in the change's own transaction.

use crate::backend::{Row, Tx, args, clean};
use crate::listing::number_cursor;
use crate::rows::Cells;
use crate::{Page, Result, Store};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Who asks for a change: a token's name, or `system`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub actor: String,
}

impl Who {
    /// Certwright itself, carrying out what somebody asked for.
    pub fn system() -> Self {
        Self { actor: "system".into() }
    }
}

/// Holds no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Ascending in the order of writing.
    pub id: i64,
    pub at: Timestamp,
    pub actor: String,
    /// `site.create`, `domain.change`, …
    pub action: String,
    pub subject: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// What a change did, for its row.
pub(crate) struct Note {
    pub subject: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

pub(crate) async fn note(tx: &mut Tx, who: &Who, now: Timestamp, action: &str, notes: Vec<Note>) -> Result<()> {
    let text = |value: Option<Value>| value.map(|value| value.to_string());
    let rows: Vec<Value> = notes.into_iter().map(|note| json!([clean(note.subject), text(note.before), text(note.after)])).collect();
    let insert = "INSERT INTO audit_log (at, actor, action, subject, before, after) \
                  SELECT $2, $3, $4, v.value->>0, v.value->>1, v.value->>2 FROM json_each($1) AS v WHERE true";
    tx.exec(insert, args![Value::Array(rows).to_string(), now, who.actor.as_str(), action]).await.map(drop)
}

impl Store {
    /// Newest first.
    pub async fn audit(&self, cursor: Option<String>, limit: u32) -> Result<Page<AuditEntry>> {
        let before = number_cursor(cursor.as_deref())?;
        let select = "SELECT id, at, actor, action, subject, before, after FROM audit_log WHERE id < $1 ORDER BY id DESC LIMIT $2";
        let rows = self.db.all(select, args![before, i64::from(limit) + 1]).await?;
        let items = rows.iter().map(entry).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(items, limit, |entry| entry.id.to_string()))
    }
}

fn entry(row: &Row) -> Result<AuditEntry> {
    let mut cells = Cells::new(row);
    Ok(AuditEntry {
        id: cells.int()?,
        at: cells.time()?,
        actor: cells.text()?,
        action: cells.text()?,
        subject: cells.text()?,
        before: cells.json_opt()?,
        after: cells.json_opt()?,
    })
}

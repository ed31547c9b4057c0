//! What the edge is told, read from the rows of domains and sites.
//!
//! A page of the index is one text: decoding a million rows one by one would cost more than reading them. The separators
//! are control characters that no stored text holds (`backend::clean`).

use crate::backend::{Arg, Row, args};
use crate::rows::{hostname, parsed};
use crate::{Result, Store, StoreError};
use certwright_model::Hostname;
use certwright_model::edge::{EdgeChange, EdgeEntry, EdgeRoute};

pub(crate) const UNIT: &str = "\u{1f}";
pub(crate) const RECORD: &str = "\u{1e}";

macro_rules! line {
    ($unit:literal) => {
        concat!(
            "concat_ws(",
            $unit,
            ", d.hostname, COALESCE(d.staged_certificate_id, d.certificate_id, ''), COALESCE(d.route_to, ''), \
             COALESCE(d.route_detail, ''), COALESCE(s.name, ''), COALESCE(s.kind, ''), COALESCE(s.detail, ''))"
        )
    };
}

pub(crate) const ENTRIES: &str = concat!(
    "SELECT string_agg(line, $4) FROM (SELECT ",
    line!("$3"),
    " AS line FROM custom_domains d LEFT JOIN sites s ON s.id = d.site_id \
     WHERE d.published = 1 AND d.hostname > $1 ORDER BY d.hostname LIMIT $2) AS page"
);
const ENTRY: &str = concat!(
    "SELECT ",
    line!("$2"),
    " FROM custom_domains d LEFT JOIN sites s ON s.id = d.site_id WHERE d.published = 1 AND d.hostname = $1"
);
/// The time of the last change of a page, over both tables.
const LAST: &str = "SELECT at FROM (SELECT at FROM (SELECT edge_changed_at AS at FROM custom_domains WHERE edge_changed_at > $1 \
     ORDER BY edge_changed_at LIMIT $2) AS sets UNION ALL SELECT at FROM (SELECT edge_changed_at AS at FROM edge_removals \
     WHERE edge_changed_at > $1 ORDER BY edge_changed_at LIMIT $2) AS removals) AS both_kinds ORDER BY at LIMIT 1 OFFSET $3";
pub(crate) const CHANGED: &str = concat!(
    "SELECT d.edge_changed_at, d.published, ",
    line!("$3"),
    " FROM custom_domains d LEFT JOIN sites s ON s.id = d.site_id WHERE d.edge_changed_at > $1 AND d.edge_changed_at <= $2 \
     ORDER BY d.edge_changed_at"
);
const REMOVED: &str = "SELECT edge_changed_at, hostname FROM edge_removals WHERE edge_changed_at > $1 AND edge_changed_at <= $2";

impl Store {
    /// Published domains after a hostname, in hostname order.
    pub async fn edge_entries(&self, after: Option<&Hostname>, limit: u32) -> Result<Vec<EdgeEntry>> {
        let args = args![after.map_or("", Hostname::as_str), limit, separator(UNIT), separator(RECORD)];
        let Some(page) = self.db.one(ENTRIES, args).await?.map(|row| row.text_opt(0)).transpose()?.flatten() else {
            return Ok(Vec::new());
        };
        let mut entries = page.split(RECORD).map(entry).collect::<Result<Vec<_>>>()?;
        // An aggregate promises no order, though it keeps the one it is fed.
        entries.sort_by(|a, b| a.host.cmp(&b.host));
        Ok(entries)
    }

    /// Changes after `since_ms` in order, each with its time. Changes of one millisecond are never split over two answers,
    /// so an answer may be longer than `limit`. Nodes' clocks differ: ask again from a few seconds before the last answer;
    /// changes may be applied twice. A removal is told for at least a day.
    pub async fn edge_changes(&self, since_ms: i64, limit: u32) -> Result<Vec<(i64, EdgeChange)>> {
        let offset = i64::from(limit.max(1)) - 1;
        let last = self.db.one(LAST, args![since_ms, offset + 1, offset]).await?;
        let until = last.map_or(Ok(i64::MAX), |row| row.int(0))?;
        let mut changes = Vec::new();
        for row in self.db.all(REMOVED, args![since_ms, until]).await? {
            changes.push((row.int(0)?, EdgeChange::Remove(hostname(&row.text(1)?)?)));
        }
        for row in self.db.all(CHANGED, args![since_ms, until, separator(UNIT)]).await? {
            changes.push((row.int(0)?, change(&row)?));
        }
        // Stable: in the same millisecond a removal comes before the new owner of the name.
        changes.sort_by_key(|(at, _)| *at);
        Ok(changes)
    }

    /// A published domain by its exact name.
    pub async fn edge_entry(&self, host: &Hostname) -> Result<Option<EdgeEntry>> {
        let row = self.db.one(ENTRY, args![host.as_str(), separator(UNIT)]).await?;
        row.map(|row| entry(&row.text(0)?)).transpose()
    }
}

/// Past the cleaning that every other text goes through.
fn separator(text: &str) -> Arg {
    Arg::Text(Some(text.to_owned()))
}

fn change(row: &Row) -> Result<EdgeChange> {
    let entry = entry(&row.text(2)?)?;
    Ok(if row.int(1)? == 1 { EdgeChange::Set(entry) } else { EdgeChange::Remove(entry.host) })
}

fn entry(line: &str) -> Result<EdgeEntry> {
    let mut cells = line.split(UNIT);
    let mut cell = || cells.next().ok_or_else(|| StoreError::Corrupt("a line of the edge's index is short".into()));
    let host = hostname(cell()?)?;
    let certificate = Some(cell()?).filter(|id| !id.is_empty()).map(parsed).transpose()?;
    let (to, target) = (cell()?, cell()?);
    let (site, kind, detail) = (cell()?, cell()?, cell()?);
    let route = match (to, kind) {
        ("site", "static") => EdgeRoute::Files { site: site.to_owned(), content: detail.to_owned() },
        ("site", "proxy") => EdgeRoute::Proxy { upstream: detail.to_owned() },
        ("upstream", _) => EdgeRoute::Proxy { upstream: target.to_owned() },
        _ => EdgeRoute::Nothing,
    };
    Ok(EdgeEntry { host, route, certificate })
}

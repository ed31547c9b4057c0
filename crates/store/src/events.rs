//! Certificate events: accepting them, many callers in one statement, and reading them back; who sends them.
//!
//! An event is accepted once: (source, cluster, source_event_id) is unique, and the same again is told from another one under
//! the same name by its digest. Applying them is in `event_queue`.

use crate::audit::{Note, note};
use crate::backend::{Row, Tx, args, clean};
use crate::listing::Listing;
use crate::rows::{Cells, hostname, id_list, to_json};
use crate::save::OwnEvent;
use crate::{Page, Result, Store, StoreError, Who};
use certwright_model::Hostname;
use certwright_model::event::{EventStatus, Identity, OWN_SOURCE, Report};
use certwright_model::ids::{DomainId, EventId};
use certwright_model::record::EventType;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;

/// What an event is about: a name, or a row that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Name(Hostname),
    Id(DomainId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    pub id: EventId,
    pub identity: Identity,
    pub source_event_id: String,
    pub subject: Subject,
    pub event_type: EventType,
    /// What orders the events of a domain.
    pub at: Timestamp,
    /// Of what it says; equal digests under one `source_event_id` are the same event.
    pub digest: String,
    /// Whether its signature was checked.
    pub verified: bool,
    pub report: Report,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    New,
    /// The same event was accepted before.
    Duplicate {
        id: EventId,
        status: EventStatus,
    },
    /// Another event was accepted under this `source_event_id`.
    Conflict,
    UnknownDomain,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub id: EventId,
    pub identity: Identity,
    pub source_event_id: String,
    pub hostname: Hostname,
    pub event_type: Option<EventType>,
    pub at: Timestamp,
    pub received_at: Timestamp,
    pub verified: bool,
    pub report: Report,
    pub status: EventStatus,
    pub tries: u32,
    pub replays: u32,
    pub due_at: Option<Timestamp>,
    pub error: Option<String>,
    pub settled_at: Option<Timestamp>,
}

/// What somebody did with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub status: Option<EventStatus>,
    pub source: Option<String>,
    pub cluster_id: Option<String>,
    pub domain: Option<Hostname>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRow {
    pub identity: Identity,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub accepted: u64,
    pub duplicates: u64,
    pub rejected: u64,
    pub signature_failures: u64,
}

/// What became of an identity's reports since the last count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCount {
    pub identity: Identity,
    pub accepted: u64,
    pub duplicates: u64,
    pub rejected: u64,
    /// Of the rejected, those whose signature or timestamp was wrong.
    pub signature_failures: u64,
}

impl SourceCount {
    pub fn none(identity: Identity) -> Self {
        Self { identity, accepted: 0, duplicates: 0, rejected: 0, signature_failures: 0 }
    }
}

macro_rules! event_columns {
    () => {
        "id, source, cluster_id, source_event_id, hostname, event_type, at, received_at, verified, report, status, tries, replays, \
         due_at, error, settled_at"
    };
}
pub(crate) use event_columns;

const INSERT: &str = "INSERT INTO cert_events (id, source, cluster_id, source_event_id, hostname, event_type, at, received_at, \
     digest, verified, report, status, due_at) \
     SELECT v.value->>0, v.value->>1, v.value->>2, v.value->>3, v.value->>4, v.value->>5, CAST(v.value->>6 AS BIGINT), $2, \
     v.value->>7, CAST(v.value->>8 AS BIGINT), v.value->>9, 'pending', $2 FROM json_each($1) AS v WHERE true ON CONFLICT DO NOTHING";

const INSERT_OWN: &str = "INSERT INTO cert_events (id, source, cluster_id, source_event_id, hostname, event_type, at, received_at, \
     digest, verified, report, status, settled_at) \
     SELECT v.value->>0, $4, v.value->>1, v.value->>0, d.hostname, v.value->>2, CAST(v.value->>3 AS BIGINT), $3, '', 1, v.value->>4, \
     'applied', $3 FROM json_each($1) AS v CROSS JOIN custom_domains AS d WHERE d.id = $2";

const HOLDERS: &str = "SELECT e.id, e.source, e.cluster_id, e.source_event_id, e.digest, e.status FROM json_each($1) AS v \
     JOIN cert_events AS e ON e.source = v.value->>0 AND e.cluster_id = v.value->>1 AND e.source_event_id = v.value->>2";

const COUNT: &str = "INSERT INTO cert_sources (source, cluster_id, first_seen_at, last_seen_at, accepted, duplicates, rejected, \
     signature_failures) \
     SELECT v.value->>0, v.value->>1, $2, $2, CAST(v.value->>2 AS BIGINT), CAST(v.value->>3 AS BIGINT), CAST(v.value->>4 AS BIGINT), \
     CAST(v.value->>5 AS BIGINT) FROM json_each($1) AS v WHERE true \
     ON CONFLICT (source, cluster_id) DO UPDATE SET last_seen_at = excluded.last_seen_at, \
     accepted = cert_sources.accepted + excluded.accepted, duplicates = cert_sources.duplicates + excluded.duplicates, \
     rejected = cert_sources.rejected + excluded.rejected, \
     signature_failures = cert_sources.signature_failures + excluded.signature_failures";

impl Store {
    /// All of them in one transaction, an outcome for each in order. What is `New` is on disk when this returns.
    pub async fn accept_events(&self, events: Vec<NewEvent>, now: Timestamp) -> Result<Vec<Accepted>> {
        let events = std::sync::Arc::new(events);
        self.db.write(move |tx| Box::pin(async move { accept(tx, &events, now).await })).await
    }

    /// Adds to what is known of the sources; each identity comes once.
    pub async fn count_reports(&self, mut counts: Vec<SourceCount>, now: Timestamp) -> Result<()> {
        // In one order for everybody, so that two nodes never wait for each other's rows.
        counts.sort_by(|a, b| a.identity.cmp(&b.identity));
        let row = |count: &SourceCount| {
            let SourceCount { identity, accepted, duplicates, rejected, signature_failures } = count;
            json!([identity.source, identity.cluster_id, accepted, duplicates, rejected, signature_failures])
        };
        let rows = Value::Array(counts.iter().map(row).collect()).to_string();
        self.db.write(move |tx| Box::pin(async move { tx.exec(COUNT, args![rows, now]).await.map(drop) })).await
    }

    pub async fn event(&self, id: EventId) -> Result<Option<EventRow>> {
        let select = concat!("SELECT ", event_columns!(), " FROM cert_events WHERE id = $1");
        self.db.one(select, args![id]).await?.as_ref().map(event).transpose()
    }

    /// In order.
    pub async fn event_notes(&self, id: EventId) -> Result<Vec<EventNote>> {
        let select = "SELECT at, actor, action FROM cert_event_notes WHERE event_id = $1 ORDER BY id";
        let note = |row: &Row| {
            let mut cells = Cells::new(row);
            Ok(EventNote { at: cells.time()?, actor: cells.text()?, action: cells.text()? })
        };
        self.db.all(select, args![id]).await?.iter().map(note).collect()
    }

    /// Newest first.
    pub async fn events_page(&self, filter: &EventFilter, cursor: Option<String>, limit: u32) -> Result<Page<EventRow>> {
        let mut list = Listing::new(concat!("SELECT ", event_columns!(), " FROM cert_events"));
        narrow(&mut list, filter);
        list.and("id < ?", cursor);
        // Identifiers are UUID version 7: their order is the order of arrival.
        let (sql, args) = list.ordered_by("id DESC", limit);
        let items = self.db.all(sql, args).await?.iter().map(event).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(items, limit, |event| event.id.to_string()))
    }

    /// One event is tried again, from now on as often as a new one. Conflict `event` when it is settled otherwise.
    pub async fn replay_event(&self, id: EventId, who: &Who, now: Timestamp) -> Result<()> {
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let found = tx.one("SELECT status FROM cert_events WHERE id = $1", args![id]).await?;
                    let status = found.ok_or(StoreError::NotFound { what: "event" })?.text(0)?;
                    if replay(tx, &[id.to_string()], &who, now).await? == 0 {
                        let message = format!("the event is {status}: only failed and pending ones are tried again");
                        return Err(StoreError::Conflict { what: "event", message });
                    }
                    Ok(())
                })
            })
            .await
    }

    /// The oldest `limit` of those that the filter names (its status is `Failed` or `Pending`); says how many.
    pub async fn replay_events(&self, filter: &EventFilter, limit: u32, dry_run: bool, who: &Who, now: Timestamp) -> Result<u64> {
        let mut list = Listing::new("SELECT id FROM cert_events");
        narrow(&mut list, filter);
        let (sql, args) = list.ordered_by("id", limit.saturating_sub(1));
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let ids = tx.all(sql, args).await?.iter().map(|row| row.text(0)).collect::<Result<Vec<_>>>()?;
                    if dry_run { Ok(ids.len() as u64) } else { replay(tx, &ids, &who, now).await }
                })
            })
            .await
    }

    /// By name.
    pub async fn sources(&self) -> Result<Vec<SourceRow>> {
        let select = "SELECT source, cluster_id, first_seen_at, last_seen_at, accepted, duplicates, rejected, signature_failures \
                      FROM cert_sources ORDER BY source, cluster_id";
        self.db.all(select, vec![]).await?.iter().map(source).collect()
    }
}

async fn replay(tx: &mut Tx, ids: &[String], who: &Who, now: Timestamp) -> Result<u64> {
    if ids.is_empty() {
        return Ok(0);
    }
    let update = "UPDATE cert_events SET status = 'pending', tries = 0, replays = replays + 1, due_at = $2, settled_at = NULL \
                  WHERE status IN ('failed', 'pending') AND id IN (SELECT v.value->>0 FROM json_each($1) AS v) RETURNING id";
    let rows = tx.all(update, args![id_list(ids), now]).await?;
    let replayed = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>>>()?;
    let insert = "INSERT INTO cert_event_notes (event_id, at, actor, action) \
                  SELECT v.value->>0, $2, $3, 'replay' FROM json_each($1) AS v WHERE true";
    tx.exec(insert, args![id_list(&replayed), now, who.actor.as_str()]).await?;
    tx.woke |= !replayed.is_empty();
    if let Some(first) = replayed.first() {
        let subject = if replayed.len() == 1 { first.clone() } else { format!("{} events", replayed.len()) };
        note(tx, who, now, "event.replay", vec![Note { subject, before: None, after: None }]).await?;
    }
    Ok(replayed.len() as u64)
}

fn narrow(list: &mut Listing, filter: &EventFilter) {
    list.and("hostname = ?", filter.domain.as_ref().map(Hostname::to_string));
    match filter.status {
        Some(EventStatus::Failed) => list.and_where("status = 'failed'"),
        Some(EventStatus::Pending) => list.and_where("due_at IS NOT NULL"),
        status => list.and("status = ?", status.map(|status| status.as_str().to_owned())),
    }
    list.and("source = ?", filter.source.clone());
    list.and("cluster_id = ?", filter.cluster_id.clone());
}

async fn accept(tx: &mut Tx, events: &[NewEvent], now: Timestamp) -> Result<Vec<Accepted>> {
    let names = names_of(tx, events).await?;
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        let host = match &event.subject {
            Subject::Name(host) => host.as_str(),
            Subject::Id(id) => match names.get(id) {
                Some(name) => name.as_str(),
                None => continue,
            },
        };
        let Identity { source, cluster_id } = &event.identity;
        let report = clean(to_json(&event.report)?);
        rows.push(json!([
            event.id.to_string(),
            source,
            cluster_id,
            event.source_event_id,
            host,
            event.event_type.as_str(),
            event.at.as_millisecond(),
            event.digest,
            i64::from(event.verified),
            report
        ]));
    }
    let asked = rows.len() as u64;
    let stored = if asked == 0 { 0 } else { tx.exec(INSERT, args![Value::Array(rows).to_string(), now]).await? };
    // The usual case takes no second look.
    let holders = if stored == asked { HashMap::new() } else { holders_of(tx, events).await? };
    let outcome = |event: &NewEvent| match (&event.subject, holders.get(&(&event.identity, event.source_event_id.as_str()))) {
        (Subject::Id(id), _) if !names.contains_key(id) => Accepted::UnknownDomain,
        (_, None) => Accepted::New,
        (_, Some(holder)) if holder.id == event.id => Accepted::New,
        (_, Some(holder)) if holder.digest == event.digest => Accepted::Duplicate { id: holder.id, status: holder.status },
        (_, Some(_)) => Accepted::Conflict,
    };
    Ok(events.iter().map(outcome).collect())
}

async fn names_of(tx: &mut Tx, events: &[NewEvent]) -> Result<HashMap<DomainId, String>> {
    let ids: Vec<DomainId> = events.iter().filter_map(|event| if let Subject::Id(id) = event.subject { Some(id) } else { None }).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let select = "SELECT id, hostname FROM custom_domains WHERE id IN (SELECT v.value->>0 FROM json_each($1) AS v)";
    let rows = tx.all(select, args![id_list(ids)]).await?;
    let pair = |row: &Row| {
        let mut cells = Cells::new(row);
        Ok((cells.parsed()?, cells.text()?))
    };
    rows.iter().map(pair).collect()
}

struct Holder {
    id: EventId,
    digest: String,
    status: EventStatus,
}

async fn holders_of<'e>(tx: &mut Tx, events: &'e [NewEvent]) -> Result<HashMap<(&'e Identity, &'e str), Holder>> {
    let keys = events.iter().map(|event| json!([event.identity.source, event.identity.cluster_id, event.source_event_id]));
    let rows = tx.all(HOLDERS, args![Value::Array(keys.collect()).to_string()]).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let mut cells = Cells::new(row);
        let id = cells.parsed()?;
        let key = (cells.text()?, cells.text()?, cells.text()?);
        found.insert(key, (id, cells.text()?, cells.word(EventStatus::parse)?));
    }
    let holder = |event: &'e NewEvent| {
        let key = (event.identity.source.clone(), event.identity.cluster_id.clone(), event.source_event_id.clone());
        let (id, digest, status) = found.get(&key)?;
        Some(((&event.identity, event.source_event_id.as_str()), Holder { id: *id, digest: digest.clone(), status: *status }))
    };
    Ok(events.iter().filter_map(holder).collect())
}

/// Our own deeds, as events that are applied already.
pub(crate) async fn add_own(tx: &mut Tx, domain: DomainId, events: &[OwnEvent], now: Timestamp) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        let report = Report {
            certificate_ref: event.certificate_ref.clone(),
            reason: Some(event.message.clone()),
            payload: Some(json!({ "step": event.step })),
            ..Report::default()
        };
        let kind = event.event_type.map(|kind| kind.as_str());
        rows.push(json!([event.id.to_string(), event.node.to_string(), kind, event.at.as_millisecond(), clean(to_json(&report)?)]));
    }
    tx.exec(INSERT_OWN, args![Value::Array(rows).to_string(), domain, now, OWN_SOURCE]).await.map(drop)
}

pub(crate) fn event(row: &Row) -> Result<EventRow> {
    let mut cells = Cells::new(row);
    Ok(EventRow {
        id: cells.parsed()?,
        identity: Identity { source: cells.text()?, cluster_id: cells.text()? },
        source_event_id: cells.text()?,
        hostname: hostname(&cells.text()?)?,
        event_type: cells.word_opt(EventType::parse)?,
        at: cells.time()?,
        received_at: cells.time()?,
        verified: cells.flag()?,
        report: cells.json()?,
        status: cells.word(EventStatus::parse)?,
        tries: cells.count()?,
        replays: cells.count()?,
        due_at: cells.time_opt()?,
        error: cells.text_opt()?,
        settled_at: cells.time_opt()?,
    })
}

fn source(row: &Row) -> Result<SourceRow> {
    let mut cells = Cells::new(row);
    Ok(SourceRow {
        identity: Identity { source: cells.text()?, cluster_id: cells.text()? },
        first_seen_at: cells.time()?,
        last_seen_at: cells.time()?,
        accepted: cells.int()?.unsigned_abs(),
        duplicates: cells.int()?.unsigned_abs(),
        rejected: cells.int()?.unsigned_abs(),
        signature_failures: cells.int()?.unsigned_abs(),
    })
}

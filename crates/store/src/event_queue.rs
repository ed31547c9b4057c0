//! Applying events: what is due, in order for each domain, in one transaction a batch.
//!
//! A domain's row is locked while its events are folded into it (on SQLite by the one writer), so an event is applied by
//! exactly one node, and the state and the event's end are stored together or not at all. A domain that a loop holds under
//! a lease is left to it: its events wait a moment. What an event means is the caller's [`Fold`].

use crate::backend::{Sql, Tx, args, for_update};
use crate::due::WAKE_SITE_OF_DOMAIN;
use crate::events::{EventRow, event, event_columns};
use crate::rows::{Cells, DOMAIN_WIDTH, corrupt, domain, domain_columns, to_json};
use crate::{Result, Store};
use certwright_model::certificate::CertificateRef;
use certwright_model::event::{self, Effect, EventStatus, Limits};
use certwright_model::ids::{DomainId, EventId, SiteId};
use certwright_model::record::{Domain, EventType};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// How long the events of a domain wait that somebody else is working on.
const HELD_PAUSE: SignedDuration = SignedDuration::from_millis(250);

/// Folds the events of one domain, in their order, into it; an effect for each. Pure: it may run twice.
pub type Fold = Arc<dyn Fn(&mut Domain, &[EventRow]) -> Vec<Effect> + Send + Sync>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedBatch {
    pub applied: u64,
    pub superseded: u64,
    /// Tried in vain, and to be tried again.
    pub retried: u64,
    /// Tried in vain for the last time.
    pub failed: u64,
    /// Their domain was in somebody's hands.
    pub held: u64,
    pub changed: Vec<(DomainId, Option<SiteId>)>,
}

impl AppliedBatch {
    pub fn is_empty(&self) -> bool {
        self.applied + self.superseded + self.retried + self.failed + self.held == 0
    }
}

const DUE_NAMES: &str = "SELECT hostname FROM cert_events WHERE due_at <= $1 ORDER BY due_at LIMIT $2";
const DUE_EVENTS: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM cert_events WHERE hostname IN (SELECT v.value->>0 FROM json_each($1) AS v) AND due_at IS NOT NULL AND due_at <= $2 \
     ORDER BY hostname, at, id LIMIT $3"
);
const LOCK_DOMAINS: Sql = for_update!(
    concat!(
        "SELECT ",
        domain_columns!(),
        ", lease_until FROM custom_domains WHERE hostname IN (SELECT v.value->>0 FROM json_each($1) AS v)"
    ),
    "SKIP LOCKED"
);
const KNOWN: &str = "SELECT hostname FROM custom_domains WHERE hostname IN (SELECT v.value->>0 FROM json_each($1) AS v)";
const WAIT: &str = "UPDATE cert_events SET due_at = $2 WHERE due_at IS NOT NULL AND due_at < $2 \
     AND hostname IN (SELECT v.value->>0 FROM json_each($1) AS v)";
const SETTLE: &str = "UPDATE cert_events SET status = $2, due_at = NULL, settled_at = $3, error = NULL, tries = tries + 1 \
     WHERE status = 'pending' AND id IN (SELECT v.value->>0 FROM json_each($1) AS v)";
const RETRY: &str = "UPDATE cert_events SET status = v.value->>2, tries = tries + 1, due_at = CAST(v.value->>1 AS BIGINT), \
     settled_at = CASE WHEN v.value->>2 = 'failed' THEN $3 END, error = $2 FROM json_each($1) AS v \
     WHERE cert_events.id = v.value->>0 AND status = 'pending'";
/// Intent is left alone, and so is a lease: there is none.
const SAVE: &str = "UPDATE custom_domains SET tls_status = v.value->>1, certificate_ref = v.value->>2, \
     tls_not_after = CAST(v.value->>3 AS BIGINT), tls_last_error = v.value->>4, cert_failure_count = CAST(v.value->>5 AS BIGINT), \
     cert_retry_backoff_seconds = CAST(v.value->>6 AS BIGINT), cert_next_retry_at = CAST(v.value->>7 AS BIGINT), \
     cert_last_event_type = v.value->>8, cert_last_event_at = CAST(v.value->>9 AS BIGINT), \
     cert_renewal_due_at = CAST(v.value->>10 AS BIGINT), proven = CAST(v.value->>11 AS BIGINT), reason = v.value->>12, \
     look = v.value->>13, due_at = CASE WHEN CAST(v.value->>14 AS BIGINT) = 0 THEN due_at WHEN due_at IS NULL OR due_at > $2 THEN $2 ELSE due_at END \
     FROM json_each($1) AS v WHERE custom_domains.id = v.value->>0";

impl Store {
    /// At most `limit` of the events that are due, with as many as possible of the same domains.
    pub async fn apply_events(&self, fold: &Fold, limits: Limits, limit: u32, now: Timestamp) -> Result<AppliedBatch> {
        let fold = fold.clone();
        self.db.write(move |tx| Box::pin(async move { apply(tx, &fold, limits, limit, now).await })).await
    }

    pub async fn next_due_event(&self) -> Result<Option<Timestamp>> {
        let first = "SELECT due_at FROM cert_events WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1";
        self.db.one(first, vec![]).await?.map(|row| Cells::new(&row).time()).transpose()
    }
}

async fn apply(tx: &mut Tx, fold: &Fold, limits: Limits, limit: u32, now: Timestamp) -> Result<AppliedBatch> {
    let mut batch = AppliedBatch::default();
    let mut names = BTreeSet::new();
    for row in tx.all(DUE_NAMES, args![now, limit]).await? {
        names.insert(row.text(0)?);
    }
    if names.is_empty() {
        return Ok(batch);
    }
    let mut domains = HashMap::new();
    let mut held = Vec::new();
    for row in tx.all(LOCK_DOMAINS, args![list(&names)]).await? {
        let domain = domain(&row)?;
        let name = domain.intent.hostname.to_string();
        names.remove(&name);
        match row.int_opt(DOMAIN_WIDTH)? {
            Some(until) if until > now.as_millisecond() => held.push(name),
            _ => drop(domains.insert(name, domain)),
        }
    }
    // Nobody's name, or locked by another node this very moment.
    if !names.is_empty() {
        for row in tx.all(KNOWN, args![list(&names)]).await? {
            let name = row.text(0)?;
            names.remove(&name);
            held.push(name);
        }
    }
    if !held.is_empty() {
        batch.held = tx.exec(WAIT, args![list(&held), now + HELD_PAUSE]).await?;
    }
    if !names.is_empty() {
        give_up_or_retry(tx, &names, limits, limit, now, &mut batch).await?;
    }
    if !domains.is_empty() {
        fold_in(tx, domains, fold, limit, now, &mut batch).await?;
    }
    Ok(batch)
}

fn list<'n>(names: impl IntoIterator<Item = &'n String>) -> String {
    Value::Array(names.into_iter().map(|name| json!([name])).collect()).to_string()
}

async fn give_up_or_retry(
    tx: &mut Tx,
    names: &BTreeSet<String>,
    limits: Limits,
    limit: u32,
    now: Timestamp,
    batch: &mut AppliedBatch,
) -> Result<()> {
    let mut rows = Vec::new();
    for row in tx.all(DUE_EVENTS, args![list(names), now, limit]).await? {
        let event = event(&row)?;
        let again = event::retry_at(event.tries + 1, &limits, now);
        let status = if again.is_some() { "pending" } else { "failed" };
        *(if again.is_some() { &mut batch.retried } else { &mut batch.failed }) += 1;
        rows.push(json!([event.id.to_string(), again.map(Timestamp::as_millisecond), status]));
    }
    let why = "no domain of this name is known here";
    tx.exec(RETRY, args![Value::Array(rows).to_string(), why, now]).await.map(drop)
}

async fn fold_in(
    tx: &mut Tx,
    mut domains: HashMap<String, Domain>,
    fold: &Fold,
    limit: u32,
    now: Timestamp,
    batch: &mut AppliedBatch,
) -> Result<()> {
    let rows = tx.all(DUE_EVENTS, args![list(domains.keys()), now, limit]).await?;
    let events = rows.iter().map(event).collect::<Result<Vec<EventRow>>>()?;
    let (mut applied, mut superseded) = (Vec::new(), Vec::new());
    let (mut saves, mut sites, mut woke) = (Vec::new(), BTreeSet::new(), false);
    for group in events.chunk_by(|a, b| a.hostname == b.hostname) {
        let Some(domain) = group.first().and_then(|event| domains.get_mut(event.hostname.as_str())) else { continue };
        let before = domain.state.tls_status;
        let effects = fold(domain, group);
        if effects.len() != group.len() {
            return Err(corrupt("the fold left out an event"));
        }
        let wake = effects.contains(&Effect::Asks);
        woke |= wake;
        let changed = wake || effects.contains(&Effect::Changed);
        for (event, effect) in group.iter().zip(effects) {
            let ended = if effect.status() == EventStatus::Superseded { &mut superseded } else { &mut applied };
            ended.push(event.id);
        }
        if changed {
            batch.changed.push((domain.intent.id, domain.intent.site_id));
        }
        if before != domain.state.tls_status && domain.intent.site_id.is_some() {
            sites.insert(domain.intent.id);
        }
        saves.push(saved(domain, wake)?);
    }
    for id in sites {
        crate::due::wake(tx, WAKE_SITE_OF_DOMAIN, id, now).await?;
    }
    tx.exec(SAVE, args![Value::Array(saves).to_string(), now]).await?;
    batch.applied = settle(tx, &applied, EventStatus::Applied, now).await?;
    batch.superseded = settle(tx, &superseded, EventStatus::Superseded, now).await?;
    tx.woke |= woke;
    Ok(())
}

async fn settle(tx: &mut Tx, ids: &[EventId], status: EventStatus, now: Timestamp) -> Result<u64> {
    if ids.is_empty() {
        return Ok(0);
    }
    tx.exec(SETTLE, args![crate::rows::id_list(ids), status.as_str(), now]).await
}

fn saved(domain: &Domain, wake: bool) -> Result<Value> {
    let state = &domain.state;
    let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millisecond);
    Ok(json!([
        domain.intent.id.to_string(),
        state.tls_status.as_str(),
        state.certificate_ref.as_ref().map(CertificateRef::as_str),
        ms(state.tls_not_after),
        state.tls_last_error.clone().map(crate::backend::clean),
        state.cert_failure_count,
        state.cert_retry_backoff_seconds,
        ms(state.cert_next_retry_at),
        state.cert_last_event_type.map(EventType::as_str),
        ms(state.cert_last_event_at),
        ms(state.cert_renewal_due_at),
        i64::from(state.proven),
        state.reason.as_ref().map(to_json).transpose()?.map(crate::backend::clean),
        crate::backend::clean(to_json(&state.look)?),
        i64::from(wake)
    ]))
}

//! Domains: what was asked for, and lists of them. The state of a domain is written in `save`.

use crate::audit::{Note, Who, note};
use crate::backend::{Sql, Tx, args, for_update};
use crate::due::{WAKE_DOMAIN, WAKE_SITE_OF_DOMAIN, wake, wake_sites};
use crate::jobs::insert_job;
use crate::listing::Listing;
use crate::rows::{domain, domain_cells, domain_columns, id_list, parsed, route_cells, to_json};
use crate::sites::hostname_taken;
use crate::{Page, Result, Store, StoreError};
use certwright_model::Hostname;
use certwright_model::certificate::KeyType;
use certwright_model::domain::{Desired, DomainLifecycle, FailurePolicy, Route, TlsMode, TlsStatus};
use certwright_model::ids::{DomainId, SiteId};
use certwright_model::record::{Domain, DomainIntent, Job};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// Fields that are `None` stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainChange {
    pub desired: Option<Desired>,
    /// `Some(None)` takes the route away.
    pub route: Option<Option<Route>>,
    pub tls_mode: Option<TlsMode>,
    pub failure_policy: Option<FailurePolicy>,
    pub issuers: Option<Vec<String>>,
    pub key_type: Option<KeyType>,
    pub renew_requested_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainFilter {
    pub tls_status: Option<TlsStatus>,
    /// Part of the hostname.
    pub q: Option<String>,
    pub region: Option<String>,
    pub site_id: Option<SiteId>,
}

/// Which domains of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those whose lifecycle is not `ACTIVE`.
    NotActive,
}

const INSERT: &str = concat!(
    "INSERT INTO custom_domains (",
    domain_columns!(),
    ", due_at) SELECT v.value->>0, v.value->>1, v.value->>2, v.value->>3, v.value->>4, v.value->>5, v.value->>6, v.value->>7, \
     v.value->>8, v.value->>9, v.value->>10, v.value->>11, v.value->>12, v.value->>13, CAST(v.value->>14 AS BIGINT), \
     CAST(v.value->>15 AS BIGINT), CAST(v.value->>16 AS BIGINT), v.value->>17, CAST(v.value->>18 AS BIGINT), \
     CAST(v.value->>19 AS BIGINT), v.value->>20, v.value->>21, v.value->>22, v.value->>23, CAST(v.value->>24 AS BIGINT), \
     v.value->>25, CAST(v.value->>26 AS BIGINT), CAST(v.value->>27 AS BIGINT), CAST(v.value->>28 AS BIGINT), \
     CAST(v.value->>29 AS BIGINT), v.value->>30, CAST(v.value->>31 AS BIGINT), CAST(v.value->>32 AS BIGINT), \
     CAST(v.value->>33 AS BIGINT), v.value->>34, v.value->>35, $2 \
     FROM json_each($1) AS v WHERE true ON CONFLICT DO NOTHING RETURNING id"
);
const LOCK: Sql = for_update!(concat!("SELECT ", domain_columns!(), " FROM custom_domains WHERE id = $1"));

/// Stores those whose hostname is free, due at once; says which. One statement.
pub(crate) async fn insert_domains(tx: &mut Tx, domains: &[Domain], now: Timestamp) -> Result<HashSet<DomainId>> {
    let rows = domains.iter().map(domain_cells).collect::<Result<Vec<_>>>()?;
    let stored = tx.all(INSERT, args![Value::Array(rows).to_string(), now]).await?;
    tx.woke |= !stored.is_empty();
    stored.iter().map(|row| parsed(&row.text(0)?)).collect()
}

impl Store {
    /// Conflict `hostname` when it exists, `site` when the site is going away, `job` when the site has an active job.
    pub async fn attach_domain(&self, domain: Domain, job: Option<Job>, who: &Who, now: Timestamp) -> Result<()> {
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let outcome = attach(tx, std::slice::from_ref(&domain), &who, now).await?;
                    outcome.into_iter().collect::<Result<()>>()?;
                    match &job {
                        Some(job) => insert_job(tx, job).await,
                        None => Ok(()),
                    }
                })
            })
            .await
    }

    /// An outcome for each, in order; one transaction.
    pub async fn attach_domains(&self, domains: Vec<Domain>, who: &Who, now: Timestamp) -> Vec<Result<()>> {
        let (who, count) = (who.clone(), domains.len());
        let outcome = self.db.write(move |tx| Box::pin(async move { attach(tx, &domains, &who, now).await })).await;
        outcome.unwrap_or_else(|error| vec![Err(error); count])
    }

    /// The domain is due at once.
    pub async fn change_domain(&self, id: DomainId, change: DomainChange, job: Option<Job>, who: &Who, now: Timestamp) -> Result<Domain> {
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    // A site's row is always locked before its domains'.
                    if change.desired.is_some() {
                        wake(tx, WAKE_SITE_OF_DOMAIN, id, now).await?;
                    }
                    let row = tx.one(LOCK, args![id]).await?.ok_or(StoreError::NotFound { what: "domain" })?;
                    let mut domain = domain(&row)?;
                    let before = Some(describe(&domain.intent));
                    let old_route = domain.intent.route.clone();
                    apply(&mut domain.intent, change, now)?;
                    let intent = &domain.intent;
                    let [to, detail, target, region] = route_cells(intent.route.as_ref());
                    let update = "UPDATE custom_domains SET desired = $2, route_to = $3, route_detail = $4, route_target = $5, \
                                  region = $6, tls_mode = $7, cert_failure_policy = $8, issuers = $9, key_type = $10, \
                                  renew_requested_at = $11, changed_at = $12, \
                                  edge_changed_at = CASE WHEN published = 1 AND $13 = 1 THEN $12 ELSE edge_changed_at END \
                                  WHERE id = $1";
                    let args = args![
                        id,
                        intent.desired.as_str(),
                        to,
                        detail,
                        target,
                        region,
                        intent.tls_mode.as_str(),
                        intent.failure_policy.as_str(),
                        to_json(&intent.issuers)?,
                        intent.key_type.as_str(),
                        intent.renew_requested_at,
                        now,
                        intent.route != old_route,
                    ];
                    tx.exec(update, args).await?;
                    wake(tx, WAKE_DOMAIN, id, now).await?;
                    if let Some(job) = &job {
                        insert_job(tx, job).await?;
                    }
                    let after = Some(describe(intent));
                    note(tx, &who, now, "domain.change", vec![Note { subject: intent.hostname.to_string(), before, after }]).await?;
                    Ok(domain)
                })
            })
            .await
    }

    /// The engine's intent when a site goes: each is due at once. Says how many it changed.
    pub async fn mark_domains_absent(&self, site: SiteId, which: Which, now: Timestamp) -> Result<u64> {
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    // `$3` is a lifecycle to leave out; the empty text is none.
                    let mark = "UPDATE custom_domains SET desired = 'absent', changed_at = $2, \
                                due_at = CASE WHEN lease_owner IS NOT NULL THEN due_at WHEN due_at IS NULL OR due_at > $2 THEN $2 \
                                ELSE due_at END, \
                                woken = CASE WHEN lease_owner IS NOT NULL THEN 1 ELSE woken END \
                                WHERE site_id = $1 AND desired = 'present' AND lifecycle <> $3 RETURNING hostname";
                    let spared = match which {
                        Which::All => "",
                        Which::NotActive => DomainLifecycle::Active.as_str(),
                    };
                    let marked = tx.all(mark, args![site, now, spared]).await?;
                    tx.woke |= !marked.is_empty();
                    let before = || Some(json!({ "desired": "present" }));
                    let after = || Some(json!({ "desired": "absent" }));
                    let notes = marked.iter().map(|row| Ok(Note { subject: row.text(0)?, before: before(), after: after() }));
                    let notes = notes.collect::<Result<Vec<_>>>()?;
                    let count = notes.len() as u64;
                    if count > 0 {
                        note(tx, &Who::system(), now, "domain.change", notes).await?;
                    }
                    Ok(count)
                })
            })
            .await
    }

    pub async fn wake_domain(&self, id: DomainId, now: Timestamp) -> Result<()> {
        let found = self.db.write(move |tx| Box::pin(wake(tx, WAKE_DOMAIN, id, now))).await?;
        if found { Ok(()) } else { Err(StoreError::NotFound { what: "domain" }) }
    }

    pub async fn domain_by_id(&self, id: DomainId) -> Result<Option<Domain>> {
        let select = concat!("SELECT ", domain_columns!(), " FROM custom_domains WHERE id = $1");
        self.db.one(select, args![id]).await?.as_ref().map(domain).transpose()
    }

    pub async fn domain_by_hostname(&self, host: &Hostname) -> Result<Option<Domain>> {
        let select = concat!("SELECT ", domain_columns!(), " FROM custom_domains WHERE hostname = $1");
        self.db.one(select, args![host.as_str()]).await?.as_ref().map(domain).transpose()
    }

    /// By hostname.
    pub async fn domains(&self, filter: DomainFilter, cursor: Option<String>, limit: u32) -> Result<Page<Domain>> {
        let mut list = Listing::new(concat!("SELECT ", domain_columns!(), " FROM custom_domains"));
        list.and("tls_status = ?", filter.tls_status.map(|status| status.as_str().to_owned()));
        list.and("site_id = ?", filter.site_id.map(|id| id.to_string()));
        list.and("region = ?", filter.region);
        list.and_contains(r"hostname LIKE ? ESCAPE '\'", filter.q);
        list.and("hostname > ?", cursor);
        let (sql, args) = list.ordered_by("hostname", limit);
        let items = self.db.all(sql, args).await?.iter().map(domain).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(items, limit, |domain| domain.intent.hostname.to_string()))
    }

    /// By hostname, all of them.
    pub async fn domains_of_site(&self, site: SiteId) -> Result<Vec<Domain>> {
        let select = concat!("SELECT ", domain_columns!(), " FROM custom_domains WHERE site_id = $1 ORDER BY hostname");
        self.db.all(select, args![site]).await?.iter().map(domain).collect()
    }
}

async fn attach(tx: &mut Tx, domains: &[Domain], who: &Who, now: Timestamp) -> Result<Vec<Result<()>>> {
    let sites: HashSet<SiteId> = domains.iter().filter_map(|domain| domain.intent.site_id).collect();
    let mut desired = HashMap::new();
    if !sites.is_empty() {
        wake_sites(tx, id_list(&sites), now).await?;
        let select = "SELECT id, desired FROM sites WHERE id IN (SELECT v.value->>0 FROM json_each($1) AS v)";
        for row in tx.all(select, args![id_list(&sites)]).await? {
            desired.insert(parsed::<SiteId>(&row.text(0)?)?, row.text(1)?);
        }
    }
    let site_of = |domain: &Domain| match domain.intent.site_id.map(|id| desired.get(&id).map(String::as_str)) {
        None | Some(Some("present")) => Ok(()),
        Some(None) => Err(StoreError::NotFound { what: "site" }),
        Some(Some(_)) => Err(StoreError::Conflict { what: "site", message: "the site is being destroyed".into() }),
    };
    let fit: Vec<Domain> = domains.iter().filter(|domain| site_of(domain).is_ok()).cloned().collect();
    let stored = insert_domains(tx, &fit, now).await?;
    let mut notes = Vec::new();
    let outcome = domains.iter().map(|domain| {
        site_of(domain)?;
        if !stored.contains(&domain.intent.id) {
            return Err(hostname_taken(domain));
        }
        notes.push(Note { subject: domain.intent.hostname.to_string(), before: None, after: Some(describe(&domain.intent)) });
        Ok(())
    });
    let outcome = outcome.collect();
    note(tx, who, now, "domain.create", notes).await?;
    Ok(outcome)
}

fn apply(intent: &mut DomainIntent, change: DomainChange, now: Timestamp) -> Result<()> {
    if change.route == Some(Some(Route::Site)) && intent.site_id.is_none() {
        return Err(StoreError::Conflict { what: "domain", message: "the domain belongs to no site that it could be routed to".into() });
    }
    intent.desired = change.desired.unwrap_or(intent.desired);
    intent.route = change.route.unwrap_or(intent.route.take());
    intent.tls_mode = change.tls_mode.unwrap_or(intent.tls_mode);
    intent.failure_policy = change.failure_policy.unwrap_or(intent.failure_policy);
    if let Some(issuers) = change.issuers {
        intent.issuers = issuers;
    }
    intent.key_type = change.key_type.unwrap_or(intent.key_type);
    intent.renew_requested_at = change.renew_requested_at.or(intent.renew_requested_at);
    intent.changed_at = now;
    Ok(())
}

fn describe(intent: &DomainIntent) -> Value {
    json!({
        "id": intent.id.to_string(),
        "hostname": intent.hostname.as_str(),
        "site_id": intent.site_id.map(|id| id.to_string()),
        "desired": intent.desired.as_str(),
        "route": intent.route,
        "tls_mode": intent.tls_mode.as_str(),
        "failure_policy": intent.failure_policy.as_str(),
        "issuers": intent.issuers,
        "key_type": intent.key_type.as_str(),
        "renew_requested_at": intent.renew_requested_at,
    })
}

//! Sites: what was asked for, and lists of them. The state of a site is written in `save`.

use crate::audit::{Note, Who, note};
use crate::backend::{Sql, Tx, args, for_update};
use crate::domains::insert_domains;
use crate::due::{WAKE_SITE, wake};
use crate::jobs::insert_job;
use crate::listing::Listing;
use crate::rows::{site, site_columns, site_detail, to_json};
use crate::{Page, Result, Store, StoreError};
use certwright_model::domain::Desired;
use certwright_model::ids::SiteId;
use certwright_model::record::{Domain, Job, Site, SiteIntent};
use certwright_model::site::{SiteKind, SiteLifecycle, SiteName};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Fields that are `None` stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteChange {
    pub desired: Option<Desired>,
    pub kind: Option<SiteKind>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteFilter {
    pub lifecycle: Option<SiteLifecycle>,
    /// Part of the name.
    pub q: Option<String>,
}

const INSERT: &str =
    concat!("INSERT INTO sites (", site_columns!(), ", due_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)");
const LOCK: Sql = for_update!(concat!("SELECT ", site_columns!(), " FROM sites WHERE id = $1"));

impl Store {
    /// Conflict `site` when the name exists (a destroyed one must be deleted first), `hostname` when the domain does.
    pub async fn create_site(&self, site: Site, default_domain: Domain, job: Job, who: &Who, now: Timestamp) -> Result<()> {
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let Site { intent, state } = &site;
                    refuse_taken_name(tx, &intent.name).await?;
                    let args = args![
                        intent.id,
                        intent.name.as_str(),
                        intent.kind.as_str(),
                        site_detail(&intent.kind),
                        intent.desired.as_str(),
                        intent.created_at,
                        intent.changed_at,
                        state.lifecycle.as_str(),
                        state.lifecycle_since,
                        state.attempts,
                        state.reason.as_ref().map(to_json).transpose()?,
                        state.last_reconciled_at,
                        to_json(&state.look)?,
                        now,
                    ];
                    tx.exec(INSERT, args).await?;
                    if insert_domains(tx, std::slice::from_ref(&default_domain), now).await?.is_empty() {
                        return Err(hostname_taken(&default_domain));
                    }
                    insert_job(tx, &job).await?;
                    let after = Some(describe(intent));
                    note(tx, &who, now, "site.create", vec![Note { subject: intent.name.to_string(), before: None, after }]).await
                })
            })
            .await
    }

    /// Conflict `job` when the site has an active job. The site is due at once, also where the change changes nothing.
    pub async fn set_site_intent(&self, id: SiteId, change: SiteChange, job: Option<Job>, who: &Who, now: Timestamp) -> Result<Site> {
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let row = tx.one(LOCK, args![id]).await?.ok_or(StoreError::NotFound { what: "site" })?;
                    let mut site = site(&row)?;
                    let before = Some(describe(&site.intent));
                    let intent = &mut site.intent;
                    let serves_other = change.kind.as_ref().is_some_and(|kind| *kind != intent.kind);
                    intent.desired = change.desired.unwrap_or(intent.desired);
                    intent.kind = change.kind.unwrap_or_else(|| intent.kind.clone());
                    intent.changed_at = now;
                    let update = "UPDATE sites SET kind = $2, detail = $3, desired = $4, changed_at = $5 WHERE id = $1";
                    tx.exec(update, args![id, intent.kind.as_str(), site_detail(&intent.kind), intent.desired.as_str(), now]).await?;
                    wake(tx, WAKE_SITE, id, now).await?;
                    if serves_other {
                        let routes = "UPDATE custom_domains SET edge_changed_at = $2 \
                                      WHERE site_id = $1 AND published = 1 AND route_to = 'site'";
                        tx.exec(routes, args![id, now]).await?;
                    }
                    if let Some(job) = &job {
                        insert_job(tx, job).await?;
                    }
                    let after = Some(describe(intent));
                    note(tx, &who, now, "site.change", vec![Note { subject: intent.name.to_string(), before, after }]).await?;
                    Ok(site)
                })
            })
            .await
    }

    pub async fn site_by_name(&self, name: &SiteName) -> Result<Option<Site>> {
        let select = concat!("SELECT ", site_columns!(), " FROM sites WHERE name = $1");
        self.db.one(select, args![name.as_str()]).await?.as_ref().map(site).transpose()
    }

    pub async fn site_by_id(&self, id: SiteId) -> Result<Option<Site>> {
        let select = concat!("SELECT ", site_columns!(), " FROM sites WHERE id = $1");
        self.db.one(select, args![id]).await?.as_ref().map(site).transpose()
    }

    /// By name.
    pub async fn sites(&self, cursor: Option<String>, limit: u32, filter: SiteFilter) -> Result<Page<Site>> {
        let mut list = Listing::new(concat!("SELECT ", site_columns!(), " FROM sites"));
        list.and("name > ?", cursor);
        list.and("lifecycle = ?", filter.lifecycle.map(|lifecycle| lifecycle.as_str().to_owned()));
        list.and_contains(r"name LIKE ? ESCAPE '\'", filter.q);
        let (sql, args) = list.ordered_by("name", limit);
        let items = self.db.all(sql, args).await?.iter().map(site).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(items, limit, |site| site.intent.name.to_string()))
    }

    /// A `DESTROYED` site only; Conflict `site` otherwise.
    pub async fn delete_site(&self, id: SiteId, who: &Who, now: Timestamp) -> Result<()> {
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let row = tx.one(LOCK, args![id]).await?.ok_or(StoreError::NotFound { what: "site" })?;
                    let site = site(&row)?;
                    if site.state.lifecycle != SiteLifecycle::Destroyed {
                        return Err(conflict(format!("the site is {}; only a DESTROYED one can be deleted", site.state.lifecycle)));
                    }
                    if tx.one("SELECT id FROM custom_domains WHERE site_id = $1 LIMIT 1", args![id]).await?.is_some() {
                        return Err(conflict("the site still has domains".into()));
                    }
                    tx.exec("DELETE FROM sites WHERE id = $1", args![id]).await?;
                    let before = Some(describe(&site.intent));
                    note(tx, &who, now, "site.delete", vec![Note { subject: site.intent.name.to_string(), before, after: None }]).await
                })
            })
            .await
    }

    pub async fn wake_site(&self, id: SiteId, now: Timestamp) -> Result<()> {
        let found = self.db.write(move |tx| Box::pin(wake(tx, WAKE_SITE, id, now))).await?;
        if found { Ok(()) } else { Err(StoreError::NotFound { what: "site" }) }
    }
}

async fn refuse_taken_name(tx: &mut Tx, name: &SiteName) -> Result<()> {
    match tx.one("SELECT lifecycle FROM sites WHERE name = $1", args![name.as_str()]).await? {
        None => Ok(()),
        Some(row) if row.text(0)? == SiteLifecycle::Destroyed.as_str() => {
            Err(conflict(format!("a destroyed site `{name}` is still listed; delete it first")))
        }
        Some(_) => Err(conflict(format!("a site `{name}` exists"))),
    }
}

fn conflict(message: String) -> StoreError {
    StoreError::Conflict { what: "site", message }
}

pub(crate) fn hostname_taken(domain: &Domain) -> StoreError {
    StoreError::Conflict { what: "hostname", message: format!("`{}` is taken", domain.intent.hostname) }
}

fn describe(intent: &SiteIntent) -> Value {
    json!({
        "id": intent.id.to_string(),
        "name": intent.name.as_str(),
        "kind": intent.kind,
        "desired": intent.desired.as_str(),
    })
}

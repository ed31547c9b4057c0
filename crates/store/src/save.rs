//! Writing state under a lease. A write with a lease that is not the present one changes nothing and says so. Intent is
//! never written here.

use crate::backend::{Sql, Tx, args, for_update};
use crate::claim::Lease;
use crate::due::{WAKE_DOMAINS_OF_SITE, WAKE_SITE_OF_DOMAIN, wake};
use crate::events::add_own;
use crate::progress::{Owner, add_steps, close_jobs};
use crate::rows::to_json;
use crate::{Result, Store, StoreError};
use certwright_model::certificate::CertificateRef;
use certwright_model::ids::{CertificateId, DomainId, EventId, NodeId, SiteId};
use certwright_model::job::{JobKind, JobStatus};
use certwright_model::record::{DomainState, EventType, JobStep, SiteState};
use jiff::Timestamp;

#[derive(Clone, Debug, PartialEq)]
pub struct DomainSave {
    pub id: DomainId,
    pub lease: Lease,
    pub state: DomainState,
    pub events: Vec<OwnEvent>,
    /// For the open jobs of this domain, and where it is a default domain also for its site's own.
    pub job_steps: Vec<JobStep>,
    pub close_jobs: Option<CloseJobs>,
    pub next: Next,
}

/// What Certwright itself did, for the same history that others' reports are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEvent {
    pub id: EventId,
    pub node: NodeId,
    pub at: Timestamp,
    /// `None` for what is no event of a certificate: drift.
    pub event_type: Option<EventType>,
    pub step: String,
    pub message: String,
    pub certificate_ref: Option<CertificateRef>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseJobs {
    pub kinds: Vec<JobKind>,
    /// `Succeeded` or `Failed`; or `Waiting`, which leaves them open but out of the way.
    pub status: JobStatus,
    pub error: Option<String>,
    /// Only jobs asked for until then: what the state was made from. A later request is another piece of work.
    pub asked_until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    KeepLease,
    /// Due again at that time; `None` waits for a wake-up. A wake-up during the lease makes it due now.
    Release(Option<Timestamp>),
    /// Waits for the CA's budget; the earliest deadline is served first. A wake-up during the lease makes it due now.
    Park {
        issuer: String,
        deadline: Timestamp,
    },
    /// The row goes, and its orders, challenges, certificates and events with it.
    Delete,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SiteSave {
    pub id: SiteId,
    pub lease: Lease,
    pub state: SiteState,
    /// For the open jobs of this site that are not about one of its domains.
    pub job_steps: Vec<JobStep>,
    pub close_jobs: Option<CloseJobs>,
    pub next: SiteNext,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteNext {
    KeepLease,
    Release(Option<Timestamp>),
}

impl Store {
    /// Wakes the domain's site when the domain's lifecycle, TLS status or presence changed.
    pub async fn save_domain(&self, save: DomainSave, now: Timestamp) -> Result<()> {
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let id = save.id;
                    wake_changed_site(tx, &save, now).await?;
                    if save.next == Next::Delete {
                        // Steps find their jobs through the row: they are written before it goes.
                        crate::claim::fence(tx, id, &save.lease).await?;
                    } else {
                        update_domain(tx, &save, now).await?;
                        add_own(tx, id, &save.events, now).await?;
                    }
                    add_steps(tx, Owner::Domain(id), &save.job_steps).await?;
                    if let Some(close) = &save.close_jobs {
                        close_jobs(tx, Owner::Domain(id), close, now).await?;
                    }
                    if save.next == Next::Delete {
                        delete_domain(tx, id, now).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Wakes the site's domains when its lifecycle changed.
    pub async fn save_site(&self, save: SiteSave, now: Timestamp) -> Result<()> {
        self.db.write(move |tx| Box::pin(async move { save_site(tx, &save, now).await })).await
    }
}

async fn wake_changed_site(tx: &mut Tx, save: &DomainSave, now: Timestamp) -> Result<()> {
    if save.next == Next::Delete {
        return wake(tx, WAKE_SITE_OF_DOMAIN, save.id, now).await.map(drop);
    }
    // Before the domain's own row is locked: a site always comes first.
    let changed = "UPDATE sites SET \
                   due_at = CASE WHEN lease_owner IS NOT NULL THEN due_at WHEN due_at IS NULL OR due_at > $1 THEN $1 ELSE due_at END, \
                   woken = CASE WHEN lease_owner IS NOT NULL THEN 1 ELSE woken END \
                   WHERE id = (SELECT site_id FROM custom_domains WHERE id = $2 AND lease_token = $3 \
                               AND (lifecycle <> $4 OR tls_status <> $5 OR published <> $6))";
    let DomainSave { id, lease, state, .. } = save;
    let args = args![now, *id, lease.token, state.lifecycle.as_str(), state.tls_status.as_str(), state.published];
    tx.woke |= tx.exec(changed, args).await? > 0;
    Ok(())
}

const UPDATE_DOMAIN: &str = "UPDATE custom_domains SET \
     edge_changed_at = CASE WHEN published <> $5 OR ($5 = 1 AND COALESCE(staged_certificate_id, certificate_id, '') <> $22) \
                       THEN $23 ELSE edge_changed_at END, \
     lifecycle = $3, lifecycle_since = $4, published = $5, certificate_id = $6, staged_certificate_id = $7, tls_status = $8, \
     certificate_ref = $9, tls_not_after = $10, tls_last_error = $11, tls_last_checked_at = $12, cert_failure_count = $13, \
     cert_retry_backoff_seconds = $14, cert_next_retry_at = $15, cert_last_event_type = $16, cert_last_event_at = $17, \
     cert_renewal_due_at = $18, proven = $19, reason = $20, look = $21, \
     due_at = CASE WHEN $24 = 0 THEN due_at WHEN woken = 1 THEN $23 ELSE $25 END, \
     lease_owner = CASE WHEN $24 = 0 THEN lease_owner END, \
     lease_until = CASE WHEN $24 = 0 THEN lease_until END, \
     woken = CASE WHEN $24 = 0 THEN woken ELSE 0 END, \
     budget_granted = CASE WHEN $24 = 0 THEN budget_granted ELSE 0 END, \
     budget_issuer = $26, budget_deadline = $27 \
     WHERE id = $1 AND lease_token = $2 AND lease_owner IS NOT NULL RETURNING due_at";

async fn update_domain(tx: &mut Tx, save: &DomainSave, now: Timestamp) -> Result<()> {
    let state = &save.state;
    let (release, due, issuer, deadline) = match &save.next {
        Next::KeepLease | Next::Delete => (false, None, None, None),
        Next::Release(due) => (true, *due, None, None),
        Next::Park { issuer, deadline } => (true, None, Some(issuer.as_str()), Some(*deadline)),
    };
    let args = args![
        save.id,
        save.lease.token,
        state.lifecycle.as_str(),
        state.lifecycle_since,
        state.published,
        state.certificate_id,
        state.staged_certificate_id,
        state.tls_status.as_str(),
        state.certificate_ref.as_ref().map(CertificateRef::as_str),
        state.tls_not_after,
        state.tls_last_error.clone(),
        state.tls_last_checked_at,
        state.cert_failure_count,
        state.cert_retry_backoff_seconds,
        state.cert_next_retry_at,
        state.cert_last_event_type.map(EventType::as_str),
        state.cert_last_event_at,
        state.cert_renewal_due_at,
        state.proven,
        state.reason.as_ref().map(to_json).transpose()?,
        to_json(&state.look)?,
        state.serving().as_ref().map(CertificateId::to_string).unwrap_or_default(),
        now,
        release,
        due,
        issuer,
        deadline,
    ];
    let row = tx.one(UPDATE_DOMAIN, args).await?.ok_or(StoreError::LostLease)?;
    tx.woke |= release && row.int_opt(0)?.is_some_and(|due| due <= now.as_millisecond());
    Ok(())
}

async fn delete_domain(tx: &mut Tx, id: DomainId, now: Timestamp) -> Result<()> {
    let close = "UPDATE jobs SET status = 'failed', error = 'the domain was removed', finished_at = $2 \
                 WHERE domain_id = $1 AND finished_at IS NULL";
    tx.exec(close, args![id, now]).await?;
    let delete = "DELETE FROM custom_domains WHERE id = $1 RETURNING hostname, edge_changed_at";
    let row = tx.one(delete, args![id]).await?.ok_or(StoreError::LostLease)?;
    if row.int_opt(1)?.is_some() {
        let day_ago = now.as_millisecond() - 24 * 3_600_000;
        tx.exec("DELETE FROM edge_removals WHERE edge_changed_at < $1", args![day_ago]).await?;
        let remember = "INSERT INTO edge_removals (hostname, edge_changed_at) VALUES ($1, $2) \
                        ON CONFLICT (hostname) DO UPDATE SET edge_changed_at = excluded.edge_changed_at";
        tx.exec(remember, args![row.text(0)?, now]).await?;
    }
    Ok(())
}

const HELD_SITE: Sql = for_update!("SELECT lifecycle FROM sites WHERE id = $1 AND lease_token = $2 AND lease_owner IS NOT NULL");

async fn save_site(tx: &mut Tx, save: &SiteSave, now: Timestamp) -> Result<()> {
    let SiteSave { id, lease, state, .. } = save;
    let before = tx.one(HELD_SITE, args![*id, lease.token]).await?.ok_or(StoreError::LostLease)?;
    let changed = before.text(0)? != state.lifecycle.as_str();
    let (release, due) = match save.next {
        SiteNext::KeepLease => (false, None),
        SiteNext::Release(due) => (true, due),
    };
    let update = "UPDATE sites SET lifecycle = $2, lifecycle_since = $3, attempts = $4, reason = $5, last_reconciled_at = $6, look = $7, \
                  due_at = CASE WHEN $9 = 0 THEN due_at WHEN woken = 1 THEN $8 ELSE $10 END, \
                  lease_owner = CASE WHEN $9 = 0 THEN lease_owner END, \
                  lease_until = CASE WHEN $9 = 0 THEN lease_until END, \
                  woken = CASE WHEN $9 = 0 THEN woken ELSE 0 END \
                  WHERE id = $1 RETURNING due_at";
    let args = args![
        *id,
        state.lifecycle.as_str(),
        state.lifecycle_since,
        state.attempts,
        state.reason.as_ref().map(to_json).transpose()?,
        state.last_reconciled_at,
        to_json(&state.look)?,
        now,
        release,
        due,
    ];
    let row = tx.one(update, args).await?.ok_or(StoreError::LostLease)?;
    tx.woke |= release && row.int_opt(0)?.is_some_and(|due| due <= now.as_millisecond());
    if changed {
        wake(tx, WAKE_DOMAINS_OF_SITE, *id, now).await?;
    }
    add_steps(tx, Owner::Site(*id), &save.job_steps).await?;
    match &save.close_jobs {
        Some(close) => close_jobs(tx, Owner::Site(*id), close, now).await,
        None => Ok(()),
    }
}

//! Claiming what is due, under a fenced lease.
//!
//! A claim sets `lease_until`, so that the work of a node that died comes back by itself, and counts `lease_token` up, so
//! that a late write of the former holder is refused. What the claim of a batch needs from other tables is read in one
//! statement a table, not one a row.
//!
//! No index has the columns that a claim writes, and rows are found again by their place in the table: what a claim
//! touches are the rows it takes, however many there are. The price: leased rows stay in front of the scan, which steps
//! over them, and those are as many as are being worked on.

use crate::backend::{Row, Sql, Tx, args, for_update};
use crate::rows::{Cells, DOMAIN_WIDTH, SITE_WIDTH, domain, domain_columns, id_list, order, order_columns, site, site_columns, time};
use crate::seal::Sealer;
use crate::{Result, Store, StoreError};
use certwright_model::certificate::CertificateFacts;
use certwright_model::ids::{CertificateId, DomainId, NodeId, SiteId};
use certwright_model::record::{Domain, Order, Site};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};

/// The right to write the state of one row. The token only grows; a write with an older one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub token: i64,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedDomain {
    pub lease: Lease,
    pub domain: Domain,
    pub site: Option<Site>,
    /// Of `certificate_id`.
    pub current: Option<CertificateFacts>,
    /// Of `staged_certificate_id`.
    pub staged: Option<CertificateFacts>,
    /// The open one.
    pub order: Option<Order>,
    /// A token of the CA budget was spent for it. Cleared when the lease is released.
    pub granted: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedSite {
    pub lease: Lease,
    pub site: Site,
    pub domains: Vec<Domain>,
}

/// Due, and nobody's. The subquery keeps the value from PostgreSQL's planner, whose guess from a histogram about the few
/// rows at its very beginning is so low that it would rather read and sort all that is due.
macro_rules! claimable {
    () => {
        "due_at <= (SELECT CAST($1 AS BIGINT)) AND (lease_until IS NULL OR lease_until <= $1)"
    };
}
/// The lock keeps a row in its place until it is updated. A row that another transaction wrote while it was being locked
/// has a newer place than this statement can see: it is left for the next claim.
macro_rules! claim {
    ($table:literal, $place:literal, $lock:literal, $also:literal, $columns:expr) => {
        concat!(
            "WITH due AS (SELECT ",
            $place,
            " AS place FROM ",
            $table,
            " WHERE ",
            claimable!(),
            " ORDER BY due_at LIMIT $2",
            $lock,
            ") UPDATE ",
            $table,
            " SET lease_until = $3, lease_owner = $4, lease_token = lease_token + 1, woken = 0",
            $also,
            " FROM due WHERE ",
            $table,
            ".",
            $place,
            " = due.place RETURNING ",
            $columns,
            ", lease_token, due_at"
        )
    };
    ($table:literal, $also:literal, $columns:expr) => {
        Sql::Two {
            sqlite: claim!($table, "rowid", "", $also, $columns),
            postgres: claim!($table, "ctid", " FOR UPDATE SKIP LOCKED", $also, $columns),
        }
    };
}
pub(crate) use claimable;

pub(crate) const CLAIM_DOMAINS: Sql =
    claim!("custom_domains", ", budget_issuer = NULL, budget_deadline = NULL", concat!(domain_columns!(), ", budget_granted"));
const CLAIM_SITES: Sql = claim!("sites", "", site_columns!());
pub(crate) const DOMAINS_OF_SITES: &str = concat!(
    "SELECT ",
    domain_columns!(),
    " FROM custom_domains WHERE site_id IN (SELECT v.value->>0 FROM json_each($1) AS v) ORDER BY hostname"
);
/// The first row that nobody holds.
macro_rules! next_free {
    ($table:literal) => {
        concat!("SELECT due_at FROM ", $table, " WHERE due_at IS NOT NULL AND lease_until IS NULL ORDER BY due_at LIMIT 1")
    };
}
/// The first end of a lease. A lease ends after its row was due, so one that matters stands before the first free row.
macro_rules! next_end {
    ($table:literal) => {
        concat!("SELECT MIN(lease_until) FROM ", $table, " WHERE due_at <= $1 AND lease_until IS NOT NULL")
    };
}
pub(crate) const NEXT_DOMAIN: &str = next_free!("custom_domains");
pub(crate) const NEXT_DOMAIN_END: &str = next_end!("custom_domains");

impl Store {
    /// The domains that are due, earliest first.
    pub async fn claim_domains(&self, node: NodeId, now: Timestamp, lease_ms: i64, limit: u32) -> Result<Vec<ClaimedDomain>> {
        let until = lease_end(now, lease_ms)?;
        let sealer = self.sealer.clone();
        self.db.write(move |tx| Box::pin(async move { claim_domains(tx, &sealer, node, now, until, limit).await })).await
    }

    /// The sites that are due, earliest first, each with its domains.
    pub async fn claim_sites(&self, node: NodeId, now: Timestamp, lease_ms: i64, limit: u32) -> Result<Vec<ClaimedSite>> {
        let until = lease_end(now, lease_ms)?;
        self.db.write(move |tx| Box::pin(async move { claim_sites(tx, node, now, until, limit).await })).await
    }

    /// The same lease, until another time.
    pub async fn extend_lease(&self, id: DomainId, lease: &Lease, until: Timestamp) -> Result<Lease> {
        let token = lease.token;
        let extend = "UPDATE custom_domains SET lease_until = $3 WHERE id = $1 AND lease_token = $2 AND lease_owner IS NOT NULL";
        let held = self.db.write(move |tx| Box::pin(async move { tx.exec(extend, args![id, token, until]).await })).await?;
        if held == 1 { Ok(Lease { token, until }) } else { Err(StoreError::LostLease) }
    }

    /// The same lease, until another time.
    pub async fn extend_site_lease(&self, id: SiteId, lease: &Lease, until: Timestamp) -> Result<Lease> {
        let token = lease.token;
        let extend = "UPDATE sites SET lease_until = $3 WHERE id = $1 AND lease_token = $2 AND lease_owner IS NOT NULL";
        let held = self.db.write(move |tx| Box::pin(async move { tx.exec(extend, args![id, token, until]).await })).await?;
        if held == 1 { Ok(Lease { token, until }) } else { Err(StoreError::LostLease) }
    }

    /// What a former life of this node held is due at once, instead of when its leases end. Tokens count up, so that a
    /// process that was only thought dead can write nothing. Leases end before `until`; nothing after it is looked at.
    pub async fn release_leases(&self, node: NodeId, now: Timestamp, until: Timestamp) -> Result<u64> {
        macro_rules! release {
            ($table:literal) => {
                concat!(
                    "UPDATE ",
                    $table,
                    " SET due_at = CASE WHEN due_at > $1 THEN $1 ELSE due_at END, lease_until = NULL, lease_owner = NULL, \
                     lease_token = lease_token + 1, woken = 0 WHERE due_at <= $2 AND lease_owner = $3"
                )
            };
        }
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let released = tx.exec(release!("sites"), args![now, until, node]).await?
                        + tx.exec(release!("custom_domains"), args![now, until, node]).await?;
                    tx.woke |= released > 0;
                    Ok(released)
                })
            })
            .await
    }

    /// When the next row is due, or the next lease ends, so that a loop can sleep until then.
    pub async fn next_due_domain(&self) -> Result<Option<Timestamp>> {
        self.next(NEXT_DOMAIN, NEXT_DOMAIN_END).await?.map(time).transpose()
    }

    /// The same for sites.
    pub async fn next_due_site(&self) -> Result<Option<Timestamp>> {
        self.next(next_free!("sites"), next_end!("sites")).await?.map(time).transpose()
    }

    async fn next(&self, free: &'static str, end: &'static str) -> Result<Option<i64>> {
        let first = |row: Option<Row>| row.map_or(Ok(None), |row| row.int_opt(0));
        let free = first(self.db.one(free, vec![]).await?)?;
        let end = first(self.db.one(end, args![free.unwrap_or(i64::MAX)]).await?)?;
        Ok(free.into_iter().chain(end).min())
    }
}

/// Refuses unless the domain's lease is this one; on PostgreSQL it stays so until the commit.
pub(crate) async fn fence(tx: &mut Tx, domain: DomainId, lease: &Lease) -> Result<()> {
    const HOLD: Sql = for_update!("SELECT id FROM custom_domains WHERE id = $1 AND lease_token = $2 AND lease_owner IS NOT NULL");
    tx.one(HOLD, args![domain, lease.token]).await?.map(drop).ok_or(StoreError::LostLease)
}

fn lease_end(now: Timestamp, lease_ms: i64) -> Result<Timestamp> {
    time(now.as_millisecond().saturating_add(lease_ms))
}

async fn claim_domains(
    tx: &mut Tx,
    sealer: &Sealer,
    node: NodeId,
    now: Timestamp,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<ClaimedDomain>> {
    let mut claimed = Vec::new();
    for row in tx.all(CLAIM_DOMAINS, args![now, limit, until, node]).await? {
        let granted = row.int(DOMAIN_WIDTH)? != 0;
        let lease = Lease { token: row.int(DOMAIN_WIDTH + 1)?, until };
        let was_due = row.int(DOMAIN_WIDTH + 2)?;
        let domain = domain(&row)?;
        claimed.push((was_due, ClaimedDomain { lease, domain, site: None, current: None, staged: None, order: None, granted }));
    }
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    // RETURNING keeps no order.
    claimed.sort_by_key(|(was_due, claimed)| (*was_due, claimed.domain.intent.id));
    let mut claimed: Vec<ClaimedDomain> = claimed.into_iter().map(|(_, claimed)| claimed).collect();
    let sites = sites_of(tx, &claimed).await?;
    let certificates = facts_of(tx, &claimed).await?;
    let mut orders = orders_of(tx, sealer, &claimed).await?;
    for row in &mut claimed {
        let facts = |id: Option<CertificateId>| id.and_then(|id| certificates.get(&id)).cloned();
        row.site = row.domain.intent.site_id.and_then(|id| sites.get(&id)).cloned();
        row.current = facts(row.domain.state.certificate_id);
        row.staged = facts(row.domain.state.staged_certificate_id);
        row.order = orders.remove(&row.domain.intent.id);
    }
    Ok(claimed)
}

async fn sites_of(tx: &mut Tx, claimed: &[ClaimedDomain]) -> Result<HashMap<SiteId, Site>> {
    let ids: HashSet<SiteId> = claimed.iter().filter_map(|row| row.domain.intent.site_id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let select = concat!("SELECT ", site_columns!(), " FROM sites WHERE id IN (SELECT v.value->>0 FROM json_each($1) AS v)");
    let rows = tx.all(select, args![id_list(ids)]).await?;
    rows.iter().map(|row| site(row).map(|site| (site.intent.id, site))).collect()
}

async fn facts_of(tx: &mut Tx, claimed: &[ClaimedDomain]) -> Result<HashMap<CertificateId, CertificateFacts>> {
    let states = claimed.iter().map(|row| &row.domain.state);
    let ids: HashSet<CertificateId> = states.flat_map(|state| [state.certificate_id, state.staged_certificate_id]).flatten().collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let select = "SELECT id, facts FROM certificates WHERE id IN (SELECT v.value->>0 FROM json_each($1) AS v)";
    let rows = tx.all(select, args![id_list(ids)]).await?;
    let pair = |row: &Row| {
        let mut cells = Cells::new(row);
        Ok((cells.parsed()?, cells.json()?))
    };
    rows.iter().map(pair).collect()
}

async fn orders_of(tx: &mut Tx, sealer: &Sealer, claimed: &[ClaimedDomain]) -> Result<HashMap<DomainId, Order>> {
    let ids = id_list(claimed.iter().map(|row| row.domain.intent.id));
    let select = concat!(
        "SELECT ",
        order_columns!(),
        " FROM orders WHERE finished_at IS NULL AND domain_id IN (SELECT v.value->>0 FROM json_each($1) AS v)"
    );
    let rows = tx.all(select, args![ids]).await?;
    rows.iter().map(|row| order(row, sealer).map(|order| (order.domain_id, order))).collect()
}

async fn claim_sites(tx: &mut Tx, node: NodeId, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<ClaimedSite>> {
    let mut claimed = Vec::new();
    for row in tx.all(CLAIM_SITES, args![now, limit, until, node]).await? {
        let lease = Lease { token: row.int(SITE_WIDTH)?, until };
        let was_due = row.int(SITE_WIDTH + 1)?;
        claimed.push((was_due, ClaimedSite { lease, site: site(&row)?, domains: Vec::new() }));
    }
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    claimed.sort_by_key(|(was_due, claimed)| (*was_due, claimed.site.intent.id));
    let mut claimed: Vec<ClaimedSite> = claimed.into_iter().map(|(_, claimed)| claimed).collect();
    let mut domains: HashMap<SiteId, Vec<Domain>> = HashMap::new();
    for row in tx.all(DOMAINS_OF_SITES, args![id_list(claimed.iter().map(|row| row.site.intent.id))]).await? {
        let domain = domain(&row)?;
        if let Some(site) = domain.intent.site_id {
            domains.entry(site).or_default().push(domain);
        }
    }
    for row in &mut claimed {
        row.domains = domains.remove(&row.site.intent.id).unwrap_or_default();
    }
    Ok(claimed)
}

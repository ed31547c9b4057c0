//! Many rows at once, made by the database itself: for benches and for tests of query plans. Not for production data: the
//! domains belong to no site and their certificates need not exist.

use crate::backend::{Sql, args};
use crate::{Result, Store, StoreError};
use certwright_model::ids::CertificateId;
use jiff::Timestamp;

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synthetic {
    /// Named `d<eight digits>.<count>.bench.example.com`.
    pub count: u32,
    /// How many of them are due, spread over the table; the others are due within the next 30 days.
    pub due: u32,
    /// How many of them wait for the budget of the issuer `bench` instead.
    pub parked: u32,
    pub published: bool,
    pub certificate: Option<CertificateId>,
}

/// The names and the texts of the indexes, but the primary key's.
const INDEXES: Sql = Sql::Two {
    sqlite: "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'custom_domains' AND sql IS NOT NULL",
    postgres: "SELECT CAST(indexname AS TEXT), indexdef FROM pg_indexes \
               WHERE schemaname = current_schema() AND tablename = 'custom_domains' AND indexname <> 'custom_domains_pkey'",
};

impl Store {
    pub async fn generate_domains(&self, what: Synthetic, now: Timestamp) -> Result<()> {
        if what.count == 0 || what.count > 10_000_000 {
            return Err(StoreError::Config("1 to 10,000,000 domains can be made".into()));
        }
        // A prime above the largest count scatters the numbers over the table, each once.
        let insert = "WITH RECURSIVE n(i, k) AS (SELECT CAST(0 AS BIGINT), CAST(0 AS BIGINT) \
                          UNION ALL SELECT i + 1, ((i + 1) * 15485863) % $1 FROM n WHERE i + 1 < $1) \
             INSERT INTO custom_domains (id, hostname, kind, desired, route_to, route_detail, tls_mode, cert_failure_policy, issuers, \
                 key_type, ownership_token, created_at, changed_at, lifecycle, lifecycle_since, published, certificate_id, tls_status, \
                 cert_failure_count, proven, look, due_at, budget_issuer, budget_deadline, edge_changed_at) \
             SELECT substr(CAST(100000000 + $1 AS TEXT), 2) || '-0000-7000-8000-' || substr(CAST(1000000000000 + i AS TEXT), 2), \
                 'd' || substr(CAST(100000000 + i AS TEXT), 2) || '.' || $1 || '.bench.example.com', 'custom', 'present', 'upstream', 'http://127.0.0.1:1', 'termination', \
                 'standard', '[]', 'ecdsa-p256', 'bench', $2, $2, 'ACTIVE', $2, $5, $6, 'issued', 0, 1, '{}', \
                 CASE WHEN k < $3 THEN $2 - 1 - k WHEN k < $3 + $4 THEN NULL ELSE $2 + 60000 + (k * 7919) % 2592000000 END, \
                 CASE WHEN k >= $3 AND k < $3 + $4 THEN 'bench' END, \
                 CASE WHEN k >= $3 AND k < $3 + $4 THEN $2 + (k * 7919) % 2592000000 END, \
                 CASE WHEN $5 = 1 THEN $2 - k END \
             FROM n";
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    // An index that is made afterwards takes a fraction of the time of one that grows row by row.
                    let mut indexes = Vec::new();
                    for row in tx.all(INDEXES, vec![]).await? {
                        indexes.push((row.text(0)?, row.text(1)?));
                    }
                    for (name, _) in &indexes {
                        tx.exec(Sql::Joined(format!("DROP INDEX {name}")), vec![]).await?;
                    }
                    tx.exec(insert, args![what.count, now, what.due, what.parked, what.published, what.certificate]).await?;
                    for (_, make) in indexes {
                        tx.exec(Sql::Joined(make), vec![]).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        self.db.analyze().await
    }
}

//! CA budgets, and the domains that wait for them. What a bucket gives is computed in `model::budget`.

use crate::backend::{Sql, args, for_update, skip_locked};
use crate::rows::time;
use crate::{Result, Store, StoreError};
use certwright_model::budget::{Bucket, Limit};
use jiff::Timestamp;

const BUCKET: Sql = for_update!("SELECT full_at FROM ca_budgets WHERE issuer = $1");

pub(crate) const UNPARK: Sql = skip_locked!(
    "WITH first AS (SELECT id AS first_id FROM custom_domains WHERE budget_issuer = $1 ORDER BY budget_deadline LIMIT $2",
    ") UPDATE custom_domains SET due_at = $3, budget_granted = 1, budget_issuer = NULL, budget_deadline = NULL \
     FROM first WHERE id = first.first_id"
);

impl Store {
    /// Takes up to `wanted` tokens of the issuer's bucket; says how many it got.
    pub async fn ca_budget_take(&self, issuer: &str, limit: Limit, now: Timestamp, wanted: u32) -> Result<u32> {
        let issuer = issuer.to_owned();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let full = "INSERT INTO ca_budgets (issuer, full_at) VALUES ($1, $2) ON CONFLICT (issuer) DO NOTHING";
                    tx.exec(full, args![issuer.as_str(), Bucket::full(now).full_at]).await?;
                    let row = tx.one(BUCKET, args![issuer.as_str()]).await?.ok_or(StoreError::NotFound { what: "budget" })?;
                    let (bucket, given) = Bucket { full_at: time(row.int(0)?)? }.take(limit, now, wanted);
                    tx.exec("UPDATE ca_budgets SET full_at = $2 WHERE issuer = $1", args![issuer, bucket.full_at]).await?;
                    Ok(given)
                })
            })
            .await
    }

    /// How many domains wait for the issuer's budget.
    pub async fn parked(&self, issuer: &str) -> Result<u64> {
        let row = self.db.one("SELECT COUNT(*) FROM custom_domains WHERE budget_issuer = $1", args![issuer]).await?;
        row.map_or(Ok(0), |row| row.int(0)).map(|count| u64::try_from(count).unwrap_or(0))
    }

    /// Makes the `n` parked domains with the earliest deadlines due, with the budget granted. Says how many there were.
    pub async fn unpark(&self, issuer: &str, n: u32, now: Timestamp) -> Result<u64> {
        let issuer = issuer.to_owned();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let count = tx.exec(UNPARK, args![issuer, n, now]).await?;
                    tx.woke |= count > 0;
                    Ok(count)
                })
            })
            .await
    }

    /// When the bucket has its next token; `None` when nothing is parked.
    pub async fn next_budget_at(&self, issuer: &str, limit: Limit, now: Timestamp) -> Result<Option<Timestamp>> {
        if self.db.one("SELECT id FROM custom_domains WHERE budget_issuer = $1 LIMIT 1", args![issuer]).await?.is_none() {
            return Ok(None);
        }
        let row = self.db.one("SELECT full_at FROM ca_budgets WHERE issuer = $1", args![issuer]).await?;
        let full_at = row.map(|row| row.int(0).and_then(time)).transpose()?;
        let bucket = full_at.map_or(Bucket::full(now), |full_at| Bucket { full_at });
        Ok(Some(bucket.next_token_at(limit, now)))
    }
}

//! Counts for status pages and metrics. None of them reads a row that it does not count.

use crate::backend::args;
use crate::claim::claimable;
use crate::rows::{Cells, time};
use crate::{Result, Store};
use certwright_model::domain::TlsStatus;
use certwright_model::site::SiteLifecycle;
use jiff::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Every status, also those with none.
    pub domains: Vec<(TlsStatus, u64)>,
    pub sites: Vec<(SiteLifecycle, u64)>,
    /// Due now, also those whose lease ran out; counted up to 10,000.
    pub due_domains: u64,
    pub due_sites: u64,
    pub oldest_due: Option<Timestamp>,
    pub open_jobs: u64,
}

macro_rules! due_count {
    ($table:literal) => {
        concat!("SELECT COUNT(*) FROM (SELECT id FROM ", $table, " WHERE ", claimable!(), " ORDER BY due_at LIMIT 10000) AS due")
    };
}
macro_rules! oldest_due {
    ($table:literal) => {
        concat!("(SELECT due_at FROM ", $table, " WHERE ", claimable!(), " ORDER BY due_at LIMIT 1)")
    };
}
pub(crate) const DUE_DOMAINS: &str = due_count!("custom_domains");

impl Store {
    pub async fn stats(&self, now: Timestamp) -> Result<Stats> {
        let oldest = concat!("SELECT ", oldest_due!("custom_domains"), ", ", oldest_due!("sites"));
        let oldest = match self.db.one(oldest, args![now]).await? {
            Some(row) => row.int_opt(0)?.into_iter().chain(row.int_opt(1)?).min(),
            None => None,
        };
        Ok(Stats {
            domains: self
                .counts("SELECT tls_status, COUNT(*) FROM custom_domains GROUP BY tls_status", TlsStatus::ALL, TlsStatus::parse)
                .await?,
            sites: self
                .counts("SELECT lifecycle, COUNT(*) FROM sites GROUP BY lifecycle", SiteLifecycle::ALL, SiteLifecycle::parse)
                .await?,
            due_domains: self.count(DUE_DOMAINS, args![now]).await?,
            due_sites: self.count(due_count!("sites"), args![now]).await?,
            oldest_due: oldest.map(time).transpose()?,
            open_jobs: self.count("SELECT COUNT(*) FROM jobs WHERE finished_at IS NULL", vec![]).await?,
        })
    }

    async fn count(&self, sql: &'static str, args: Vec<crate::backend::Arg>) -> Result<u64> {
        let count = self.db.one(sql, args).await?.map_or(Ok(0), |row| row.int(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn counts<T: Copy + PartialEq>(&self, sql: &'static str, all: &[T], parse: fn(&str) -> Option<T>) -> Result<Vec<(T, u64)>> {
        let mut counts: Vec<(T, u64)> = all.iter().map(|word| (*word, 0)).collect();
        for row in self.db.all(sql, vec![]).await? {
            let mut cells = Cells::new(&row);
            let (word, count) = (cells.word(parse)?, cells.int()?);
            if let Some(slot) = counts.iter_mut().find(|(known, _)| *known == word) {
                slot.1 = u64::try_from(count).unwrap_or(0);
            }
        }
        Ok(counts)
    }
}

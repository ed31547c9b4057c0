//! Jobs and their steps: what people read about progress.

use crate::backend::{Row, Tx, args};
use crate::listing::Listing;
use crate::rows::{Cells, job, job_columns};
use crate::{Page, Result, Store};
use certwright_model::ids::{JobId, SiteId};
use certwright_model::job::StepStatus;
use certwright_model::record::{Job, JobStep};

/// Conflict `job` when it is of a site that has an active one.
pub(crate) async fn insert_job(tx: &mut Tx, job: &Job) -> Result<()> {
    let insert = concat!("INSERT INTO jobs (", job_columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
    let args = args![
        job.id,
        job.kind.as_str(),
        job.status.as_str(),
        job.site_id,
        job.domain_id,
        job.subject.as_str(),
        job.error.clone(),
        job.created_at,
        job.finished_at,
    ];
    tx.exec(insert, args).await.map(drop)
}

impl Store {
    pub async fn job(&self, id: JobId) -> Result<Option<Job>> {
        let select = concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1");
        self.db.one(select, args![id]).await?.as_ref().map(job).transpose()
    }

    /// In order; `after_seq` 0 gives all. Numbers count from 1 in each job, without gaps.
    pub async fn job_steps(&self, id: JobId, after_seq: i64) -> Result<Vec<(i64, JobStep)>> {
        let select = "SELECT seq, at, step, status, message, elapsed_ms FROM job_steps WHERE job_id = $1 AND seq > $2 ORDER BY seq";
        self.db.all(select, args![id, after_seq]).await?.iter().map(step).collect()
    }

    /// The one that is queued or running. A waiting one blocks nothing.
    pub async fn active_job(&self, site: SiteId) -> Result<Option<Job>> {
        let select = concat!("SELECT ", job_columns!(), " FROM jobs WHERE site_id = $1 AND status IN ('queued', 'running')");
        self.db.one(select, args![site]).await?.as_ref().map(job).transpose()
    }

    /// Newest first.
    pub async fn jobs_page(&self, cursor: Option<String>, limit: u32, site: Option<SiteId>) -> Result<Page<Job>> {
        let mut list = Listing::new(concat!("SELECT ", job_columns!(), " FROM jobs"));
        list.and("site_id = ?", site.map(|id| id.to_string()));
        list.and("id < ?", cursor);
        // Identifiers are UUID version 7: their order is the order of creation.
        let (sql, args) = list.ordered_by("id DESC", limit);
        let items = self.db.all(sql, args).await?.iter().map(job).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(items, limit, |job| job.id.to_string()))
    }
}

fn step(row: &Row) -> Result<(i64, JobStep)> {
    let mut cells = Cells::new(row);
    let seq = cells.int()?;
    let step = JobStep {
        at: cells.time()?,
        step: cells.text()?,
        status: cells.word(StepStatus::parse)?,
        message: cells.text()?,
        elapsed_ms: cells.int_opt()?.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)),
    };
    Ok((seq, step))
}

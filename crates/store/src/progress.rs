//! What the loops tell about their work: steps and ends of jobs. Always inside the transaction that
//! stores the state they tell of.

use crate::Result;
use crate::backend::{Row, Tx, args, clean};
use crate::rows::id_list;
use crate::save::CloseJobs;
use certwright_model::ids::{DomainId, SiteId};
use certwright_model::record::JobStep;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Whose open jobs.
#[derive(Clone, Copy)]
pub(crate) enum Owner {
    /// Its own, and where it is a default domain also its site's own.
    Domain(DomainId),
    /// Those that are not about one of its domains.
    Site(SiteId),
}

macro_rules! of_domain {
    () => {
        " WHERE finished_at IS NULL AND (domain_id = $1 OR (domain_id IS NULL AND \
         site_id = (SELECT site_id FROM custom_domains WHERE id = $1 AND kind = 'default')))"
    };
}
macro_rules! of_site {
    () => {
        " WHERE finished_at IS NULL AND site_id = $1 AND domain_id IS NULL"
    };
}
macro_rules! count_steps {
    ($of:expr) => {
        concat!(
            "UPDATE jobs SET last_seq = last_seq + $2, status = CASE WHEN status = 'queued' THEN 'running' ELSE status END",
            $of,
            " AND status IN ('queued', 'running') RETURNING id, last_seq"
        )
    };
}
macro_rules! close {
    ($of:expr) => {
        concat!(
            "UPDATE jobs SET status = $2, error = $3, finished_at = $4",
            $of,
            " AND created_at <= $6 AND kind IN (SELECT v.value->>0 FROM json_each($5) AS v)"
        )
    };
}

/// A job that waits for somebody else gets no steps: it may wait for years, and is looked at all the while.
/// The number is counted in the job's row, whose lock makes steps of two writers appear in the order of their numbers.
pub(crate) async fn add_steps(tx: &mut Tx, owner: Owner, steps: &[JobStep]) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let count = steps.len() as i64;
    let jobs = match owner {
        Owner::Domain(id) => tx.all(count_steps!(of_domain!()), args![id, count]).await?,
        Owner::Site(id) => tx.all(count_steps!(of_site!()), args![id, count]).await?,
    };
    if jobs.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(jobs.len() * steps.len());
    for job in &jobs {
        rows.append(&mut step_cells(job, steps)?);
    }
    let insert = "INSERT INTO job_steps (job_id, seq, at, step, status, message, elapsed_ms) \
                  SELECT v.value->>0, CAST(v.value->>1 AS BIGINT), CAST(v.value->>2 AS BIGINT), v.value->>3, v.value->>4, v.value->>5, \
                  CAST(v.value->>6 AS BIGINT) FROM json_each($1) AS v WHERE true";
    tx.exec(insert, args![Value::Array(rows).to_string()]).await.map(drop)
}

fn step_cells(job: &Row, steps: &[JobStep]) -> Result<Vec<Value>> {
    let (id, last) = (job.text(0)?, job.int(1)?);
    let first = last - steps.len() as i64 + 1;
    let cells = |(step, seq): (&JobStep, i64)| {
        let (name, message) = (clean(step.step.clone()), clean(step.message.clone()));
        json!([id, seq, step.at.as_millisecond(), name, step.status.as_str(), message, step.elapsed_ms])
    };
    Ok(steps.iter().zip(first..).map(cells).collect())
}

pub(crate) async fn close_jobs(tx: &mut Tx, owner: Owner, how: &CloseJobs, now: Timestamp) -> Result<()> {
    let kinds = id_list(how.kinds.iter().map(|kind| kind.as_str()));
    let ended = how.status.is_over().then_some(now);
    let (status, error) = (how.status.as_str(), how.error.clone());
    match owner {
        Owner::Domain(id) => tx.exec(close!(of_domain!()), args![id, status, error, ended, kinds, how.asked_until]).await,
        Owner::Site(id) => tx.exec(close!(of_site!()), args![id, status, error, ended, kinds, how.asked_until]).await,
    }
    .map(drop)
}

//! Jobs and their steps on the wire.

use super::words;
use certwright_model::ids::{DomainId, JobId, SiteId};
use certwright_model::job::{JobKind, JobStatus, StepStatus};
use certwright_model::record::{Job, JobStep};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    #[schema(value_type = String, format = "uuid")]
    pub id: JobId,
    #[schema(schema_with = words::job_kind)]
    pub kind: JobKind,
    /// `waiting`: somebody else has to act first; it goes on by itself after that.
    #[schema(schema_with = words::job_status)]
    pub status: JobStatus,
    /// The name of the site or domain that it is about.
    #[schema(example = "shop.example.com")]
    pub subject: String,
    #[schema(value_type = Option<String>, format = "uuid")]
    pub site_id: Option<SiteId>,
    #[schema(value_type = Option<String>, format = "uuid")]
    pub domain_id: Option<DomainId>,
    pub error: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Only where one job is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepView>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// Counts from 1 in each job; the `id:` of its event.
    pub seq: i64,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    #[schema(example = "issue")]
    pub step: String,
    #[schema(schema_with = words::step_status)]
    pub status: StepStatus,
    pub message: String,
    pub elapsed_ms: Option<u32>,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            kind: job.kind,
            status: job.status,
            subject: job.subject,
            site_id: job.site_id,
            domain_id: job.domain_id,
            error: job.error,
            created_at: job.created_at,
            finished_at: job.finished_at,
            steps: None,
        }
    }
}

impl From<(i64, JobStep)> for StepView {
    fn from((seq, step): (i64, JobStep)) -> Self {
        Self { seq, at: step.at, step: step.step, status: step.status, message: step.message, elapsed_ms: step.elapsed_ms }
    }
}

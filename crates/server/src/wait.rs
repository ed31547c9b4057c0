//! `?wait=`: how long a caller stays for the outcome.
//!
//! The wait ends when the job is over, when the time is up, when the server stops, or as soon as it is clear that the
//! customer has to act first: no wait of seconds would change that. A caller too many is answered at once; that the
//! outcome is still pending is not an error.

use crate::App;
use crate::problem::Problem;
use certwright_model::ids::JobId;
use certwright_model::job::JobStatus;
use certwright_model::record::Job;
use certwright_model::{Actor, ReasonCode};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;
use utoipa::IntoParams;

const LONGEST: Duration = Duration::from_secs(300);
/// How often a job that waits is asked for whom.
const GLANCE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// Stay for the outcome: `500ms`, `30s`, `2m`; at most 5 minutes count.
    #[param(example = "30s", pattern = "^[0-9]+(ms|s|m)$")]
    pub(crate) wait: Option<String>,
}

impl WaitQuery {
    pub(crate) fn patience(&self) -> Result<Duration, Problem> {
        self.wait.as_deref().map_or(Ok(Duration::ZERO), |text| {
            parse(text).ok_or_else(|| Problem::invalid("wait", "`wait` is a number with its unit: `500ms`, `30s` or `2m`"))
        })
    }
}

/// Digits and `ms`, `s` or `m`. Longer than the longest is the longest.
fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(unit_at);
    let number = if digits.is_empty() { None } else { Some(digits.parse::<u64>().unwrap_or(u64::MAX)) }?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return None,
    };
    Some(duration.min(LONGEST))
}

/// The job as it is when the wait ends.
pub(crate) async fn outcome(app: &App, job: Job, patience: Duration) -> Result<Job, Problem> {
    let permit = app.waiting.try_acquire();
    if patience.is_zero() || permit.is_err() {
        return Ok(job);
    }
    let deadline = Instant::now() + patience;
    let mut job = job;
    while !job.status.is_over() && !customer_has_to_act(app, &job).await? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        job = tokio::select! {
            job = app.engine.wait_for_job(job.id, left.min(GLANCE)) => job?,
            () = app.stopping.cancelled() => return current(app, job.id).await,
        };
    }
    Ok(job)
}

async fn current(app: &App, id: JobId) -> Result<Job, Problem> {
    app.engine.store().job(id).await?.ok_or_else(|| Problem::not_found("job", id))
}

/// A resolver that does not answer may answer in a second; a record that is not there, or another one, stays so.
async fn customer_has_to_act(app: &App, job: &Job) -> Result<bool, Problem> {
    let Some(domain) = job.domain_id.filter(|_| job.status == JobStatus::Waiting) else { return Ok(false) };
    let domain = app.engine.store().domain_by_id(domain).await?;
    let reason = domain.and_then(|domain| domain.state.reason);
    Ok(reason.is_some_and(|reason| reason.actor == Actor::Customer && reason.code != ReasonCode::DnsUnanswered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_with_their_unit_and_capped() {
        let good = [("500ms", 500), ("0s", 0), ("30s", 30_000), ("2m", 120_000), ("5m", 300_000), ("6m", 300_000), ("9000s", 300_000)];
        for (text, ms) in good {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse("99999999999999999999999m"), Some(LONGEST));
        for bad in ["", "30", "s", "-1s", "1.5s", "30 s", "30S", "1h", "٣s", "0x1s", "1s1s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}

//! Following a job: its steps as they happen, until it is over, the time is up, or somebody else has to act first.

use super::{Api, CallError, segment};
use crate::args::{ClientArgs, Format, WaitArgs};
use crate::output;
use anyhow::anyhow;
use certwright_model::ids::JobId;
use certwright_model::job::{JobStatus, StepStatus};
use certwright_model::{Actor, ReasonCode};
use certwright_server::wire::Accepted;
use certwright_server::wire::domains::DomainView;
use certwright_server::wire::jobs::{JobView, StepView};
use futures_util::StreamExt;
use reqwest::Method;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

const RECONNECT: Duration = Duration::from_millis(500);
/// As good as without end.
pub(crate) const FOREVER: Duration = Duration::from_secs(365 * 86_400);

pub(crate) enum Followed {
    Over(JobView),
    Pending(JobView),
}

/// Shows the steps on standard error, unless told to be quiet.
pub(crate) async fn follow(api: &Api, id: JobId, patience: Duration, show: bool) -> Result<Followed, CallError> {
    let deadline = Instant::now() + patience;
    let mut stream = Stream { api, id, seen: 0, show };
    loop {
        match timeout_at(deadline, stream.read()).await {
            Ok(Ok(Ended::Over(job))) => return Ok(Followed::Over(job)),
            Ok(Ok(Ended::SomebodyElse)) | Err(_) => break,
            // The server was restarted, or is busy: it goes on where it was.
            Ok(Ok(Ended::CutOff) | Err(CallError::Unreachable { .. })) => {
                if timeout_at(deadline, sleep(RECONNECT)).await.is_err() {
                    break;
                }
            }
            Ok(Err(CallError::Problem(problem))) if problem.status == 503 => sleep(RECONNECT).await,
            Ok(Err(error)) => return Err(error),
        }
    }
    let job: JobView = api.get(&format!("/api/jobs/{id}")).await?;
    Ok(if job.status.is_over() { Followed::Over(job) } else { Followed::Pending(job) })
}

enum Ended {
    Over(JobView),
    SomebodyElse,
    CutOff,
}

struct Stream<'a> {
    api: &'a Api,
    id: JobId,
    seen: i64,
    show: bool,
}

impl Stream<'_> {
    async fn read(&mut self) -> Result<Ended, CallError> {
        let request = self.api.request(Method::GET, &format!("/api/jobs/{}/events", self.id))?;
        let request = request.header("accept", "text/event-stream").header("last-event-id", self.seen.to_string());
        let mut body = self.api.send(request).await?.bytes_stream();
        let mut lines = Lines::default();
        while let Some(Ok(part)) = body.next().await {
            for event in lines.take(&part) {
                match event.name.as_str() {
                    "end" => {
                        if let Ok(job) = serde_json::from_str(&event.data) {
                            return Ok(Ended::Over(job));
                        }
                    }
                    "step" => {
                        let Ok(step) = serde_json::from_str::<StepView>(&event.data) else { continue };
                        self.seen = step.seq;
                        if self.show {
                            output::progress(&step_line(&step));
                        }
                        if step.status == StepStatus::Waiting && self.customer_has_to_act().await? {
                            return Ok(Ended::SomebodyElse);
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(Ended::CutOff)
    }

    async fn customer_has_to_act(&self) -> Result<bool, CallError> {
        let job: JobView = self.api.get(&format!("/api/jobs/{}", self.id)).await?;
        let Some(id) = job.domain_id.filter(|_| job.status == JobStatus::Waiting) else { return Ok(false) };
        match self.api.get::<DomainView>(&format!("/v1/domains/{id}")).await {
            Ok(domain) => {
                Ok(domain.reason.is_some_and(|reason| reason.actor == Actor::Customer && reason.code != ReasonCode::DnsUnanswered))
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn step_line(step: &StepView) -> String {
    let elapsed = step.elapsed_ms.map(|ms| format!(" ({ms} ms)")).unwrap_or_default();
    let message = if step.message.is_empty() { String::new() } else { format!("  {}", step.message) };
    format!("  {}  {:<8} {}{message}{elapsed}", step.at.strftime("%H:%M:%S"), step.status.as_str(), step.step)
}

#[derive(Default)]
struct Event {
    name: String,
    data: String,
}

/// Server-sent events, out of parts that end anywhere.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    event: Event,
}

impl Lines {
    fn take(&mut self, part: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(part);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    events.push(event);
                }
            } else if let Some(name) = line.strip_prefix("event:") {
                self.event.name = name.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        events
    }
}

/// Where the outcome of a change can be seen.
pub(crate) enum About<'a> {
    Site(&'a str),
    Domain(&'a str),
}

/// Waits for the outcome of a change and prints it. Pending is no error; a failed job is.
pub(crate) async fn settle(api: &Api, args: &ClientArgs, mut taken: Accepted, about: About<'_>, wait: WaitArgs) -> anyhow::Result<()> {
    let people = args.output == Format::Table;
    if people {
        output::line(&taken.message);
    }
    let Some(job) = taken.job.clone() else { return if people { Ok(()) } else { output::json(&taken) } };
    let patience = wait.patience();
    let followed = if patience.is_zero() { Followed::Pending(job) } else { follow(api, job.id, patience, people).await? };
    refresh(api, &mut taken, &about).await?;
    let (job, over) = match followed {
        Followed::Over(job) => (job, true),
        Followed::Pending(job) => (job, false),
    };
    let failed = job.status == JobStatus::Failed;
    let error = job.error.clone();
    if people && over && !failed {
        output::line(&outcome(&taken));
    } else if people && !failed {
        output::line(&pending(&taken, &job));
    }
    taken.job = Some(job);
    if !people {
        output::json(&taken)?;
    }
    if failed { Err(anyhow!("{}", error.unwrap_or_else(|| "the job failed".into()))) } else { Ok(()) }
}

async fn refresh(api: &Api, taken: &mut Accepted, about: &About<'_>) -> Result<(), CallError> {
    match about {
        About::Site(name) => {
            taken.site = api.get(&format!("/api/sites/{}", segment(name))).await.map(Some).or_else(absent)?;
            taken.status = taken.site.as_ref().map(|site| site.status.to_string());
            taken.cert_status = taken.site.as_ref().map(|site| site.cert_status.clone()).unwrap_or_default();
        }
        About::Domain(name) => {
            taken.domain = api.get(&format!("/v1/domains/{}", segment(name))).await.map(Some).or_else(absent)?;
            taken.status = taken.domain.as_ref().map(|domain| domain.lifecycle.to_string());
            taken.cert_status = taken.domain.as_ref().map(|domain| domain.cert_status.clone()).unwrap_or_default();
        }
    }
    Ok(())
}

fn absent<T>(error: CallError) -> Result<Option<T>, CallError> {
    if error.is_not_found() { Ok(None) } else { Err(error) }
}

fn outcome(taken: &Accepted) -> String {
    let certificate = if taken.cert_status.is_empty() { String::new() } else { format!(", certificate {}", taken.cert_status) };
    match &taken.status {
        Some(status) => format!("done: {status}{certificate}"),
        None => "done: it is gone".into(),
    }
}

fn pending(taken: &Accepted, job: &JobView) -> String {
    let reason = taken.domain.as_ref().and_then(|domain| domain.reason.as_ref());
    let reason = reason.or_else(|| taken.site.as_ref().and_then(|site| site.warnings.first().or(site.reason.as_ref())));
    let why = reason.map(|reason| format!(": {} (move: {})", reason.message, reason.actor.as_str())).unwrap_or_default();
    format!("pending{why}\nfollow it with: certwright job follow {}", job.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_parts_they_come_in() {
        let text = "event: step\nid: 1\ndata: {\"a\":\ndata: 1}\n\n: still here\n\nevent: end\r\ndata: x\r\n\r\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let events: Vec<Event> = text.as_bytes().chunks(size).flat_map(|part| lines.take(part)).collect();
            let seen: Vec<(&str, &str)> = events.iter().map(|event| (event.name.as_str(), event.data.as_str())).collect();
            assert_eq!(seen, [("step", "{\"a\":\n1}"), ("end", "x")], "{size}");
        }
    }
}

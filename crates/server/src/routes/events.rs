//! A job's progress as server-sent events: each stored step once, in order; then `end`, and the stream is over.
//!
//! `id:` is the step's number, so a client that comes back with `Last-Event-ID` gets the steps that it has not seen. The
//! steps come from the database; the engine's announcements only say when to look, so a step that another node stored is
//! seen too, a second later.

use super::jobs::find;
use crate::App;
use crate::extract::Segment;
use crate::problem::Problem;
use crate::wire::jobs::{JobView, StepView};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use certwright_engine::Changed;
use certwright_model::ids::JobId;
use certwright_model::record::Job;
use certwright_store::StoreError;
use futures_util::stream;
use http::HeaderMap;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

const GLANCE: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follow a job.
///
/// Events: `step` with a step as its data, `end` with the job as its data.
#[utoipa::path(get, path = "/api/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path, description = "Its id"),
        ("Last-Event-ID" = Option<i64>, Header, description = "The number of the last step seen")),
    responses((status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream")))]
pub(crate) async fn events(State(app): State<App>, id: Segment, headers: HeaderMap) -> Result<Response, Problem> {
    let job = find(&app, id.id("job")?).await?;
    let last = headers.get("last-event-id").map(|value| value.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok()));
    let seen = last.unwrap_or(Some(0)).filter(|seq| *seq >= 0);
    let seen = seen.ok_or_else(|| Problem::invalid("Last-Event-ID", "`Last-Event-ID` is the number of a step"))?;
    let permit = app.following.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::unavailable("too many callers follow a job; ask for the job itself"))?;
    // Before the first look, so that nothing between the two is missed.
    let changes = app.engine.changes();
    let follower = Follower { app, id: job.id, seen, ready: VecDeque::new(), over: false, changes, _permit: Arc::new(permit) };
    let events = stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((Ok::<Event, Infallible>(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here")).into_response())
}

struct Follower {
    app: App,
    id: JobId,
    seen: i64,
    ready: VecDeque<Event>,
    over: bool,
    changes: Receiver<Changed>,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over || self.app.stopping.is_cancelled() {
                return None;
            }
            let job = match self.look().await {
                Ok(job) => job,
                // A client comes back by itself, and by then the database may answer.
                Err(error) => {
                    tracing::warn!(job = %self.id, %error, "an event stream was cut off");
                    return None;
                }
            };
            if self.ready.is_empty() {
                self.nap(&job).await;
            }
        }
    }

    /// The job first, its steps after: a job that is over has stored its last step.
    async fn look(&mut self) -> Result<Job, StoreError> {
        let store = self.app.engine.store();
        let job = store.job(self.id).await?.ok_or(StoreError::NotFound { what: "job" })?;
        for (seq, step) in store.job_steps(self.id, self.seen).await? {
            self.seen = seq;
            self.ready.extend(event("step", seq, &StepView::from((seq, step))));
        }
        if job.status.is_over() {
            self.over = true;
            self.ready.extend(event("end", self.seen, &JobView::from(job.clone())));
        }
        Ok(job)
    }

    async fn nap(&mut self, job: &Job) {
        let (changes, stopping) = (&mut self.changes, self.app.stopping.clone());
        let woken = async {
            loop {
                match changes.recv().await {
                    Ok(Changed::Site(site)) if job.site_id == Some(site) => return,
                    Ok(Changed::Domain(domain, site)) if job.domain_id == Some(domain) || (site.is_some() && job.site_id == site) => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            _ = timeout(GLANCE, woken) => {}
            () = stopping.cancelled() => {}
        }
    }
}

fn event<T: serde::Serialize>(name: &str, seq: i64, data: &T) -> Option<Event> {
    Event::default().event(name).id(seq.to_string()).json_data(data).ok()
}

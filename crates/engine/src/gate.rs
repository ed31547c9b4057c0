//! What an order must pass before it goes to a CA: the local budget, earliest deadline first, and a bound on orders under way.
//!
//! Demands that come together are served together: one take from the bucket for all of them. While anybody is parked for a
//! CA, newcomers park too, so that the earliest deadline is always the next one served.

use crate::Engine;
use crate::clock::Clock;
use crate::reconciler::pause;
use certwright_model::budget::{Limit, earliest_deadline_first};
use certwright_providers::issuer::Issuer;
use certwright_store::{Store, StoreError};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct Gate {
    lanes: BTreeMap<String, Lane>,
}

#[derive(Debug)]
struct Lane {
    slots: Arc<Semaphore>,
    /// Places to wait for a slot: the workers that one CA can hold up.
    waiting: Semaphore,
    budget: Option<Budget>,
}

#[derive(Debug)]
struct Budget {
    limit: Limit,
    demands: mpsc::Sender<Demand>,
}

struct Demand {
    deadline: Timestamp,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

impl Gate {
    pub(crate) fn new<'a>(store: Store, clock: Clock, issuers: impl Iterator<Item = &'a Arc<dyn Issuer>>, in_flight: usize) -> Self {
        let lanes = issuers.map(|issuer| {
            let budget = issuer.budget().map(|limit| {
                let (demands, queue) = mpsc::channel(1024);
                tokio::spawn(serve(store.clone(), clock.clone(), issuer.name().to_owned(), limit, queue));
                Budget { limit, demands }
            });
            (
                issuer.name().to_owned(),
                Lane { slots: Arc::new(Semaphore::new(in_flight.max(1))), waiting: Semaphore::new(in_flight.max(1) * 3), budget },
            )
        });
        Self { lanes: lanes.collect() }
    }

    /// Whether an order may be made now. `false`: park until there is budget.
    pub(crate) async fn spend(&self, issuer: &str, deadline: Timestamp) -> Result<bool, StoreError> {
        let Some(budget) = self.lanes.get(issuer).and_then(|lane| lane.budget.as_ref()) else { return Ok(true) };
        let (answer, answered) = oneshot::channel();
        if budget.demands.send(Demand { deadline, answer }).await.is_err() {
            return Ok(false);
        }
        answered.await.unwrap_or(Ok(false))
    }

    /// A place among the orders under way; `None` when none came free in time, or too many wait for one already.
    pub(crate) async fn slot(&self, issuer: &str, patience: Duration) -> Option<OwnedSemaphorePermit> {
        let lane = self.lanes.get(issuer)?;
        let _place = lane.waiting.try_acquire().ok()?;
        tokio::time::timeout(patience, lane.slots.clone().acquire_owned()).await.ok()?.ok()
    }
}

async fn serve(store: Store, clock: Clock, issuer: String, limit: Limit, mut queue: mpsc::Receiver<Demand>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, 1024).await > 0 {
        let answers = decide(&store, &clock, &issuer, limit, &batch).await;
        for (index, demand) in batch.drain(..).enumerate() {
            let answer = match &answers {
                Ok(served) => Ok(served.contains(&index)),
                Err(error) => Err(error.clone()),
            };
            // A caller that is gone has lost its lease; its token is spent, which errs on the CA's side.
            let _ = demand.answer.send(answer);
        }
    }
}

async fn decide(store: &Store, clock: &Clock, issuer: &str, limit: Limit, batch: &[Demand]) -> Result<Vec<usize>, StoreError> {
    if store.parked(issuer).await? > 0 {
        return Ok(Vec::new());
    }
    let tokens = store.ca_budget_take(issuer, limit, clock.now(), batch.len() as u32).await?;
    let deadlines: Vec<Timestamp> = batch.iter().map(|demand| demand.deadline).collect();
    Ok(earliest_deadline_first(&deadlines, tokens))
}

/// Gives new tokens to who is parked, earliest deadline first.
pub(crate) async fn release_parked(engine: Engine, token: CancellationToken) {
    let limits: Vec<(String, Limit)> =
        engine.inner.gate.lanes.iter().filter_map(|(name, lane)| Some((name.clone(), lane.budget.as_ref()?.limit))).collect();
    if limits.is_empty() {
        return;
    }
    while !token.is_cancelled() {
        let mut nap = Duration::from_millis(500);
        for (issuer, limit) in &limits {
            match release(&engine, issuer, *limit).await {
                Ok(Some(next)) => {
                    let until = Duration::try_from(next.duration_since(engine.inner.clock.now())).unwrap_or(Duration::ZERO);
                    nap = nap.min(until.max(Duration::from_millis(10)));
                }
                Ok(None) => {}
                Err(error) => engine.inner.status.failed("budget", &error.to_string()),
            }
        }
        pause(&token, nap).await;
    }
}

async fn release(engine: &Engine, issuer: &str, limit: Limit) -> Result<Option<Timestamp>, StoreError> {
    let store = &engine.inner.store;
    let parked = store.parked(issuer).await?;
    if parked > 0 {
        let now = engine.inner.clock.now();
        let tokens = store.ca_budget_take(issuer, limit, now, u32::try_from(parked).unwrap_or(u32::MAX).min(500)).await?;
        if tokens > 0 {
            let woken = store.unpark(issuer, tokens, now).await?;
            engine.inner.status.ran("budget", now, 0, woken);
        }
    }
    store.next_budget_at(issuer, limit, engine.inner.clock.now()).await
}

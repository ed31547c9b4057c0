//! The loops over sites and domains: claim what is due, work on it side by side, sleep until the next wake-up or due time.
//!
//! A loop takes no argument and waking it twice is harmless. A domain that is slow holds its own slot only.

use crate::{Engine, domain_steps, gate, site_steps};
use certwright_store::{StoreError, Wakes};
use jiff::Timestamp;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The running loops.
#[derive(Debug)]
pub struct Running {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Running {
    pub(crate) fn new(token: CancellationToken, tracker: TaskTracker) -> Self {
        Self { token, tracker }
    }

    /// Stops claiming; waits up to `patience` for work under way. What is cut off resumes after its lease.
    pub async fn stop(self, patience: Duration) {
        self.token.cancel();
        let _ = timeout(patience, self.tracker.wait()).await;
    }
}

pub(crate) fn spawn(engine: &Engine, token: &CancellationToken, tracker: &TaskTracker) {
    let (loops, token_of_loops, tracker_of_loops) = (engine.clone(), token.clone(), tracker.clone());
    tracker.spawn(async move {
        take_up(&loops, &token_of_loops).await;
        tracker_of_loops.spawn(sites(loops.clone(), token_of_loops.clone()));
        domains(loops, token_of_loops, tracker_of_loops.clone()).await;
    });
    tracker.spawn(gate::release_parked(engine.clone(), token.clone()));
}

/// What this node held when it last died is taken up now, not when its leases end.
async fn take_up(engine: &Engine, token: &CancellationToken) {
    let config = &engine.inner.config;
    while !token.is_cancelled() {
        let now = engine.inner.clock.now();
        match engine.inner.store.release_leases(config.node, now, now + config.lease * 2).await {
            Ok(0) => return,
            Ok(rows) => return tracing::info!(rows, "work of this node's former life is taken up"),
            Err(error) => {
                tracing::warn!(%error, "the database does not answer; trying again in a second");
                pause(token, Duration::from_secs(1)).await;
            }
        }
    }
}

async fn domains(engine: Engine, token: CancellationToken, tracker: TaskTracker) {
    let config = &engine.inner.config;
    let slots = std::sync::Arc::new(Semaphore::new(config.in_flight));
    let mut wakes = engine.inner.store.wakes();
    while !token.is_cancelled() {
        let Ok(first) = slots.clone().acquire_owned().await else { return };
        let mut permits = vec![first];
        while permits.len() < 256 {
            match slots.clone().try_acquire_owned() {
                Ok(permit) => permits.push(permit),
                Err(_) => break,
            }
        }
        let (started, now) = (Instant::now(), engine.inner.clock.now());
        let lease_ms = i64::try_from(config.lease.as_millis()).unwrap_or(120_000);
        let claimed = match engine.inner.store.claim_domains(config.node, now, lease_ms, permits.len() as u32).await {
            Ok(claimed) => claimed,
            Err(error) => {
                engine.inner.status.failed("domains", &error.to_string());
                tracing::warn!(loop_name = "domains", %error, "could not claim; trying again in a second");
                pause(&token, Duration::from_secs(1)).await;
                continue;
            }
        };
        engine.inner.status.ran("domains", now, started.elapsed().as_millis() as u64, claimed.len() as u64);
        let idle = claimed.is_empty();
        for (claim, permit) in claimed.into_iter().zip(permits) {
            let engine = engine.clone();
            tracker.spawn(async move {
                domain_steps::work(&engine, claim).await;
                drop(permit);
            });
        }
        if idle {
            let next = engine.inner.store.next_due_domain().await;
            wait(&engine, &token, &mut wakes, next).await;
        }
    }
}

async fn sites(engine: Engine, token: CancellationToken) {
    let config = &engine.inner.config;
    let mut wakes = engine.inner.store.wakes();
    while !token.is_cancelled() {
        let (started, now) = (Instant::now(), engine.inner.clock.now());
        let lease_ms = i64::try_from(config.lease.as_millis()).unwrap_or(120_000);
        match engine.inner.store.claim_sites(config.node, now, lease_ms, 64).await {
            Ok(claimed) => {
                engine.inner.status.ran("sites", now, started.elapsed().as_millis() as u64, claimed.len() as u64);
                if claimed.is_empty() {
                    let next = engine.inner.store.next_due_site().await;
                    wait(&engine, &token, &mut wakes, next).await;
                    continue;
                }
                futures_util::future::join_all(claimed.into_iter().map(|claim| site_steps::work(&engine, claim))).await;
            }
            Err(error) => {
                engine.inner.status.failed("sites", &error.to_string());
                tracing::warn!(loop_name = "sites", %error, "could not claim; trying again in a second");
                pause(&token, Duration::from_secs(1)).await;
            }
        }
    }
}

/// Until a wake-up, the next due time, or the periodic scan, whichever is first.
async fn wait(engine: &Engine, token: &CancellationToken, wakes: &mut Wakes, next: Result<Option<Timestamp>, StoreError>) {
    let now = engine.inner.clock.now();
    let next = next.ok().flatten();
    let until_due = next.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
    let nap = until_due.unwrap_or(engine.inner.config.scan_every).clamp(Duration::from_millis(2), engine.inner.config.scan_every);
    tokio::select! {
        () = wakes.notified() => {}
        () = sleep(nap) => {}
        () = token.cancelled() => {}
    }
}

pub(crate) async fn pause(token: &CancellationToken, nap: Duration) {
    tokio::select! {
        () = sleep(nap) => {}
        () = token.cancelled() => {}
    }
}

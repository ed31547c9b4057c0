//! Keeps the built-in edge's index equal to the database: the whole of it at the start, then the feed of changes.
//!
//! A change made by this process is applied at once ([`apply_now`]); the feed brings what other nodes did, and heals.

use crate::Engine;
use crate::reconciler::pause;
use certwright_edge::Edge;
use certwright_model::Hostname;
use certwright_model::edge::EdgeChange;
use certwright_store::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PAGE: u32 = 20_000;
const FEED_EVERY: Duration = Duration::from_millis(500);
/// Commits are not ordered by their time stamps across nodes; reading this much again costs little and misses nothing.
const OVERLAP_MS: i64 = 5_000;
/// Every so many looks one goes back further, for clocks that disagree and writes that waited.
const LONG_LOOK_EVERY: u32 = 60;
const LONG_OVERLAP_MS: i64 = 300_000;

pub(crate) fn spawn(engine: &Engine, edge: Arc<Edge>, token: &CancellationToken, tracker: &TaskTracker) {
    tracker.spawn(follow(engine.clone(), edge, token.clone()));
}

async fn follow(engine: Engine, edge: Arc<Edge>, token: CancellationToken) {
    let mut since_ms = engine.inner.clock.now().as_millisecond();
    let started = Instant::now();
    while let Err(error) = load(&engine, &edge).await {
        engine.inner.status.failed("edge_feed", &error.to_string());
        tracing::warn!(loop_name = "edge_feed", %error, "could not load the index; trying again in a second");
        pause(&token, Duration::from_secs(1)).await;
        if token.is_cancelled() {
            return;
        }
    }
    edge.loaded();
    tracing::info!(names = edge.len(), elapsed_ms = started.elapsed().as_millis() as u64, "the edge knows every name");
    for look in 1u32.. {
        pause(&token, FEED_EVERY).await;
        if token.is_cancelled() {
            return;
        }
        let overlap_ms = if look % LONG_LOOK_EVERY == 0 { LONG_OVERLAP_MS } else { OVERLAP_MS };
        let (started, now) = (Instant::now(), engine.inner.clock.now());
        match catch_up(&engine, &edge, since_ms - overlap_ms).await {
            Ok((newest, count)) => {
                // Never ahead of the clock: one that was moved back must not hide what is stored from now on.
                since_ms = newest.unwrap_or(since_ms).max(since_ms).min(now.as_millisecond());
                engine.inner.status.ran("edge_feed", now, started.elapsed().as_millis() as u64, count);
            }
            Err(error) => engine.inner.status.failed("edge_feed", &error.to_string()),
        }
    }
}

async fn load(engine: &Engine, edge: &Edge) -> Result<(), StoreError> {
    let mut after: Option<Hostname> = None;
    loop {
        let order = engine.inner.edge_order.write().await;
        let page = engine.inner.store.edge_entries(after.as_ref(), PAGE).await?;
        let full = page.len() == PAGE as usize;
        after = page.last().map(|entry| entry.host.clone());
        edge.apply(page.into_iter().map(EdgeChange::Set));
        drop(order);
        if !full {
            return Ok(());
        }
    }
}

async fn catch_up(engine: &Engine, edge: &Edge, mut since_ms: i64) -> Result<(Option<i64>, u64), StoreError> {
    let (mut newest, mut count) = (None, 0);
    loop {
        let order = engine.inner.edge_order.write().await;
        let changes = engine.inner.store.edge_changes(since_ms, PAGE).await?;
        let full = changes.len() == PAGE as usize;
        count += changes.len() as u64;
        let last = changes.last().map(|(at, _)| *at);
        edge.apply(changes.into_iter().map(|(_, change)| change));
        drop(order);
        newest = newest.max(last);
        match last {
            Some(at) if full && at > since_ms => since_ms = at,
            _ => return Ok((newest, count)),
        }
    }
}

/// Tells this process's edge what the database now says of a name. The caller holds `edge_order` for reading.
pub(crate) async fn apply_now(engine: &Engine, host: &Hostname) -> Result<(), StoreError> {
    let Some(edge) = &engine.inner.edge else { return Ok(()) };
    let change = match engine.inner.store.edge_entry(host).await? {
        Some(entry) => EdgeChange::Set(entry),
        None => EdgeChange::Remove(host.clone()),
    };
    edge.apply([change]);
    Ok(())
}

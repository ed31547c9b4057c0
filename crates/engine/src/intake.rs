//! Certificate events: from the request onto the disk, and from there into the domains.
//!
//! Invariants: nobody is answered before the event is on disk; callers that come together share one commit; what is queued
//! is bounded, and a full queue makes callers wait. An event is folded by [`certwright_model::event`] and nothing else.

use crate::{Changed, Engine, reconciler};
use certwright_model::domain::DomainLifecycle;
use certwright_model::event::{self, Effect, Event, Identity, Limits};
use certwright_model::fold;
use certwright_model::ids::EventId;
use certwright_model::planner::{Policy, View};
use certwright_model::reason::{Reason, ReasonCode};
use certwright_model::record::Domain;
use certwright_store::{Accepted, EventFilter, EventRow, Fold, NewEvent, SourceCount, SourceRow, StoreError, Who};
use governor::clock::{Clock as _, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use jiff::Timestamp;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Callers beyond this wait for room.
const QUEUE: usize = 4096;
/// Events in one commit at most.
const BATCH: usize = 1000;
/// Events applied in one transaction at most: the database's one writer is not kept from others for long.
const APPLY: u32 = 2000;
/// The same while events come in, and how many times as long as one batch takes the senders then have the database.
const APPLY_BESIDE: u32 = 200;
const SHARE: u32 = 5;
const BURST_SECONDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// Identities whose rate is remembered; beyond that, those that have been quiet are forgotten.
const RATES: usize = 10_000;

/// What the operator set.
#[derive(Clone, Copy, Debug)]
pub struct IntakeConfig {
    pub limits: Limits,
    /// Events a second that one identity may report; ten times as many at once.
    pub rate: NonZeroU32,
}

impl Default for IntakeConfig {
    fn default() -> Self {
        Self { limits: Limits::default(), rate: NonZeroU32::MIN.saturating_add(999) }
    }
}

/// The way in. Started when the first event comes.
#[derive(Debug)]
pub(crate) struct Intake {
    config: IntakeConfig,
    queue: Mutex<Option<mpsc::Sender<Queued>>>,
    /// Something is there to be applied.
    pub(crate) arrived: Notify,
    /// Commits of events so far.
    arrivals: AtomicU64,
    rates: RateLimiter<Identity, HashMapStateStore<Identity>, MonotonicClock>,
    /// What is not in the rows of the sources yet. A crash loses a second of it: it is for people, nothing is decided by it.
    counts: Mutex<HashMap<Identity, SourceCount>>,
}

#[derive(Debug)]
struct Queued {
    event: NewEvent,
    reply: oneshot::Sender<Result<Accepted, StoreError>>,
}

impl Intake {
    pub(crate) fn new(config: IntakeConfig) -> Self {
        let quota = Quota::per_second(config.rate).allow_burst(config.rate.saturating_mul(BURST_SECONDS));
        let rates = RateLimiter::new(quota, HashMapStateStore::default(), MonotonicClock);
        Self { config, queue: Mutex::default(), arrived: Notify::new(), arrivals: AtomicU64::new(0), rates, counts: Mutex::default() }
    }

    fn count(&self, identity: &Identity, add: impl FnOnce(&mut SourceCount)) {
        let mut counts = locked(&self.counts);
        match counts.get_mut(identity) {
            Some(count) => add(count),
            None => add(counts.entry(identity.clone()).or_insert_with(|| SourceCount::none(identity.clone()))),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Stores an event. It is on disk when this returns.
    ///
    /// # Errors
    /// When the database does not take it; then it may or may not be stored, and the same event again is safe.
    pub async fn accept_event(&self, event: NewEvent) -> Result<Accepted, StoreError> {
        let gone = || StoreError::Unavailable("the intake is closed".into());
        let queue = locked(&self.inner.intake.queue).get_or_insert_with(|| start(self)).clone();
        let (reply, answer) = oneshot::channel();
        queue.send(Queued { event, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Whether the identity may report once more now.
    ///
    /// # Errors
    /// How long it has to wait for its next turn.
    pub fn admit(&self, identity: &Identity) -> Result<(), Duration> {
        let rates = &self.inner.intake.rates;
        if rates.len() > RATES {
            rates.retain_recent();
        }
        rates.check_key(identity).map_err(|refused| refused.wait_time_from(MonotonicClock.now()))
    }

    /// Counts a refusal of a known identity.
    pub fn refused(&self, identity: &Identity, signature: bool) {
        self.inner.intake.count(identity, |count| {
            count.rejected += 1;
            count.signature_failures += u64::from(signature);
        });
    }

    /// Who reports, and how it went.
    pub async fn sources(&self) -> Result<Vec<SourceRow>, StoreError> {
        self.write_counts().await?;
        self.inner.store.sources().await
    }

    async fn write_counts(&self) -> Result<(), StoreError> {
        let counts: Vec<SourceCount> = std::mem::take(&mut *locked(&self.inner.intake.counts)).into_values().collect();
        if counts.is_empty() {
            return Ok(());
        }
        self.inner.store.count_reports(counts, self.inner.clock.now()).await
    }

    /// The event is tried again now.
    pub async fn replay_event(&self, id: EventId, who: &Who) -> Result<(), StoreError> {
        self.inner.store.replay_event(id, who, self.inner.clock.now()).await?;
        self.inner.intake.arrived.notify_one();
        Ok(())
    }

    /// All of these are; says how many.
    pub async fn replay_events(&self, filter: EventFilter, limit: u32, dry_run: bool, who: &Who) -> Result<u64, StoreError> {
        let replayed = self.inner.store.replay_events(&filter, limit, dry_run, who, self.inner.clock.now()).await?;
        self.inner.intake.arrived.notify_one();
        Ok(replayed)
    }

    /// Applies at most `limit` of the events that are due; says how many it took up.
    pub async fn apply_due_events(&self, limit: u32) -> Result<u64, StoreError> {
        let (started, now) = (Instant::now(), self.inner.clock.now());
        let batch = self.inner.store.apply_events(&folding(self, now), self.inner.intake.config.limits, limit, now).await?;
        let taken = batch.applied + batch.superseded + batch.retried + batch.failed;
        self.inner.status.ran("events", now, started.elapsed().as_millis() as u64, taken);
        if batch.failed > 0 {
            tracing::warn!(events = batch.failed, "events became dead letters; see `certwright event list --status failed`");
        }
        for (id, site) in batch.changed {
            self.announce(Changed::Domain(id, site));
        }
        Ok(taken + batch.held)
    }
}

/// The collector: gathers what came while the last commit was written, hands it to the database, answers.
fn start(engine: &Engine) -> mpsc::Sender<Queued> {
    let (sender, mut receiver) = mpsc::channel::<Queued>(QUEUE);
    // Not the engine itself: the queue ends with it.
    let (store, clock) = (engine.inner.store.clone(), engine.inner.clock.clone());
    let inner = Arc::downgrade(&engine.inner);
    tokio::spawn(async move {
        let mut batch = Vec::new();
        while receiver.recv_many(&mut batch, BATCH).await > 0 {
            let (events, replies): (Vec<_>, Vec<_>) = batch.drain(..).map(|queued| (queued.event, queued.reply)).unzip();
            let senders: Vec<Identity> = events.iter().map(|event| event.identity.clone()).collect();
            let outcomes = match store.accept_events(events, clock.now()).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    tracing::warn!(%error, events = replies.len(), "events could not be stored; their senders were told");
                    replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
                    continue;
                }
            };
            let inner = inner.upgrade();
            for ((reply, outcome), sender) in replies.into_iter().zip(outcomes).zip(senders) {
                if let Some(inner) = &inner {
                    inner.intake.count(&sender, |count| match &outcome {
                        Accepted::New => count.accepted += 1,
                        Accepted::Duplicate { .. } => count.duplicates += 1,
                        Accepted::Conflict | Accepted::UnknownDomain => count.rejected += 1,
                    });
                }
                // A caller that has gone away asks again, and is told that it is known.
                let _ = reply.send(Ok(outcome));
            }
            if let Some(inner) = inner {
                inner.intake.arrivals.fetch_add(1, Ordering::Relaxed);
                inner.intake.arrived.notify_one();
            }
        }
    });
    sender
}

/// The model's fold over the events of one domain, and the status that follows from it.
fn folding(engine: &Engine, now: Timestamp) -> Fold {
    let (policy, entropy) = (engine.inner.config.policy.clone(), engine.inner.clock.entropy());
    Arc::new(move |domain: &mut Domain, events: &[EventRow]| {
        // Where nobody dials there is nobody to ask.
        let asked = |effect| if effect == Effect::Asks && !policy.probing { Effect::Changed } else { effect };
        let effects: Vec<Effect> = events.iter().map(|row| asked(apply_one(domain, row, now, entropy))).collect();
        if effects.iter().any(|effect| matches!(effect, Effect::Changed | Effect::Asks)) {
            conclude(domain, &policy, now);
        }
        effects
    })
}

fn apply_one(domain: &mut Domain, row: &EventRow, now: Timestamp, entropy: f64) -> Effect {
    // Ours have none where they are no events of a certificate; those are applied when they are written.
    let Some(event_type) = row.event_type else { return Effect::Noted };
    event::apply(domain, &Event { identity: &row.identity, event_type, at: row.at, report: &row.report }, now, entropy)
}

/// The status right after a report, before the wire is asked. Only of domains that are routed; the others wait for that.
fn conclude(domain: &mut Domain, policy: &Policy, now: Timestamp) {
    if !matches!(domain.state.lifecycle, DomainLifecycle::Routing | DomainLifecycle::Active) {
        return;
    }
    let failure = domain.state.look.failure.clone();
    let reason = failure.unwrap_or_else(|| Reason::new(ReasonCode::AwaitingProof, "reported; the wire is asked now"));
    let seen = domain.clone();
    let view = View { domain: &seen, site: None, current: None, staged: None, order: None };
    fold::conclude(&view, &mut domain.state, reason.at(now), policy, now);
}

pub(crate) fn spawn(engine: &Engine, token: &CancellationToken, tracker: &TaskTracker) {
    tracker.spawn(apply_loop(engine.clone(), token.clone()));
    tracker.spawn(count_loop(engine.clone(), token.clone()));
}

async fn apply_loop(engine: Engine, token: CancellationToken) {
    let intake = &engine.inner.intake;
    let mut seen = 0;
    while !token.is_cancelled() {
        let arrivals = intake.arrivals.load(Ordering::Relaxed);
        // Commits since the last batch: senders are waiting for the same database, and go first.
        let busy = arrivals.wrapping_sub(seen) > 1;
        seen = arrivals;
        let started = Instant::now();
        match engine.apply_due_events(if busy { APPLY_BESIDE } else { APPLY }).await {
            Ok(0) => {
                let now = engine.inner.clock.now();
                let next = engine.inner.store.next_due_event().await.ok().flatten();
                let until = next.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
                let scan = engine.inner.config.scan_every;
                let nap = until.unwrap_or(scan).clamp(Duration::from_millis(2), scan);
                tokio::select! {
                    () = intake.arrived.notified() => {}
                    () = sleep(nap) => {}
                    () = token.cancelled() => {}
                }
            }
            Ok(_) if busy => reconciler::pause(&token, started.elapsed() * SHARE).await,
            Ok(_) => {}
            Err(error) => {
                engine.inner.status.failed("events", &error.to_string());
                tracing::warn!(loop_name = "events", %error, "could not apply; trying again in a second");
                reconciler::pause(&token, Duration::from_secs(1)).await;
            }
        }
    }
}

/// Once a second, and once more at the end.
async fn count_loop(engine: Engine, token: CancellationToken) {
    loop {
        let stopping = token.is_cancelled();
        if let Err(error) = engine.write_counts().await {
            tracing::warn!(%error, "reports were not counted");
        }
        if stopping {
            return;
        }
        reconciler::pause(&token, Duration::from_secs(1)).await;
    }
}

//! What an observation makes of a domain's state: pure, and the only place where state changes.
//!
//! Every function takes the state and one observation, and leaves the state as the database will have it. Lifecycle changes
//! go through the machine; an illegal one is a typed error and changes nothing.

use crate::answers::DnsSight;
use crate::backoff::{self, Retry};
use crate::certificate::CertificateFacts;
use crate::domain::{DomainLifecycle, FailurePolicy};
use crate::ids::CertificateId;
use crate::planner::{Policy, View, tls_status};
use crate::reason::Reason;
use crate::record::{DomainState, EventType};
use crate::renewal;
use crate::site::IllegalTransition;
use crate::wire::Sight;
use jiff::{SignedDuration, Timestamp};

pub fn advance(state: &mut DomainState, to: DomainLifecycle, now: Timestamp) -> Result<(), IllegalTransition> {
    state.lifecycle = state.lifecycle.become_(to)?;
    state.lifecycle_since = now;
    if to == DomainLifecycle::Routing {
        state.look.validation_tries = 0;
        state.look.validate_at = None;
    }
    Ok(())
}

/// Validation failed: back to `PENDING`, to be looked at again soon at first and then less often.
pub fn retreat(state: &mut DomainState, reason: Reason, now: Timestamp) -> Result<(), IllegalTransition> {
    advance(state, DomainLifecycle::Pending, now)?;
    let at = state.look.validate_at.unwrap_or(now);
    state.reason = Some(reason.at(at));
    Ok(())
}

/// 2 s, 4 s … 10 min: DNS changes are made by people who are watching.
fn validation_delay(tries: u32, entropy: f64) -> SignedDuration {
    let plain = SignedDuration::from_secs(2 << tries.saturating_sub(1).min(12)).min(SignedDuration::from_mins(10));
    backoff::jittered(plain, entropy)
}

/// `good` is the verdict on it, `asked_at` the intent's time that it answers; a bad one is looked at again with growing pauses.
pub fn looked_at_dns(state: &mut DomainState, asked_at: Timestamp, sight: DnsSight, good: bool, now: Timestamp, entropy: f64) {
    state.look.dns = Some(sight);
    state.look.looked_for = Some(asked_at);
    if good {
        state.look.validation_tries = 0;
        state.look.validate_at = None;
    } else {
        state.look.validation_tries = state.look.validation_tries.saturating_add(1);
        state.look.validate_at = Some(now + validation_delay(state.look.validation_tries, entropy));
    }
}

/// The sights, their verdict, and the intent's time that they answer.
#[derive(Clone, Debug)]
pub struct Probe<'a> {
    pub asked_at: Timestamp,
    pub sights: Vec<Sight>,
    pub verdict: &'a Result<(), Reason>,
    /// Where somebody else has to mend it: how soon it is worth another look.
    pub patience: Option<FailurePolicy>,
}

/// So many failed looks may only mean that a change is on its way; after them, pauses are those of the failure policy.
const QUICK_LOOKS: u32 = 5;

pub fn probed(state: &mut DomainState, probe: Probe<'_>, policy: &Policy, now: Timestamp, entropy: f64) {
    state.look.sights = probe.sights;
    state.look.probed_for = Some(probe.asked_at);
    state.tls_last_checked_at = Some(now);
    match probe.verdict {
        Ok(()) => {
            state.look.probe_failures = 0;
            state.tls_last_error = None;
            state.look.probe_at = Some(now + backoff::jittered(policy.probe_every, entropy));
        }
        Err(reason) => {
            state.look.probe_failures = state.look.probe_failures.saturating_add(1);
            state.tls_last_error = Some(reason.message.clone());
            let n = state.look.probe_failures;
            let pause = match probe.patience.filter(|_| n > QUICK_LOOKS).map(|policy| backoff::retry(policy, n - QUICK_LOOKS, entropy)) {
                Some(Retry::After(pause)) => pause,
                Some(Retry::Held) => backoff::jittered(policy.probe_every, entropy),
                None => probe_delay(n, entropy),
            };
            state.look.probe_at = Some(now + pause);
        }
    }
}

/// 100 ms, 200 ms … 5 min: right after a change the edge is a moment behind, later it is somebody's problem.
fn probe_delay(failures: u32, entropy: f64) -> SignedDuration {
    let plain = SignedDuration::from_millis(100 << failures.saturating_sub(1).min(16)).min(SignedDuration::from_mins(5));
    backoff::jittered(plain, entropy)
}

/// The edge is given the name.
pub fn published(state: &mut DomainState) {
    state.published = true;
    state.look.withdrawn = false;
}

/// The edge is told to drop the name; whether it has is looked at right away.
pub fn withdrawn(state: &mut DomainState) {
    state.published = false;
    state.look.withdrawn = false;
    state.look.probe_at = None;
    state.look.probe_failures = 0;
}

/// A certificate is stored and handed to the edge; `asked_at` is the request that it answers, if there was one. The wire is
/// looked at right away.
pub fn staged(state: &mut DomainState, id: CertificateId, asked_at: Option<Timestamp>) {
    state.staged_certificate_id = Some(id);
    state.look.renewed_for = asked_at;
    state.look.probe_failures = 0;
    state.look.probe_at = None;
}

/// The wire has shown the staged certificate. `asked_at` is the request that it answers: said again here, for a life that
/// ended between storing the certificate and saving this state.
pub fn committed(state: &mut DomainState, facts: &CertificateFacts, asked_at: Option<Timestamp>, now: Timestamp) {
    state.look.renewed_for = asked_at;
    let renewal = state.certificate_id.is_some();
    state.certificate_id = state.staged_certificate_id.take().or(state.certificate_id);
    state.certificate_ref = Some(facts.certificate_ref.clone());
    state.tls_not_after = Some(facts.not_after);
    state.look.ari = None;
    state.look.ari_poll_at = None;
    state.cert_renewal_due_at = Some(renewal::sla_due_at(facts, None));
    state.cert_last_event_type = Some(if renewal { EventType::RenewalSucceeded } else { EventType::IssuanceSucceeded });
    state.cert_last_event_at = Some(now);
    recovered(state);
}

/// The edge goes back to the certificate before.
pub fn rolled_back(state: &mut DomainState, failure: Failure, policy: FailurePolicy, now: Timestamp, entropy: f64) {
    state.staged_certificate_id = None;
    state.look.probe_at = None;
    failed(state, failure, policy, now, entropy);
}

fn recovered(state: &mut DomainState) {
    state.cert_failure_count = 0;
    state.cert_retry_backoff_seconds = None;
    state.cert_next_retry_at = None;
    state.look.issuer_index = 0;
    state.look.ca_retry_after = None;
    state.look.failure = None;
    state.look.failed_at = None;
    state.look.failed_for = None;
}

/// An issuance or deployment that did not end in a certificate that is served.
#[derive(Clone, Debug)]
pub struct Failure {
    pub reason: Reason,
    /// What the CA asked for (`Retry-After`).
    pub retry_after: Option<Timestamp>,
    /// The intent's time that it answers.
    pub asked_at: Timestamp,
    /// Issuers that may be asked in place of this one; 1 where it is this one or none (see `planner::may_fall_back`).
    pub issuers: usize,
}

/// The next issuer is taken at once; when all of them have failed, the failure counts and its policy's pause begins.
/// Returns whether it counted.
pub fn failed(state: &mut DomainState, failure: Failure, policy: FailurePolicy, now: Timestamp, entropy: f64) -> bool {
    let next = state.look.issuer_index as usize + 1;
    state.look.failed_at = Some(now);
    state.look.failed_for = Some(failure.asked_at);
    if next < failure.issuers {
        state.look.issuer_index = next as u32;
        state.look.ca_retry_after = state.look.ca_retry_after.max(failure.retry_after);
        state.look.failure = Some(failure.reason);
        return false;
    }
    let wished = state.look.ca_retry_after.take().max(failure.retry_after);
    state.look.issuer_index = 0;
    state.cert_failure_count = state.cert_failure_count.saturating_add(1);
    let at = match backoff::retry(policy, state.cert_failure_count, entropy) {
        Retry::After(pause) => {
            state.cert_retry_backoff_seconds = Some(pause.as_secs());
            let own = now + pause;
            Some(wished.map_or(own, |wished| wished.max(own)))
        }
        Retry::Held => {
            state.cert_retry_backoff_seconds = None;
            None
        }
    };
    state.cert_next_retry_at = at;
    let renewal = state.certificate_id.is_some();
    state.cert_last_event_type = Some(if renewal { EventType::RenewalFailed } else { EventType::IssuanceFailed });
    state.cert_last_event_at = Some(now);
    let mut reason = failure.reason;
    reason.next_look_at = at;
    state.look.failure = Some(reason);
    true
}

/// The last touch before a save: the status that follows from what was seen, and the reason for it.
pub fn conclude(view: &View<'_>, state: &mut DomainState, reason: Reason, policy: &Policy, now: Timestamp) {
    let (status, proven) = tls_status(view, policy, now);
    state.tls_status = status;
    state.proven = proven;
    state.reason = Some(reason);
}

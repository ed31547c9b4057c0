//! What a certificate manager reports of a domain (SPEC section 6), and what a report makes of the domain's TLS state.
//!
//! A report is a word, not a proof: it can take green away, but only a handshake gives it ([`crate::planner::tls_status`]).
//! An older report never overwrites a newer one. Of a domain whose certificates Certwright gets itself, a report of somebody
//! else is kept in the history and changes nothing.

use crate::backoff::{self, Retry};
use crate::certificate::CertificateRef;
use crate::planner;
use crate::reason::{Reason, ReasonCode};
use crate::record::{Domain, DomainState, EventType};
use crate::site::word_enum;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longer names, reasons and identifiers are refused.
const LABEL_LIMIT: usize = 128;
const REASON_LIMIT: usize = 4096;
/// As much of a reason as the domain's row keeps.
const ERROR_KEPT: usize = 500;

/// The source of Certwright's own events.
pub const OWN_SOURCE: &str = "certwright";

/// Who reports: a certificate manager, and which of its clusters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub source: String,
    pub cluster_id: String,
}

impl Identity {
    /// # Errors
    /// When one of the two is empty, too long or has other characters than letters, digits and `._-/@`.
    pub fn new(source: &str, cluster_id: &str) -> Result<Self, ReportError> {
        let is_label = |text: &str| {
            let head = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
            head && text.len() <= LABEL_LIMIT && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/@".contains(&b))
        };
        for (field, text) in [("source", source), ("cluster_id", cluster_id)] {
            if !is_label(text) {
                return Err(ReportError::new(field, "is 1 to 128 letters, digits and any of `._-/@`, and begins with a letter or digit"));
            }
        }
        Ok(Self { source: source.to_owned(), cluster_id: cluster_id.to_owned() })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.cluster_id)
    }
}

/// What is wrong with a report; `field` as the API spells it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {message}")]
pub struct ReportError {
    pub field: &'static str,
    pub message: String,
}

impl ReportError {
    fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}

word_enum! {
    pub enum CallbackClass {
        Issuance = "issuance",
        Renewal = "renewal",
        Expiry = "expiry",
    }
}

word_enum! {
    pub enum CallbackAction {
        Succeeded = "succeeded",
        Failed = "failed",
        Expiring = "expiring",
    }
}

/// The type that a callback means; `None` where the two do not go together.
pub fn callback_type(class: CallbackClass, action: CallbackAction) -> Option<EventType> {
    match (class, action) {
        (CallbackClass::Issuance, CallbackAction::Succeeded) => Some(EventType::IssuanceSucceeded),
        (CallbackClass::Issuance, CallbackAction::Failed) => Some(EventType::IssuanceFailed),
        (CallbackClass::Renewal, CallbackAction::Succeeded) => Some(EventType::RenewalSucceeded),
        (CallbackClass::Renewal, CallbackAction::Failed) => Some(EventType::RenewalFailed),
        (CallbackClass::Expiry, CallbackAction::Expiring) => Some(EventType::CertificateExpiring),
        _ => None,
    }
}

/// The type as it is given, as a callback, or as both where they agree.
///
/// # Errors
/// When neither is there, half a callback is, or the two contradict each other.
pub fn event_type(
    given: Option<EventType>,
    class: Option<CallbackClass>,
    action: Option<CallbackAction>,
) -> Result<EventType, ReportError> {
    let called = match (class, action) {
        (None, None) => None,
        (Some(class), Some(action)) => {
            let meant = callback_type(class, action);
            let wrong = || ReportError::new("callback_action", format!("`{action}` does not go with the callback_class `{class}`"));
            Some(meant.ok_or_else(wrong)?)
        }
        _ => return Err(ReportError::new("callback_class", "and callback_action come together")),
    };
    match (given, called) {
        (Some(given), Some(called)) if given != called => {
            Err(ReportError::new("event_type", format!("`{given}` contradicts the callback, which means `{called}`")))
        }
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(ReportError::new("event_type", "is missing (or callback_class with callback_action)")),
    }
}

/// What was reported. One JSON column of its row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_ref: Option<CertificateRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal_due_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_class: Option<CallbackClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_action: Option<CallbackAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_received_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
}

impl Report {
    /// # Errors
    /// When a time lies outside of what a certificate can have, or a text is too long. `ahead` is how far the sender's clock
    /// may be before ours: a report from the future would make every later one look old.
    pub fn check(&self, now: Timestamp, ahead: SignedDuration) -> Result<(), ReportError> {
        if self.occurred_at.is_some_and(|at| at > now + ahead) {
            return Err(ReportError::new("occurred_at", "lies in the future; is the sender's clock right?"));
        }
        for (field, at) in [("occurred_at", self.occurred_at), ("not_after", self.not_after), ("renewal_due_at", self.renewal_due_at)] {
            // 2000-01-01 and 2200-01-01.
            if at.is_some_and(|at| !(946_684_800..7_258_118_400).contains(&at.as_second())) {
                return Err(ReportError::new(field, "is not a time that a certificate can have"));
            }
        }
        if self.reason.as_ref().is_some_and(|reason| reason.len() > REASON_LIMIT) {
            return Err(ReportError::new("reason", format!("is longer than {REASON_LIMIT} bytes; put the rest into payload")));
        }
        Ok(())
    }
}

/// # Errors
/// When it is empty, too long, or has control characters.
pub fn check_source_event_id(text: &str) -> Result<(), ReportError> {
    let good = !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err(ReportError::new("source_event_id", "is 1 to 200 characters without control characters")) }
}

word_enum! {
    pub enum EventStatus {
        /// Accepted; applied when its time comes.
        Pending = "pending",
        /// It made the domain's state what it is, or confirmed it.
        Applied = "applied",
        /// A newer one was there first: history, and nothing else.
        Superseded = "superseded",
        /// It could not be applied as often as it is tried: a dead letter.
        Failed = "failed",
    }
}

/// One event as it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub identity: &'a Identity,
    pub event_type: EventType,
    /// `occurred_at`, else when it arrived: what orders the events of a domain.
    pub at: Timestamp,
    pub report: &'a Report,
}

/// What the newest report of a good certificate said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    pub by: Identity,
    pub at: Timestamp,
    pub certificate_ref: Option<CertificateRef>,
    pub not_after: Option<Timestamp>,
}

/// What an event did to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A newer one had been applied before.
    Older,
    /// It says nothing that the state does not say already, or is not about our part of it.
    Noted,
    /// The state changed; the wire was asked a moment ago, and is asked again in its own time.
    Changed,
    /// The state changed, and the wire is asked now.
    Asks,
}

impl Effect {
    pub fn status(self) -> EventStatus {
        match self {
            Self::Older => EventStatus::Superseded,
            Self::Noted | Self::Changed | Self::Asks => EventStatus::Applied,
        }
    }
}

/// Folds one event into the domain's state. Events of the same moment count in the order of their arrival.
pub fn apply(domain: &mut Domain, event: &Event<'_>, now: Timestamp, entropy: f64) -> Effect {
    let ours = planner::is_issued_by_us(domain);
    let policy = domain.intent.failure_policy;
    let state = &mut domain.state;
    if state.cert_last_event_at.is_some_and(|last| last > event.at) {
        return Effect::Older;
    }
    state.cert_last_event_at = Some(event.at);
    state.cert_last_event_type = Some(event.event_type);
    if ours {
        return Effect::Noted;
    }
    let report = event.report;
    if report.renewal_due_at.is_some() {
        state.cert_renewal_due_at = report.renewal_due_at;
    }
    match event.event_type {
        EventType::IssuanceSucceeded | EventType::RenewalSucceeded => {
            let known = state.look.reported.as_ref().is_some_and(|known| {
                known.certificate_ref.is_some() && known.certificate_ref == report.certificate_ref && known.not_after == report.not_after
            });
            let healed = state.cert_failure_count > 0 || state.look.failure.is_some();
            state.cert_failure_count = 0;
            state.cert_retry_backoff_seconds = None;
            state.cert_next_retry_at = None;
            state.look.failure = None;
            if healed {
                // It told of the failure. What the wire has to say, the next look says again.
                state.tls_last_error = None;
            }
            if known {
                return match (healed, state.proven) {
                    (true, _) => Effect::Changed,
                    (false, true) => Effect::Noted,
                    (false, false) => ask(state, now, AGAIN_UNPROVEN),
                };
            }
            state.look.reported = Some(Reported {
                by: event.identity.clone(),
                at: event.at,
                certificate_ref: report.certificate_ref.clone(),
                not_after: report.not_after,
            });
            state.certificate_ref = report.certificate_ref.clone();
            state.tls_not_after = report.not_after;
            if report.renewal_due_at.is_none() {
                // A quarter of what remains, as nothing is known of the lifetime.
                state.cert_renewal_due_at = report.not_after.map(|end| end - end.duration_since(event.at).max(SignedDuration::ZERO) / 4);
            }
            state.tls_last_error = None;
            // What was seen before was another certificate, or the same by chance.
            state.look.sights.clear();
            return ask(state, now, SignedDuration::ZERO);
        }
        EventType::IssuanceFailed | EventType::RenewalFailed => {
            state.cert_failure_count = state.cert_failure_count.saturating_add(1);
            let retry = backoff::retry(policy, state.cert_failure_count, entropy);
            (state.cert_retry_backoff_seconds, state.cert_next_retry_at) = match retry {
                Retry::After(pause) => (Some(pause.as_secs()), Some(now + pause)),
                Retry::Held => (None, None),
            };
            let what = if event.event_type == EventType::RenewalFailed { "a renewal" } else { "an issuance" };
            let why = report.reason.as_deref().unwrap_or("without a reason").trim();
            let kept: String = why.chars().take(ERROR_KEPT).collect();
            let message = format!("{} reports that {what} failed: {kept}", event.identity);
            state.tls_last_error = Some(message.clone());
            state.look.failure = Some(Reason::new(ReasonCode::ReportedFailure, message));
        }
        EventType::CertificateExpiring => {
            if let Some(end) = report.not_after {
                state.tls_not_after = Some(end);
            }
        }
    }
    ask(state, now, AGAIN)
}

/// A source that says the same over and over makes nobody dial over and over.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);
const AGAIN_UNPROVEN: SignedDuration = SignedDuration::from_secs(10);

/// Whatever was reported, the wire has the last word: it is asked now, unless it was just asked.
fn ask(state: &mut DomainState, now: Timestamp, pause: SignedDuration) -> Effect {
    let just = state.tls_last_checked_at.is_some_and(|at| now.duration_since(at).abs() < pause);
    if just {
        return Effect::Changed;
    }
    state.look.probe_at = None;
    state.look.probe_failures = 0;
    Effect::Asks
}

/// When an event that could not be applied is tried again; `None` after the last try.
pub fn retry_at(tries: u32, limits: &Limits, now: Timestamp) -> Option<Timestamp> {
    (tries < limits.max_tries).then(|| {
        let doublings = tries.saturating_sub(1).min(20);
        let pause = SignedDuration::from_secs(limits.base_backoff_seconds << doublings);
        now + pause.min(SignedDuration::from_hours(1).max(SignedDuration::from_secs(limits.base_backoff_seconds)))
    })
}

/// `CERT_EVENT_MAX_RETRIES` and `CERT_EVENT_BASE_BACKOFF_SECONDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_tries: u32,
    pub base_backoff_seconds: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_tries: 6, base_backoff_seconds: 45 }
    }
}

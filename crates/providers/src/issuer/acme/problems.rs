//! The CA's refusals as reasons: the table of RFC 8555 section 6.7, and who has to act.

use super::http::{Failure, Refusal, failure_of};
use crate::Rejection;
use certwright_model::{Reason, ReasonCode};
use http::StatusCode;
use instant_acme::{Error, Problem};
use jiff::Timestamp;

/// What a request was about: the same refusal means another thing in another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Account,
    Order,
    /// What the CA says of its own look at the domain.
    Validation,
}

/// How a conversation with the CA ended without a result.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stop {
    Rejected(Rejection),
    /// An effect may have happened; the stored order tells.
    Unknown(String),
    Pending(Timestamp),
    Gone(String),
    /// The CA does not know our account (any more).
    NoAccount(String),
}

pub(super) fn stop(issuer: &str, error: &Error, about: About, now: Timestamp) -> Stop {
    let unavailable = |message: String| Stop::Rejected(rejection(ReasonCode::CaUnavailable, message, None, false));
    match (failure_of(error), error) {
        (Some(Failure::NotSent(detail)), _) => unavailable(format!("`{issuer}` cannot be reached: {detail}")),
        // An order that was heard and a lost answer: the order is looked up by its URL, and before that nothing matters.
        (Some(failure @ Failure::Lost(_)), _) if about == About::Account => unavailable(format!("`{issuer}` {failure}")),
        (Some(failure @ Failure::Lost(_)), _) => Stop::Unknown(format!("`{issuer}` {failure}")),
        (Some(Failure::Refused(refusal)), _) => refused(issuer, refusal, about, now),
        (None, Error::Api(problem)) => problem_stop(issuer, problem, about),
        (None, error) => unavailable(format!("`{issuer}` sent something that cannot be understood: {error}")),
    }
}

/// A problem inside an object: an order's or a challenge's `error`, or a `badNonce` that would not end.
pub(super) fn problem_stop(issuer: &str, problem: &Problem, about: About) -> Stop {
    let kind = kind_of(problem);
    if kind == "badNonce" {
        let message = format!("`{issuer}` refused every nonce it gave");
        return Stop::Rejected(rejection(ReasonCode::CaUnavailable, message, None, false));
    }
    let detail = problem.detail.clone().unwrap_or_else(|| kind.to_owned());
    let (code, permanent) = classify(kind, about);
    let message = match about {
        About::Validation => format!("`{issuer}` could not validate the domain: {detail}"),
        About::Account | About::Order => format!("`{issuer}` refused: {detail}"),
    };
    Stop::Rejected(rejection(code, message, None, permanent))
}

pub(super) fn is_bad_nonce(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if kind_of(problem) == "badNonce")
}

fn refused(issuer: &str, refusal: &Refusal, about: About, now: Timestamp) -> Stop {
    let message = match &refusal.detail {
        Some(detail) => format!("`{issuer}` answered {}: {detail}", refusal.status),
        None => format!("`{issuer}` answered {}", refusal.status),
    };
    let retry_after = refusal.retry_after.map(|after| after.at(now));
    let (code, permanent) = match refusal.kind.as_str() {
        "accountDoesNotExist" => return Stop::NoAccount(message),
        _ if refusal.status == StatusCode::TOO_MANY_REQUESTS => (ReasonCode::CaRateLimited, false),
        _ if refusal.status.is_server_error() || !refusal.status.is_client_error() => (ReasonCode::CaUnavailable, false),
        kind => classify(kind, about),
    };
    Stop::Rejected(rejection(code, message, retry_after, permanent))
}

/// The code, and whether somebody has to act before it can be different.
fn classify(kind: &str, about: About) -> (ReasonCode, bool) {
    use ReasonCode::*;
    match (kind, about) {
        ("rateLimited", _) => (CaRateLimited, false),
        ("serverInternal", _) => (CaUnavailable, false),
        ("caa", _) => (CaaForbids, true),
        ("externalAccountRequired" | "invalidContact" | "unsupportedContact" | "invalidProfile", _) => (IssuerMisconfigured, true),
        (_, About::Account) => (IssuerMisconfigured, true),
        ("rejectedIdentifier" | "unsupportedIdentifier" | "userActionRequired" | "badPublicKey" | "badCSR", _) => (CaRejected, true),
        (_, About::Validation) => (ChallengeFailed, false),
        ("unauthorized", About::Order) => (CaRejected, true),
        _ => (CaRejected, false),
    }
}

fn kind_of(problem: &Problem) -> &str {
    problem.r#type.as_deref().and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:")).unwrap_or_default()
}

pub(super) fn rejection(code: ReasonCode, message: String, retry_after: Option<Timestamp>, permanent: bool) -> Rejection {
    let reason = Reason::new(code, message);
    Rejection { reason, retry_after, permanent }
}

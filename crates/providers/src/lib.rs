//! Effects on foreign systems: certificate authorities, DNS, the wire.
//!
//! Invariants: every effect answers [`Outcome`] and never a bare error string; a lost reply is `Unknown`, never success;
//! every call is bounded in time. Nothing here decides when something happens, and nothing here stores.

pub mod dns;
pub mod issuer;
pub mod probe;
mod tls;
pub mod x509;

use certwright_model::{Reason, ReasonCode};
use jiff::Timestamp;

/// What became of an effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    Applied(T),
    /// The other side said no; nothing happened there that matters.
    Rejected(Rejection),
    /// The reply was lost or the caller's own journal failed: look before doing it again.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    /// The other side said when to come back.
    pub retry_after: Option<Timestamp>,
    /// Asking the same again gets the same answer until somebody acts.
    pub permanent: bool,
}

impl Rejection {
    /// Of an order: whether the stored one can be carried on later. A CA that is down or busy has not judged it; after any
    /// other rejection it is spent, and the next try needs a new one.
    pub fn leaves_order_open(&self) -> bool {
        matches!(self.reason.code, ReasonCode::CaUnavailable | ReasonCode::CaRateLimited)
    }
}

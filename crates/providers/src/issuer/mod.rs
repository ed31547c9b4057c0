//! Issuers: who signs. One trait, one file or folder a system; `tests/issuer_*.rs` is the conformance suite.
//!
//! Invariants: intent reaches the [`OrderJournal`] before each effect; a chain for another key or without the wanted name
//! is refused before the caller sees it. Which issuer is asked, and when, is decided elsewhere.

pub mod acme;
pub mod internal;

use crate::Outcome;
use async_trait::async_trait;
use certwright_model::budget::Limit;
use certwright_model::certificate::CertificateFacts;
use certwright_model::record::Order;
use certwright_model::renewal::AriWindow;
use certwright_model::{Hostname, Reason};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

#[async_trait]
pub trait Issuer: Send + Sync + std::fmt::Debug {
    /// The configured name: what `certificate.issuer` and `order.issuer` carry.
    fn name(&self) -> &str;

    /// `acme` or `internal`.
    fn kind(&self) -> &'static str;

    /// New orders the CA allows; `None` where there is no limit.
    fn budget(&self) -> Option<Limit>;

    /// Carries the order on from its stage, and answers by `deadline`: `Pending` while the CA is working, `Unknown` where
    /// an answer was lost. The stored order resumes after both, and after a rejection that says so
    /// ([`crate::Rejection::leaves_order_open`]).
    async fn issue(&self, request: &IssueRequest, journal: &dyn OrderJournal, now: Timestamp, deadline: Instant) -> Outcome<IssueProgress>;

    /// RFC 9773. `entropy` in `0.0..=1.0` picks the moment within the window; `None` where the CA offers no ARI.
    async fn renewal_info(&self, facts: &CertificateFacts, now: Timestamp, entropy: f64) -> Outcome<Option<AriWindow>>;

    /// Whether the issuer could be asked now, without asking for anything (`doctor`).
    async fn check(&self) -> Result<(), Reason>;
}

/// What is to be issued. The stage in `order` tells where to resume; its key is the certificate's.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    pub order: Order,
    pub names: Vec<Hostname>,
    /// A wish that an issuer of our own honours; a CA decides for itself.
    pub lifetime_hint: Option<SignedDuration>,
}

// One value an issuance, moved and not kept: a box would save nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum IssueProgress {
    Issued(Issued),
    /// The deadline came while the CA was working; the stored order resumes.
    Pending {
        look_again_at: Timestamp,
    },
    /// The stored order is expired, invalid or unknown at the CA: drop it and make a new one.
    OrderGone {
        why: String,
    },
}

/// A checked certificate: for the order's key, covering the names, not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The leaf first.
    pub chain_der: Vec<Vec<u8>>,
    pub chain_pem: String,
    pub facts: CertificateFacts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChallengeKind {
    /// RFC 8555 section 8.3.
    Http01,
    /// RFC 8737.
    TlsAlpn01,
}

impl ChallengeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Http01, Self::TlsAlpn01].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What the edge must answer until the order is over.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishedChallenge {
    pub kind: ChallengeKind,
    pub host: Hostname,
    pub token: String,
    pub key_authorization: String,
}

impl std::fmt::Debug for PublishedChallenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublishedChallenge({} {})", self.kind.as_str(), self.host)
    }
}

/// The lease was lost or the store did not answer: the issuer stops at once, and the answer is `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JournalError(pub String);

/// Where intent is stored before each effect.
#[async_trait]
pub trait OrderJournal: Send + Sync {
    /// The CA gave the order this URL: stage `Placed`.
    async fn placed(&self, order_url: &str) -> Result<(), JournalError>;
    /// Returns when every edge that the CA may ask answers these.
    async fn publish(&self, challenges: Vec<PublishedChallenge>) -> Result<(), JournalError>;
    /// The CSR is about to be sent: stage `Finalizing`.
    async fn finalizing(&self) -> Result<(), JournalError>;
}

//! The rows of the database as values: what was asked for (`*Intent`) and what became of it (`*State`).
//!
//! The split is the rule for who writes what: requests write intent, the loops write state, so neither can overwrite the
//! other. Fields named as SPEC section 5 names its columns are those columns.

use crate::answers::DnsSight;
use crate::certificate::{CertificateRef, KeyType};
use crate::domain::{Desired, DomainKind, DomainLifecycle, FailurePolicy, Route, TlsMode, TlsStatus};
use crate::event::Reported;
use crate::hostname::Hostname;
use crate::ids::{CertificateId, DomainId, JobId, OrderId, SiteId};
use crate::job::{JobKind, JobStatus, StepStatus};
use crate::reason::Reason;
use crate::renewal::AriWindow;
use crate::site::{SiteKind, SiteLifecycle, SiteName, word_enum};
use crate::wire::Sight;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    pub intent: SiteIntent,
    pub state: SiteState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteIntent {
    pub id: SiteId,
    pub name: SiteName,
    pub kind: SiteKind,
    pub desired: Desired,
    pub created_at: Timestamp,
    /// When intent last changed.
    pub changed_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SiteState {
    pub lifecycle: SiteLifecycle,
    pub lifecycle_since: Timestamp,
    /// Tries of the present lifecycle state.
    pub attempts: u32,
    pub reason: Option<Reason>,
    pub last_reconciled_at: Option<Timestamp>,
    pub look: SiteLook,
}

/// What was seen of a site's own parts. One JSON column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiteLook {
    /// Since when its content or upstream is known to be there.
    pub prepared_at: Option<Timestamp>,
    /// Whether its content has been removed, on the way to `DESTROYED`.
    pub cleared: bool,
    /// `intent.changed_at` when it failed: a change after it asks for another try.
    pub failed_for: Option<Timestamp>,
    /// Not wrong enough to stop, worth telling.
    pub warnings: Vec<Reason>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    pub intent: DomainIntent,
    pub state: DomainState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainIntent {
    pub id: DomainId,
    pub hostname: Hostname,
    pub site_id: Option<SiteId>,
    pub kind: DomainKind,
    pub desired: Desired,
    pub route: Option<Route>,
    pub tls_mode: TlsMode,
    pub failure_policy: FailurePolicy,
    /// In order of preference; empty means the server's own order.
    pub issuers: Vec<String>,
    pub key_type: KeyType,
    /// What the TXT record must carry.
    pub ownership_token: String,
    /// A person asked for a new certificate then.
    pub renew_requested_at: Option<Timestamp>,
    pub created_at: Timestamp,
    /// When intent last changed.
    pub changed_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DomainState {
    pub lifecycle: DomainLifecycle,
    pub lifecycle_since: Timestamp,
    /// Whether the edge holds (or may hold) this name.
    pub published: bool,
    /// The certificate that the wire has shown.
    pub certificate_id: Option<CertificateId>,
    /// A newer one that the edge has been given and the wire has not shown yet.
    pub staged_certificate_id: Option<CertificateId>,
    pub tls_status: TlsStatus,
    pub certificate_ref: Option<CertificateRef>,
    pub tls_not_after: Option<Timestamp>,
    pub tls_last_error: Option<String>,
    pub tls_last_checked_at: Option<Timestamp>,
    pub cert_failure_count: u32,
    pub cert_retry_backoff_seconds: Option<i64>,
    pub cert_next_retry_at: Option<Timestamp>,
    pub cert_last_event_type: Option<EventType>,
    pub cert_last_event_at: Option<Timestamp>,
    pub cert_renewal_due_at: Option<Timestamp>,
    /// Whether `tls_status` rests on a handshake.
    pub proven: bool,
    pub reason: Option<Reason>,
    pub look: Look,
}

impl DomainState {
    /// A domain that was just asked for.
    pub fn new(now: Timestamp) -> Self {
        Self {
            lifecycle: DomainLifecycle::Pending,
            lifecycle_since: now,
            published: false,
            certificate_id: None,
            staged_certificate_id: None,
            tls_status: TlsStatus::PendingRoute,
            certificate_ref: None,
            tls_not_after: None,
            tls_last_error: None,
            tls_last_checked_at: None,
            cert_failure_count: 0,
            cert_retry_backoff_seconds: None,
            cert_next_retry_at: None,
            cert_last_event_type: None,
            cert_last_event_at: None,
            cert_renewal_due_at: None,
            proven: false,
            reason: None,
            look: Look::default(),
        }
    }

    /// What the edge shows: the staged certificate as soon as there is one.
    pub fn serving(&self) -> Option<CertificateId> {
        self.staged_certificate_id.or(self.certificate_id)
    }
}

/// The last looks and the counters that the planner needs. One JSON column: nothing searches in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Look {
    pub dns: Option<DnsSight>,
    pub sights: Vec<Sight>,
    pub ari: Option<AriWindow>,
    /// When the CA may be asked for ARI again, where it offered none.
    pub ari_poll_at: Option<Timestamp>,
    pub validation_tries: u32,
    /// When ownership and routing are looked at again.
    pub validate_at: Option<Timestamp>,
    /// Failed looks at the wire since the last good one.
    pub probe_failures: u32,
    /// Which of the issuers is next.
    pub issuer_index: u32,
    /// The CA said when: honoured before the policy's own backoff.
    pub ca_retry_after: Option<Timestamp>,
    /// The edge was seen not to serve the name any more.
    pub withdrawn: bool,
    /// When the wire is looked at next.
    pub probe_at: Option<Timestamp>,
    /// Why the last issuance or deployment failed.
    pub failure: Option<Reason>,
    pub failed_at: Option<Timestamp>,
    /// Where somebody else gets the certificate: what they last said of it.
    pub reported: Option<Reported>,
    // What was acted on is remembered as it was asked, and compared for equality: who asked may have another clock.
    /// `intent.changed_at` at the last failure: a change after it asks for another try.
    pub failed_for: Option<Timestamp>,
    /// `intent.renew_requested_at` that the newest certificate answers.
    pub renewed_for: Option<Timestamp>,
    /// `intent.changed_at` at the last look at DNS.
    pub looked_for: Option<Timestamp>,
    /// `intent.changed_at` at the last look at the wire.
    pub probed_for: Option<Timestamp>,
}

word_enum! {
    /// What happened to a domain's certificate (SPEC section 6), by our own hand or another's.
    pub enum EventType {
        IssuanceSucceeded = "issuance_succeeded",
        IssuanceFailed = "issuance_failed",
        RenewalSucceeded = "renewal_succeeded",
        RenewalFailed = "renewal_failed",
        CertificateExpiring = "certificate_expiring",
    }
}

word_enum! {
    /// How far an order is. Each stage is stored before the effect that leads out of it.
    pub enum OrderStage {
        /// The key exists; the CA may or may not have heard of it.
        Intended = "intended",
        /// The CA gave an order URL.
        Placed = "placed",
        /// The CSR may have been sent.
        Finalizing = "finalizing",
    }
}

/// The one open order of a domain. It survives a crash, so that nothing is ordered twice for one need.
#[derive(Clone, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub domain_id: DomainId,
    pub issuer: String,
    pub stage: OrderStage,
    pub order_url: Option<String>,
    /// PKCS#8 DER of the certificate's key; sealed at rest.
    pub key_pkcs8_der: Vec<u8>,
    pub key_type: KeyType,
    /// ARI identifier of the certificate that this one replaces.
    pub replaces: Option<String>,
    pub is_renewal: bool,
    pub created_at: Timestamp,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Order({} {} {})", self.id, self.issuer, self.stage)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    pub kind: JobKind,
    pub status: JobStatus,
    pub site_id: Option<SiteId>,
    pub domain_id: Option<DomainId>,
    /// What it is about, for people: a site's or a domain's name. Outlives the row it names.
    pub subject: String,
    pub error: Option<String>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// One line of a job's progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStep {
    pub at: Timestamp,
    pub step: String,
    pub status: StepStatus,
    pub message: String,
    pub elapsed_ms: Option<u32>,
}

//! Domains: hostnames served for a site or a tunnel, their lifecycle, and the TLS state of SPEC section 5.
//!
//! `PENDING → VALIDATING → ROUTING → ACTIVE → REMOVING → (gone)`, back to `PENDING` when validation fails. A domain that
//! is taken away before it was `ACTIVE` goes without `REMOVING`: its route is withdrawn, then the row goes.

use crate::site::{IllegalTransition, word_enum};
use serde::{Deserialize, Serialize};

word_enum! {
    pub enum DomainLifecycle {
        Pending = "PENDING",
        Validating = "VALIDATING",
        Routing = "ROUTING",
        Active = "ACTIVE",
        Removing = "REMOVING",
    }
}

impl DomainLifecycle {
    pub fn can_become(self, to: Self) -> bool {
        use DomainLifecycle::*;
        matches!((self, to), (Pending, Validating) | (Validating, Routing | Pending) | (Routing, Active) | (Active, Removing))
    }

    pub fn become_(self, to: Self) -> Result<Self, IllegalTransition> {
        if self.can_become(to) { Ok(to) } else { Err(IllegalTransition { what: "domain", from: self.as_str(), to: to.as_str() }) }
    }
}

word_enum! {
    /// Whether a domain belongs to its site by name or was attached by a customer.
    pub enum DomainKind {
        /// `<site>.<base_domain>`, under a zone that the operator owns.
        Default = "default",
        Custom = "custom",
    }
}

word_enum! {
    /// SPEC section 5. Nothing is `issued` that the wire has not shown.
    pub enum TlsStatus {
        PendingRoute = "pending_route",
        PendingIssue = "pending_issue",
        Issued = "issued",
        Expiring = "expiring",
        TlsError = "tls_error",
        PassthroughUnverified = "passthrough_unverified",
    }
}

word_enum! {
    pub enum TlsMode {
        Termination = "termination",
        Passthrough = "passthrough",
    }
}

word_enum! {
    pub enum FailurePolicy {
        Standard = "standard",
        Strict = "strict",
        Hold = "hold",
    }
}

word_enum! {
    /// What the row should become. Intent is stored first; the loops make it so.
    pub enum Desired {
        Present = "present",
        Absent = "absent",
    }
}

/// Where a domain's traffic goes. A site's own route is kept by name in the row's `site_id`; this is the rest of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum Route {
    /// To the site in `site_id`.
    Site,
    /// To an upstream: `http://host:port`.
    Upstream { upstream: String, region: Option<String> },
    /// To a named tunnel, which others run; Certwright watches it on the wire.
    Tunnel { tunnel: String, target: Option<String>, region: Option<String> },
}

impl Route {
    pub fn region(&self) -> Option<&str> {
        match self {
            Self::Site => None,
            Self::Upstream { region, .. } | Self::Tunnel { region, .. } => region.as_deref(),
        }
    }

    /// Whether Certwright's own edge serves it (and therefore answers its challenges).
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::Tunnel { .. })
    }
}

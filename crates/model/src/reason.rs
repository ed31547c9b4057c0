//! Why something is not green: a code for programs, a sentence for people, who has to act, and when it is looked at next.
//!
//! SPEC invariant 8: no status without a reason. The sentence never holds a secret.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    Customer,
    Operator,
    Ca,
    Certwright,
}

impl Actor {
    pub const ALL: [Actor; 4] = [Actor::Customer, Actor::Operator, Actor::Ca, Actor::Certwright];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Operator => "operator",
            Self::Ca => "ca",
            Self::Certwright => "certwright",
        }
    }
}

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal by $actor:ident),+ $(,)?) => {
        /// The closed list of reasons. `as_str` is what the API and the database carry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ReasonCode {
            $($(#[$doc])* #[serde(rename = $text)] $variant),+
        }

        impl ReasonCode {
            pub const ALL: &'static [ReasonCode] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }

            /// Who has to act for it to go away.
            pub fn actor(self) -> Actor {
                match self { $(Self::$variant => Actor::$actor),+ }
            }
        }
    };
}

reason_codes! {
    /// Just requested; a worker has not looked yet.
    Queued = "queued" by Certwright,
    /// The ownership record is missing.
    OwnershipMissing = "ownership_missing" by Customer,
    /// The ownership record is there with another value.
    OwnershipMismatch = "ownership_mismatch" by Customer,
    /// The name does not exist in DNS.
    DnsMissing = "dns_missing" by Customer,
    /// DNS points somewhere else.
    DnsElsewhere = "dns_elsewhere" by Customer,
    /// Some addresses are ours and some are not.
    DnsSplit = "dns_split" by Customer,
    /// Only a handshake can tell: DNS points at a proxy network.
    DnsProxied = "dns_proxied" by Certwright,
    /// The DNS servers did not answer, or answered SERVFAIL.
    DnsUnanswered = "dns_unanswered" by Customer,
    /// A CAA record forbids every configured issuer.
    CaaForbids = "caa_forbids" by Customer,
    /// No route is set.
    NoRoute = "no_route" by Operator,
    /// The site behind the domain is not being served.
    SiteNotReady = "site_not_ready" by Certwright,
    /// The edge has not taken the route yet.
    EdgeBehind = "edge_behind" by Certwright,
    /// The local budget for the CA is spent; the earliest deadline goes first.
    CaBudget = "ca_budget" by Certwright,
    /// The CA answered that its rate limit is reached.
    CaRateLimited = "ca_rate_limited" by Ca,
    /// The CA is down, slow or answers 5xx.
    CaUnavailable = "ca_unavailable" by Ca,
    /// The CA is still validating or signing.
    CaPending = "ca_pending" by Ca,
    /// The CA could not validate the challenge.
    ChallengeFailed = "challenge_failed" by Customer,
    /// The CA refuses this name or this account.
    CaRejected = "ca_rejected" by Operator,
    /// The CA returned something that must not be deployed, such as a chain for another key.
    CaBadCertificate = "ca_bad_certificate" by Ca,
    /// No issuer with that name is configured, or its settings are incomplete.
    IssuerMisconfigured = "issuer_misconfigured" by Operator,
    /// Issuance is under way.
    Issuing = "issuing" by Certwright,
    /// A failure is waited out.
    BackingOff = "backing_off" by Certwright,
    /// The `hold` policy waits for a person or an event.
    Held = "held" by Operator,
    /// The handshake has not been seen yet.
    AwaitingProof = "awaiting_proof" by Certwright,
    /// The edge or the host serving the name could not be reached.
    WireUnreachable = "wire_unreachable" by Operator,
    /// It can be reached, but TLS fails.
    WireHandshake = "wire_handshake" by Operator,
    /// The wire shows another leaf than the database names.
    WireOtherCertificate = "wire_other_certificate" by Operator,
    /// Our edge serves the right leaf; what DNS leads to does not.
    WireDnsPath = "wire_dns_path" by Customer,
    /// The chain, a date or a name does not verify.
    WireInvalid = "wire_invalid" by Operator,
    /// The manager that gets the certificate says that it could not.
    ReportedFailure = "reported_failure" by Operator,
    /// At most the expiring window remains.
    Expiring = "expiring" by Certwright,
    /// Passthrough: the certificate is the upstream's.
    Passthrough = "passthrough" by Operator,
    /// The static content of the site is missing on this node.
    ContentMissing = "content_missing" by Operator,
    /// The upstream of a proxy site does not accept connections.
    UpstreamUnreachable = "upstream_unreachable" by Operator,
    /// A domain of the site has to go first.
    DomainsRemain = "domains_remain" by Certwright,
    /// Being taken off the edge.
    Withdrawing = "withdrawing" by Certwright,
    /// An error of our own: storage, a full disk, a bug. The log has the detail.
    Internal = "internal" by Operator,
    /// All is well.
    Healthy = "healthy" by Certwright,
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reason with its sentence. `next_look_at` is when Certwright looks again by itself; `None` means it waits for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: ReasonCode,
    pub message: String,
    pub actor: Actor,
    pub next_look_at: Option<Timestamp>,
}

impl Reason {
    pub fn new(code: ReasonCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), actor: code.actor(), next_look_at: None }
    }

    pub fn at(mut self, next: Timestamp) -> Self {
        self.next_look_at = Some(next);
        self
    }

    /// The same reason, with somebody else to act: DNS that is the operator's own, for example.
    pub fn by(mut self, actor: Actor) -> Self {
        self.actor = actor;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_spelling_and_reads_back() {
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::parse(code.as_str()), Some(*code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}

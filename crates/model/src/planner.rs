//! What to do next for one domain: a pure function of what was asked, what was seen, and the time.
//!
//! One path for everything: attaching, renewing, repairing and removing are the same question asked of another state.
//! [`plan`] names one step; the executor does it, the observation is folded in ([`crate::fold`]), and the plan is asked
//! for again until it rests. It never says "done" without a sight that shows the certificate ([`crate::wire::judge`]).

use crate::answers::{self, EdgeLocation};
use crate::certificate::{CertificateFacts, CertificateRef};
use crate::domain::{Desired, DomainLifecycle, TlsMode, TlsStatus};
use crate::event::Reported;
use crate::reason::{Reason, ReasonCode};
use crate::record::{Domain, Order, Site};
use crate::renewal::{self, Cause, Decision, Need};
use crate::site::SiteLifecycle;
use crate::wire;
use jiff::{SignedDuration, Timestamp};

/// The operator's settings that decisions depend on.
#[derive(Clone, Debug)]
pub struct Policy {
    pub edge: EdgeLocation,
    /// In order of preference, for domains that name none.
    pub issuers: Vec<String>,
    /// Whether the routing record alone does not count as ownership.
    pub strict_ownership: bool,
    /// How old a look at DNS may be when a certificate is ordered on it.
    pub dns_max_age: SignedDuration,
    /// How often a healthy domain is dialled.
    pub probe_every: SignedDuration,
    /// At most this much before the end, a certificate is `expiring`.
    pub expiring_warn: SignedDuration,
    /// Whether the wire is asked at all (`CERT_PROBE_FALLBACK_ENABLED`). Without it nothing is `proven`.
    pub probing: bool,
}

/// Everything that is known of a domain when it is planned for.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub domain: &'a Domain,
    pub site: Option<&'a Site>,
    pub current: Option<&'a CertificateFacts>,
    pub staged: Option<&'a CertificateFacts>,
    pub order: Option<&'a Order>,
}

/// One step: one provider call, or one change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Along the lifecycle, forward.
    Advance(DomainLifecycle),
    /// Validation failed: back to `PENDING`, with the reason.
    Retreat(Reason),
    LookAtDns,
    /// Give the edge the name, so that challenges and requests are answered.
    Publish,
    /// Get a certificate, or go on with the order that is open.
    Issue {
        issuer: String,
        cause: Cause,
    },
    PollAri,
    /// Dial where it is served.
    Probe,
    /// The wire shows the staged certificate: it becomes the current one.
    Commit,
    /// The wire refutes the staged certificate: the edge returns to the current one.
    Rollback(Reason),
    /// Take the name off the edge.
    Withdraw,
    ConfirmWithdrawn,
    /// Nothing of it is left outside: the row goes.
    Forget,
}

impl Step {
    /// The word for logs, jobs and histories.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Advance(_) => "advance",
            Self::Retreat(_) => "retreat",
            Self::LookAtDns => "look_at_dns",
            Self::Publish => "publish",
            Self::Issue { .. } => "issue",
            Self::PollAri => "poll_ari",
            Self::Probe => "probe",
            Self::Commit => "commit",
            Self::Rollback(_) => "rollback",
            Self::Withdraw => "withdraw",
            Self::ConfirmWithdrawn => "confirm_withdrawn",
            Self::Forget => "forget",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    Do(Step),
    /// Nothing to do until then (or, with `None`, until somebody acts), and why.
    Rest(Reason),
}

pub fn plan(view: &View<'_>, policy: &Policy, now: Timestamp) -> Plan {
    let Domain { intent, state } = view.domain;
    if intent.desired == Desired::Absent {
        return removal(view, now);
    }
    let Some(route) = &intent.route else {
        return if state.published {
            Plan::Do(Step::Withdraw)
        } else {
            Plan::Rest(Reason::new(ReasonCode::NoRoute, "no route is set; give the domain a site, an upstream or a tunnel"))
        };
    };
    match state.lifecycle {
        DomainLifecycle::Pending => pending(view, now),
        DomainLifecycle::Validating => validating(view, policy),
        // A removal that was taken back goes on as a removal: REMOVING has no way back in the machine.
        DomainLifecycle::Removing => removal(view, now),
        DomainLifecycle::Routing | DomainLifecycle::Active => {
            match (route.is_ours() && !is_external(view.domain), state.published) {
                (true, false) => return Plan::Do(Step::Publish),
                (false, true) => return Plan::Do(Step::Withdraw),
                _ => {}
            }
            serve(view, policy, now)
        }
    }
}

fn removal(view: &View<'_>, now: Timestamp) -> Plan {
    let state = &view.domain.state;
    if state.lifecycle == DomainLifecycle::Active {
        return Plan::Do(Step::Advance(DomainLifecycle::Removing));
    }
    if state.published {
        return Plan::Do(Step::Withdraw);
    }
    let ours = view.domain.intent.route.as_ref().is_some_and(crate::domain::Route::is_ours);
    let was_served = matches!(state.lifecycle, DomainLifecycle::Routing | DomainLifecycle::Removing);
    if !state.look.withdrawn && ours && was_served {
        return match state.look.probe_at.filter(|at| *at > now) {
            Some(at) => Plan::Rest(Reason::new(ReasonCode::Withdrawing, "the edge still answers for the name").at(at)),
            None => Plan::Do(Step::ConfirmWithdrawn),
        };
    }
    Plan::Do(Step::Forget)
}

fn pending(view: &View<'_>, now: Timestamp) -> Plan {
    let Domain { intent, state } = view.domain;
    let asked_again = state.look.looked_for != Some(intent.changed_at);
    match (state.look.validate_at.filter(|at| *at > now), &state.reason) {
        (Some(at), Some(reason)) if !asked_again => Plan::Rest(reason.clone().at(at)),
        _ => Plan::Do(Step::Advance(DomainLifecycle::Validating)),
    }
}

fn validating(view: &View<'_>, policy: &Policy) -> Plan {
    let state = &view.domain.state;
    if state.look.dns.as_ref().is_none_or(|sight| sight.at < state.lifecycle_since) {
        return Plan::Do(Step::LookAtDns);
    }
    match dns_verdict(view.domain, policy) {
        Ok(()) => Plan::Do(Step::Advance(DomainLifecycle::Routing)),
        Err(reason) => Plan::Do(Step::Retreat(reason)),
    }
}

/// Ownership and routing together, as the last look at DNS shows them.
pub fn dns_verdict(domain: &Domain, policy: &Policy) -> Result<(), Reason> {
    let (ownership, routing) = (ownership(domain, policy), routing(domain, policy).map(drop));
    // Where pointing the name here is also the word of its owner, that is the one thing to ask for.
    if policy.strict_ownership { ownership.and(routing) } else { routing.and(ownership) }
}

/// The first of the three answers.
pub fn ownership(domain: &Domain, policy: &Policy) -> Result<(), Reason> {
    let intent = &domain.intent;
    let Some(sight) = &domain.state.look.dns else { return Err(not_looked()) };
    let routing = answers::judge_routing(sight, &policy.edge, &intent.hostname);
    answers::judge_ownership(sight, intent.kind, &intent.hostname, &intent.ownership_token, policy.strict_ownership, &routing)
}

/// The second of the three answers.
pub fn routing(domain: &Domain, policy: &Policy) -> Result<answers::Routing, Reason> {
    let intent = &domain.intent;
    let Some(route) = &intent.route else {
        return Err(Reason::new(ReasonCode::NoRoute, "no route is set"));
    };
    let Some(sight) = &domain.state.look.dns else { return Err(not_looked()) };
    // A tunnel's provider owns the address; only the handshake tells.
    let nowhere = EdgeLocation::default();
    let edge = if route.is_ours() { &policy.edge } else { &nowhere };
    answers::judge_routing(sight, edge, &intent.hostname).map_err(|reason| answers::owner_of_dns(intent.kind, reason))
}

fn not_looked() -> Reason {
    Reason::new(ReasonCode::Queued, "nobody has looked at DNS yet")
}

/// Routed: get or keep the certificate, and keep looking at the wire. Two tracks; the first that has work goes.
fn serve(view: &View<'_>, policy: &Policy, now: Timestamp) -> Plan {
    let state = &view.domain.state;
    if let Some(staged) = view.staged {
        return deploy(view, staged, policy, now);
    }
    let issuance = if is_issued_by_us(view.domain) { issuance(view, policy, now) } else { Plan::Rest(watch_only()) };
    if let Plan::Do(_) = issuance {
        return issuance;
    }
    let verdict = wire_verdict(view, policy, now);
    if verdict.is_ok() && state.lifecycle == DomainLifecycle::Routing {
        return Plan::Do(Step::Advance(DomainLifecycle::Active));
    }
    let dialled = view.current.is_some() || !is_issued_by_us(view.domain);
    let wire = if dialled { wire_track(view, policy, verdict, now) } else { Plan::Rest(no_certificate()) };
    match (issuance, wire) {
        (_, Plan::Do(step)) => Plan::Do(step),
        (Plan::Rest(issuance), Plan::Rest(wire)) => Plan::Rest(speak(issuance, wire)),
        (plan @ Plan::Do(_), _) => plan,
    }
}

/// Of two rests, the one that is not green speaks; the earlier of the two times wakes.
fn speak(issuance: Reason, wire: Reason) -> Reason {
    let until = [issuance.next_look_at, wire.next_look_at].into_iter().flatten().min();
    let quiet = |reason: &Reason| matches!(reason.code, ReasonCode::Healthy | ReasonCode::AwaitingProof | ReasonCode::Passthrough);
    let mut said = if quiet(&wire) && !quiet(&issuance) { issuance } else { wire };
    said.next_look_at = until;
    said
}

fn watch_only() -> Reason {
    Reason::new(ReasonCode::Healthy, "the certificate is somebody else's; the wire is watched")
}

fn no_certificate() -> Reason {
    Reason::new(ReasonCode::AwaitingProof, "there is no certificate to look for yet")
}

/// The issuer's name that says: somebody else's edge or manager gets the certificate, and reports.
pub const EXTERNAL: &str = "external";

fn is_external(domain: &Domain) -> bool {
    domain.intent.issuers.iter().any(|issuer| issuer == EXTERNAL)
}

/// Whether Certwright gets the certificate itself: termination at an edge of its own.
pub fn is_issued_by_us(domain: &Domain) -> bool {
    let ends_here = domain.intent.route.as_ref().is_some_and(crate::domain::Route::is_ours);
    domain.intent.tls_mode == TlsMode::Termination && ends_here && !is_external(domain)
}

/// The leaf that the wire has to show: our own, or the one that was reported. `None` takes any good one.
pub fn expected<'a>(domain: &'a Domain, own: Option<&'a CertificateFacts>) -> Option<&'a CertificateRef> {
    let reported = || domain.state.look.reported.as_ref().and_then(|reported| reported.certificate_ref.as_ref());
    if is_issued_by_us(domain) { own.map(|facts| &facts.certificate_ref) } else { reported() }
}

fn deploy(view: &View<'_>, staged: &CertificateFacts, policy: &Policy, now: Timestamp) -> Plan {
    let Domain { intent, state } = view.domain;
    if !policy.probing {
        return Plan::Do(Step::Commit);
    }
    let reason = match wire::judge(&state.look.sights, &intent.hostname, Some(&staged.certificate_ref), now) {
        Ok(()) => return Plan::Do(Step::Commit),
        Err(reason) => reason,
    };
    if staged.not_after <= now {
        return Plan::Do(Step::Rollback(Reason::new(
            ReasonCode::WireInvalid,
            "the new certificate expired before it was ever seen on the wire",
        )));
    }
    // A chain that the wire itself refutes does not get better by waiting; the one before it still serves.
    if reason.code == ReasonCode::WireInvalid && view.current.is_some() && state.look.probe_failures >= 3 {
        return Plan::Do(Step::Rollback(reason));
    }
    let asked_again = state.look.probed_for != Some(intent.changed_at);
    match state.look.probe_at.filter(|at| *at > now && state.look.probe_failures > 0 && !asked_again) {
        // The wire keeps it waiting, time does not: when it is to be renewed or somebody asks, a newer one takes its place.
        Some(at) => match issuance(&View { current: Some(staged), ..*view }, policy, now) {
            Plan::Do(step @ Step::Issue { .. }) => Plan::Do(step),
            _ => Plan::Rest(reason.at(at)),
        },
        None => Plan::Do(Step::Probe),
    }
}

fn issuance(view: &View<'_>, policy: &Policy, now: Timestamp) -> Plan {
    let Domain { intent, state } = view.domain;
    let issuers = issuers_of(view.domain, policy);
    let requested = intent.renew_requested_at.is_some() && intent.renew_requested_at != state.look.renewed_for;
    let need = Need {
        host: &intent.hostname,
        current: view.current,
        issuers,
        key_type: intent.key_type,
        ari: state.look.ari.as_ref(),
        requested,
        now,
    };
    let cause = match renewal::decide(&need) {
        Decision::NotBefore(at) => return not_yet(view, at, now),
        Decision::Due { cause, .. } => cause,
    };
    if let Some(rest) = waiting(view, now) {
        return Plan::Rest(rest);
    }
    let Some(issuer) = issuers.get(state.look.issuer_index as usize % issuers.len().max(1)) else {
        return Plan::Rest(Reason::new(ReasonCode::IssuerMisconfigured, "no issuer is configured"));
    };
    if let Some(site) = view.site
        && !matches!(site.state.lifecycle, SiteLifecycle::Provisioning | SiteLifecycle::Active)
    {
        return Plan::Rest(Reason::new(ReasonCode::SiteNotReady, format!("the site is {}", site.state.lifecycle)));
    }
    // An order rests on DNS as it is now, not as it was when the domain was attached: the CA will look too.
    let stale = state.look.dns.as_ref().is_none_or(|sight| now.duration_since(sight.at).abs() > policy.dns_max_age);
    match dns_verdict(view.domain, policy) {
        _ if stale => Plan::Do(Step::LookAtDns),
        Ok(()) => Plan::Do(Step::Issue { issuer: issuer.clone(), cause }),
        Err(reason) => match state.look.validate_at.filter(|at| *at > now) {
            Some(at) => Plan::Rest(reason.at(at)),
            None => Plan::Do(Step::LookAtDns),
        },
    }
}

pub fn issuers_of<'a>(domain: &'a Domain, policy: &'a Policy) -> &'a [String] {
    if domain.intent.issuers.is_empty() { &policy.issuers } else { &domain.intent.issuers }
}

fn not_yet(view: &View<'_>, renew_at: Timestamp, now: Timestamp) -> Plan {
    let look = &view.domain.state.look;
    let poll_at = look.ari.as_ref().map(|window| window.poll_at).or(look.ari_poll_at);
    let offers_ari = view.current.is_some_and(|facts| facts.ari_id.is_some());
    if offers_ari && poll_at.is_none_or(|at| at <= now) {
        return Plan::Do(Step::PollAri);
    }
    let next = poll_at.filter(|_| offers_ari).map_or(renew_at, |at| at.min(renew_at));
    Plan::Rest(Reason::new(ReasonCode::Healthy, format!("renews at {renew_at}")).at(next))
}

/// Whether the next issuer may stand in for one that failed. While a good certificate serves, there is time to wait for the
/// issuer that is wanted: another one's may not be trusted by who visits.
pub fn may_fall_back(current: Option<&CertificateFacts>, policy: &Policy, now: Timestamp) -> bool {
    current.is_none_or(|facts| facts.is_expiring(now, policy.expiring_warn / 2))
}

/// A failure is waited out, unless intent changed after it: then a person (or an event) has spoken.
fn waiting(view: &View<'_>, now: Timestamp) -> Option<Reason> {
    let Domain { intent, state } = view.domain;
    if state.cert_failure_count == 0 || state.look.failed_for != Some(intent.changed_at) {
        return None;
    }
    let last = state.look.failure.clone();
    match state.cert_next_retry_at {
        Some(at) if at > now => Some(last.unwrap_or_else(|| Reason::new(ReasonCode::BackingOff, "the last attempt failed")).at(at)),
        Some(_) => None,
        None => {
            let why = last.map_or_else(String::new, |reason| format!(": {}", reason.message));
            Some(Reason::new(ReasonCode::Held, format!("held after {} failures{why}", state.cert_failure_count)))
        }
    }
}

fn wire_verdict(view: &View<'_>, policy: &Policy, now: Timestamp) -> Result<(), Reason> {
    let Domain { intent, state } = view.domain;
    if !policy.probing {
        // Nobody looks: the word of who issued it has to do, until the end that it named.
        let told = |reported: &Reported| reported.not_after.is_none_or(|end| end > now);
        let known = view.current.is_some() || state.look.reported.as_ref().is_some_and(told);
        return match &state.look.failure {
            _ if known => Ok(()),
            Some(failure) => Err(failure.clone()),
            None => Err(no_certificate()),
        };
    }
    if is_issued_by_us(view.domain) && view.current.is_none() {
        return Err(no_certificate());
    }
    wire::judge(&state.look.sights, &intent.hostname, expected(view.domain, view.current), now)
}

fn wire_track(view: &View<'_>, policy: &Policy, verdict: Result<(), Reason>, now: Timestamp) -> Plan {
    let Domain { intent, state } = view.domain;
    if policy.probing {
        let asked_again = state.look.probed_for != Some(intent.changed_at);
        let due = state.look.probe_at.is_none_or(|at| at <= now);
        if due || asked_again {
            return Plan::Do(Step::Probe);
        }
    }
    let next = state.look.probe_at.filter(|_| policy.probing);
    let mut said = match verdict {
        Err(_) if intent.tls_mode == TlsMode::Passthrough => {
            Reason::new(ReasonCode::Passthrough, "passthrough: the certificate is the upstream's")
        }
        Err(reason) => match dns_verdict(view.domain, policy) {
            // DNS explains the wire better than the wire does.
            Err(dns) if reason.code == ReasonCode::WireDnsPath => dns,
            _ => reason,
        },
        Ok(()) => match view.current {
            // Green, and somebody should know why it may not stay so.
            None if state.look.failure.is_some() => state.look.failure.clone().unwrap_or_else(no_certificate),
            Some(facts) if facts.is_expiring(now, policy.expiring_warn) => {
                Reason::new(ReasonCode::Expiring, format!("the certificate ends at {}", facts.not_after))
            }
            _ => Reason::new(ReasonCode::Healthy, "the wire shows the certificate that the database names"),
        },
    };
    said.next_look_at = next;
    Plan::Rest(said)
}

/// The documented status, from what was seen. The second value says whether a handshake stands behind it.
pub fn tls_status(view: &View<'_>, policy: &Policy, now: Timestamp) -> (TlsStatus, bool) {
    let Domain { intent, state } = view.domain;
    if intent.route.is_none() || intent.desired == Desired::Absent {
        return (TlsStatus::PendingRoute, false);
    }
    if intent.tls_mode == TlsMode::Passthrough {
        return (TlsStatus::PassthroughUnverified, false);
    }
    if !matches!(state.lifecycle, DomainLifecycle::Routing | DomainLifecycle::Active) {
        return (TlsStatus::PendingRoute, false);
    }
    // While a new certificate is being swapped in, the wire may show either of the two; both are ours.
    let shown = [view.current, view.staged]
        .into_iter()
        .flatten()
        .find(|facts| wire::judge(&state.look.sights, &intent.hostname, Some(&facts.certificate_ref), now).is_ok());
    let proven = policy.probing && (shown.is_some() || (!is_issued_by_us(view.domain) && wire_verdict(view, policy, now).is_ok()));
    match wire_verdict(view, policy, now) {
        _ if shown.is_some() && view.current.is_some() => {}
        Ok(()) => {}
        Err(reason) => {
            let awaited = match reason.code {
                ReasonCode::AwaitingProof => state.cert_failure_count == 0,
                // A newer one is reported than is served: the wire may yet follow.
                ReasonCode::WireOtherCertificate => !is_issued_by_us(view.domain),
                _ => false,
            };
            return (if awaited { TlsStatus::PendingIssue } else { TlsStatus::TlsError }, false);
        }
    }
    let not_after_near = match shown.or(view.current) {
        Some(facts) => facts.is_expiring(now, policy.expiring_warn),
        // Unseen, and its lifetime unknown.
        None if !policy.probing => {
            let end = state.look.reported.as_ref().and_then(|reported| reported.not_after);
            end.is_some_and(|end| end.duration_since(now) <= policy.expiring_warn)
        }
        None => state.look.sights.iter().filter_map(|sight| sight.seen.as_ref().ok()).any(|served| {
            let lifetime = served.not_after.duration_since(served.not_before);
            served.not_after.duration_since(now) <= crate::certificate::expiring_window(lifetime, policy.expiring_warn)
        }),
    };
    (if not_after_near { TlsStatus::Expiring } else { TlsStatus::Issued }, proven)
}

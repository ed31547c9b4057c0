//! The planner as a table: a domain in a situation, and the one step (or the rest and its reason) that follows.

#![allow(clippy::unwrap_used, reason = "a situation that cannot be made is a failed test")]

use certwright_model::answers::{DnsSight, EdgeLocation, LookupStatus};
use certwright_model::certificate::{CertificateFacts, CertificateRef, KeyType};
use certwright_model::domain::*;
use certwright_model::ids::DomainId;
use certwright_model::planner::{self, Plan, Policy, View};
use certwright_model::record::*;
use certwright_model::wire::{DialFailure, Failed, Path, Served, Sight};
use certwright_model::{Hostname, Reason, ReasonCode};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

fn day(days: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap()
}

fn policy() -> Policy {
    Policy {
        edge: EdgeLocation { addresses: vec!["192.0.2.1".parse().unwrap()], ..EdgeLocation::default() },
        issuers: vec!["public".into(), "spare".into()],
        strict_ownership: false,
        dns_max_age: SignedDuration::from_mins(10),
        probe_every: SignedDuration::from_hours(1),
        expiring_warn: SignedDuration::from_hours(720),
        probing: true,
    }
}

/// A domain, what is known of its certificates, and the moment.
struct Case {
    domain: Domain,
    current: Option<CertificateFacts>,
    staged: Option<CertificateFacts>,
    now: Timestamp,
}

fn dns(address: &str, at: Timestamp) -> DnsSight {
    let addresses = vec![address.parse().unwrap()];
    DnsSight { at, status: LookupStatus::Found, cnames: vec![], addresses, ownership_txt: Some(vec![]) }
}

fn facts(byte: u8, from: Timestamp) -> CertificateFacts {
    CertificateFacts {
        certificate_ref: CertificateRef::from_digest(&[byte; 32]),
        names: vec!["www.example.com".into()],
        not_before: from,
        not_after: from + SignedDuration::from_hours(24 * 90),
        key_type: KeyType::EcdsaP256,
        issuer: "public".into(),
        issuer_dn: "CN=public".into(),
        serial: "1".into(),
        ari_id: None,
    }
}

fn shows(facts: &CertificateFacts, at: Timestamp) -> Sight {
    let seen = Ok(Served {
        certificate_ref: facts.certificate_ref.clone(),
        names: facts.names.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        issuer_dn: facts.issuer_dn.clone(),
        key_type: facts.key_type,
        chain_problem: None,
        tls_version: "TLSv1.3".into(),
        alpn: None,
    });
    Sight { path: Path::Edge, dialled: "192.0.2.1:443".into(), at, elapsed_ms: 1, seen }
}

/// Just asked for.
fn fresh() -> Case {
    let intent = DomainIntent {
        id: DomainId(Uuid::from_u128(1)),
        hostname: Hostname::parse("www.example.com").unwrap(),
        site_id: None,
        kind: DomainKind::Custom,
        desired: Desired::Present,
        route: Some(Route::Upstream { upstream: "http://127.0.0.1:1".into(), region: None }),
        tls_mode: TlsMode::Termination,
        failure_policy: FailurePolicy::Hold,
        issuers: Vec::new(),
        key_type: KeyType::EcdsaP256,
        ownership_token: "t".into(),
        renew_requested_at: None,
        created_at: day(0),
        changed_at: day(0),
    };
    Case { domain: Domain { intent, state: DomainState::new(day(0)) }, current: None, staged: None, now: day(0) }
}

/// Validated and on the edge, without a certificate.
fn routed() -> Case {
    let mut case = fresh();
    let state = &mut case.domain.state;
    state.lifecycle = DomainLifecycle::Routing;
    state.published = true;
    state.look.dns = Some(dns("192.0.2.1", day(0)));
    state.look.looked_for = Some(day(0));
    case
}

/// Proven a day ago, and at rest.
fn green() -> Case {
    let mut case = routed();
    let certificate = facts(1, day(0));
    let state = &mut case.domain.state;
    state.lifecycle = DomainLifecycle::Active;
    state.look.sights = vec![shows(&certificate, day(1))];
    state.look.probed_for = Some(day(0));
    state.look.probe_at = Some(day(200));
    case.current = Some(certificate);
    case.now = day(1);
    case
}

fn with(mut case: Case, change: impl FnOnce(&mut Case)) -> Case {
    change(&mut case);
    case
}

fn refused(case: &mut Case) {
    let seen = Err(Failed { failure: DialFailure::Refused, detail: "refused".into() });
    case.domain.state.look.sights = vec![Sight { path: Path::Edge, dialled: "192.0.2.1:443".into(), at: case.now, elapsed_ms: 1, seen }];
}

fn answer(case: &Case) -> String {
    let view = View { domain: &case.domain, site: None, current: case.current.as_ref(), staged: case.staged.as_ref(), order: None };
    match planner::plan(&view, &policy(), case.now) {
        Plan::Do(step) => format!("{step:?}"),
        Plan::Rest(reason) => format!("rest {}", reason.code),
    }
}

#[test]
fn each_situation_has_its_one_next_step() {
    #[rustfmt::skip]
    let table: Vec<(&str, Case, &str)> = vec![
        ("just asked for",                  fresh(),                                                                        "Advance(Validating)"),
        ("no route",                        with(fresh(), |c| c.domain.intent.route = None),                                "rest no_route"),
        ("validating, nobody looked",       with(fresh(), |c| c.domain.state.lifecycle = DomainLifecycle::Validating),      "LookAtDns"),
        ("routed, not on the edge",         with(routed(), |c| c.domain.state.published = false),                           "Publish"),
        ("on the edge, no certificate",     routed(),                                                                       "Issue { issuer: \"public\", cause: Missing }"),
        ("DNS was looked at long ago",      with(routed(), |c| c.now = day(1)),                                             "LookAtDns"),
        ("DNS has moved away",              with(routed(), |c| { c.domain.state.look.dns = Some(dns("203.0.113.9", day(0))); c.domain.state.look.validate_at = Some(day(1)); }), "rest dns_elsewhere"),
        ("the first issuer failed",         with(routed(), |c| c.domain.state.look.issuer_index = 1),                       "Issue { issuer: \"spare\", cause: Missing }"),
        ("failed, in its pause",            with(routed(), |c| { failed(c, 1, Some(day(1))); }),                            "rest ca_unavailable"),
        ("failed, the pause is over",       with(routed(), |c| { failed(c, 1, Some(day(0))); }),                            "Issue { issuer: \"public\", cause: Missing }"),
        ("held after the third failure",    with(routed(), |c| { failed(c, 4, None); }),                                    "rest held"),
        ("held, and somebody spoke",        with(routed(), |c| { failed(c, 4, None); c.domain.intent.changed_at = day(-3); }), "Issue { issuer: \"public\", cause: Missing }"),
        ("staged, nobody looked",           with(routed(), |c| c.staged = Some(facts(2, day(0)))),                          "Probe"),
        ("staged, and the wire shows it",   with(routed(), |c| { let f = facts(2, day(0)); c.domain.state.look.sights = vec![shows(&f, day(0))]; c.staged = Some(f); }), "Commit"),
        ("proven, not active yet",          with(green(), |c| c.domain.state.lifecycle = DomainLifecycle::Routing),         "Advance(Active)"),
        ("green and at rest",               green(),                                                                        "rest healthy"),
        ("a look is due",                   with(green(), |c| c.domain.state.look.probe_at = Some(day(1))),                 "Probe"),
        ("somebody asks for a look",        with(green(), |c| c.domain.intent.changed_at = day(1)),                         "Probe"),
        ("the wire refuses",                with(green(), refused),                                                         "rest wire_unreachable"),
        ("two thirds of it are over",       with(green(), |c| { c.now = day(66); c.domain.state.look.dns = Some(dns("192.0.2.1", day(66))); }), "Issue { issuer: \"public\", cause: Schedule }"),
        ("a new one is asked for",          with(green(), |c| { c.domain.intent.renew_requested_at = Some(day(1)); c.domain.state.look.dns = Some(dns("192.0.2.1", day(1))); }), "Issue { issuer: \"public\", cause: Requested }"),
        ("asked for, and given",            with(green(), |c| { c.domain.intent.renew_requested_at = Some(day(1)); c.domain.state.look.renewed_for = Some(day(1)); }), "rest healthy"),
        ("to go, and active",               with(green(), |c| c.domain.intent.desired = Desired::Absent),                   "Advance(Removing)"),
        ("to go, on the edge",              with(routed(), |c| c.domain.intent.desired = Desired::Absent),                  "Withdraw"),
        ("to go, off the edge",             with(routed(), |c| { c.domain.intent.desired = Desired::Absent; c.domain.state.published = false; }), "ConfirmWithdrawn"),
        ("to go, seen gone",                with(routed(), |c| { c.domain.intent.desired = Desired::Absent; c.domain.state.published = false; c.domain.state.look.withdrawn = true; }), "Forget"),
        ("to go before it began",           with(fresh(), |c| c.domain.intent.desired = Desired::Absent),                   "Forget"),
    ];
    for (name, case, expected) in &table {
        assert_eq!(answer(case), *expected, "{name}");
    }
}

fn failed(case: &mut Case, count: u32, retry_at: Option<Timestamp>) {
    let state = &mut case.domain.state;
    state.cert_failure_count = count;
    state.cert_next_retry_at = retry_at;
    state.look.failed_at = Some(day(0));
    state.look.failed_for = Some(case.domain.intent.changed_at);
    state.look.failure = Some(Reason::new(ReasonCode::CaUnavailable, "down"));
}

#[test]
fn another_issuer_stands_in_only_where_nothing_good_is_served() {
    let good = facts(1, day(0));
    #[rustfmt::skip]
    let table = [
        ("nothing yet",                None,        day(0),  true),
        ("fresh",                      Some(&good), day(1),  false),
        ("renewal time, a month left", Some(&good), day(60), false),
        ("two weeks left",             Some(&good), day(76), true),
        ("expired",                    Some(&good), day(91), true),
    ];
    for (name, current, now, expected) in table {
        assert_eq!(planner::may_fall_back(current, &policy(), now), expected, "{name}");
    }
}

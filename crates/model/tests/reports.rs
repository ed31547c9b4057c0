//! Reports of other certificate managers as a table: what a domain was, what was reported, what the wire shows, what it is.

#![allow(clippy::unwrap_used, reason = "a situation that cannot be made is a failed test")]

use certwright_model::answers::EdgeLocation;
use certwright_model::certificate::{CertificateRef, KeyType};
use certwright_model::domain::*;
use certwright_model::event::{self, CallbackAction, CallbackClass, Effect, Event, Identity, Limits, Report};
use certwright_model::fold::{self, Probe};
use certwright_model::ids::DomainId;
use certwright_model::planner::{self, Policy, View};
use certwright_model::record::*;
use certwright_model::wire::{self, DialFailure, Failed, Path, Served, Sight};
use certwright_model::{Hostname, ReasonCode};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

fn hour(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
}

fn policy(probing: bool) -> Policy {
    Policy {
        edge: EdgeLocation::default(),
        issuers: vec!["public".into()],
        strict_ownership: false,
        dns_max_age: SignedDuration::from_mins(10),
        probe_every: SignedDuration::from_hours(1),
        expiring_warn: SignedDuration::from_hours(720),
        probing,
    }
}

/// A routed domain whose certificate somebody else gets.
fn watched() -> Domain {
    let intent = DomainIntent {
        id: DomainId(Uuid::from_u128(1)),
        hostname: Hostname::parse("www.example.com").unwrap(),
        site_id: None,
        kind: DomainKind::Custom,
        desired: Desired::Present,
        route: Some(Route::Tunnel { tunnel: "t".into(), target: None, region: None }),
        tls_mode: TlsMode::Termination,
        failure_policy: FailurePolicy::Standard,
        issuers: vec![],
        key_type: KeyType::EcdsaP256,
        ownership_token: "x".into(),
        renew_requested_at: None,
        created_at: hour(0),
        changed_at: hour(0),
    };
    let state = DomainState { lifecycle: DomainLifecycle::Active, ..DomainState::new(hour(0)) };
    Domain { intent, state }
}

fn leaf(byte: u8) -> CertificateRef {
    CertificateRef::from_digest(&[byte; 32])
}

fn shows(byte: u8, days: i64) -> Sight {
    let seen = Ok(Served {
        certificate_ref: leaf(byte),
        names: vec!["www.example.com".into()],
        not_before: hour(24 * (days - 90) - 1),
        not_after: hour(24 * days),
        issuer_dn: "CN=x".into(),
        key_type: KeyType::EcdsaP256,
        chain_problem: None,
        tls_version: "TLSv1.3".into(),
        alpn: None,
    });
    Sight { path: Path::Dns, dialled: "192.0.2.1:443".into(), at: hour(1), elapsed_ms: 1, seen }
}

fn silent() -> Sight {
    let seen = Err(Failed { failure: DialFailure::Timeout, detail: "no answer".into() });
    Sight { seen, ..shows(0, 1) }
}

struct Story {
    domain: Domain,
    policy: Policy,
}

impl Story {
    fn new(domain: Domain) -> Self {
        Self { domain, policy: policy(true) }
    }

    fn told(mut self, at: Timestamp, event_type: EventType, report: Report) -> Self {
        self.tell(at, event_type, &report);
        self
    }

    fn tell(&mut self, at: Timestamp, event_type: EventType, report: &Report) -> Effect {
        let identity = Identity::new("lego", "eu-1").unwrap();
        event::apply(&mut self.domain, &Event { identity: &identity, event_type, at, report }, hour(1), 0.5)
    }

    fn seen(mut self, sight: Sight) -> Self {
        let expected = planner::expected(&self.domain, None).cloned();
        let verdict = wire::judge(std::slice::from_ref(&sight), &self.domain.intent.hostname, expected.as_ref(), hour(1));
        let probe = Probe { asked_at: hour(0), sights: vec![sight], verdict: &verdict, patience: Some(FailurePolicy::Standard) };
        fold::probed(&mut self.domain.state, probe, &self.policy, hour(1), 0.5);
        self
    }

    fn unprobed(mut self) -> Self {
        self.policy = policy(false);
        self
    }

    fn status(&self) -> (TlsStatus, bool) {
        let view = View { domain: &self.domain, site: None, current: None, staged: None, order: None };
        planner::tls_status(&view, &self.policy, hour(1))
    }
}

fn good(byte: u8) -> Report {
    Report { certificate_ref: Some(leaf(byte)), not_after: Some(hour(24 * 90)), ..Report::default() }
}

fn bad() -> Report {
    Report { reason: Some("DNS problem".into()), ..Report::default() }
}

#[test]
fn green_is_what_the_wire_says_and_a_report_only_asks_it() {
    use EventType::*;
    use TlsStatus::*;
    let story = || Story::new(watched());
    let passthrough = || {
        let mut domain = watched();
        domain.intent.tls_mode = TlsMode::Passthrough;
        Story::new(domain)
    };
    let routeless = || {
        let mut domain = watched();
        domain.intent.route = None;
        Story::new(domain)
    };
    let ours = || {
        let mut domain = watched();
        domain.intent.route = Some(Route::Upstream { upstream: "http://127.0.0.1:1".into(), region: None });
        Story::new(domain)
    };
    let later = hour(1);
    #[rustfmt::skip]
    let table = [
        ("a success alone is no proof",        story().told(later, IssuanceSucceeded, good(1)),                                (PendingIssue, false)),
        ("the wire agrees",                    story().told(later, IssuanceSucceeded, good(1)).seen(shows(1, 90)),             (Issued, true)),
        ("it agrees, but not for long",        story().told(later, IssuanceSucceeded, good(1)).seen(shows(1, 5)),              (Expiring, true)),
        ("the wire shows another one",         story().told(later, IssuanceSucceeded, good(1)).seen(shows(2, 90)),             (PendingIssue, false)),
        ("nobody answers",                     story().told(later, IssuanceSucceeded, good(1)).seen(silent()),                 (TlsError, false)),
        ("any good leaf where none is named",  story().told(later, IssuanceSucceeded, Report::default()).seen(shows(7, 90)),   (Issued, true)),
        ("what was seen before does not count",story().seen(shows(7, 90)).told(later, RenewalSucceeded, Report::default()),    (PendingIssue, false)),
        ("the same news again changes nothing",
            story().told(later, IssuanceSucceeded, good(1)).seen(shows(1, 90)).told(later, RenewalSucceeded, good(1)),         (Issued, true)),
        ("a failure with nothing served",      story().told(later, IssuanceFailed, bad()),                                     (TlsError, false)),
        ("a failed renewal of a good one",     story().seen(shows(1, 90)).told(later, RenewalFailed, bad()),                   (Issued, true)),
        ("expiring, says the manager; the wire knows",
            story().seen(shows(1, 90)).told(later, CertificateExpiring, good(1)),                                              (Issued, true)),
        ("passthrough is the upstream's",      passthrough().told(later, IssuanceSucceeded, good(1)).seen(shows(1, 90)),       (PassthroughUnverified, false)),
        ("no route, no status",                routeless().told(later, IssuanceSucceeded, good(1)),                            (PendingRoute, false)),
        ("our own business",                   ours().told(later, IssuanceSucceeded, good(1)),                                 (PendingIssue, false)),
        ("nobody probes: the word has to do",  story().unprobed().told(later, IssuanceSucceeded, good(1)),                     (Issued, false)),
        ("nobody probes, and it ends soon",
            story().unprobed().told(later, IssuanceSucceeded, Report { not_after: Some(hour(48)), ..good(1) }),                (Expiring, false)),
        ("nobody probes, and it failed",       story().unprobed().told(later, IssuanceFailed, bad()),                          (TlsError, false)),
        ("nobody probes, and it has ended",
            story().unprobed().told(later, IssuanceSucceeded, Report { not_after: Some(hour(0)), ..good(1) }),                 (PendingIssue, false)),
    ];
    for (what, story, expected) in table {
        assert_eq!(story.status(), expected, "{what}: {:?}", story.domain.state);
    }
}

#[test]
fn a_report_that_the_wire_contradicts_names_both_fingerprints() {
    let story = Story::new(watched()).told(hour(1), EventType::RenewalSucceeded, good(1)).seen(shows(2, 90));
    let said = story.domain.state.tls_last_error.clone().unwrap();
    assert!(said.contains(leaf(1).as_str()) && said.contains(leaf(2).as_str()), "{said}");
}

#[test]
fn columns_follow_the_events() {
    let mut story = Story::new(watched());
    assert_eq!(story.tell(hour(1), EventType::RenewalFailed, &bad()), Effect::Asks);
    story.domain.state.tls_last_checked_at = Some(hour(1));
    assert_eq!(story.tell(hour(1), EventType::RenewalFailed, &bad()), Effect::Changed, "the wire was just asked");
    let state = &story.domain.state;
    assert_eq!((state.cert_failure_count, state.cert_retry_backoff_seconds), (2, Some(120)));
    assert_eq!(state.cert_next_retry_at, Some(hour(1) + SignedDuration::from_secs(120)));
    assert_eq!(state.cert_last_event_type, Some(EventType::RenewalFailed));
    assert_eq!(state.look.failure.as_ref().unwrap().code, ReasonCode::ReportedFailure);
    let due = Report { renewal_due_at: Some(hour(500)), ..good(1) };
    assert_eq!(story.tell(hour(2), EventType::RenewalSucceeded, &due), Effect::Asks);
    let state = &story.domain.state;
    assert_eq!((state.cert_failure_count, state.cert_next_retry_at, &state.tls_last_error), (0, None, &None));
    assert_eq!((state.certificate_ref.clone(), state.tls_not_after), (Some(leaf(1)), Some(hour(24 * 90))));
    assert_eq!((state.cert_renewal_due_at, state.cert_last_event_at), (Some(hour(500)), Some(hour(2))));
    assert_eq!(story.tell(hour(2), EventType::RenewalFailed, &bad()), Effect::Changed);
    assert_eq!(story.tell(hour(2), EventType::RenewalSucceeded, &due), Effect::Changed, "the same certificate, and all is well again");
    assert_eq!((story.domain.state.cert_failure_count, &story.domain.state.tls_last_error), (0, &None));
    assert_eq!(story.tell(hour(1), EventType::RenewalFailed, &bad()), Effect::Older, "an older one overwrites nothing");
    assert_eq!(story.domain.state.cert_failure_count, 0);
}

#[test]
fn a_type_is_given_as_itself_or_as_a_callback() {
    use CallbackAction::*;
    use CallbackClass::*;
    use EventType::*;
    #[rustfmt::skip]
    let table = [
        (Some(RenewalFailed), None,           None,            Some(RenewalFailed)),
        (None,                Some(Issuance), Some(Succeeded), Some(IssuanceSucceeded)),
        (None,                Some(Issuance), Some(Failed),    Some(IssuanceFailed)),
        (None,                Some(Renewal),  Some(Succeeded), Some(RenewalSucceeded)),
        (None,                Some(Renewal),  Some(Failed),    Some(RenewalFailed)),
        (None,                Some(Expiry),   Some(Expiring),  Some(CertificateExpiring)),
        (Some(RenewalFailed), Some(Renewal),  Some(Failed),    Some(RenewalFailed)),
        (Some(RenewalFailed), Some(Renewal),  Some(Succeeded), None),
        (None,                Some(Expiry),   Some(Failed),    None),
        (None,                Some(Renewal),  Some(Expiring),  None),
        (None,                Some(Renewal),  None,            None),
        (None,                None,           Some(Failed),    None),
        (None,                None,           None,            None),
    ];
    for (given, class, action, expected) in table {
        assert_eq!(event::event_type(given, class, action).ok(), expected, "{given:?} {class:?} {action:?}");
    }
}

#[test]
fn tries_double_their_pause_up_to_an_hour_and_end_after_the_sixth() {
    let limits = Limits::default();
    let pauses: Vec<Option<i64>> =
        (1..=6).map(|n| event::retry_at(n, &limits, hour(0)).map(|at| at.duration_since(hour(0)).as_secs())).collect();
    assert_eq!(pauses, [Some(45), Some(90), Some(180), Some(360), Some(720), None]);
    let many = Limits { max_tries: 20, ..limits };
    assert_eq!(event::retry_at(12, &many, hour(0)), Some(hour(1)));
}

#[test]
fn what_is_no_identity_and_no_time_is_refused() {
    for (source, cluster) in [("", "x"), ("x", ""), ("a b", "x"), ("a:b", "x"), ("a", "x=y"), ("a,b", "x"), (".a", "x"), ("ü", "x")] {
        assert!(Identity::new(source, cluster).is_err(), "{source} {cluster}");
    }
    assert!(Identity::new("cert-manager/v1", "prod_eu@1.2").is_ok());
    let ahead = SignedDuration::from_mins(5);
    let at = |occurred_at| Report { occurred_at: Some(occurred_at), ..Report::default() };
    assert!(at(hour(0)).check(hour(0), ahead).is_ok());
    assert!(at(hour(1)).check(hour(0), ahead).is_err(), "from the future");
    assert!(at(Timestamp::from_second(0).unwrap()).check(hour(0), ahead).is_err(), "1970");
    let end = Report { not_after: Some(Timestamp::from_second(253_402_207_199).unwrap()), ..Report::default() };
    assert!(end.check(hour(0), ahead).is_err(), "the year 9999");
}

proptest! {
    /// Whatever order they come in: the newest of the successes and failures is the one that the state tells of.
    #[test]
    fn the_newest_event_wins_in_any_order(moments in proptest::collection::vec((0i64..50, 0u8..5), 1..12)) {
        let kinds = [EventType::IssuanceSucceeded, EventType::IssuanceFailed, EventType::RenewalSucceeded, EventType::RenewalFailed,
            EventType::CertificateExpiring];
        let mut story = Story::new(watched());
        let mut newest: Option<(i64, EventType)> = None;
        for (moment, kind) in moments {
            let kind = kinds[usize::from(kind)];
            let effect = story.tell(hour(-100 + moment), kind, &good(kind as u8));
            prop_assert_eq!(effect == Effect::Older, newest.is_some_and(|(last, _)| last > moment));
            if newest.is_none_or(|(last, _)| last <= moment) {
                newest = Some((moment, kind));
            }
            let state = &story.domain.state;
            prop_assert_eq!(state.cert_last_event_type, newest.map(|(_, kind)| kind));
            prop_assert_eq!(state.cert_last_event_at, newest.map(|(at, _)| hour(-100 + at)));
            prop_assert!(!story.status().1, "no report proves anything");
        }
    }
}

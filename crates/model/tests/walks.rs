//! Random walks of the two machines in a simulated world: people ask, DNS lies, the CA fails, the edge is down.
//!
//! Shown: every step is a documented edge of the eleven-state view or none; nothing is `issued` that the wire has not
//! shown; and once the world is well, every walk ends where it was asked to.

#![allow(clippy::unwrap_used, reason = "an illegal step is a failed walk")]

use certwright_model::answers::{DnsSight, EdgeLocation, LookupStatus};
use certwright_model::certificate::{CertificateFacts, CertificateRef, KeyType};
use certwright_model::domain::*;
use certwright_model::fold::{self, Failure};
use certwright_model::ids::{CertificateId, DomainId, SiteId};
use certwright_model::planner::{self, Plan, Policy, Step, View};
use certwright_model::record::*;
use certwright_model::site::*;
use certwright_model::site_planner::{SitePlan, SiteStep, plan_site};
use certwright_model::view::{SiteStatus, spokesman, view};
use certwright_model::wire::{DialFailure, Failed, Path, Served, Sight};
use certwright_model::{Hostname, Reason, ReasonCode};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

#[derive(Clone, Copy, Debug)]
enum Act {
    SetDomain,
    RemoveDomain,
    Destroy,
    Retry,
    Dns(bool),
    Ca(bool),
    Edge(bool),
    Pass(u32),
    Work(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::SetDomain),
        1 => Just(Act::RemoveDomain),
        1 => Just(Act::Destroy),
        1 => Just(Act::Retry),
        1 => any::<bool>().prop_map(Act::Dns),
        1 => any::<bool>().prop_map(Act::Ca),
        1 => any::<bool>().prop_map(Act::Edge),
        3 => (0u32..4_000_000).prop_map(Act::Pass),
        6 => (1u8..12).prop_map(Act::Work),
    ]
}

struct Held {
    domain: Domain,
    current: Option<CertificateFacts>,
    staged: Option<CertificateFacts>,
}

struct World {
    now: Timestamp,
    policy: Policy,
    site: Site,
    domains: Vec<Held>,
    dns_good: bool,
    ca_good: bool,
    edge_up: bool,
    made: u8,
    shown: SiteStatus,
}

fn policy() -> Policy {
    Policy {
        edge: EdgeLocation { addresses: vec!["192.0.2.1".parse().unwrap()], ..EdgeLocation::default() },
        issuers: vec!["first".into(), "second".into()],
        strict_ownership: false,
        dns_max_age: SignedDuration::from_mins(10),
        probe_every: SignedDuration::from_hours(1),
        expiring_warn: SignedDuration::from_hours(720),
        probing: true,
    }
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let name = SiteName::parse("shop").unwrap();
        let intent = SiteIntent {
            id: SiteId(Uuid::from_u128(1)),
            name,
            kind: SiteKind::Proxy { upstream: "http://127.0.0.1:1".into() },
            desired: Desired::Present,
            created_at: now,
            changed_at: now,
        };
        let state = SiteState {
            lifecycle: SiteLifecycle::Created,
            lifecycle_since: now,
            attempts: 0,
            reason: None,
            last_reconciled_at: None,
            look: SiteLook::default(),
        };
        let mut world = Self {
            now,
            policy: policy(),
            site: Site { intent, state },
            domains: Vec::new(),
            dns_good: true,
            ca_good: true,
            edge_up: true,
            made: 0,
            shown: SiteStatus::Created,
        };
        world.attach("shop.sites.example", DomainKind::Default);
        world
    }

    fn attach(&mut self, hostname: &str, kind: DomainKind) {
        let intent = DomainIntent {
            id: DomainId(Uuid::from_u128(self.domains.len() as u128 + 10)),
            hostname: Hostname::parse(hostname).unwrap(),
            site_id: Some(self.site.intent.id),
            kind,
            desired: Desired::Present,
            route: Some(Route::Site),
            tls_mode: TlsMode::Termination,
            failure_policy: FailurePolicy::Standard,
            issuers: Vec::new(),
            key_type: KeyType::EcdsaP256,
            ownership_token: "t".into(),
            renew_requested_at: None,
            created_at: self.now,
            changed_at: self.now,
        };
        self.domains.push(Held { domain: Domain { intent, state: DomainState::new(self.now) }, current: None, staged: None });
    }

    fn custom(&mut self) -> Option<&mut Held> {
        self.domains.iter_mut().find(|held| held.domain.intent.kind == DomainKind::Custom)
    }

    fn apply(&mut self, act: Act) {
        let now = self.now;
        match act {
            Act::SetDomain => {
                if self.site.state.lifecycle.takes_domains() && self.site.intent.desired == Desired::Present && self.custom().is_none() {
                    self.attach("www.example.com", DomainKind::Custom);
                }
            }
            Act::RemoveDomain => {
                if let Some(held) = self.custom() {
                    held.domain.intent.desired = Desired::Absent;
                    held.domain.intent.changed_at = now;
                }
            }
            Act::Destroy | Act::Retry => {
                let failed = self.site.state.lifecycle == SiteLifecycle::Failed;
                if matches!(act, Act::Destroy) || (failed && self.site.intent.desired == Desired::Present) {
                    self.site.intent.desired = if matches!(act, Act::Destroy) { Desired::Absent } else { Desired::Present };
                    self.site.intent.changed_at = now;
                }
            }
            Act::Dns(good) => self.dns_good = good,
            Act::Ca(good) => self.ca_good = good,
            Act::Edge(up) => self.edge_up = up,
            Act::Pass(seconds) => self.now += SignedDuration::from_secs(i64::from(seconds) + 1),
            Act::Work(rounds) => (0..rounds).for_each(|_| self.round()),
        }
        self.look();
    }

    fn look(&mut self) {
        let customs = self.domains.iter().filter(|h| h.domain.intent.kind == DomainKind::Custom).map(|h| h.domain.state.lifecycle);
        let status = view(self.site.state.lifecycle, spokesman(customs));
        assert!(status == self.shown || self.shown.can_become(status), "{} became {status}", self.shown);
        self.shown = status;
    }

    /// One step of everything that has one.
    fn round(&mut self) {
        for index in 0..self.domains.len() {
            self.domain_step(index);
            self.look();
        }
        self.domains.retain(|held| held.domain.intent.ownership_token != "forgotten");
        self.look();
        let domains: Vec<Domain> = self.domains.iter().map(|held| held.domain.clone()).collect();
        if let SitePlan::Do(step) = plan_site(&self.site, &domains, self.now) {
            self.site_step(step);
        }
        self.look();
    }

    fn site_step(&mut self, step: SiteStep) {
        let now = self.now;
        let release = |held: &mut Held| {
            held.domain.intent.desired = Desired::Absent;
            held.domain.intent.changed_at = now;
        };
        match step {
            SiteStep::Advance(to) => {
                self.site.state.lifecycle = self.site.state.lifecycle.become_(to).unwrap();
                self.site.state.lifecycle_since = now;
            }
            SiteStep::Fail(_) => {
                self.site.state.lifecycle = self.site.state.lifecycle.become_(SiteLifecycle::Failed).unwrap();
                self.site.state.look.failed_for = Some(self.site.intent.changed_at);
            }
            SiteStep::Prepare => self.site.state.look.prepared_at = Some(now),
            SiteStep::ReleaseUnsettled => {
                self.domains.iter_mut().filter(|held| held.domain.intent.kind == DomainKind::Custom).for_each(release)
            }
            SiteStep::ReleaseAll => self.domains.iter_mut().for_each(release),
            SiteStep::RemoveContent => self.site.state.look.cleared = true,
        }
    }

    fn domain_step(&mut self, index: usize) {
        let (now, policy, site) = (self.now, self.policy.clone(), self.site.clone());
        let (dns_good, ca_good, edge_up) = (self.dns_good, self.ca_good, self.edge_up);
        self.made = self.made.wrapping_add(1);
        let made = self.made;
        let held = &mut self.domains[index];
        let snapshot = held.domain.clone();
        let seen = View { domain: &snapshot, site: Some(&site), current: held.current.as_ref(), staged: held.staged.as_ref(), order: None };
        let plan = planner::plan(&seen, &policy, now);
        let state = &mut held.domain.state;
        match plan {
            Plan::Rest(reason) => {
                fold::conclude(&seen, state, reason.clone(), &policy, now);
                assert!(reason.code == ReasonCode::Healthy || !reason.message.is_empty());
                assert!(reason.next_look_at.is_none_or(|at| at > now), "a rest that is already over: {reason:?}");
                if state.tls_status == TlsStatus::Issued {
                    let served = state.look.sights.iter().all(|s| s.seen.is_ok()) && !state.look.sights.is_empty();
                    assert!(served && state.proven, "green without a handshake");
                }
            }
            Plan::Do(step) => match step {
                Step::Advance(to) => fold::advance(state, to, now).unwrap(),
                Step::Retreat(reason) => fold::retreat(state, reason, now).unwrap(),
                Step::LookAtDns => {
                    let sight = DnsSight {
                        at: now,
                        status: if dns_good { LookupStatus::Found } else { LookupStatus::NoName },
                        cnames: vec![],
                        addresses: if dns_good { vec!["192.0.2.1".parse().unwrap()] } else { vec![] },
                        ownership_txt: Some(vec![]),
                    };
                    fold::looked_at_dns(state, snapshot.intent.changed_at, sight, dns_good, now, 0.5);
                }
                Step::Publish => fold::published(state),
                Step::Withdraw => fold::withdrawn(state),
                Step::ConfirmWithdrawn => state.look.withdrawn = true,
                Step::Forget => held.domain.intent.ownership_token = "forgotten".into(),
                Step::Issue { issuer, .. } => {
                    if ca_good {
                        let facts = certificate(snapshot.intent.hostname.as_str(), &issuer, made, now);
                        fold::staged(state, CertificateId(Uuid::from_u128(u128::from(made))), snapshot.intent.renew_requested_at);
                        held.staged = Some(facts);
                    } else {
                        let issuers = if planner::may_fall_back(held.current.as_ref(), &policy, now) { 2 } else { 1 };
                        let reason = Reason::new(ReasonCode::CaUnavailable, "down");
                        let failure = Failure { reason, retry_after: None, asked_at: snapshot.intent.changed_at, issuers };
                        fold::failed(state, failure, FailurePolicy::Standard, now, 0.5);
                    }
                }
                Step::PollAri => state.look.ari_poll_at = Some(now + SignedDuration::from_hours(6)),
                Step::Probe => {
                    let serving = held.staged.as_ref().or(held.current.as_ref());
                    let sight = dial(edge_up.then_some(serving).flatten(), now);
                    let verdict = certwright_model::wire::judge(
                        std::slice::from_ref(&sight),
                        &snapshot.intent.hostname,
                        serving.map(|facts| &facts.certificate_ref),
                        now,
                    );
                    let probe =
                        fold::Probe { asked_at: snapshot.intent.changed_at, sights: vec![sight], verdict: &verdict, patience: None };
                    fold::probed(state, probe, &policy, now, 0.5);
                }
                Step::Commit => {
                    let facts = held.staged.take().unwrap();
                    fold::committed(state, &facts, snapshot.intent.renew_requested_at, now);
                    held.current = Some(facts);
                }
                Step::Rollback(reason) => {
                    held.staged = None;
                    let failure = Failure { reason, retry_after: None, asked_at: snapshot.intent.changed_at, issuers: 1 };
                    fold::rolled_back(state, failure, FailurePolicy::Standard, now, 0.5);
                }
            },
        }
    }
}

fn certificate(host: &str, issuer: &str, made: u8, now: Timestamp) -> CertificateFacts {
    CertificateFacts {
        certificate_ref: CertificateRef::from_digest(&[made; 32]),
        names: vec![host.into()],
        not_before: now,
        not_after: now + SignedDuration::from_hours(24 * 90),
        key_type: KeyType::EcdsaP256,
        issuer: issuer.into(),
        issuer_dn: "CN=sim".into(),
        serial: "1".into(),
        ari_id: Some("a.b".into()),
    }
}

fn dial(serving: Option<&CertificateFacts>, now: Timestamp) -> Sight {
    let seen = match serving {
        Some(facts) => Ok(Served {
            certificate_ref: facts.certificate_ref.clone(),
            names: facts.names.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            issuer_dn: facts.issuer_dn.clone(),
            key_type: facts.key_type,
            chain_problem: None,
            tls_version: "TLSv1.3".into(),
            alpn: None,
        }),
        None => Err(Failed { failure: DialFailure::Refused, detail: "refused".into() }),
    };
    Sight { path: Path::Edge, dialled: "192.0.2.1:443".into(), at: now, elapsed_ms: 1, seen }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_walk_keeps_to_the_documented_edges_and_converges_when_the_world_is_well(
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let mut world = World::new();
        for act in acts {
            world.apply(act);
        }
        (world.dns_good, world.ca_good, world.edge_up) = (true, true, true);
        for _ in 0..40 {
            world.apply(Act::Pass(7 * 3600));
            world.apply(Act::Work(12));
        }
        if world.site.intent.desired == Desired::Absent {
            prop_assert_eq!(world.shown, SiteStatus::Destroyed);
        } else {
            prop_assert!(matches!(world.shown, SiteStatus::Active | SiteStatus::DomainActive), "{}", world.shown);
            for held in &world.domains {
                prop_assert!(matches!(held.domain.state.tls_status, TlsStatus::Issued | TlsStatus::Expiring));
            }
        }
    }
}

#[test]
fn the_view_has_exactly_the_documented_edges() {
    let legal: usize = SiteStatus::ALL.iter().map(|from| SiteStatus::ALL.iter().filter(|to| from.can_become(**to)).count()).sum();
    assert_eq!((SiteStatus::ALL.len(), legal), (11, 20));
    for site in SiteLifecycle::ALL {
        for domain in std::iter::once(None).chain(DomainLifecycle::ALL.iter().copied().map(Some)) {
            assert!(SiteStatus::ALL.contains(&view(*site, domain)));
        }
    }
}

//! The ACME issuer against Debian's Pebble, with its faults on as well as off.

use crate::issuer_conformance as conformance;
use crate::journal::{Call, Journal, issue, issue_order, issued, now, order, rejected, request, soon};
use crate::responder::Responder;
use crate::stores::Accounts;
use certwright_model::ReasonCode;
use certwright_model::certificate::KeyType;
use certwright_providers::issuer::acme::{AcmeConfig, AcmeIssuer, ExternalAccount};
use certwright_providers::issuer::{ChallengeKind, IssueProgress, Issuer};
use certwright_providers::{Outcome, x509};
use certwright_testkit::dns::DnsServer;
use certwright_testkit::pebble::{EAB_KEY, EAB_KID, Pebble, PebbleOptions};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

pub struct World {
    pub pebble: Pebble,
    _dns: DnsServer,
    pub responder: Responder,
    pub accounts: Arc<Accounts>,
}

impl World {
    pub async fn start(what: &str, options: PebbleOptions) -> Option<World> {
        Pebble::program_or_say(options.binary, what)?;
        let dns = DnsServer::start_or_say(what).unwrap()?;
        let responder = Responder::start().await;
        let (http_port, tls_port) = (responder.http_port, responder.tls_port);
        let options = PebbleOptions { http_port, tls_port, dns_server: Some(dns.address()), ..options };
        let pebble = Pebble::start(options).unwrap();
        Some(World { pebble, _dns: dns, responder, accounts: Arc::default() })
    }

    pub fn config(&self) -> AcmeConfig {
        AcmeConfig { roots_pem: Some(self.pebble.https_root_pem().to_owned()), ..AcmeConfig::new("pebble", self.pebble.directory_url()) }
    }

    pub fn issuer(&self, config: AcmeConfig) -> AcmeIssuer {
        AcmeIssuer::new(config, self.accounts.clone()).unwrap()
    }

    async fn conforms(&self, kind: ChallengeKind) {
        let issuer = self.issuer(AcmeConfig { challenges: vec![kind], ..self.config() });
        let answers = &self.responder.answers;
        conformance::every_key_type_is_certified(&issuer, answers).await;
        conformance::a_crash_at_each_step_is_resumed(&issuer, answers, &[Call::Placed, Call::Publish, Call::Finalizing]).await;
        conformance::a_certificate_that_was_not_stored_is_fetched_again(&issuer, answers).await;
        assert_eq!(issuer.check().await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_01_conforms() {
    let Some(world) = World::start("HTTP-01 against Pebble", PebbleOptions::default()).await else { return };
    world.conforms(ChallengeKind::Http01).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_alpn_01_conforms() {
    let Some(world) = World::start("TLS-ALPN-01 against Pebble", PebbleOptions::default()).await else { return };
    world.conforms(ChallengeKind::TlsAlpn01).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nonces_refused_and_validation_delayed_it_conforms_too() {
    let options = PebbleOptions { nonce_reject_percent: 30, va_sleep: true, va_sleep_seconds: 1, ..PebbleOptions::default() };
    let Some(world) = World::start("Pebble with nonce rejection and validation delays", options).await else { return };
    world.conforms(ChallengeKind::Http01).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_second_nonce_refused_fails_no_order_and_concurrent_orders_share_one_account() {
    let options = PebbleOptions { nonce_reject_percent: 50, ..PebbleOptions::default() };
    let Some(world) = World::start("Pebble with every second nonce refused", options).await else { return };
    let issuer = Arc::new(world.issuer(world.config()));
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let (issuer, answers) = (issuer.clone(), world.responder.answers.clone());
        tasks.spawn(async move {
            for number in 0..5 {
                let name = format!("w{worker}-{number}.example.com");
                issued(issue(&*issuer, &answers, &[&name]).await);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(world.accounts.saves.load(Ordering::SeqCst), 1);

    // Another process finds the account stored and makes none.
    issued(issue(&world.issuer(world.config()), &world.responder.answers, &["later.example.com"]).await);
    assert_eq!(world.accounts.saves.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_account_is_bound_and_a_wrong_one_is_the_operators_move() {
    let options = PebbleOptions { eab: true, ..PebbleOptions::default() };
    let Some(world) = World::start("EAB against Pebble", options).await else { return };
    let with = |kid: &str, key: &str| {
        let eab = Some(ExternalAccount { kid: kid.into(), hmac_key_base64url: key.into() });
        world.issuer(AcmeConfig { eab, contacts: vec!["mailto:ops@example.com".into()], ..world.config() })
    };
    let answers = &world.responder.answers;
    for wrong in [world.issuer(world.config()), with("kid-9", EAB_KEY), with(EAB_KID, "AAAA")] {
        let rejection = rejected(issue(&wrong, answers, &["a.example.com"]).await);
        assert_eq!(rejection.reason.code, ReasonCode::IssuerMisconfigured, "{rejection:?}");
        assert!(rejection.permanent);
    }
    issued(issue(&with(EAB_KID, EAB_KEY), answers, &["a.example.com"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_lost_the_account_gets_another_and_the_stored_order_is_gone() {
    let Some(mut world) = World::start("Pebble that forgets", PebbleOptions::default()).await else { return };
    let issuer = world.issuer(world.config());
    let answers = world.responder.answers.clone();
    let before = order(&issuer, KeyType::EcdsaP256);
    let journal = Journal::new(before.clone(), &answers);
    issued(issuer.issue(&request(before, &["a.example.com"]), &journal, now(), soon()).await);

    world.pebble.restart().unwrap();
    let outcome = issue_order(&issuer, &answers, journal.order(), &["a.example.com"]).await;
    assert!(matches!(outcome, Outcome::Applied(IssueProgress::OrderGone { .. })), "{outcome:?}");
    issued(issue(&issuer, &answers, &["a.example.com"]).await);
    world.pebble.restart().unwrap();
    issued(issue(&issuer, &answers, &["b.example.com"]).await);
    assert_eq!(world.accounts.forgotten.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_that_nobody_answers_is_the_customers_move_in_the_cas_words() {
    let Some(world) = World::start("a failed challenge at Pebble", PebbleOptions::default()).await else { return };
    let issuer = world.issuer(world.config());
    let unheard = crate::responder::Answers::default();
    let rejection = rejected(issue(&issuer, &unheard, &["a.example.com"]).await);
    assert_eq!(rejection.reason.code, ReasonCode::ChallengeFailed);
    assert!(rejection.reason.message.contains("404") || rejection.reason.message.contains("key authorization"), "{rejection:?}");
    assert!(!rejection.permanent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_ca_refuses_is_refused_for_good() {
    let options = PebbleOptions { blocked: vec!["blocked.example".into()], ..PebbleOptions::default() };
    let Some(world) = World::start("a refused name at Pebble", options).await else { return };
    let rejection = rejected(issue(&world.issuer(world.config()), &world.responder.answers, &["a.blocked.example"]).await);
    assert_eq!(rejection.reason.code, ReasonCode::CaRejected, "{rejection:?}");
    assert!(rejection.permanent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_needs_a_challenge_that_is_not_configured() {
    let Some(world) = World::start("a wildcard at Pebble", PebbleOptions::default()).await else { return };
    let rejection = rejected(issue(&world.issuer(world.config()), &world.responder.answers, &["*.example.com"]).await);
    assert_eq!(rejection.reason.code, ReasonCode::IssuerMisconfigured, "{rejection:?}");
    assert!(rejection.permanent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_during_validation_leaves_an_order_that_resumes() {
    let options = PebbleOptions { va_sleep: true, va_sleep_seconds: 4, ..PebbleOptions::default() };
    let Some(world) = World::start("a deadline against a slow Pebble", options).await else { return };
    let issuer = world.issuer(world.config());
    let answers = &world.responder.answers;
    let mut pending = 0;
    // How long Pebble sleeps is its own dice.
    for number in 0..6 {
        let name = format!("slow{number}.example.com");
        let order = order(&issuer, KeyType::EcdsaP256);
        let journal = Journal::new(order.clone(), answers);
        let deadline = Instant::now() + Duration::from_millis(700);
        match issuer.issue(&request(order, &[&name]), &journal, now(), deadline).await {
            Outcome::Applied(IssueProgress::Pending { .. }) => {
                pending += 1;
                let stored = journal.order();
                let got = issued(issue_order(&issuer, answers, stored.clone(), &[&name]).await);
                assert!(x509::public_key_matches(&got.chain_der[0], &stored.key_pkcs8_der));
            }
            Outcome::Applied(IssueProgress::Issued(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(pending > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_down_or_frozen_is_unavailable_and_heals() {
    let Some(mut world) = World::start("Pebble down and frozen", PebbleOptions::default()).await else { return };
    let issuer = world.issuer(AcmeConfig { request_timeout: Duration::from_millis(500), ..world.config() });
    let answers = world.responder.answers.clone();
    issued(issue(&issuer, &answers, &["a.example.com"]).await);

    world.pebble.pause().unwrap();
    let outcome = issue(&issuer, &answers, &["b.example.com"]).await;
    let Outcome::Rejected(rejection) = outcome else { panic!("{outcome:?}") };
    assert_eq!(rejection.reason.code, ReasonCode::CaUnavailable);
    assert_eq!(issuer.check().await.map_err(|reason| reason.code), Err(ReasonCode::CaUnavailable));
    world.pebble.resume().unwrap();
    issued(issue(&issuer, &answers, &["b.example.com"]).await);

    world.pebble.kill().unwrap();
    assert_eq!(rejected(issue(&issuer, &answers, &["c.example.com"]).await).reason.code, ReasonCode::CaUnavailable);
    world.pebble.restart().unwrap();
    issued(issue(&issuer, &answers, &["c.example.com"]).await);
}

//! The ACME issuer against a CA that misbehaves in ways that Pebble does not.

use crate::fake_ca::{FakeCa, Fault, Reply, self_signed};
use crate::journal::{Call, Journal, issue_order, issued, now, order, rejected, request, soon};
use crate::responder::Answers;
use crate::stores::Accounts;
use certwright_model::ReasonCode;
use certwright_model::certificate::KeyType;
use certwright_model::record::{Order, OrderStage};
use certwright_providers::issuer::acme::{AcmeConfig, AcmeConfigError, AcmeIssuer, ExternalAccount};
use certwright_providers::issuer::{ChallengeKind, IssueProgress, Issuer};
use certwright_providers::{Outcome, x509};
use jiff::SignedDuration;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const HOST: &str = "a.example.com";

struct World {
    ca: FakeCa,
    issuer: AcmeIssuer,
    order: Order,
}

impl World {
    async fn start() -> World {
        let ca = FakeCa::start().await;
        let config = AcmeConfig {
            roots_pem: Some(ca.roots_pem.clone()),
            request_timeout: Duration::from_millis(400),
            ..AcmeConfig::new("fake", ca.directory_url())
        };
        let issuer = AcmeIssuer::new(config, Arc::new(Accounts::default())).unwrap();
        let order = order(&issuer, KeyType::EcdsaP256);
        ca.set_chain(&self_signed(&order.key_pkcs8_der, &[HOST], (2020, 2120)));
        World { ca, issuer, order }
    }

    async fn issue(&self) -> Outcome<IssueProgress> {
        issue_order(&self.issuer, &Answers::default(), self.order.clone(), &[HOST]).await
    }
}

#[tokio::test]
async fn a_chain_that_must_not_be_deployed_is_refused_before_anybody_stores_it() {
    let world = World::start().await;
    issued(world.issue().await);
    let own = &world.order.key_pkcs8_der;
    let other = x509::key_pair(KeyType::EcdsaP256).unwrap();
    let table = [
        ("another key", self_signed(&other, &[HOST], (2020, 2120)), "another key"),
        ("another name", self_signed(own, &["b.example.com"], (2020, 2120)), "b.example.com"),
        ("expired", self_signed(own, &[HOST], (2020, 2021)), "expired"),
        ("no certificate", "not a certificate".to_owned(), "empty"),
        ("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "cannot be read"),
    ];
    for (name, pem, word) in table {
        world.ca.set_chain(&pem);
        let rejection = rejected(world.issue().await);
        assert_eq!(rejection.reason.code, ReasonCode::CaBadCertificate, "{name}");
        assert!(!rejection.leaves_order_open(), "{name}: the CA would give the same again");
        assert!(rejection.reason.message.contains(word), "{name}: {rejection:?}");
    }
}

#[tokio::test]
async fn refusals_arrive_as_reasons_with_the_cas_words_and_its_retry_after() {
    let world = World::start().await;
    issued(world.issue().await);
    #[rustfmt::skip]
    let table = [
        ("429 Too Many Requests",     "rateLimited",           ReasonCode::CaRateLimited,       false),
        ("403 Forbidden",             "rateLimited",           ReasonCode::CaRateLimited,       false),
        ("403 Forbidden",             "caa",                   ReasonCode::CaaForbids,          true),
        ("400 Bad Request",           "rejectedIdentifier",    ReasonCode::CaRejected,          true),
        ("403 Forbidden",             "unauthorized",          ReasonCode::CaRejected,          true),
        ("403 Forbidden",             "userActionRequired",    ReasonCode::CaRejected,          true),
        ("400 Bad Request",           "invalidProfile",        ReasonCode::IssuerMisconfigured, true),
        ("500 Internal Server Error", "serverInternal",        ReasonCode::CaUnavailable,       false),
        ("503 Service Unavailable",   "rateLimited",           ReasonCode::CaUnavailable,       false),
    ];
    for (status, kind, code, permanent) in table {
        world.ca.problem("/new-order", status, kind, vec![("Retry-After", "3600".to_owned())]);
        let before = now();
        let rejection = rejected(world.issue().await);
        assert_eq!((rejection.reason.code, rejection.permanent), (code, permanent), "{status} {kind}");
        assert!(rejection.reason.message.contains(&format!("fake {kind}")), "{rejection:?}");
        let after = rejection.retry_after.unwrap().duration_since(before);
        assert!(after >= SignedDuration::from_secs(3600) && after < SignedDuration::from_secs(3700), "{status} {kind}: {after:?}");
    }
    world.ca.heal();
    issued(world.issue().await);
}

#[tokio::test]
async fn pages_of_a_proxy_and_garbage_are_a_ca_that_is_not_there() {
    let world = World::start().await;
    let page = |status| Fault::Reply(Reply { status, headers: vec![], body: "<html>sorry</html>".into() });
    world.ca.fail("/dir", page("200 OK"));
    assert_eq!(rejected(world.issue().await).reason.code, ReasonCode::CaUnavailable);
    assert!(world.issuer.check().await.is_err());
    world.ca.heal();
    issued(world.issue().await);
    for path in ["/new-order", "/certificate"] {
        world.ca.fail(path, page("502 Bad Gateway"));
        assert_eq!(rejected(world.issue().await).reason.code, ReasonCode::CaUnavailable, "{path}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_once_there_is_an_order_and_the_order_is_carried_on() {
    let world = World::start().await;
    world.ca.fail("/new-order", Fault::Silence);
    assert_eq!(rejected(world.issue().await).reason.code, ReasonCode::CaUnavailable, "nothing that matters has happened");

    let failures = [Fault::Silence, Fault::Reply(Reply { status: "500 Internal Server Error", headers: vec![], body: String::new() })];
    for fault in failures {
        world.ca.fail("/finalize", fault);
        let journal = Journal::new(world.order.clone(), &Answers::default());
        let outcome = world.issuer.issue(&request(world.order.clone(), &[HOST]), &journal, now(), soon()).await;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        let stored = journal.order();
        assert_eq!(stored.stage, OrderStage::Finalizing);

        world.ca.heal();
        let orders = world.ca.requests("/new-order");
        issued(issue_order(&world.issuer, &Answers::default(), stored, &[HOST]).await);
        assert_eq!(world.ca.requests("/new-order"), orders, "no second order");
    }
}

#[tokio::test]
async fn a_silent_ca_costs_no_more_than_the_deadline() {
    let world = World::start().await;
    world.ca.fail("/dir", Fault::Silence);
    let journal = Journal::new(world.order.clone(), &Answers::default());
    let asked = request(world.order.clone(), &[HOST]);
    let outcome = world.issuer.issue(&asked, &journal, now(), Instant::now() + Duration::from_millis(50)).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    assert!(journal.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_ca_that_refuses_every_nonce_is_given_up_on() {
    let world = World::start().await;
    issued(world.issue().await);
    world.ca.problem("/new-order", "400 Bad Request", "badNonce", vec![]);
    let before = world.ca.requests("/new-order");
    let rejection = rejected(world.issue().await);
    assert_eq!(rejection.reason.code, ReasonCode::CaUnavailable);
    let asked = world.ca.requests("/new-order") - before;
    assert!((12..=30).contains(&asked), "{asked}");
}

#[tokio::test]
async fn an_order_that_the_ca_has_forgotten_is_gone_and_one_it_will_not_show_now_is_not() {
    let world = World::start().await;
    let mut stored = world.order.clone();
    stored.stage = OrderStage::Placed;
    stored.order_url = Some(world.ca.directory_url().replace("/dir", "/order"));
    let answers = Answers::default();
    let resume = || issue_order(&world.issuer, &answers, stored.clone(), &[HOST]);
    for (status, kind) in [("404 Not Found", "malformed"), ("403 Forbidden", "unauthorized")] {
        world.ca.problem("/order", status, kind, vec![]);
        let outcome = resume().await;
        assert!(matches!(outcome, Outcome::Applied(IssueProgress::OrderGone { .. })), "{status}: {outcome:?}");
    }
    world.ca.problem("/order", "429 Too Many Requests", "rateLimited", vec![]);
    let rejection = rejected(resume().await);
    assert_eq!((rejection.reason.code, rejection.leaves_order_open()), (ReasonCode::CaRateLimited, true));
    world.ca.heal();
    issued(resume().await);
}

#[tokio::test]
async fn polling_stops_where_the_cas_retry_after_passes_the_deadline() {
    let world = World::start().await;
    let url = |path: &str| world.ca.directory_url().replace("/dir", path);
    let body = serde_json::json!({ "status": "processing", "authorizations": [], "finalize": url("/finalize") }).to_string();
    let headers = vec![("Retry-After", "7200".to_owned())];
    world.ca.fail("/finalize", Fault::Reply(Reply { status: "200 OK", headers, body }));
    let journal = Journal::new(world.order.clone(), &Answers::default());
    let outcome = world.issuer.issue(&request(world.order.clone(), &[HOST]), &journal, now(), soon()).await;
    let Outcome::Applied(IssueProgress::Pending { look_again_at }) = outcome else { panic!("{outcome:?}") };
    assert!(look_again_at > now() + SignedDuration::from_secs(7000));
    assert_eq!(*journal.calls.lock().unwrap(), [Call::Placed, Call::Finalizing]);
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    type Change = fn(&mut AcmeConfig);
    let with = |change: Change| {
        let mut config = AcmeConfig::new("le", "https://ca.example/dir");
        change(&mut config);
        AcmeIssuer::new(config, Arc::new(Accounts::default())).map(|_| ())
    };
    assert_eq!(with(|_| {}), Ok(()));
    let table: [(&str, Change); 4] = [
        ("https://", |config| config.directory_url = "http://ca.example/dir".into()),
        ("challenge", |config| config.challenges = Vec::<ChallengeKind>::new()),
        ("base64url", |config| config.eab = Some(ExternalAccount { kid: "k".into(), hmac_key_base64url: "***".into() })),
        ("roots", |config| config.roots_pem = Some("nothing".into())),
    ];
    for (word, change) in table {
        let Err(AcmeConfigError::Invalid { problem, .. }) = with(change) else { panic!("{word}") };
        assert!(problem.contains(word), "{problem}");
    }
}

//! A real ACME CA (Pebble) with its faults on: rejected nonces, slow validation, outages, refusals; the edge answers the
//! challenges, DNS is a real server.

#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

mod lab;

use certwright_engine::requests::{DomainRequest, RequestError, RouteRequest};
use certwright_model::domain::TlsStatus;
use certwright_model::job::JobStatus;
use certwright_model::reason::{Actor, ReasonCode};
use certwright_model::record::EventType;
use certwright_providers::issuer::acme::AcmeConfig;
use certwright_store::{DomainChange, DomainFilter};
use certwright_testkit::dns::DnsServer;
use certwright_testkit::pebble::{Pebble, PebbleBinary, PebbleOptions};
use lab::{Backend, Ground, Lab, Options, host, url_of, who};
use std::time::Duration;

struct Scene {
    lab: Lab,
    pebble: Pebble,
    dns: DnsServer,
}

/// Pebble, DNS and a lab whose first issuer is Pebble; `None` after saying what is missing.
async fn scene(what: &str, backend: &Backend, pebble: PebbleOptions, issuers: &[&str], limit: Option<Limit>) -> Option<Scene> {
    let ground = Ground::new().await;
    let dns = DnsServer::start_or_say(what).unwrap()?;
    Pebble::program_or_say(pebble.binary, what)?;
    // Debian's Pebble locks itself up under more.
    let issuer_in_flight = if pebble.binary == PebbleBinary::New { 64 } else { 16 };
    let ports =
        PebbleOptions { http_port: ground.http().port(), tls_port: ground.https().port(), dns_server: Some(dns.address()), ..pebble };
    let pebble = tokio::task::spawn_blocking(move || Pebble::start(ports).unwrap()).await.unwrap();
    let mut config = AcmeConfig::new("pebble", pebble.directory_url());
    config.roots_pem = Some(pebble.https_root_pem().to_owned());
    config.limit = limit;
    let options = Options {
        database_url: url_of(backend),
        acme: vec![config],
        issuers: issuers.iter().map(ToString::to_string).collect(),
        resolver: Some(dns.address()),
        roots_pem: vec![pebble.root_pem().await.unwrap()],
        issuer_in_flight,
        ..Options::default()
    };
    Some(Scene { lab: Lab::start(ground, options).await, pebble, dns })
}

use certwright_model::budget::Limit;

fn request(name: &str) -> DomainRequest {
    DomainRequest::new(host(name), RouteRequest::Upstream { upstream: "http://127.0.0.1:9".into(), region: None })
}

async fn issued(lab: &Lab) -> u64 {
    let stats = lab.engine.store().stats(lab.clock.now()).await.unwrap();
    stats.domains.iter().find(|(status, _)| *status == TlsStatus::Issued).map_or(0, |(_, count)| *count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_names_are_proven_through_rejected_nonces_slow_validation_and_an_outage() {
    for (backend, names) in Backend::all("a thousand names on PostgreSQL").into_iter().zip([1000u64, 100]) {
        let binary = lab::pebble_for_many();
        let faults = PebbleOptions { nonce_reject_percent: 30, va_sleep: true, va_sleep_seconds: 1, binary, ..PebbleOptions::default() };
        let Some(mut scene) = scene("a thousand names", &backend, faults, &["pebble"], None).await else { return };
        let requests = (0..names).map(|n| request(&format!("n{n}.customers.example"))).collect();
        for outcome in scene.lab.engine.add_domains(requests, &who()).await {
            outcome.unwrap();
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(600);
        let mut stopped = false;
        loop {
            let done = issued(&scene.lab).await;
            if done == names {
                break;
            }
            if !stopped && done >= names / 4 {
                stopped = true;
                scene.pebble.pause().unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
                scene.pebble.resume().unwrap();
            }
            assert!(tokio::time::Instant::now() < deadline, "{done} of {names} are issued");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(stopped);
        let store = scene.lab.engine.store();
        let mut cursor = None;
        let mut proven = 0;
        loop {
            let page = store.domains(DomainFilter::default(), cursor, 200).await.unwrap();
            for domain in &page.items {
                assert!(domain.state.proven, "{domain:?}");
                assert_eq!(store.certificates_of(domain.intent.id).await.unwrap().len(), 1, "one need, one certificate");
                proven += 1;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(proven, names);
        scene.lab.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_forgets_everything_gets_a_new_account_and_a_new_order() {
    let Some(mut scene) = scene("a forgetful CA", &Backend::Sqlite, PebbleOptions::default(), &["pebble"], None).await else { return };
    scene.lab.engine.add_domain(request("before.customers.example"), &who()).await.unwrap();
    scene.lab.until("before.customers.example", Duration::from_secs(30), |d| d.state.tls_status == TlsStatus::Issued).await;
    tokio::task::block_in_place(|| scene.pebble.restart().unwrap());
    let root = scene.pebble.root_pem().await.unwrap();
    scene.lab.engine.prober().add_roots(&certwright_providers::x509::chain_from_pem(&root).unwrap()).unwrap();
    scene.lab.engine.add_domain(request("after.customers.example"), &who()).await.unwrap();
    scene.lab.until("after.customers.example", Duration::from_secs(90), |d| d.state.tls_status == TlsStatus::Issued).await;
    scene.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_issuer_is_passed_over_for_the_next_one_at_once() {
    let Some(mut scene) = scene("issuers in order", &Backend::Sqlite, PebbleOptions::default(), &["pebble", "internal"], None).await else {
        return;
    };
    scene.pebble.kill().unwrap();
    scene.lab.engine.add_domain(request("shop.customers.example"), &who()).await.unwrap();
    let domain = scene.lab.until("shop.customers.example", Duration::from_secs(30), |d| d.state.tls_status == TlsStatus::Issued).await;
    let rows = scene.lab.engine.store().certificates_of(domain.intent.id).await.unwrap();
    assert_eq!(rows[0].facts.issuer, "internal");
    assert_eq!(domain.state.cert_failure_count, 0, "a failure that another issuer made good does not count");
    scene.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_fails_says_why_and_slows_no_other() {
    let refusing = PebbleOptions { blocked: vec!["blocked.example".into()], ..PebbleOptions::default() };
    let Some(scene) = scene("failing domains", &Backend::Sqlite, refusing, &["pebble"], None).await else { return };
    let Scene { lab, dns, .. } = &scene;
    dns.set_addresses("elsewhere.example", &["192.0.2.77".parse().unwrap()]).await.unwrap();
    dns.set_addresses("split.example", &["127.0.0.1".parse().unwrap(), "192.0.2.77".parse().unwrap()]).await.unwrap();
    dns.set_servfail("broken.example").await.unwrap();
    let bad = [
        ("a.blocked.example", ReasonCode::CaRejected),
        ("elsewhere.example", ReasonCode::DnsElsewhere),
        ("split.example", ReasonCode::DnsSplit),
        ("broken.example", ReasonCode::DnsUnanswered),
    ];
    let mut jobs = Vec::new();
    for (name, _) in &bad {
        jobs.push(lab.engine.add_domain(request(name), &who()).await.unwrap().1);
    }
    for n in 0..20 {
        lab.engine.add_domain(request(&format!("good{n}.customers.example")), &who()).await.unwrap();
    }
    for n in 0..20 {
        let name = format!("good{n}.customers.example");
        lab.until(&name, Duration::from_secs(30), |d| d.state.tls_status == TlsStatus::Issued).await;
    }
    for (name, code) in &bad {
        let domain = lab.until(name, Duration::from_secs(30), |d| d.state.reason.as_ref().is_some_and(|r| r.code == *code)).await;
        let reason = domain.state.reason.unwrap();
        assert!(reason.next_look_at.is_some() && !reason.message.is_empty(), "{reason:?}");
        assert!(!domain.state.proven && domain.state.certificate_id.is_none());
    }
    for job in jobs {
        let job = lab.engine.store().job(job.id).await.unwrap().unwrap();
        assert_eq!(job.status, JobStatus::Waiting, "{job:?}");
    }
    let blocked = lab.domain("a.blocked.example").await;
    assert_eq!((blocked.state.tls_status, blocked.state.cert_last_event_type), (TlsStatus::TlsError, Some(EventType::IssuanceFailed)));

    // The cause goes away: a look is enough.
    dns.set_addresses("elsewhere.example", &["127.0.0.1".parse().unwrap()]).await.unwrap();
    let domain = lab.domain("elsewhere.example").await;
    assert_eq!(domain.state.reason.as_ref().unwrap().actor, Actor::Customer);
    lab.engine.verify_domain(domain.intent.id, &who()).await.unwrap();
    lab.until("elsewhere.example", Duration::from_secs(30), |d| d.state.tls_status == TlsStatus::Issued).await;
    scene.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_parks_the_rest_and_serves_the_earliest_deadline_first() {
    for backend in Backend::all("CA budgets on PostgreSQL") {
        let limit = Some(Limit { burst: 5, refill_ms: 400 });
        let Some(scene) = scene("CA budgets", &backend, PebbleOptions::default(), &["pebble"], limit).await else { return };
        let requests = (0..15).map(|n| request(&format!("n{n}.customers.example"))).collect();
        for outcome in scene.lab.engine.add_domains(requests, &who()).await {
            outcome.unwrap();
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut parked = 0;
        while issued(&scene.lab).await < 15 {
            parked = parked.max(scene.lab.engine.store().parked("pebble").await.unwrap());
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(parked >= 5, "{parked} were parked");
        scene.lab.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_pebble_offers_ari_and_the_renewal_says_what_it_replaces() {
    let newest = PebbleOptions { binary: PebbleBinary::New, ..PebbleOptions::default() };
    let Some(scene) = scene("ARI through the engine", &Backend::Sqlite, newest, &["pebble"], None).await else { return };
    let lab = &scene.lab;
    lab.engine.add_domain(request("ari.customers.example"), &who()).await.unwrap();
    let name = "ari.customers.example";
    let first = lab.until(name, Duration::from_secs(30), |d| d.state.proven && d.state.look.ari.is_some()).await;
    let window = first.state.look.ari.clone().unwrap();
    assert_eq!(first.state.cert_renewal_due_at, Some(window.end), "the SLA is the end of the window");
    assert!(window.start <= window.selected && window.selected <= window.end);
    lab.engine.retry_certificate(first.intent.id, &who()).await.unwrap();
    lab.until(name, Duration::from_secs(30), |d| d.state.certificate_ref != first.state.certificate_ref && d.state.proven).await;
    scene.lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_is_left_to_issuers_that_can_validate_it_now_and_later() {
    let Some(scene) = scene("wildcards", &Backend::Sqlite, PebbleOptions::default(), &["pebble", "internal"], None).await else {
        return;
    };
    let engine = &scene.lab.engine;
    let by = |issuers: &[&str]| DomainRequest { issuers: issuers.iter().map(ToString::to_string).collect(), ..request("*.wild.example") };
    let refused = |error: RequestError| assert!(error.to_string().contains("wildcard"), "{error}");
    // Without a word about issuers it would be all of them, one after the other.
    refused(engine.add_domain(by(&[]), &who()).await.unwrap_err());
    let (domain, _) = engine.add_domain(by(&["internal"]), &who()).await.unwrap();
    for issuers in [vec![], vec!["internal".to_owned(), "pebble".to_owned()]] {
        let change = DomainChange { issuers: Some(issuers), ..DomainChange::default() };
        refused(engine.change_domain(domain.intent.id, change, &who()).await.unwrap_err());
    }
    scene.lab.stop().await;
}

//! What goes wrong around it: a second node, a database that restarts, a clock that jumps, a hand in the wrong place.

#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

mod lab;

use certwright_engine::requests::{DomainRequest, RequestError, RouteRequest};
use certwright_model::domain::TlsStatus;
use certwright_model::record::Domain;
use certwright_store::{DomainFilter, StoreError};
use certwright_testkit::not_run;
use certwright_testkit::postgres::{Cluster, Durability};
use jiff::SignedDuration;
use lab::{Backend, Ground, Lab, Options, host, site, url_of, who};
use std::time::Duration;

fn request(name: &str) -> DomainRequest {
    DomainRequest::new(host(name), RouteRequest::Upstream { upstream: "http://127.0.0.1:9".into(), region: None })
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("n{n}.localhost")).collect()
}

fn green(domain: &Domain) -> bool {
    domain.state.tls_status == TlsStatus::Issued && domain.state.proven
}

async fn all_green_with_one_certificate_each(lab: &Lab, names: &[String]) {
    for name in names {
        let domain = lab.until(name, Duration::from_secs(120), green).await;
        assert_eq!(lab.engine.store().certificates_of(domain.intent.id).await.unwrap().len(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_the_work_and_no_need_gets_two_certificates() {
    for backend in Backend::all("two nodes").into_iter().filter(|backend| url_of(backend).is_some()) {
        let first = Lab::plain(&backend).await;
        // The same key-encryption key, and ports of its own.
        let shared = Some(first.scratch.path().to_owned());
        let options = Options { database_url: url_of(&backend), data_dir: shared, ..Options::default() };
        let second = Lab::start(Ground::new().await, options).await;
        let names = names(60);
        for name in &names[..30] {
            first.engine.add_domain(request(name), &who()).await.unwrap();
        }
        let rest = names[30..].iter().map(|name| request(name)).collect();
        for outcome in second.engine.add_domains(rest, &who()).await {
            outcome.unwrap();
        }
        all_green_with_one_certificate_each(&first, &names).await;
        // Each edge hears of what the other node did.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while first.edge.len() < 60 || second.edge.len() < 60 {
            assert!(tokio::time::Instant::now() < deadline, "{} and {} names", first.edge.len(), second.edge.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        second.stop().await;
        first.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_restarts_in_the_middle_only_delays() {
    if !Cluster::is_installed() {
        return not_run("a PostgreSQL restart", "PostgreSQL is not installed");
    }
    let mut cluster = tokio::task::spawn_blocking(|| Cluster::start(Durability::On).unwrap()).await.unwrap();
    let options = Options { database_url: Some(cluster.url()), ..Options::default() };
    let lab = Lab::start(Ground::new().await, options).await;
    let names = names(60);
    let requests = names.iter().map(|name| request(name)).collect();
    for outcome in lab.engine.add_domains(requests, &who()).await {
        outcome.unwrap();
    }
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.restart().unwrap();
        cluster
    })
    .await
    .unwrap();
    // What was under way when the connections broke waits for its lease: two minutes.
    for name in &names {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(180);
        loop {
            match lab.engine.store().domain_by_hostname(&host(name)).await {
                Ok(Some(domain)) if green(&domain) => break,
                Ok(Some(_)) | Err(StoreError::Unavailable(_)) => {}
                other => panic!("{name}: {other:?}"),
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} is not green");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    all_green_with_one_certificate_each(&lab, &names).await;
    lab.stop().await;
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_a_day_either_way_issues_nothing_twice() {
    let lab = Lab::plain(&Backend::Sqlite).await;
    lab.engine.add_domain(request("before.localhost"), &who()).await.unwrap();
    lab.until("before.localhost", Duration::from_secs(30), green).await;
    for (jump, name) in [(24, "ahead.localhost"), (-24, "back.localhost"), (-24, "behind.localhost"), (24, "again.localhost")] {
        lab.clock.shift(SignedDuration::from_hours(jump));
        lab.engine.add_domain(request(name), &who()).await.unwrap();
        // A day before the CA was made, its chain is not valid yet: issued and deployed, and not called green.
        let early = |domain: &Domain| name == "behind.localhost" && domain.state.staged_certificate_id.is_some();
        lab.until(name, Duration::from_secs(30), |domain| green(domain) || early(domain)).await;
    }
    // Back where it began: a look at each, and each is as it was.
    let page = lab.engine.store().domains(DomainFilter::default(), None, 100).await.unwrap();
    assert_eq!(page.items.len(), 5);
    for domain in page.items {
        lab.engine.verify_domain(domain.intent.id, &who()).await.unwrap();
    }
    let names = ["before", "ahead", "back", "behind", "again"].map(|name| format!("{name}.localhost"));
    let now = lab.clock.now();
    for name in &names {
        let domain = lab.domain(name).await;
        // What was issued in the future is not valid yet, and is not called green.
        let wanted = |domain: &Domain| green(domain) || name == "ahead.localhost";
        lab.until(name, Duration::from_secs(30), wanted).await;
        assert_eq!(lab.engine.store().certificates_of(domain.intent.id).await.unwrap().len(), 1, "{name} at {now}");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_cannot_be_are_refused_with_what_to_do() {
    let lab = Lab::plain(&Backend::Sqlite).await;
    lab.provision("shop").await;
    lab.provision("other").await;
    let engine = &lab.engine;
    let refusal = |outcome: Result<_, RequestError>| -> String { outcome.map(|_: ()| ()).unwrap_err().to_string() };
    let taken = engine.set_site_domain(&site("shop"), host("www.localhost"), &who()).await.unwrap();
    lab.done(taken.job.unwrap()).await;

    let claimed = engine.set_site_domain(&site("other"), host("www.localhost"), &who()).await.map(drop);
    assert!(matches!(claimed, Err(RequestError::Store(StoreError::Conflict { what: "hostname", .. }))), "{claimed:?}");
    let below = engine.set_site_domain(&site("other"), host("x.sites.localhost"), &who()).await.map(drop);
    assert!(refusal(below).contains("cannot be a custom domain"));
    let second = engine.set_site_domain(&site("shop"), host("two.localhost"), &who()).await.map(drop);
    assert!(refusal(second).contains("remove it first"));
    let nobody = engine.destroy(&site("nobody"), &who()).await.map(drop);
    assert!(refusal(nobody).contains("there is no site"));
    let again = engine.provision_proxy(&site("shop"), "http://127.0.0.1:1", &who()).await.map(drop);
    assert!(refusal(again).contains("exists already"));
    for bad in ["https://a:1", "http://", "http://a:0", "http://u:p@a:1", "http://a:1/?q", "ftp://a", "http://a b"] {
        assert!(engine.provision_proxy(&site("new"), bad, &who()).await.is_err(), "{bad}");
    }
    let default = lab.domain("shop.sites.localhost").await;
    assert!(refusal(engine.remove_domain(default.intent.id, &who()).await.map(drop)).contains("goes with the site"));
    lab.stop().await;
}

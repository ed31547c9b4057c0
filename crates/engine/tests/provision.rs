//! From nothing to proven HTTPS and back, on both databases, with the internal CA and the built-in edge.

#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

mod lab;

use certwright_model::domain::{DomainLifecycle, TlsStatus};
use certwright_model::job::JobStatus;
use certwright_model::reason::ReasonCode;
use certwright_model::view::SiteStatus;
use jiff::SignedDuration;
use lab::{Backend, Ground, Lab, Options, host, site, who};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_and_its_domain_are_served_proven_removed_and_destroyed() {
    for backend in Backend::all("provisioning on PostgreSQL") {
        let lab = Lab::plain(&backend).await;
        let job = lab.provision("shop").await;
        assert_eq!(job.status, JobStatus::Succeeded, "{job:?}");
        let view = lab.view("shop").await;
        assert_eq!((view.status, view.cert_status), (SiteStatus::Active, "issued"));

        let visitor = lab.visitor(&["shop.sites.localhost", "shop.localhost"], &lab.internal_root_pem);
        let page = visitor.get(lab.url("shop.sites.localhost")).send().await.unwrap().text().await.unwrap();
        assert_eq!(page, "<h1>shop</h1>");

        let taken = lab.engine.set_site_domain(&site("shop"), host("shop.localhost"), &who()).await.unwrap();
        let job = lab.done(taken.job.unwrap()).await;
        assert_eq!(job.status, JobStatus::Succeeded, "{job:?}");
        assert_eq!(lab.view("shop").await.status, SiteStatus::DomainActive);
        let domain = lab.domain("shop.localhost").await;
        assert_eq!((domain.state.tls_status, domain.state.proven), (TlsStatus::Issued, true));
        let page = visitor.get(lab.url("shop.localhost")).send().await.unwrap().text().await.unwrap();
        assert_eq!(page, "<h1>shop</h1>");

        let again = lab.engine.set_site_domain(&site("shop"), host("shop.localhost"), &who()).await.unwrap();
        assert!(again.job.is_none() && again.message.contains("nothing changed"));

        let taken = lab.engine.remove_site_domain(&site("shop"), &who()).await.unwrap();
        assert_eq!(lab.done(taken.job.unwrap()).await.status, JobStatus::Succeeded);
        assert_eq!(lab.view("shop").await.status, SiteStatus::Active);
        let newcomer = lab.visitor(&["shop.localhost"], &lab.internal_root_pem);
        assert!(newcomer.get(lab.url("shop.localhost")).send().await.is_err(), "the edge refuses a name it does not have");

        let taken = lab.engine.destroy(&site("shop"), &who()).await.unwrap();
        assert_eq!(lab.done(taken.job.unwrap()).await.status, JobStatus::Succeeded);
        assert_eq!(lab.view("shop").await.status, SiteStatus::Destroyed);
        lab.engine.delete_site(&site("shop"), &who()).await.unwrap();
        assert!(lab.engine.site_view(&site("shop")).await.is_err());
        assert_eq!(lab.edge.len(), 0);
        lab.stop().await;
    }
}

/// Requests without a pause until told to stop; every one of them has to be answered with 200. New connections and kept ones.
fn load(client: reqwest::Client, url: String, stop: CancellationToken) -> tokio::task::JoinHandle<u32> {
    tokio::spawn(async move {
        let mut answered = 0;
        while !stop.is_cancelled() {
            let answer = client.get(&url).send().await.expect("every request is answered");
            assert_eq!(answer.status(), 200);
            answered += 1;
        }
        answered
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_on_schedule_swaps_the_certificate_under_load_without_a_failed_request() {
    for backend in Backend::all("renewal on PostgreSQL") {
        let lab = Lab::plain(&backend).await;
        lab.provision("shop").await;
        let first = lab.domain("shop.sites.localhost").await;
        let stop = CancellationToken::new();
        // These clients live in the present, the renewed certificate begins in the future: they look at everything but dates.
        let timeless = |kept: usize| {
            let builder = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).pool_max_idle_per_host(kept);
            builder.resolve("shop.sites.localhost", lab.https).build().unwrap()
        };
        let url = lab.url("shop.sites.localhost");
        let loads = [load(timeless(0), url.clone(), stop.clone()), load(timeless(4), url, stop.clone())];
        // Two thirds of 90 days, and the spread after them, are over: the schedule says renew.
        lab.clock.shift(SignedDuration::from_hours(24 * 66));
        let renewed = lab
            .until("shop.sites.localhost", Duration::from_secs(30), |domain| {
                domain.state.certificate_ref != first.state.certificate_ref && domain.state.staged_certificate_id.is_none()
            })
            .await;
        assert!(renewed.state.tls_not_after > first.state.tls_not_after && renewed.state.proven);
        stop.cancel();
        for load in loads {
            assert!(load.await.unwrap() > 0);
        }
        let rows = lab.engine.store().certificates_of(first.intent.id).await.unwrap();
        assert_eq!(rows.len(), 2, "one need, one certificate");
        lab.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_lived_certificates_renew_in_real_time_and_verifying_visitors_never_notice() {
    let options = Options { internal_lifetime: SignedDuration::from_secs(12), ..Options::default() };
    let lab = Lab::start(Ground::new().await, options).await;
    lab.provision("shop").await;
    let first = lab.domain("shop.sites.localhost").await;
    let stop = CancellationToken::new();
    let names = ["shop.sites.localhost"];
    let (kept, url) = (lab.visitor(&names, &lab.internal_root_pem), lab.url(names[0]));
    let each_time_new = {
        let (lab_https, root, url, stop) = (lab.https, lab.internal_root_pem.clone(), url.clone(), stop.clone());
        tokio::spawn(async move {
            let root = reqwest::Certificate::from_pem(root.as_bytes()).unwrap();
            let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]).pool_max_idle_per_host(0);
            let client = builder.resolve(names[0], lab_https).build().unwrap();
            load(client, url, stop).await.unwrap()
        })
    };
    let loads = [load(kept, url, stop.clone()), each_time_new];
    let mut seen = vec![first.state.certificate_ref.clone()];
    while seen.len() < 4 {
        let last = seen.last().cloned().unwrap();
        let next = lab.until(names[0], Duration::from_secs(30), |d| d.state.certificate_ref != last && d.state.proven).await;
        seen.push(next.state.certificate_ref);
    }
    stop.cancel();
    for load in loads {
        assert!(load.await.unwrap() > 0);
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_asked_for_again_is_another_one_and_the_job_says_when_it_is_proven() {
    let lab = Lab::plain(&Backend::Sqlite).await;
    lab.provision("shop").await;
    let before = lab.domain("shop.sites.localhost").await.state.certificate_ref;
    let taken = lab.engine.retry_site_certificate(&site("shop"), &who()).await.unwrap();
    assert_eq!(lab.done(taken.job.unwrap()).await.status, JobStatus::Succeeded);
    let after = lab.domain("shop.sites.localhost").await;
    assert!(after.state.certificate_ref != before && after.state.proven);
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_stops_answering_is_not_green_and_heals_when_it_is_back() {
    let lab = Lab::plain(&Backend::Sqlite).await;
    lab.provision("shop").await;
    let name = host("shop.sites.localhost");
    let entry = lab.edge.knows(&name).unwrap();
    lab.edge.apply([certwright_model::edge::EdgeChange::Remove(name.clone())]);
    let domain = lab.domain(name.as_str()).await;
    lab.engine.verify_domain(domain.intent.id, &who()).await.unwrap();
    let broken = lab.until(name.as_str(), Duration::from_secs(10), |domain| domain.state.tls_status == TlsStatus::TlsError).await;
    assert_eq!(broken.state.reason.unwrap().code, ReasonCode::WireHandshake);
    assert_eq!(broken.state.lifecycle, DomainLifecycle::Active);
    lab.edge.apply([certwright_model::edge::EdgeChange::Set(entry)]);
    lab.until(name.as_str(), Duration::from_secs(10), |domain| domain.state.tls_status == TlsStatus::Issued).await;
    lab.stop().await;
}

//! The `issue` bench: names from request to stored, deployed and proven on the wire, against a real Pebble on this machine.
//!
//! One process, SQLite with `synchronous=FULL` (or `--postgres`), HTTP-01 answered by the built-in edge; Pebble with
//! `PEBBLE_VA_NOSLEEP=1` and without nonce rejection. Prints one line of JSON.

#[path = "../tests/lab/mod.rs"]
mod lab;

use certwright_engine::requests::{DomainRequest, RouteRequest};
use certwright_model::domain::TlsStatus;
use certwright_providers::issuer::acme::AcmeConfig;
use certwright_testkit::dns::DnsServer;
use certwright_testkit::pebble::{Pebble, PebbleBinary, PebbleOptions};
use certwright_testkit::postgres::Database;
use lab::{Ground, Lab, Options, host, who};
use std::time::{Duration, Instant};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned();
    let names: u64 = value("--names").map_or(Ok(1000), |text| text.parse())?;
    let binary = lab::pebble_for_many();
    // Debian's Pebble locks itself up under more.
    let many = if binary == PebbleBinary::New { 64 } else { 16 };
    let callers: usize = value("--callers").map_or(Ok(many), |text| text.parse())?;
    let database = if arguments.iter().any(|a| a == "--postgres") { Database::from_environment("issue")? } else { None };

    let ground = Ground::new().await;
    let Some(dns) = DnsServer::start_or_say("issue")? else { return Ok(()) };
    let pebble = PebbleOptions {
        http_port: ground.http().port(),
        tls_port: ground.https().port(),
        dns_server: Some(dns.address()),
        binary,
        ..PebbleOptions::default()
    };
    let pebble = tokio::task::spawn_blocking(move || Pebble::start(pebble)).await??;
    let mut config = AcmeConfig::new("pebble", pebble.directory_url());
    config.roots_pem = Some(pebble.https_root_pem().to_owned());
    let backend = if database.is_some() { "postgres" } else { "sqlite" };
    let options = Options {
        database_url: database.as_ref().map(Database::url),
        acme: vec![config],
        issuers: vec!["pebble".into()],
        resolver: Some(dns.address()),
        roots_pem: vec![pebble.root_pem().await?],
        issuer_in_flight: callers,
        ..Options::default()
    };
    let lab = Lab::start(ground, options).await;
    // The account is made before the clock starts, as it is in any system that has run before.
    lab.engine.add_domain(request("first.customers.example"), &who()).await?;
    lab.until("first.customers.example", Duration::from_secs(60), |domain| domain.state.proven).await;

    let started = Instant::now();
    let requests = (0..names).map(|n| request(&format!("n{n}.customers.example"))).collect();
    for outcome in lab.engine.add_domains(requests, &who()).await {
        outcome?;
    }
    loop {
        let stats = lab.engine.store().stats(lab.clock.now()).await?;
        let issued = stats.domains.iter().find(|(status, _)| *status == TlsStatus::Issued).map_or(0, |(_, count)| *count);
        if issued == names + 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({
            "bench": "issue", "backend": backend, "names": names, "callers": callers,
            "seconds": seconds, "per_second": names as f64 / seconds,
        })
    );
    lab.stop().await;
    Ok(())
}

fn request(name: &str) -> DomainRequest {
    DomainRequest::new(host(name), RouteRequest::Upstream { upstream: "http://127.0.0.1:9".into(), region: None })
}

//! The `time-to-green` bench: one name at a time on an idle system, from the request to a handshake that shows its
//! certificate; the same for Caddy with a Pebble of the same kind. Prints a line of JSON for each.
//!
//! Ours is counted until the database says `issued` and proven; Caddy's from the configuration's change until the first
//! handshake with a trusted certificate for the name, dialled every 5 ms by the same prober.

#[path = "../tests/lab/mod.rs"]
mod lab;

use certwright_engine::StepHook;
use certwright_engine::clock::Clock;
use certwright_engine::requests::{DomainRequest, RouteRequest};
use certwright_model::wire::Path;
use certwright_providers::issuer::acme::AcmeConfig;
use certwright_providers::probe::{ProbeConfig, Prober};
use certwright_providers::x509;
use certwright_testkit::caddy::{AcmeSource, Caddy, CaddyOptions};
use certwright_testkit::dns::DnsServer;
use certwright_testkit::pebble::{Pebble, PebbleOptions};
use certwright_testkit::ports::free_address;
use lab::{Ground, Lab, Options, host, who};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let rounds = arguments.iter().position(|a| a == "--rounds").and_then(|at| arguments.get(at + 1)).map_or(Ok(20), |text| text.parse())?;
    let Some(dns) = DnsServer::start_or_say("time-to-green")? else { return Ok(()) };
    ours(&dns, rounds).await?;
    if Caddy::is_installed() {
        caddys(&dns, rounds).await?;
    }
    Ok(())
}

async fn pebble(dns: &DnsServer, http: SocketAddr, https: SocketAddr) -> Fallible<Pebble> {
    let options =
        PebbleOptions { http_port: http.port(), tls_port: https.port(), dns_server: Some(dns.address()), ..PebbleOptions::default() };
    Ok(tokio::task::spawn_blocking(move || Pebble::start(options)).await??)
}

/// Milliseconds spent in each step, summed over the rounds.
type Split = Arc<Mutex<(BTreeMap<String, f64>, BTreeMap<String, Instant>)>>;

fn stopwatch(split: &Split) -> StepHook {
    let split = split.clone();
    Arc::new(move |step, before| {
        let Ok(mut split) = split.lock() else { return };
        if before {
            split.1.insert(step.to_owned(), Instant::now());
        } else if let Some(started) = split.1.remove(step) {
            *split.0.entry(step.to_owned()).or_default() += started.elapsed().as_secs_f64() * 1000.0;
        }
    })
}

async fn ours(dns: &DnsServer, rounds: usize) -> Fallible<()> {
    let ground = Ground::new().await;
    let pebble = pebble(dns, ground.http(), ground.https()).await?;
    let mut config = AcmeConfig::new("pebble", pebble.directory_url());
    config.roots_pem = Some(pebble.https_root_pem().to_owned());
    let split = Split::default();
    let options = Options {
        acme: vec![config],
        issuers: vec!["pebble".into()],
        resolver: Some(dns.address()),
        roots_pem: vec![pebble.root_pem().await?],
        step_hook: Some(stopwatch(&split)),
        ..Options::default()
    };
    let lab = Lab::start(ground, options).await;
    let mut taken = Vec::new();
    for round in 0..=rounds {
        let name = format!("round{round}.customers.example");
        let route = RouteRequest::Upstream { upstream: "http://127.0.0.1:9".into(), region: None };
        let started = Instant::now();
        let (_, job) = lab.engine.add_domain(DomainRequest::new(host(&name), route), &who()).await?;
        let job = lab.done(job).await;
        let elapsed = started.elapsed();
        let domain = lab.domain(&name).await;
        assert!(domain.state.proven, "{name} is {job:?}");
        // The first round makes the account.
        if round == 0 {
            if let Ok(mut split) = split.lock() {
                split.0.clear();
            }
        } else {
            taken.push(elapsed);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sums = split.lock().map(|split| split.0.clone()).unwrap_or_default();
    let steps: BTreeMap<&str, f64> = sums.iter().map(|(step, sum)| (step.as_str(), (sum / rounds as f64 * 10.0).round() / 10.0)).collect();
    println!(
        "{}",
        serde_json::json!({ "bench": "time-to-green", "who": "certwright", "rounds": rounds, "ms": spread(&mut taken), "steps_ms": steps })
    );
    lab.stop().await;
    Ok(())
}

async fn caddys(dns: &DnsServer, rounds: usize) -> Fallible<()> {
    let (http, https) = (free_address(), free_address());
    let pebble = pebble(dns, http, https).await?;
    let acme = AcmeSource { directory_url: pebble.directory_url(), roots_pem: pebble.https_root_pem().to_owned() };
    let options = CaddyOptions { http, https, acme: Some(acme), cores: None };
    let caddy = tokio::task::spawn_blocking(move || Caddy::start(&options, "first.customers.example {\n  respond ok\n}\n")).await??;
    let roots_der = x509::chain_from_pem(&pebble.root_pem().await?)?;
    let prober = Prober::new(ProbeConfig { timeout: Duration::from_secs(2), roots_der, system_roots: false, allow_private: true })?;
    let clock = Clock::system();
    let mut caddyfile = std::fs::read_to_string(caddy.folder().join("Caddyfile"))?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    until_served(&prober, "first.customers.example", https, &clock).await;
    let mut taken = Vec::new();
    for round in 0..rounds {
        let name = format!("round{round}.customers.example");
        caddyfile.push_str(&format!("{name} {{\n  respond ok\n}}\n"));
        let started = Instant::now();
        let load = client.post(format!("http://{}/load", caddy.admin())).header("content-type", "text/caddyfile").body(caddyfile.clone());
        load.send().await?.error_for_status()?;
        until_served(&prober, &name, https, &clock).await;
        taken.push(started.elapsed());
        // Caddy starts at most 10 orders in 10 seconds; a name a second stays below that, and is what one name at a time means.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    println!("{}", serde_json::json!({ "bench": "time-to-green", "who": "caddy", "rounds": rounds, "ms": spread(&mut taken) }));
    Ok(())
}

async fn until_served(prober: &Prober, name: &str, at: SocketAddr, clock: &Clock) {
    let name = host(name);
    loop {
        let sight = prober.dial(&name, at, Path::Edge, clock.now()).await;
        if certwright_model::wire::judge(&[sight], &name, None, clock.now()).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn spread(taken: &mut [Duration]) -> serde_json::Value {
    taken.sort();
    let ms = |at: usize| taken.get(at.min(taken.len().saturating_sub(1))).map(|d| (d.as_secs_f64() * 10_000.0).round() / 10.0);
    serde_json::json!({ "min": ms(0), "median": ms(taken.len() / 2), "max": ms(usize::MAX) })
}

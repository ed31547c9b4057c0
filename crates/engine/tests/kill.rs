//! SIGKILL before and after every step of provisioning, attaching, issuing and renewing: every life after it ends proven,
//! and no need gets two certificates.
//!
//! The test runs itself as a child process with a hook that kills it at the n-th step; the next life is killed at the same
//! place again, and the one after that is left alone.

#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

mod lab;

use certwright_engine::StepHook;
use certwright_engine::clock::Clock;
use certwright_engine::requests::RequestError;
use certwright_model::domain::{DomainKind, TlsStatus};
use certwright_model::ids::NodeId;
use certwright_model::record::Domain;
use certwright_model::view::SiteStatus;
use certwright_providers::issuer::acme::AcmeConfig;
use certwright_store::{KekSource, Store, StoreConfig, StoreError};
use certwright_testkit::dns::DnsServer;
use certwright_testkit::pebble::{Pebble, PebbleOptions};
use certwright_testkit::scratch::Scratch;
use lab::{Backend, Ground, Lab, Options, host, site, url_of, who};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const CHILD: &str = "CERTWRIGHT_KILL_TEST_CHILD";

/// One life of the process under test.
#[derive(Clone, Serialize, Deserialize)]
struct Life {
    data_dir: PathBuf,
    database_url: Option<String>,
    https: SocketAddr,
    http: SocketAddr,
    acme: Option<Ca>,
    /// Counted from 0 over all steps, before and after.
    kill_at: Option<u32>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Ca {
    directory_url: String,
    https_root_pem: String,
    root_pem: String,
    resolver: SocketAddr,
}

impl Life {
    fn hosts(&self) -> [&'static str; 2] {
        match self.acme {
            Some(_) => ["shop.sites.example", "shop.customers.example"],
            None => ["shop.sites.localhost", "shop.localhost"],
        }
    }

    fn run(&self) -> ExitStatus {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_child_lives_once", "--nocapture", "--test-threads=1"]);
        child.env(CHILD, serde_json::to_string(self).unwrap()).stdout(std::process::Stdio::null());
        child.status().unwrap()
    }
}

/// Not a test by itself: what a child process does. Asked for nothing, it has nothing to do.
#[test]
fn the_child_lives_once() {
    let Ok(text) = std::env::var(CHILD) else { return };
    let life: Life = serde_json::from_str(&text).unwrap();
    let steps = Arc::new(AtomicU32::new(0));
    let hook: StepHook = Arc::new({
        let (steps, kill_at) = (steps.clone(), life.kill_at);
        move |_: &str, _: bool| {
            if Some(steps.fetch_add(1, Ordering::SeqCst)) == kill_at {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                std::thread::sleep(Duration::from_secs(60));
            }
        }
    });
    tokio::runtime::Runtime::new().unwrap().block_on(live(&life, hook));
    std::fs::write(life.data_dir.join("steps"), steps.load(Ordering::SeqCst).to_string()).unwrap();
}

/// Asks for everything, as a person who does not know what a former life did: a site, its domain, one renewal of it.
async fn live(life: &Life, hook: StepHook) {
    let ground = Ground::at(life.https, life.http).await;
    let mut options = Options {
        database_url: life.database_url.clone(),
        data_dir: Some(life.data_dir.clone()),
        node: Some(NodeId(uuid::Uuid::from_u128(7))),
        step_hook: Some(hook),
        ..Options::default()
    };
    if let Some(ca) = &life.acme {
        let mut config = AcmeConfig::new("pebble", &ca.directory_url);
        config.roots_pem = Some(ca.https_root_pem.clone());
        options.acme = vec![config];
        options.issuers = vec!["pebble".into()];
        options.resolver = Some(ca.resolver);
        options.roots_pem = vec![ca.root_pem.clone()];
        options.base_domain = "sites.example".into();
    }
    let lab = Lab::start(ground, options).await;
    if lab.engine.store().site_by_name(&site("shop")).await.unwrap().is_none() {
        let archive = lab.archive("<h1>shop</h1>");
        taken(lab.engine.provision_static(&site("shop"), &archive, &who()).await.map(drop));
    }
    let [default, custom] = life.hosts();
    lab.until(default, PATIENCE, green).await;
    site_is(&lab, SiteStatus::Active, SiteStatus::DomainActive).await;
    taken(lab.engine.set_site_domain(&site("shop"), host(custom), &who()).await.map(drop));
    let domain = lab.until(custom, PATIENCE, green).await;
    site_is(&lab, SiteStatus::DomainActive, SiteStatus::DomainActive).await;
    // Asked for once, whatever happens to whoever asked.
    if domain.intent.renew_requested_at.is_none() {
        taken(lab.engine.retry_certificate(domain.intent.id, &who()).await.map(drop));
    }
    lab.until(custom, PATIENCE, |d| {
        green(d) && d.state.look.renewed_for == d.intent.renew_requested_at && d.state.staged_certificate_id.is_none()
    })
    .await;
    lab.stop().await;
}

const PATIENCE: Duration = Duration::from_secs(90);

fn green(domain: &Domain) -> bool {
    domain.state.tls_status == TlsStatus::Issued && domain.state.proven
}

async fn site_is(lab: &Lab, one: SiteStatus, other: SiteStatus) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = lab.view("shop").await.status;
        if status == one || status == other {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "the site is still {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A former life may have asked already; its job is then still active.
fn taken(outcome: Result<(), RequestError>) {
    match outcome {
        Ok(()) | Err(RequestError::Store(StoreError::Conflict { what: "job", .. })) => {}
        Err(error) => panic!("{error}"),
    }
}

/// An address that every life of a walk can have: below the ports that the system gives to outgoing connections and to
/// listeners that do not care, either of which would take it between two lives.
fn kept_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let nth = NEXT.fetch_add(1, Ordering::SeqCst);
        let port = 20_000 + (std::process::id() * 37 + nth) % 12_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
        assert!(nth < 12_000, "no port is free");
    }
}

/// Walks every kill point. Returns how many there were.
fn walk(what: &str, backend: &Backend, acme: Option<&Ca>, addresses: (SocketAddr, SocketAddr), issued: &dyn Fn() -> usize) -> u32 {
    let mut point = 0;
    loop {
        let scratch = Scratch::new("kill").unwrap();
        // Every walk has a database of its own.
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres(_) => certwright_testkit::postgres::Database::from_environment(what).unwrap(),
        };
        let before = issued();
        let life = Life {
            data_dir: scratch.path().to_owned(),
            database_url: database.as_ref().map(|database| database.url()),
            https: addresses.0,
            http: addresses.1,
            acme: acme.cloned(),
            kill_at: Some(point),
        };
        let (first, second) = (life.run(), life.run());
        let alone = Life { kill_at: None, ..life.clone() };
        let last = alone.run();
        assert!(last.success(), "{what}: killed at {point}, the life after it ended with {last}");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (needs, certificates) = runtime.block_on(count(&life));
        assert_eq!(certificates, needs, "{what}: killed at {point} ({first}, {second})");
        if acme.is_some() {
            assert_eq!(issued() - before, needs, "{what}: killed at {point}, the CA issued");
        }
        // A first life that was not killed had fewer steps than that: every point has been visited.
        if first.success() {
            return point;
        }
        point += 1;
    }
}

/// Needs: one a domain, one for the renewal. And what there is.
async fn count(life: &Life) -> (usize, usize) {
    let url = life.database_url.clone().unwrap_or_else(|| format!("sqlite:{}", life.data_dir.join("db.sqlite").display()));
    let config = StoreConfig { url, kek: KekSource::File(life.data_dir.join("kek")), max_connections: 2 };
    let store = Store::open(config, Clock::system().now()).await.unwrap();
    let mut certificates = 0;
    for name in life.hosts() {
        let domain = store.domain_by_hostname(&host(name)).await.unwrap().unwrap();
        assert!(green(&domain) && domain.state.staged_certificate_id.is_none(), "{domain:?}");
        certificates += store.certificates_of(domain.intent.id).await.unwrap().len();
        let wanted = if domain.intent.kind == DomainKind::Custom { 2 } else { 1 };
        assert_eq!(store.certificates_of(domain.intent.id).await.unwrap().len(), wanted, "{name}");
    }
    store.close().await;
    (3, certificates)
}

#[test]
fn killed_at_every_step_with_the_internal_ca_it_ends_proven_on_sqlite() {
    let points = walk("kills on SQLite", &Backend::Sqlite, None, (kept_address(), kept_address()), &|| 0);
    assert!(points > 30, "only {points} kill points");
}

#[test]
fn killed_at_every_step_with_the_internal_ca_it_ends_proven_on_postgres() {
    for backend in Backend::all("kills on PostgreSQL").into_iter().filter(|backend| url_of(backend).is_some()) {
        let points = walk("kills on PostgreSQL", &backend, None, (kept_address(), kept_address()), &|| 0);
        assert!(points > 30, "only {points} kill points");
    }
}

#[test]
fn killed_at_every_step_with_an_acme_ca_it_ends_proven_and_nothing_is_ordered_twice() {
    let what = "kills with Pebble";
    let addresses = (kept_address(), kept_address());
    let Some(dns) = DnsServer::start_or_say(what).unwrap() else { return };
    let options = PebbleOptions::default();
    if Pebble::program_or_say(options.binary, what).is_none() {
        return;
    }
    let options = PebbleOptions { tls_port: addresses.0.port(), http_port: addresses.1.port(), dns_server: Some(dns.address()), ..options };
    let pebble = Pebble::start(options).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ca = Ca {
        directory_url: pebble.directory_url(),
        https_root_pem: pebble.https_root_pem().to_owned(),
        root_pem: runtime.block_on(pebble.root_pem()).unwrap(),
        resolver: dns.address(),
    };
    let issued = || pebble.log().matches("Issued certificate serial").count();
    let points = walk(what, &Backend::Sqlite, Some(&ca), addresses, &issued);
    assert!(points > 40, "only {points} kill points");
}

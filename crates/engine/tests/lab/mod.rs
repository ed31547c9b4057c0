//! A whole Certwright in one process, on a real database, with the built-in edge on loopback ports: what the scenarios
//! and the benches drive.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "each scenario uses its own part; a lab that cannot be built is a failed test"
)]

use certwright_edge::{Edge, EdgeConfig};
use certwright_engine::adapters::{StoreSource, StoredAccounts, StoredCa};
use certwright_engine::clock::Clock;
use certwright_engine::inspect::SiteView;
use certwright_engine::{Engine, EngineConfig, Parts, Running, StepHook};
use certwright_model::Hostname;
use certwright_model::answers::EdgeLocation;
use certwright_model::ids::NodeId;
use certwright_model::planner::Policy;
use certwright_model::record::{Domain, Job};
use certwright_model::site::SiteName;
use certwright_providers::dns::{Resolver, ResolverConfig};
use certwright_providers::issuer::Issuer;
use certwright_providers::issuer::acme::{AcmeConfig, AcmeIssuer};
use certwright_providers::issuer::internal::{InternalConfig, InternalIssuer};
use certwright_providers::probe::{ProbeConfig, Prober};
use certwright_providers::x509;
use certwright_store::{KekSource, Store, StoreConfig, Who};
use certwright_testkit::pebble::{Pebble, PebbleBinary};
use certwright_testkit::postgres::Database;
use certwright_testkit::scratch::Scratch;
use jiff::SignedDuration;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The databases a scenario runs on; the second only where there is a server.
pub enum Backend {
    Sqlite,
    Postgres(Database),
}

impl Backend {
    pub fn all(what: &str) -> Vec<Backend> {
        let postgres = Database::from_environment(what).unwrap();
        std::iter::once(Self::Sqlite).chain(postgres.map(Self::Postgres)).collect()
    }
}

/// Ports first: a CA has to be told where to look before anything starts.
pub struct Ground {
    pub scratch: Scratch,
    pub https: TcpListener,
    pub http: TcpListener,
}

impl Ground {
    pub async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_test_writer().try_init();
        let bind = || TcpListener::bind("127.0.0.1:0");
        Self { scratch: Scratch::new("lab").unwrap(), https: bind().await.unwrap(), http: bind().await.unwrap() }
    }

    /// On addresses that a former life had.
    pub async fn at(https: SocketAddr, http: SocketAddr) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self { scratch: Scratch::new("lab").unwrap(), https: bind_again(https).await, http: bind_again(http).await }
    }

    pub fn https(&self) -> SocketAddr {
        self.https.local_addr().unwrap()
    }

    pub fn http(&self) -> SocketAddr {
        self.http.local_addr().unwrap()
    }
}

/// The newest Pebble where it is there: Debian's 2.4 locks itself up under many orders at once.
pub fn pebble_for_many() -> PebbleBinary {
    let newest = Pebble::program_or_say(PebbleBinary::New, "many orders at the newest Pebble instead of Debian's");
    if newest.is_some() { PebbleBinary::New } else { PebbleBinary::Old }
}

/// Somebody's outgoing connection may have the port for a moment.
async fn bind_again(address: SocketAddr) -> TcpListener {
    for _ in 0..200 {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("{address} does not come free")
}

pub struct Options {
    pub database_url: Option<String>,
    pub base_domain: String,
    /// Empty: the internal CA.
    pub acme: Vec<AcmeConfig>,
    pub internal_lifetime: SignedDuration,
    /// The order for domains that name none.
    pub issuers: Vec<String>,
    pub resolver: Option<SocketAddr>,
    pub roots_pem: Vec<String>,
    pub edge_addresses: Vec<std::net::IpAddr>,
    pub probe_every: SignedDuration,
    pub issuer_in_flight: usize,
    pub clock: Clock,
    pub node: Option<NodeId>,
    /// Where everything lies; a folder of its own unless a former life left one.
    pub data_dir: Option<PathBuf>,
    pub step_hook: Option<StepHook>,
    /// Without them, requests are stored and nothing is done about them.
    pub loops: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            database_url: None,
            base_domain: "sites.localhost".into(),
            acme: Vec::new(),
            internal_lifetime: SignedDuration::from_hours(24 * 90),
            issuers: vec!["internal".into()],
            resolver: None,
            roots_pem: Vec::new(),
            edge_addresses: vec!["127.0.0.1".parse().unwrap()],
            probe_every: SignedDuration::from_hours(1),
            issuer_in_flight: 16,
            clock: Clock::system(),
            node: None,
            data_dir: None,
            step_hook: None,
            loops: true,
        }
    }
}

pub struct Lab {
    pub engine: Engine,
    pub clock: Clock,
    pub edge: Arc<Edge>,
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub internal_root_pem: String,
    running: Option<Running>,
    stop_edge: CancellationToken,
    pub scratch: Scratch,
}

pub fn who() -> Who {
    Who { actor: "test".into() }
}

pub fn site(name: &str) -> SiteName {
    SiteName::parse(name).unwrap()
}

pub fn host(name: &str) -> Hostname {
    Hostname::parse(name).unwrap()
}

impl Lab {
    pub async fn start(ground: Ground, options: Options) -> Self {
        let Ground { scratch, https: https_listener, http: http_listener } = ground;
        let (https, http) = (https_listener.local_addr().unwrap(), http_listener.local_addr().unwrap());
        let clock = options.clock.clone();
        let data_dir = options.data_dir.clone().unwrap_or_else(|| scratch.path().to_owned());
        let url = options.database_url.clone().unwrap_or_else(|| format!("sqlite:{}", data_dir.join("db.sqlite").display()));
        let kek = KekSource::File(data_dir.join("kek"));
        let store = Store::open(StoreConfig { url, kek, max_connections: 16 }, clock.now()).await.unwrap();
        let ca = StoredCa { store: store.clone(), clock: clock.clone() };
        let config = InternalConfig { lifetime: options.internal_lifetime, ..InternalConfig::default() };
        let internal = InternalIssuer::open(config, &ca, clock.now()).await.unwrap();
        let internal_root_pem = internal.root_pem();
        let mut roots_der = vec![internal.root_der().to_vec()];
        for pem in &options.roots_pem {
            roots_der.extend(x509::chain_from_pem(pem).unwrap());
        }
        let mut issuers: Vec<Arc<dyn Issuer>> = vec![Arc::new(internal)];
        for config in options.acme {
            let accounts = StoredAccounts { store: store.clone(), clock: clock.clone() };
            issuers.push(Arc::new(AcmeIssuer::new(config, Arc::new(accounts)).unwrap()));
        }
        let sites_dir = data_dir.join("sites");
        std::fs::create_dir_all(&sites_dir).unwrap();
        let mut edge_config = EdgeConfig::new(&sites_dir);
        edge_config.https_port_for_redirect = https.port();
        edge_config.drain_timeout = Duration::from_secs(2);
        let edge = Edge::new(edge_config, Arc::new(StoreSource(store.clone())));
        let policy = Policy {
            edge: EdgeLocation { addresses: options.edge_addresses, ..EdgeLocation::default() },
            issuers: options.issuers,
            strict_ownership: false,
            dns_max_age: SignedDuration::from_mins(10),
            probe_every: options.probe_every,
            expiring_warn: SignedDuration::from_hours(720),
            probing: true,
        };
        let mut config = EngineConfig::new(options.node.unwrap_or_else(|| clock.node()), options.base_domain, policy, sites_dir);
        config.edge_address = Some(https);
        config.public_https_port = https.port();
        config.issuer_in_flight = options.issuer_in_flight;
        let probe = ProbeConfig { timeout: Duration::from_secs(8), roots_der, system_roots: false, allow_private: true };
        let servers = options.resolver.into_iter().collect();
        let resolver = Resolver::new(ResolverConfig { servers, timeout: Duration::from_secs(3) }).unwrap();
        let engine = Engine::new(Parts {
            config,
            store,
            issuers,
            prober: Prober::new(probe).unwrap(),
            resolver,
            edge: Some(edge.clone()),
            clock: clock.clone(),
            step_hook: options.step_hook,
        });
        let stop_edge = CancellationToken::new();
        tokio::spawn(edge.clone().serve(vec![https_listener], vec![http_listener], stop_edge.clone()));
        let running = options.loops.then(|| engine.start());
        Self { engine, clock, edge, https, http, internal_root_pem, running, stop_edge, scratch }
    }

    pub async fn plain(backend: &Backend) -> Self {
        let options = Options { database_url: url_of(backend), ..Options::default() };
        Self::start(Ground::new().await, options).await
    }

    pub async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop(Duration::from_secs(10)).await;
        }
        self.stop_edge.cancel();
        self.engine.store().close().await;
    }

    /// An archive with one page.
    pub fn archive(&self, page: &str) -> PathBuf {
        let path = self.scratch.path().join(format!("{}.zip", self.clock.id()));
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        zip.start_file("index.html", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(page.as_bytes()).unwrap();
        zip.finish().unwrap();
        path
    }

    pub async fn provision(&self, name: &str) -> Job {
        let archive = self.archive(&format!("<h1>{name}</h1>"));
        let taken = self.engine.provision_static(&site(name), &archive, &who()).await.unwrap();
        self.done(taken.job.unwrap()).await
    }

    pub async fn done(&self, job: Job) -> Job {
        self.engine.wait_for_job(job.id, Duration::from_secs(60)).await.unwrap()
    }

    pub async fn view(&self, name: &str) -> SiteView {
        self.engine.site_view(&site(name)).await.unwrap()
    }

    pub async fn domain(&self, name: &str) -> Domain {
        self.engine.store().domain_by_hostname(&host(name)).await.unwrap().unwrap()
    }

    /// Waits until the domain is as wanted, or says how it is.
    pub async fn until(&self, name: &str, patience: Duration, wanted: impl Fn(&Domain) -> bool) -> Domain {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let domain = self.domain(name).await;
            if wanted(&domain) {
                return domain;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} is still {:#?}", domain.state);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A client as a visitor's: trusts the given roots, finds every name at the edge.
    pub fn visitor(&self, names: &[&str], root_pem: &str) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(root_pem.as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]).redirect(reqwest::redirect::Policy::none());
        for name in names {
            builder = builder.resolve(name, self.https);
        }
        builder.build().unwrap()
    }

    pub fn url(&self, name: &str) -> String {
        format!("https://{name}:{}/", self.https.port())
    }
}

pub fn url_of(backend: &Backend) -> Option<String> {
    match backend {
        Backend::Sqlite => None,
        Backend::Postgres(database) => Some(database.url()),
    }
}

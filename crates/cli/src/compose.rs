//! Puts the parts together: settings become a store, issuers, a prober, an edge, an engine and a server.
//!
//! Invariants: what can be refused is refused before anything is served, with the setting that is to blame; listeners are
//! bound first, so that two instances never work on one folder by mistake for long. It decides nothing about certificates.

use crate::settings::issuer::{INTERNAL, Spec};
use crate::settings::{Settings, Table};
use anyhow::{Context, anyhow, bail};
use certwright_edge::{Edge, EdgeConfig};
use certwright_engine::adapters::{StoreSource, StoredAccounts, StoredCa};
use certwright_engine::clock::Clock;
use certwright_engine::intake::IntakeConfig;
use certwright_engine::{Engine, EngineConfig, Parts, StepHook};
use certwright_model::answers::EdgeLocation;
use certwright_model::event::Limits;
use certwright_model::ids::NodeId;
use certwright_model::planner::Policy;
use certwright_providers::dns::{Resolver, ResolverConfig};
use certwright_providers::issuer::Issuer;
use certwright_providers::issuer::acme::AcmeIssuer;
use certwright_providers::issuer::internal::InternalIssuer;
use certwright_providers::probe::{ProbeConfig, Prober};
use certwright_providers::x509;
use certwright_server::{App, EventConfig, ServerConfig};
use certwright_store::{KekSource, Store, StoreConfig};
use jiff::SignedDuration;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Bound, not yet served.
pub(crate) struct Listeners {
    pub(crate) api: TcpListener,
    pub(crate) http: TcpListener,
    pub(crate) https: TcpListener,
    pub(crate) metrics: TcpListener,
}

/// Everything of an instance, built and not started.
pub(crate) struct Instance {
    pub(crate) engine: Engine,
    pub(crate) edge: Arc<Edge>,
    pub(crate) app: App,
    pub(crate) root_pem: String,
}

impl Listeners {
    pub(crate) async fn bind(table: &Table) -> anyhow::Result<Self> {
        Ok(Self {
            api: bind("api", table.api).await?,
            http: bind("http", table.http).await?,
            https: bind("https", table.https).await?,
            metrics: bind("metrics", table.metrics).await?,
        })
    }
}

async fn bind(setting: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!(
            "{address} is taken by another program; stop it, or choose another address with --{setting} ADDR (port 0 takes any free one)"
        ),
        std::io::ErrorKind::PermissionDenied => anyhow!(
            "{address} may not be listened on by this user; ports below 1024 need the capability CAP_NET_BIND_SERVICE, or choose another with --{setting} ADDR"
        ),
        _ => anyhow!("cannot listen on {address} (--{setting}): {error}"),
    })
}

/// The first provider wins; a second installation of the same one is no error.
pub(crate) fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Created for its owner alone, and shown to be writable.
pub(crate) fn prepare_data_dir(dir: &Path) -> anyhow::Result<()> {
    let advice = || format!("the data folder {} cannot be used; choose another with --data-dir DIR", dir.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(advice)?;
    tempfile::NamedTempFile::new_in(dir).with_context(advice)?;
    Ok(())
}

pub(crate) async fn open_store(table: &Table, clock: &Clock) -> anyhow::Result<Store> {
    let url = table.database_url.clone().unwrap_or_else(|| format!("sqlite:{}", table.data_dir.join("certwright.db").display()));
    let kek = match &table.kek_command {
        Some(command) => KekSource::Command(command.0.clone()),
        None => KekSource::File(table.kek_file.clone().unwrap_or_else(|| table.data_dir.join("kek"))),
    };
    let config = StoreConfig { url, kek, max_connections: table.database_connections };
    Store::open(config, clock.now()).await.context("the database cannot be opened")
}

/// `https` is where the edge listens; `None` for an instance that serves nothing (`token reset`).
pub(crate) async fn build(
    settings: &Settings,
    clock: Clock,
    node: NodeId,
    https: Option<SocketAddr>,
    step_hook: Option<StepHook>,
) -> anyhow::Result<Instance> {
    let table = &settings.table;
    let store = open_store(table, &clock).await?;
    let (issuers, internal) = issuers(settings, &store, &clock).await?;
    let root_pem = internal.root_pem();
    let resolver =
        ResolverConfig { servers: table.resolvers.iter().map(|server| server.0).collect(), timeout: std_duration(table.resolver_timeout) };
    let resolver = Resolver::new(resolver).context("DNS cannot be asked; name a server with the setting `resolvers`")?;
    let on_loopback = table.https.ip().is_loopback();
    let probe = ProbeConfig {
        timeout: std_duration(table.probe_timeout),
        roots_der: roots(table, &internal)?,
        system_roots: table.probe_system_roots,
        allow_private: table.probe_allow_private.unwrap_or(on_loopback),
    };
    let sites_dir = table.data_dir.join("sites");
    std::fs::create_dir_all(&sites_dir).with_context(|| format!("cannot make {}", sites_dir.display()))?;
    let edge = Edge::new(edge_config(table, https, &sites_dir), Arc::new(StoreSource(store.clone())));
    let mut config = EngineConfig::new(node, table.base_domain.as_str(), policy(table), sites_dir);
    config.edge_address = https.map(dialled);
    config.public_https_port = public_port(table, https);
    config.lease = table.lease;
    config.in_flight = table.in_flight;
    config.issuer_in_flight = table.issuer_in_flight;
    config.issue_deadline = std_duration(table.issue_deadline);
    config.scan_every = std_duration(table.scan_every);
    config.intake = IntakeConfig {
        limits: Limits { max_tries: table.cert_event_max_retries, base_backoff_seconds: table.cert_event_base_backoff_seconds.into() },
        rate: NonZeroU32::new(table.cert_event_rate).unwrap_or(NonZeroU32::MIN),
    };
    let engine = Engine::new(Parts {
        config,
        store,
        issuers,
        prober: Prober::new(probe).context("the prober's roots")?,
        resolver,
        edge: Some(edge.clone()),
        clock,
        step_hook,
    });
    let mut server = ServerConfig::new(table.data_dir.join("uploads"));
    server.max_upload_bytes = table.max_upload_bytes;
    server.events = events(table);
    let app = App::new(engine.clone(), server).with_root(&root_pem);
    Ok(Instance { engine, edge, app, root_pem })
}

fn events(table: &Table) -> EventConfig {
    let config = EventConfig {
        source_keys: table.cert_event_source_keys.as_ref().map(|keys| keys.0.clone()).unwrap_or_default(),
        max_age_seconds: table.cert_event_max_age_seconds.into(),
        ..EventConfig::default()
    };
    match &table.cert_event_ingest_token {
        Some(token) => config.with_token(&token.0),
        None => config,
    }
}

async fn issuers(settings: &Settings, store: &Store, clock: &Clock) -> anyhow::Result<(Vec<Arc<dyn Issuer>>, Arc<InternalIssuer>)> {
    let (mut all, mut own): (Vec<Arc<dyn Issuer>>, _) = (Vec::new(), None);
    for issuer in &settings.issuers {
        match issuer.spec()? {
            Spec::Internal(config) => {
                let ca = StoredCa { store: store.clone(), clock: clock.clone() };
                let internal = Arc::new(InternalIssuer::open(config, &ca, clock.now()).await.context("the internal CA")?);
                own = Some(internal.clone());
                all.push(internal);
            }
            Spec::Acme(config) => {
                let accounts = StoredAccounts { store: store.clone(), clock: clock.clone() };
                all.push(Arc::new(AcmeIssuer::new(*config, Arc::new(accounts))?));
            }
        }
    }
    match own {
        Some(own) => Ok((all, own)),
        None => bail!("the issuer `{INTERNAL}` is missing"),
    }
}

fn roots(table: &Table, internal: &InternalIssuer) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut roots = vec![internal.root_der().to_vec()];
    for path in &table.probe_roots {
        roots.extend(read_roots(path)?);
    }
    Ok(roots)
}

pub(crate) fn read_roots(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let roots = x509::chain_from_pem(&text).with_context(|| format!("{} holds no certificates in PEM", path.display()))?;
    if roots.is_empty() { Err(anyhow!("{} holds no certificates in PEM", path.display())) } else { Ok(roots) }
}

fn policy(table: &Table) -> Policy {
    let mut addresses = table.edge_addresses.clone();
    if addresses.is_empty() && table.edge_cname.is_none() && table.https.ip().is_loopback() {
        addresses.push(table.https.ip());
    }
    Policy {
        edge: EdgeLocation {
            addresses,
            cname: table.edge_cname.clone(),
            proxy_networks: table.proxy_networks.iter().map(|network| (network.0, network.1)).collect(),
        },
        issuers: table.issuers.clone(),
        strict_ownership: table.strict_ownership,
        dns_max_age: table.dns_max_age,
        probe_every: table.probe_every,
        expiring_warn: SignedDuration::from_hours(24 * i64::from(table.expiry_warn_days)),
        probing: table.probing,
    }
}

fn edge_config(table: &Table, https: Option<SocketAddr>, sites_dir: &Path) -> EdgeConfig {
    let mut config = EdgeConfig::new(sites_dir);
    config.certificate_cache = table.certificate_cache;
    config.max_connections = table.max_connections;
    config.upstream_response_timeout = std_duration(table.upstream_response_timeout);
    config.drain_timeout = std_duration(table.drain_timeout);
    config.https_port_for_redirect = public_port(table, https);
    config.access_log = table.access_log;
    config.hsts = table.hsts;
    config
}

fn public_port(table: &Table, https: Option<SocketAddr>) -> u16 {
    let listening = https.unwrap_or(table.https);
    let local = listening.ip().is_loopback() || table.base_domain.is_localhost();
    table.public_https_port.unwrap_or(if local { listening.port() } else { 443 })
}

/// A listener on every address is dialled on loopback.
fn dialled(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

pub(crate) fn std_duration(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}

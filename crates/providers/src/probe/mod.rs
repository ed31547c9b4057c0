//! The prober: dials where a domain is served, with SNI, and writes down what it saw. `model::wire::judge` judges it.
//!
//! Invariants: each dial is a full handshake (nothing is resumed) and ends within its time limit, whatever the peer does; the
//! served chain is captured also where it does not verify; the peer has proven that it holds the leaf's key. Addresses that
//! DNS gives are not dialled where they are private, unless the operator allows it. It sends no request after the handshake.

mod address;
mod chain;

use crate::dns::{DnsError, Resolver, dialled_name};
use crate::x509;
use certwright_model::Hostname;
use certwright_model::wire::{DialFailure, Failed, Path, Served, Sight};
use chain::{AnyChain, Trust};
use futures_util::future::join_all;
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ProtocolVersion};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// A name with more addresses than this is judged by the first ones.
const ADDRESSES: usize = 4;

#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// For a whole dial.
    pub timeout: Duration,
    /// Trusted beside the operating system's roots, as DER.
    pub roots_der: Vec<Vec<u8>>,
    pub system_roots: bool,
    /// Whether addresses that DNS gives may be private ones.
    pub allow_private: bool,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(8), roots_der: Vec::new(), system_roots: true, allow_private: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("a trusted root cannot be read: {0}")]
    Root(String),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// Cheap to clone; clones share what is trusted.
#[derive(Clone, Debug)]
pub struct Prober {
    timeout: Duration,
    allow_private: bool,
    client: Arc<ClientConfig>,
    trust: Arc<RwLock<Arc<Trust>>>,
}

impl Prober {
    pub fn new(config: ProbeConfig) -> Result<Self, ProbeError> {
        let provider = crate::tls::crypto();
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| ProbeError::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyChain::new(provider)))
            .with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let trust = Trust::new(config.system_roots, &config.roots_der)?;
        let trust = Arc::new(RwLock::new(Arc::new(trust)));
        Ok(Self { timeout: config.timeout, allow_private: config.allow_private, client: Arc::new(client), trust })
    }

    /// Trusts these from now on too; dials under way are not affected.
    pub fn add_roots(&self, roots_der: &[Vec<u8>]) -> Result<(), ProbeError> {
        let mut shared = self.trust.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *shared = Arc::new(shared.with(roots_der)?);
        Ok(())
    }

    /// One dial of one address.
    pub async fn dial(&self, host: &Hostname, address: SocketAddr, path: Path, now: Timestamp) -> Sight {
        let started = Instant::now();
        let allowed = path == Path::Edge || self.allow_private || host.is_localhost() || address::is_public(address.ip());
        let seen = if !allowed {
            Err(Failed { failure: DialFailure::NotAllowed, detail: format!("{} is not a public address", address.ip()) })
        } else {
            match tokio::time::timeout(self.timeout, self.handshake(host, address, now)).await {
                Ok(seen) => seen,
                Err(_) => {
                    let detail = format!("no handshake within {} s", self.timeout.as_secs_f32());
                    Err(Failed { failure: DialFailure::Timeout, detail })
                }
            }
        };
        let elapsed_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
        Sight { path, dialled: address.to_string(), at: now, elapsed_ms, seen }
    }

    /// Dials the edge, and what DNS gives (with that port); an address that is both is dialled once, as the edge.
    pub async fn look(&self, host: &Hostname, edge: Option<SocketAddr>, dns: Option<(&Resolver, u16)>, now: Timestamp) -> Vec<Sight> {
        let from_edge = async {
            match edge {
                Some(address) => Some(self.dial(host, address, Path::Edge, now).await),
                None => None,
            }
        };
        let from_dns = async {
            match dns {
                Some((resolver, port)) => self.look_through_dns(host, edge, resolver, port, now).await,
                None => Vec::new(),
            }
        };
        let (from_edge, from_dns) = tokio::join!(from_edge, from_dns);
        from_edge.into_iter().chain(from_dns).collect()
    }

    async fn look_through_dns(
        &self,
        host: &Hostname,
        edge: Option<SocketAddr>,
        resolver: &Resolver,
        port: u16,
        now: Timestamp,
    ) -> Vec<Sight> {
        let started = Instant::now();
        match resolver.addresses(host).await {
            Ok(addresses) => {
                let targets = addresses.into_iter().take(ADDRESSES).map(|ip| SocketAddr::new(ip, port));
                let others = targets.filter(|target| Some(*target) != edge);
                join_all(others.map(|target| self.dial(host, target, Path::Dns, now))).await
            }
            Err(error) => {
                let failure = if matches!(error, DnsError::Timeout(_)) { DialFailure::Timeout } else { DialFailure::NoAddress };
                let elapsed_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
                let seen = Err(Failed { failure, detail: error.to_string() });
                vec![Sight { path: Path::Dns, dialled: host.to_string(), at: now, elapsed_ms, seen }]
            }
        }
    }

    async fn handshake(&self, host: &Hostname, address: SocketAddr, now: Timestamp) -> Result<Served, Failed> {
        let name = dialled_name(host);
        let sni = ServerName::try_from(name).map_err(|error| failed(DialFailure::Handshake, error))?;
        let tcp = TcpStream::connect(address).await.map_err(|error| connect_failure(&error))?;
        tcp.set_nodelay(true).map_err(|error| failed(DialFailure::Unreachable, error))?;
        let connector = TlsConnector::from(self.client.clone());
        let stream = connector.connect(sni.clone(), tcp).await.map_err(|error| handshake_failure(&error))?;
        let (_, session) = stream.get_ref();
        let Some(chain) = session.peer_certificates().filter(|chain| !chain.is_empty()) else {
            return Err(failed(DialFailure::Handshake, "the peer showed no certificate"));
        };
        let leaf = [chain[0].to_vec()];
        let facts = x509::facts_of(&leaf, "").map_err(|error| failed(DialFailure::Handshake, error))?;
        let trust = self.trust.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Ok(Served {
            certificate_ref: facts.certificate_ref,
            names: facts.names,
            not_before: facts.not_before,
            not_after: facts.not_after,
            issuer_dn: facts.issuer_dn,
            key_type: facts.key_type,
            chain_problem: trust.problem(chain, now),
            tls_version: version_text(session.protocol_version()),
            alpn: session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        })
    }
}

fn version_text(version: Option<ProtocolVersion>) -> String {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".into(),
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".into(),
        other => format!("{other:?}"),
    }
}

fn connect_failure(error: &std::io::Error) -> Failed {
    let failure = match error.kind() {
        ErrorKind::ConnectionRefused => DialFailure::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => DialFailure::Reset,
        ErrorKind::TimedOut => DialFailure::Timeout,
        _ => DialFailure::Unreachable,
    };
    failed(failure, error)
}

fn handshake_failure(error: &std::io::Error) -> Failed {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, error.kind()) {
        (Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)), _) => {
            failed(DialFailure::UnknownName, "the server does not know this name (alert unrecognized_name)")
        }
        // What is not a TLS record at all: plain HTTP on this port, most often.
        (Some(rustls::Error::InvalidMessage(_)), _) => failed(DialFailure::NotTls, "the answer is not TLS"),
        (Some(other), _) => failed(DialFailure::Handshake, other),
        (None, ErrorKind::UnexpectedEof) => failed(DialFailure::Reset, "the connection was closed in the handshake"),
        (None, ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe) => {
            failed(DialFailure::Reset, "the connection was reset in the handshake")
        }
        (None, ErrorKind::TimedOut) => failed(DialFailure::Timeout, error),
        (None, _) => failed(DialFailure::Handshake, error),
    }
}

fn failed(failure: DialFailure, detail: impl std::fmt::Display) -> Failed {
    Failed { failure, detail: detail.to_string() }
}

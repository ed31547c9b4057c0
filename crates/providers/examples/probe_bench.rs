//! How many local handshakes the prober proves a second: `probe_bench [HANDSHAKES] [AT_ONCE]`.
//!
//! The servers are in the same process and take their share of the same cores. Every handshake is a full one and is judged:
//! the leaf, its name, its dates, its chain. Prints one line of JSON.

use async_trait::async_trait;
use certwright_model::Hostname;
use certwright_model::certificate::{CertificateRef, KeyType};
use certwright_model::ids::{DomainId, OrderId};
use certwright_model::record::{Order, OrderStage};
use certwright_model::wire::{Path, judge};
use certwright_providers::issuer::internal::{CaMaterial, CaRole, CaStore, InternalConfig, InternalIssuer};
use certwright_providers::issuer::{IssueProgress, IssueRequest, Issuer, JournalError, OrderJournal, PublishedChallenge};
use certwright_providers::probe::{ProbeConfig, Prober};
use certwright_providers::{Outcome, x509};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const NAMES: usize = 1_000;
const LISTENERS: usize = 16;

struct Nothing;

#[async_trait]
impl CaStore for Nothing {
    async fn load(&self, _: CaRole) -> Result<Option<CaMaterial>, JournalError> {
        Ok(None)
    }
    async fn put_if_absent(&self, _: CaRole, material: CaMaterial) -> Result<CaMaterial, JournalError> {
        Ok(material)
    }
}

#[async_trait]
impl OrderJournal for Nothing {
    async fn placed(&self, _: &str) -> Result<(), JournalError> {
        Ok(())
    }
    async fn publish(&self, _: Vec<PublishedChallenge>) -> Result<(), JournalError> {
        Ok(())
    }
    async fn finalizing(&self) -> Result<(), JournalError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let handshakes: usize = arguments.next().as_deref().unwrap_or("15000").parse()?;
    let at_once: usize = arguments.next().as_deref().unwrap_or("256").parse()?;
    // Any moment will do: the certificates are made for it, and rustls servers look at no date.
    let now: Timestamp = "2030-01-01T00:00:00Z".parse()?;
    let ca = InternalIssuer::open(InternalConfig::default(), &Nothing, now).await?;
    let mut resolver = ResolvesServerCertUsingSni::new();
    let mut targets = Vec::new();
    for number in 0..NAMES {
        let host = Hostname::parse(&format!("n{number}.example.com"))?;
        let (key, reference) = certify(&ca, &host, now).await?;
        resolver.add(host.as_str(), key)?;
        targets.push((host, reference));
    }
    let addresses = serve(resolver).await?;
    let config = ProbeConfig { roots_der: vec![ca.root_der().to_vec()], system_roots: false, ..ProbeConfig::default() };
    let prober = Prober::new(config)?;

    let (targets, addresses, next) = (Arc::new(targets), Arc::new(addresses), Arc::new(AtomicUsize::new(0)));
    let started = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (prober, targets, addresses, next) = (prober.clone(), targets.clone(), addresses.clone(), next.clone());
        workers.spawn(async move {
            let mut failures = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= handshakes {
                    return failures;
                }
                let (host, reference) = &targets[number % targets.len()];
                let sight = prober.dial(host, addresses[number % addresses.len()], Path::Edge, now).await;
                if let Err(reason) = judge(&[sight], host, Some(reference), now) {
                    failures.push(reason.message);
                }
            }
        });
    }
    let failures: Vec<String> = workers.join_all().await.into_iter().flatten().collect();
    let seconds = started.elapsed().as_secs_f64();
    let report = serde_json::json!({
        "bench": "probe",
        "handshakes": handshakes,
        "at_once": at_once,
        "names": NAMES,
        "proven": handshakes - failures.len(),
        "first_failure": failures.first(),
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "proven_per_second": ((handshakes - failures.len()) as f64 / seconds).round(),
        "cores": std::thread::available_parallelism()?.get(),
    });
    println!("{report}");
    if failures.is_empty() { Ok(()) } else { Err("not every handshake was proven".into()) }
}

async fn certify(ca: &InternalIssuer, host: &Hostname, now: Timestamp) -> Result<(CertifiedKey, CertificateRef), Box<dyn Error>> {
    let order = Order {
        id: OrderId(uuid::Uuid::nil()),
        domain_id: DomainId(uuid::Uuid::nil()),
        issuer: ca.name().to_owned(),
        stage: OrderStage::Intended,
        order_url: None,
        key_pkcs8_der: x509::key_pair(KeyType::EcdsaP256)?,
        key_type: KeyType::EcdsaP256,
        replaces: None,
        is_renewal: false,
        created_at: now,
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(order.key_pkcs8_der.clone()));
    let request = IssueRequest { order, names: vec![host.clone()], lifetime_hint: None };
    match ca.issue(&request, &Nothing, now, tokio::time::Instant::now()).await {
        Outcome::Applied(IssueProgress::Issued(issued)) => {
            let chain = issued.chain_der.into_iter().map(CertificateDer::from).collect();
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
            Ok((CertifiedKey::new(chain, key), issued.facts.certificate_ref))
        }
        other => Err(format!("{other:?}").into()),
    }
}

async fn serve(resolver: ResolvesServerCertUsingSni) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut addresses = Vec::new();
    for _ in 0..LISTENERS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if stream.set_nodelay(true).is_ok()
                        && let Ok(mut stream) = acceptor.accept(stream).await
                    {
                        // Until the prober hangs up.
                        while stream.read(&mut [0; 256]).await.is_ok_and(|count| count > 0) {}
                    }
                });
            }
        });
    }
    Ok(addresses)
}

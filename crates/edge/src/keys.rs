//! Certificates ready to be served: loaded on first use, once for all who wait, kept in a bounded cache.
//!
//! The cache's key is the certificate's id, so an index that names another id swaps the certificate for new handshakes
//! alone. Tickets are made with one rotating key for the whole edge, but carry the id of the certificate under which the
//! session was made and are refused under any other: a session never crosses from one certificate to another, and
//! rustls itself refuses one whose SNI differs. There is no session cache to share or to leak through.

use crate::source::{EdgeSource, SourceError};
use crate::stats::EdgeStats;
use certwright_model::edge::ServingCertificate;
use certwright_model::ids::CertificateId;
use moka::future::Cache;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, client::verify_server_name};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) struct Keys {
    cache: Cache<CertificateId, Arc<Loaded>>,
    provider: Arc<CryptoProvider>,
    ticketer: Option<Arc<dyn ProducesTickets>>,
    lookups: AtomicU64,
    loads: AtomicU64,
    evictions: Arc<AtomicU64>,
}

/// A certificate in use. Connections hold it as long as they live.
pub(crate) struct Loaded {
    pub(crate) config: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the source has no such certificate")]
    Missing,
    #[error("the certificate does not load: {0}")]
    Bad(String),
}

impl Keys {
    pub(crate) fn new(capacity: u64) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&evictions);
        let cache = Cache::builder()
            .max_capacity(capacity)
            .eviction_listener(move |_, _, _| {
                counter.fetch_add(1, Relaxed);
            })
            .build();
        Self {
            cache,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            // Without a ticket key every handshake is a full one: slower, never wrong.
            ticketer: rustls::crypto::aws_lc_rs::Ticketer::new().ok(),
            lookups: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            evictions,
        }
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    pub(crate) async fn get(&self, id: CertificateId, source: &dyn EdgeSource) -> Result<Arc<Loaded>, Arc<LoadError>> {
        self.lookups.fetch_add(1, Relaxed);
        if let Some(loaded) = self.cache.get(&id).await {
            return Ok(loaded);
        }
        self.cache
            .try_get_with(id, async {
                self.loads.fetch_add(1, Relaxed);
                let certificate = source.certificate(id).await?.ok_or(LoadError::Missing)?;
                self.load(id, certificate).map(Arc::new).map_err(|error| LoadError::Bad(error.to_string()))
            })
            .await
    }

    pub(crate) fn add_to(&self, stats: &mut EdgeStats) {
        let loads = self.loads.load(Relaxed);
        stats.certificates_cached_now = self.cache.entry_count();
        stats.certificate_hits = self.lookups.load(Relaxed).saturating_sub(loads);
        stats.certificate_misses = loads;
        stats.certificate_evictions = self.evictions.load(Relaxed);
    }

    fn load(&self, id: CertificateId, certificate: ServingCertificate) -> Result<Loaded, rustls::Error> {
        let chain: Vec<CertificateDer<'static>> = certificate.chain_der.into_iter().map(CertificateDer::from).collect();
        let leaf = chain.first().cloned().ok_or(rustls::Error::NoCertificatesPresented)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certificate.key_pkcs8_der));
        // This also refuses a key that is not the leaf's.
        let certified = CertifiedKey::from_der(chain, key, &self.provider)?;
        let mut config = server_config(&self.provider, certified)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if let Some(shared) = &self.ticketer {
            config.ticketer = Arc::new(BoundTicketer { shared: Arc::clone(shared), certificate: id });
        }
        config.send_tls13_tickets = 1;
        Ok(Loaded { config: Arc::new(config), leaf })
    }
}

impl Loaded {
    /// Whether the certificate is valid for `host`, in lower case.
    pub(crate) fn covers(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else { return false };
        ParsedCertificate::try_from(&self.leaf).is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
    }
}

/// A configuration without session storage: rustls would otherwise give each certificate a cache of its own.
pub(crate) fn server_config(provider: &Arc<CryptoProvider>, certified: CertifiedKey) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The edge's ticketer, with the certificate's id sealed into each ticket.
#[derive(Debug)]
struct BoundTicketer {
    shared: Arc<dyn ProducesTickets>,
    certificate: CertificateId,
}

impl ProducesTickets for BoundTicketer {
    fn enabled(&self) -> bool {
        self.shared.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.shared.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.shared.encrypt(&[plain, self.certificate.0.as_bytes()].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.shared.decrypt(cipher)?;
        let end = plain.len().checked_sub(16)?;
        if plain[end..] != self.certificate.0.as_bytes()[..] {
            return None;
        }
        plain.truncate(end);
        Some(plain)
    }
}

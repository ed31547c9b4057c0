//! Peers to dial: TLS servers that are right or wrong in one way each, and ones that are no TLS servers.

use crate::journal::{host, now};
use crate::stores::CaKeys;
use certwright_model::certificate::KeyType;
use certwright_model::ids::{DomainId, OrderId};
use certwright_model::record::{Order, OrderStage};
use certwright_providers::Outcome;
use certwright_providers::issuer::internal::{InternalConfig, InternalIssuer};
use certwright_providers::issuer::{IssueProgress, IssueRequest, Issued, Issuer, JournalError, OrderJournal, PublishedChallenge};
use certwright_providers::x509;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ResolvesServerCert, ResolvesServerCertUsingSni};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

struct NoJournal;

#[async_trait::async_trait]
impl OrderJournal for NoJournal {
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

pub async fn ca() -> InternalIssuer {
    InternalIssuer::open(InternalConfig::default(), &CaKeys::default(), now()).await.unwrap()
}

/// A certificate of the CA and its key.
pub async fn certify(ca: &InternalIssuer, names: &[&str], key_type: KeyType) -> (Issued, Vec<u8>) {
    let order = Order {
        id: OrderId(uuid::Uuid::nil()),
        domain_id: DomainId(uuid::Uuid::nil()),
        issuer: ca.name().to_owned(),
        stage: OrderStage::Intended,
        order_url: None,
        key_pkcs8_der: x509::key_pair(key_type).unwrap(),
        key_type,
        replaces: None,
        is_renewal: false,
        created_at: now(),
    };
    let key = order.key_pkcs8_der.clone();
    let request = IssueRequest { order, names: names.iter().map(|name| host(name)).collect(), lifetime_hint: None };
    match ca.issue(&request, &NoJournal, now(), tokio::time::Instant::now()).await {
        Outcome::Applied(IssueProgress::Issued(issued)) => (issued, key),
        other => panic!("{other:?}"),
    }
}

pub fn certified(chain_der: &[Vec<u8>], key_pkcs8_der: &[u8]) -> CertifiedKey {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_pkcs8_der.to_vec()));
    let chain = chain_der.iter().cloned().map(CertificateDer::from).collect();
    CertifiedKey::new(chain, rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap())
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Serves one certificate whatever the name is.
pub async fn serve(key: CertifiedKey) -> SocketAddr {
    serve_with(Arc::new(Always(Arc::new(key))), rustls::DEFAULT_VERSIONS).await
}

/// Serves only this protocol version.
pub async fn serve_version(key: CertifiedKey, version: &'static rustls::SupportedProtocolVersion) -> SocketAddr {
    serve_with(Arc::new(Always(Arc::new(key))), &[version]).await
}

/// Knows one name; refuses others with a fatal alert.
pub async fn serve_only(name: &str, key: CertifiedKey) -> SocketAddr {
    let mut names = ResolvesServerCertUsingSni::new();
    names.add(name, key).unwrap();
    serve_with(Arc::new(names), rustls::DEFAULT_VERSIONS).await
}

async fn serve_with(resolver: Arc<dyn ResolvesServerCert>, versions: &[&'static rustls::SupportedProtocolVersion]) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve_tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 1]).await;
            }
        }
    })
    .await
}

/// Answers a ClientHello with this, then closes.
pub async fn serve_bytes(reply: &'static [u8]) -> SocketAddr {
    serve_tcp(move |mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(reply).await;
        let _ = stream.shutdown().await;
    })
    .await
}

/// Accepts and says nothing, for ever.
pub async fn serve_silence() -> SocketAddr {
    serve_tcp(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await
    })
    .await
}

/// Sends RST: it closes with the ClientHello unread.
pub async fn serve_reset() -> SocketAddr {
    serve_tcp(|stream| async move {
        stream.readable().await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await
}

async fn serve_tcp<F, Fut>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

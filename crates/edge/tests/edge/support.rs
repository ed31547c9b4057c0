//! An edge on free ports with a source in memory, and clients that speak to it.

use async_trait::async_trait;
use bytes::Bytes;
use certwright_edge::{Edge, EdgeConfig, EdgeSource, SourceError};
use certwright_model::edge::{EdgeChange, EdgeEntry, EdgeRoute, ServingCertificate};
use certwright_model::hostname::Hostname;
use certwright_model::ids::CertificateId;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(crate) struct MemorySource {
    pub(crate) certificates: Mutex<HashMap<CertificateId, ServingCertificate>>,
    pub(crate) loads: AtomicUsize,
    pub(crate) load_takes: Mutex<Duration>,
    pub(crate) entries: Mutex<HashMap<Hostname, EdgeEntry>>,
    pub(crate) lookups: AtomicUsize,
    pub(crate) http01: Mutex<HashMap<(String, String), String>>,
    pub(crate) tls_alpn01: Mutex<HashMap<String, String>>,
    pub(crate) down: AtomicBool,
}

impl MemorySource {
    fn up(&self) -> Result<(), SourceError> {
        if self.down.load(SeqCst) { Err(SourceError("switched off".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl EdgeSource for MemorySource {
    async fn certificate(&self, id: CertificateId) -> Result<Option<ServingCertificate>, SourceError> {
        self.up()?;
        self.loads.fetch_add(1, SeqCst);
        let pause = *self.load_takes.lock().unwrap();
        tokio::time::sleep(pause).await;
        Ok(self.certificates.lock().unwrap().get(&id).cloned())
    }

    async fn lookup(&self, host: &Hostname) -> Result<Option<EdgeEntry>, SourceError> {
        self.up()?;
        self.lookups.fetch_add(1, SeqCst);
        Ok(self.entries.lock().unwrap().get(host).cloned())
    }

    async fn http01(&self, host: &Hostname, token: &str) -> Result<Option<String>, SourceError> {
        self.up()?;
        Ok(self.http01.lock().unwrap().get(&(host.to_string(), token.to_owned())).cloned())
    }

    async fn tls_alpn01(&self, host: &Hostname) -> Result<Option<String>, SourceError> {
        self.up()?;
        Ok(self.tls_alpn01.lock().unwrap().get(host.as_str()).cloned())
    }
}

pub(crate) struct TestEdge {
    pub(crate) edge: Arc<Edge>,
    pub(crate) source: Arc<MemorySource>,
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    pub(crate) sites: tempfile::TempDir,
    next_id: AtomicUsize,
}

impl TestEdge {
    pub(crate) async fn start(configure: impl FnOnce(&mut EdgeConfig)) -> Self {
        let sites = tempfile::tempdir().unwrap();
        let source = Arc::new(MemorySource::default());
        let mut config = EdgeConfig::new(sites.path());
        configure(&mut config);
        let edge = Edge::new(config, source.clone());
        edge.loaded();
        let https = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (https_at, http_at) = (https.local_addr().unwrap(), http.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(Arc::clone(&edge).serve(vec![https], vec![http], shutdown.clone()));
        Self { edge, source, https: https_at, http: http_at, shutdown, served, sites, next_id: AtomicUsize::new(1) }
    }

    /// A name with a new certificate for it.
    pub(crate) fn host(&self, name: &str, route: EdgeRoute) -> CertificateId {
        let id = self.certificate(&[name]);
        self.set(name, route, Some(id));
        id
    }

    pub(crate) fn set(&self, name: &str, route: EdgeRoute, certificate: Option<CertificateId>) {
        self.edge.apply([EdgeChange::Set(EdgeEntry { host: Hostname::parse(name).unwrap(), route, certificate })]);
    }

    pub(crate) fn certificate(&self, names: &[&str]) -> CertificateId {
        let id = CertificateId(uuid::Uuid::from_u128(self.next_id.fetch_add(1, SeqCst) as u128));
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let serving = ServingCertificate { chain_der: vec![made.cert.der().to_vec()], key_pkcs8_der: made.signing_key.serialize_der() };
        self.source.certificates.lock().unwrap().insert(id, serving);
        id
    }

    pub(crate) fn leaf(&self, id: CertificateId) -> Vec<u8> {
        self.source.certificates.lock().unwrap()[&id].chain_der[0].clone()
    }

    pub(crate) fn write(&self, site: &str, path: &str, content: impl AsRef<[u8]>) {
        let path = self.sites.path().join(site).join("v1").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) async fn dial(&self, name: &str) -> io::Result<TlsStream<TcpStream>> {
        dial(self.https, name, &client(&["http/1.1"])).await
    }

    /// One request on a new connection to `name`.
    pub(crate) async fn get(&self, name: &str, path: &str) -> Response<Bytes> {
        self.send(name, Request::get(path).header("host", name).body(Full::default()).unwrap()).await
    }

    pub(crate) async fn send(&self, name: &str, request: Request<Full<Bytes>>) -> Response<Bytes> {
        send_http1(self.dial(name).await.unwrap(), request).await
    }

    pub(crate) async fn plain(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        send_http1(TcpStream::connect(self.http).await.unwrap(), request).await
    }
}

pub(crate) fn files(site: &str) -> EdgeRoute {
    EdgeRoute::Files { site: site.into(), content: "v1".into() }
}

pub(crate) async fn dial(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), socket).await
}

pub(crate) async fn send_http1<IO>(io: IO, request: Request<Full<Bytes>>) -> Response<Bytes>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    collect(sender.send_request(request).await.unwrap()).await
}

pub(crate) async fn http2(stream: TlsStream<TcpStream>) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) async fn collect(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

pub(crate) fn header<'a, B>(response: &'a Response<B>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

pub(crate) fn client(alpn: &[&str]) -> Arc<ClientConfig> {
    Arc::new(client_config(alpn, &[&rustls::version::TLS13, &rustls::version::TLS12], Arc::new(AnyCertificate(provider()))))
}

pub(crate) fn client_config(
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
    verifier: Arc<dyn ServerCertVerifier>,
) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Trusts every chain, but checks that the server holds the leaf's key.
#[derive(Debug)]
pub(crate) struct AnyCertificate(pub(crate) Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Trusts everything: for certificates whose critical extensions no ordinary client knows.
#[derive(Debug)]
pub(crate) struct NothingChecked;

impl ServerCertVerifier for NothingChecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

//! What the benchmarks share: arguments, a TLS 1.3 client that does only what a load needs, percentiles.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

pub type AnyError = Box<dyn Error + Send + Sync>;

/// The value after `--name`, or the default.
pub fn argument<T>(name: &str, default: T) -> Result<T, AnyError>
where
    T: std::str::FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    match (arguments.next(), arguments.next()) {
        (None, _) => Ok(default),
        (Some(_), Some(value)) => Ok(value.parse()?),
        (Some(_), None) => Err(format!("{name} wants a value").into()),
    }
}

/// One thread is a runtime without any hand-over between threads.
pub fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, AnyError> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder.worker_threads(threads.max(1)).enable_all().build()?)
}

/// TLS 1.3, X25519 only, nothing resumed, nothing verified: the server's work is what is measured.
pub fn client() -> Result<Arc<ClientConfig>, AnyError> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NothingChecked))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Connects, shakes hands, waits until the server has hung up. The time is until the session stands.
pub async fn handshake(target: SocketAddr, name: String, config: &Arc<ClientConfig>) -> Result<Duration, AnyError> {
    let started = Instant::now();
    let socket = TcpStream::connect(target).await?;
    socket.set_nodelay(true)?;
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from(name)?, socket).await?;
    let elapsed = started.elapsed();
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    loop {
        match stream.read(&mut rest).await {
            Ok(0) => return Ok(elapsed),
            Ok(_) => {}
            // nginx hangs up without TLS's goodbye; an alert would be another kind of error.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return Ok(elapsed),
            Err(error) => return Err(error.into()),
        }
    }
}

/// In milliseconds; sorts.
pub fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

#[derive(Debug)]
struct NothingChecked;

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
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}

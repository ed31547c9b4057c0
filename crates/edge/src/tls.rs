//! From an accepted socket to a TLS session: reads the ClientHello, finds the name, loads its certificate, or refuses.
//!
//! Refusals carry the alert that says why: `unrecognized_name` for no SNI, an unknown name or one without a certificate;
//! `internal_error` when the source is down; `no_application_protocol` for an `acme-tls/1` that nobody waits for.

use crate::acme::{self, TLS_ALPN_01};
use crate::alert::{self, Alert};
use crate::connection::TlsFacts;
use crate::edge::Edge;
use crate::keys::LoadError;
use crate::stats::{HandshakeFailure, bump};
use certwright_model::hostname::Hostname;
use rustls::{HandshakeKind, ServerConfig};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::server::{StartHandshake, TlsStream};
use tokio_rustls::{LazyConfigAcceptor, rustls};

pub(crate) struct Session {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) facts: TlsFacts,
    pub(crate) is_http2: bool,
}

/// `None` when there is nothing more to do on this socket.
pub(crate) async fn accept(edge: &Edge, socket: TcpStream) -> Option<Session> {
    match tokio::time::timeout(edge.config.handshake_timeout, handshake(edge, socket)).await {
        Ok(Ok(session)) => session,
        Ok(Err(kind)) => {
            edge.counters.failed(kind);
            None
        }
        Err(_elapsed) => {
            edge.counters.failed(HandshakeFailure::Timeout);
            None
        }
    }
}

async fn handshake(edge: &Edge, socket: TcpStream) -> Result<Option<Session>, HandshakeFailure> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await.map_err(|error| not_a_hello(&error))?;
    let hello = start.client_hello();
    let wants_challenge = hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == TLS_ALPN_01));
    let Some(sni) = hello.server_name().map(str::to_ascii_lowercase) else {
        return refuse(edge, start, Alert::UnrecognizedName, HandshakeFailure::UnknownName).await;
    };
    let known = match edge.find(&sni).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, %sni, "a name could not be looked up");
            return refuse(edge, start, Alert::InternalError, HandshakeFailure::SourceDown).await;
        }
    };
    let Some(hit) = known else {
        return refuse(edge, start, Alert::UnrecognizedName, HandshakeFailure::UnknownName).await;
    };
    if wants_challenge {
        return answer_challenge(edge, start, &sni).await;
    }
    let Some(id) = hit.certificate else {
        return refuse(edge, start, Alert::UnrecognizedName, HandshakeFailure::UnknownName).await;
    };
    let certificate = match edge.keys.get(id, &*edge.source).await {
        Ok(certificate) => certificate,
        Err(error) => {
            tracing::warn!(%error, %sni, certificate = %id, "a certificate could not be loaded");
            let (alert, kind) = match *error {
                LoadError::Source(_) => (Alert::InternalError, HandshakeFailure::SourceDown),
                LoadError::Missing => (Alert::UnrecognizedName, HandshakeFailure::UnknownName),
                LoadError::Bad(_) => (Alert::InternalError, HandshakeFailure::BadCertificate),
            };
            return refuse(edge, start, alert, kind).await;
        }
    };
    let stream = finish(start, Arc::clone(&certificate.config)).await?;
    let (_, session) = stream.get_ref();
    bump(&edge.counters.handshakes_ok);
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        edge.counters.handshakes_resumed.fetch_add(1, Relaxed);
    }
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    Ok(Some(Session { stream, facts: TlsFacts { sni, certificate }, is_http2 }))
}

/// RFC 8737 section 3: the handshake is the whole answer; the connection is closed after it.
async fn answer_challenge(edge: &Edge, start: StartHandshake<TcpStream>, sni: &str) -> Result<Option<Session>, HandshakeFailure> {
    let key_authorization = match Hostname::parse(sni) {
        Ok(host) => edge.source.tls_alpn01(&host).await,
        Err(_) => Ok(None),
    };
    let config = match key_authorization {
        Ok(Some(key_authorization)) => acme::tls_alpn01_config(edge.keys.provider(), sni, &key_authorization),
        Ok(None) => return refuse(edge, start, Alert::NoApplicationProtocol, HandshakeFailure::NoProtocol).await,
        Err(error) => {
            tracing::warn!(%error, %sni, "a TLS-ALPN-01 challenge could not be looked up");
            return refuse(edge, start, Alert::InternalError, HandshakeFailure::SourceDown).await;
        }
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, %sni, "a TLS-ALPN-01 certificate could not be made");
            return refuse(edge, start, Alert::InternalError, HandshakeFailure::BadCertificate).await;
        }
    };
    let mut stream = finish(start, Arc::new(config)).await?;
    bump(&edge.counters.tls_alpn01_answered);
    // The validator has seen the certificate; whether it also hears the goodbye does not matter.
    let _ = stream.shutdown().await;
    Ok(None)
}

async fn finish(start: StartHandshake<TcpStream>, config: Arc<ServerConfig>) -> Result<TlsStream<TcpStream>, HandshakeFailure> {
    start.into_stream(config).await.map_err(|error| match tls_error(&error) {
        Some(rustls::Error::NoApplicationProtocol) => HandshakeFailure::NoProtocol,
        _ => HandshakeFailure::Client,
    })
}

/// Counts first, so that whoever hears the alert also finds it counted.
async fn refuse<T>(
    edge: &Edge,
    start: StartHandshake<TcpStream>,
    alert: Alert,
    kind: HandshakeFailure,
) -> Result<Option<T>, HandshakeFailure> {
    edge.counters.failed(kind);
    // A peer that does not take its alert, or does not hang up after it, gets no more than this.
    let _ = tokio::time::timeout(Duration::from_secs(2), alert::refuse(start.io, alert)).await;
    Ok(None)
}

fn not_a_hello(error: &io::Error) -> HandshakeFailure {
    match tls_error(error) {
        Some(rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. }) => HandshakeFailure::NotTls,
        _ => HandshakeFailure::Client,
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

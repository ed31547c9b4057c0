//! The two challenges that the edge answers: TLS-ALPN-01 (RFC 8737) and HTTP-01 (RFC 8555 section 8.3).
//!
//! It knows no challenge itself: the source has those that are live, and it asks anew each time.

use crate::body::{self, Response};
use crate::edge::Edge;
use crate::keys::server_config;
use crate::stats::bump;
use certwright_model::hostname::Hostname;
use http::{Method, StatusCode};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

pub(crate) const TLS_ALPN_01: &[u8] = b"acme-tls/1";
const HTTP_01_PATH: &str = "/.well-known/acme-challenge/";

/// The configuration that answers one TLS-ALPN-01 validation of `host`.
pub(crate) fn tls_alpn01_config(
    provider: &Arc<CryptoProvider>,
    host: &str,
    key_authorization: &str,
) -> Result<ServerConfig, ChallengeError> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key_authorization.as_bytes());
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()])?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest.as_ref())];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // A certificate with an unknown critical extension is right here and refused by `CertifiedKey::from_der`'s check.
    let signer = provider.key_provider.load_private_key(key)?;
    let certified = CertifiedKey::new(vec![certificate.der().clone()], signer);
    let mut config = server_config(provider, certified)?;
    config.alpn_protocols = vec![TLS_ALPN_01.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ChallengeError {
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The token of an HTTP-01 request, if `path` is one at all. A token that no CA would make is `Some("")`.
pub(crate) fn http01_token(path: &str) -> Option<&str> {
    let token = path.strip_prefix(HTTP_01_PATH)?;
    let is_base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    Some(if token.len() <= 256 && token.bytes().all(is_base64url) { token } else { "" })
}

pub(crate) async fn answer_http01(edge: &Edge, method: &Method, host: &str, token: &str) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return body::not_allowed("GET, HEAD");
    }
    let Ok(host) = Hostname::parse(host) else { return body::text(StatusCode::NOT_FOUND, "No such challenge.\n") };
    if token.is_empty() {
        return body::text(StatusCode::NOT_FOUND, "No such challenge.\n");
    }
    match edge.source.http01(&host, token).await {
        Ok(Some(key_authorization)) => {
            bump(&edge.counters.http01_answered);
            body::plain(StatusCode::OK, key_authorization)
        }
        Ok(None) => body::text(StatusCode::NOT_FOUND, "No such challenge.\n"),
        Err(error) => {
            tracing::warn!(%error, %host, "an HTTP-01 challenge could not be looked up");
            body::text(StatusCode::SERVICE_UNAVAILABLE, "Try again shortly.\n")
        }
    }
}

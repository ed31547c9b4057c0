//! Answers HTTP-01 and TLS-ALPN-01 as the edge does, from what the journal published.

use certwright_providers::issuer::{ChallengeKind, PublishedChallenge};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// `(kind, token or host)` to key authorization.
#[derive(Clone, Default)]
pub struct Answers(Arc<Mutex<HashMap<(ChallengeKind, String), String>>>);

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers")
    }
}

impl Answers {
    pub fn publish(&self, challenges: Vec<PublishedChallenge>) {
        let mut known = self.0.lock().unwrap();
        for challenge in challenges {
            let key = match challenge.kind {
                ChallengeKind::Http01 => challenge.token,
                ChallengeKind::TlsAlpn01 => challenge.host.to_string(),
            };
            known.insert((challenge.kind, key), challenge.key_authorization);
        }
    }

    fn get(&self, kind: ChallengeKind, key: &str) -> Option<String> {
        self.0.lock().unwrap().get(&(kind, key.to_owned())).cloned()
    }
}

pub struct Responder {
    pub answers: Answers,
    pub http_port: u16,
    pub tls_port: u16,
}

impl Responder {
    pub async fn start() -> Responder {
        let answers = Answers::default();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (http_port, tls_port) = (http.local_addr().unwrap().port(), tls.local_addr().unwrap().port());
        tokio::spawn(serve_http(http, answers.clone()));
        tokio::spawn(serve_tls(tls, answers.clone()));
        Responder { answers, http_port, tls_port }
    }
}

async fn serve_http(listener: TcpListener, answers: Answers) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let answers = answers.clone();
        tokio::spawn(async move {
            let mut text = Vec::new();
            while !text.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut buffer = [0; 1024];
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => text.extend_from_slice(&buffer[..count]),
                }
            }
            let text = String::from_utf8_lossy(&text).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let token = path.strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
            let reply = match answers.get(ChallengeKind::Http01, token) {
                Some(body) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()),
                None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
            };
            let _ = stream.write_all(reply.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

async fn serve_tls(listener: TcpListener, answers: Answers) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(AlpnChallenge(answers)));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.shutdown().await;
            }
        });
    }
}

#[derive(Debug)]
struct AlpnChallenge(Answers);

impl ResolvesServerCert for AlpnChallenge {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_owned();
        let authorization = self.0.get(ChallengeKind::TlsAlpn01, &name)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, authorization.as_bytes());
        let mut params = CertificateParams::new(vec![name]).ok()?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
        let key = KeyPair::generate().ok()?;
        let certificate = params.self_signed(&key).ok()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).ok()?;
        Some(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
    }
}

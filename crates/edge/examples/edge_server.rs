//! The edge alone, for benchmarks against other servers with the same certificates.
//!
//! `--certs DIR --names N --pattern 'n{}.bench.test' --threads 1 --listen ADDR`: name `i` shows `DIR/i.crt` (PEM, leaf
//! first) with `DIR/i.key` (PKCS#8), read on first use. One JSON line when it is ready; ends on Ctrl-C or SIGTERM.

#![allow(unreachable_pub, dead_code, missing_debug_implementations)]

mod support;

use async_trait::async_trait;
use certwright_edge::{Edge, EdgeConfig, EdgeSource, SourceError};
use certwright_model::edge::{EdgeChange, EdgeEntry, EdgeRoute, ServingCertificate};
use certwright_model::hostname::Hostname;
use certwright_model::ids::CertificateId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use support::{AnyError, argument, runtime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

struct Folder(PathBuf);

#[async_trait]
impl EdgeSource for Folder {
    async fn certificate(&self, id: CertificateId) -> Result<Option<ServingCertificate>, SourceError> {
        let stem = self.0.join(id.0.as_u128().to_string());
        let read = move || -> Result<ServingCertificate, rustls::pki_types::pem::Error> {
            let chain = CertificateDer::pem_file_iter(stem.with_extension("crt"))?.collect::<Result<Vec<_>, _>>()?;
            let key = PrivatePkcs8KeyDer::from_pem_file(stem.with_extension("key"))?;
            Ok(ServingCertificate {
                chain_der: chain.iter().map(|certificate| certificate.to_vec()).collect(),
                key_pkcs8_der: key.secret_pkcs8_der().to_vec(),
            })
        };
        read().map(Some).map_err(|error| SourceError(error.to_string()))
    }

    async fn lookup(&self, _host: &Hostname) -> Result<Option<EdgeEntry>, SourceError> {
        Ok(None)
    }

    async fn http01(&self, _host: &Hostname, _token: &str) -> Result<Option<String>, SourceError> {
        Ok(None)
    }

    async fn tls_alpn01(&self, _host: &Hostname) -> Result<Option<String>, SourceError> {
        Ok(None)
    }
}

fn main() -> Result<(), AnyError> {
    let started = Instant::now();
    let certificates: PathBuf = argument("--certs", PathBuf::from("."))?;
    let names: u128 = argument("--names", 10_000)?;
    let pattern: String = argument("--pattern", "n{}.bench.test".to_owned())?;
    let listen: SocketAddr = argument("--listen", SocketAddr::from(([127, 0, 0, 1], 8443)))?;
    runtime(argument("--threads", 1)?)?.block_on(async move {
        let edge = Edge::new(EdgeConfig::new(&certificates), Arc::new(Folder(certificates.clone())));
        let hosts = (0..names).map(|i| Hostname::parse(&pattern.replace("{}", &i.to_string())).map(|host| (i, host)));
        let entries = hosts.collect::<Result<Vec<_>, _>>()?.into_iter().map(|(i, host)| {
            let certificate = Some(CertificateId(Uuid::from_u128(i)));
            EdgeChange::Set(EdgeEntry { host, route: EdgeRoute::Nothing, certificate })
        });
        edge.apply(entries);
        edge.loaded();
        let listener = TcpListener::bind(listen).await?;
        println!(r#"{{"listening":"{}","names":{},"ready_ms":{}}}"#, listener.local_addr()?, edge.len(), started.elapsed().as_millis());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            stop.cancel();
        });
        edge.serve(vec![listener], vec![], shutdown).await;
        Ok(())
    })
}

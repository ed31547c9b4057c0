//! Chains: taken from the wire whatever they are, then judged against the trusted roots.
//!
//! Invariants: the handshake's signature is always verified, so a captured leaf's key was there; names are not judged here
//! (`model::wire::judge` does), and neither is revocation.

use super::ProbeError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;

/// Takes every chain, so that a wrong one can be seen; still wants proof that the peer holds the leaf's key.
#[derive(Debug)]
pub(super) struct AnyChain {
    provider: Arc<CryptoProvider>,
}

impl AnyChain {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }
}

impl ServerCertVerifier for AnyChain {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The roots, parsed once.
#[derive(Debug)]
pub(super) struct Trust {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    pub(super) fn new(system: bool, extra_der: &[Vec<u8>]) -> Result<Self, ProbeError> {
        let roots = crate::tls::roots(system, &[]);
        let algorithms = crate::tls::crypto().signature_verification_algorithms;
        Self { roots, algorithms }.with(extra_der)
    }

    pub(super) fn with(&self, extra_der: &[Vec<u8>]) -> Result<Self, ProbeError> {
        let mut roots = self.roots.clone();
        for der in extra_der {
            roots.add(CertificateDer::from(der.as_slice())).map_err(|error| ProbeError::Root(error.to_string()))?;
        }
        Ok(Self { roots, algorithms: self.algorithms })
    }

    /// What is wrong with the chain, in words; `None` where it verifies at `now`.
    pub(super) fn problem(&self, chain: &[CertificateDer<'_>], now: jiff::Timestamp) -> Option<String> {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0)));
        let (leaf, above) = chain.split_first()?;
        let verified = ParsedCertificate::try_from(leaf)
            .and_then(|leaf| verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, above, now, self.algorithms.all));
        verified.err().map(|error| in_words(&error, chain.len()))
    }
}

fn in_words(error: &Error, length: usize) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) if length == 1 => {
            "no trusted issuer; the server sends the leaf alone, without the intermediate".into()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => "no trusted issuer".into(),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => "expired".into(),
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => "not valid yet".into(),
        other => other.to_string(),
    }
}

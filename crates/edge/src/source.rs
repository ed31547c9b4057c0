//! What the edge asks of the rest of the house: certificates on first use, challenge answers, names while it starts.

use async_trait::async_trait;
use certwright_model::edge::{EdgeEntry, ServingCertificate};
use certwright_model::hostname::Hostname;
use certwright_model::ids::CertificateId;

/// The source could not answer. "There is none" is `Ok(None)`, never this.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the edge's source did not answer: {0}")]
pub struct SourceError(pub String);

#[async_trait]
pub trait EdgeSource: Send + Sync + 'static {
    /// The chain and key of a certificate. Asked once for any number of handshakes that wait for it.
    async fn certificate(&self, id: CertificateId) -> Result<Option<ServingCertificate>, SourceError>;

    /// The entry that answers for `host`, or for the wildcard over it. Asked only while the index is still loading.
    async fn lookup(&self, host: &Hostname) -> Result<Option<EdgeEntry>, SourceError>;

    /// The key authorization of a live HTTP-01 challenge (RFC 8555 section 8.3).
    async fn http01(&self, host: &Hostname, token: &str) -> Result<Option<String>, SourceError>;

    /// The key authorization of a live TLS-ALPN-01 challenge (RFC 8737).
    async fn tls_alpn01(&self, host: &Hostname) -> Result<Option<String>, SourceError>;
}

//! What the edge is told: names, where each goes, which certificate it shows. Derived whole from the database.

use crate::hostname::Hostname;
use crate::ids::CertificateId;
use serde::{Deserialize, Serialize};

/// One name of the edge's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeEntry {
    pub host: Hostname,
    pub route: EdgeRoute,
    /// The certificate to show. Without one, the name answers ACME challenges only.
    pub certificate: Option<CertificateId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum EdgeRoute {
    /// Files of a site: `<sites_dir>/<site>/<content>`.
    Files { site: String, content: String },
    /// `http://host:port`
    Proxy { upstream: String },
    /// Known, but nothing to serve yet.
    Nothing,
}

/// A change of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeChange {
    Set(EdgeEntry),
    Remove(Hostname),
}

/// A chain and its key, as the edge loads them: DER, leaf first; PKCS#8.
#[derive(Clone)]
pub struct ServingCertificate {
    pub chain_der: Vec<Vec<u8>>,
    pub key_pkcs8_der: Vec<u8>,
}

impl std::fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServingCertificate({} certificates)", self.chain_der.len())
    }
}

//! What every TLS client of this crate shares: the crypto provider and the system's roots.

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use std::sync::Arc;

/// X25519 first: one round trip with every server, and the cheapest. Explicit, so that no process-wide default is needed.
pub(crate) fn crypto() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519};
    Arc::new(CryptoProvider { kx_groups: vec![X25519, SECP256R1, SECP384R1], ..aws_lc_rs::default_provider() })
}

/// The operating system's roots and these. Roots that cannot be read are left out: a store may hold old oddities.
pub(crate) fn roots(system: bool, extra: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    if system {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    store.add_parsable_certificates(extra.iter().cloned());
    store
}

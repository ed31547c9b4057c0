//! Counters of the data plane, and the snapshot that others read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a TLS handshake ended without a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    /// No SNI, a name outside the index, or a name without a certificate.
    UnknownName,
    /// The source did not answer.
    SourceDown,
    /// The certificate and key do not load.
    BadCertificate,
    /// `acme-tls/1` without a live challenge, or no protocol in common.
    NoProtocol,
    /// The first octets were not a ClientHello.
    NotTls,
    Timeout,
    /// The client went away or sent an alert, or had no version, cipher or group in common.
    Client,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeFailures {
    pub unknown_name: u64,
    pub source_down: u64,
    pub bad_certificate: u64,
    pub no_protocol: u64,
    pub not_tls: u64,
    pub timeout: u64,
    pub client: u64,
}

/// Totals since the edge was made, except where a field says "now".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeStats {
    pub names_now: u64,
    pub connections_now: u64,
    pub connections: u64,
    pub accept_errors: u64,
    pub handshakes_ok: u64,
    pub handshakes_resumed: u64,
    pub handshakes_failed: HandshakeFailures,
    /// `acme-tls/1` handshakes answered.
    pub tls_alpn01_answered: u64,
    pub http01_answered: u64,
    pub requests: u64,
    /// Octets of response bodies.
    pub body_bytes: u64,
    pub certificates_cached_now: u64,
    pub certificate_hits: u64,
    pub certificate_misses: u64,
    pub certificate_evictions: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections_now: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    pub(crate) handshakes_ok: AtomicU64,
    pub(crate) handshakes_resumed: AtomicU64,
    pub(crate) tls_alpn01_answered: AtomicU64,
    pub(crate) http01_answered: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) body_bytes: AtomicU64,
    failures: [AtomicU64; 7],
}

impl Counters {
    pub(crate) fn failed(&self, kind: HandshakeFailure) {
        bump(&self.failures[kind as usize]);
    }

    /// Everything that the counters know; the index and the cache add their own.
    pub(crate) fn snapshot(&self) -> EdgeStats {
        use HandshakeFailure::*;
        let failures = |kind: HandshakeFailure| self.failures[kind as usize].load(Relaxed);
        EdgeStats {
            connections_now: self.connections_now.load(Relaxed),
            connections: self.connections.load(Relaxed),
            accept_errors: self.accept_errors.load(Relaxed),
            handshakes_ok: self.handshakes_ok.load(Relaxed),
            handshakes_resumed: self.handshakes_resumed.load(Relaxed),
            handshakes_failed: HandshakeFailures {
                unknown_name: failures(UnknownName),
                source_down: failures(SourceDown),
                bad_certificate: failures(BadCertificate),
                no_protocol: failures(NoProtocol),
                not_tls: failures(NotTls),
                timeout: failures(Timeout),
                client: failures(Client),
            },
            tls_alpn01_answered: self.tls_alpn01_answered.load(Relaxed),
            http01_answered: self.http01_answered.load(Relaxed),
            requests: self.requests.load(Relaxed),
            body_bytes: self.body_bytes.load(Relaxed),
            ..EdgeStats::default()
        }
    }
}

pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

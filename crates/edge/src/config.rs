//! What an operator may set. It holds no addresses: listeners are given to [`crate::serve`].

use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Where the files of sites lie: `<sites_dir>/<site>/<content>`.
    pub sites_dir: PathBuf,
    /// How many certificates with their keys are kept ready.
    pub certificate_cache: u64,
    /// From accept until the TLS session stands.
    pub handshake_timeout: Duration,
    /// From the start of a connection, or the first octet of a request, until its header is complete.
    pub header_timeout: Duration,
    /// A connection without a request, or one that does not take or give its body, is closed after this.
    pub idle_timeout: Duration,
    pub upstream_connect_timeout: Duration,
    /// From the last octet of the request until the header of the response.
    pub upstream_response_timeout: Duration,
    /// Octets of a request's header; at least 8192.
    pub max_header_bytes: usize,
    /// How long live requests may go on after shutdown was asked for.
    pub drain_timeout: Duration,
    /// The port that clients reach the HTTPS listener by, for redirects.
    pub https_port_for_redirect: u16,
    /// One event with the target `access` for each request.
    pub access_log: bool,
    /// Connections served at once, HTTP and HTTPS together; more wait in the listener's backlog.
    pub max_connections: usize,
    /// Whether HTTPS responses carry `Strict-Transport-Security` for one year.
    pub hsts: bool,
}

impl EdgeConfig {
    /// The defaults, for files under `sites_dir`.
    pub fn new(sites_dir: impl Into<PathBuf>) -> Self {
        Self {
            sites_dir: sites_dir.into(),
            certificate_cache: 20_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(75),
            upstream_connect_timeout: Duration::from_secs(5),
            upstream_response_timeout: Duration::from_secs(60),
            max_header_bytes: 64 * 1024,
            drain_timeout: Duration::from_secs(30),
            https_port_for_redirect: 443,
            access_log: false,
            max_connections: 20_000,
            hsts: false,
        }
    }
}

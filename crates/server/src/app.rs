//! What the handlers share: the engine, the limits, and the word to stop.

use crate::provenance::SourceKeys;
use certwright_engine::Engine;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Limits of the API. [`ServerConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Uploads lie here until they are unpacked. Created when it is absent.
    pub upload_dir: PathBuf,
    /// The longest JSON body; ten times as much for the bulk call.
    pub max_body_bytes: usize,
    /// The longest upload, all parts together.
    pub max_upload_bytes: u64,
    /// Domains in one bulk call.
    pub bulk_limit: usize,
    /// Requests worked on at once; one more is answered 503.
    pub max_in_flight: usize,
    /// Callers that wait for an outcome (`?wait=`), and as many that follow a job. One more is answered at once.
    pub max_waiting: usize,
    /// Connections open at once.
    pub max_connections: usize,
    pub events: EventConfig,
    /// A request's head, a whole JSON body, and each pause within an upload may take this long.
    pub read_timeout: Duration,
}

impl ServerConfig {
    pub fn new(upload_dir: PathBuf) -> Self {
        Self {
            upload_dir,
            max_body_bytes: 1 << 20,
            max_upload_bytes: 256 << 20,
            bulk_limit: 10_000,
            max_in_flight: 512,
            max_waiting: 256,
            max_connections: 4096,
            events: EventConfig::default(),
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// Who may report certificate events. The default is nobody.
#[derive(Clone, Debug)]
pub struct EventConfig {
    /// Of `CERT_EVENT_INGEST_TOKEN`; API tokens of the role `ingest` are taken as well.
    pub token_sha256: Option<[u8; 32]>,
    /// `CERT_EVENT_SOURCE_KEYS`; provenance is asked for as soon as there is one.
    pub source_keys: SourceKeys,
    /// `CERT_EVENT_MAX_AGE_SECONDS`.
    pub max_age_seconds: i64,
    /// The longest event.
    pub max_body_bytes: usize,
}

impl Default for EventConfig {
    fn default() -> Self {
        Self { token_sha256: None, source_keys: SourceKeys::default(), max_age_seconds: 300, max_body_bytes: 64 << 10 }
    }
}

impl EventConfig {
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self { token_sha256: Some(crate::gate::sha256(token.as_bytes())), ..self }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub(crate) engine: Engine,
    pub(crate) config: Arc<ServerConfig>,
    /// The root certificate of the internal CA, where there is one.
    pub(crate) root_pem: Option<Arc<str>>,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) waiting: Arc<Semaphore>,
    pub(crate) following: Arc<Semaphore>,
    /// Ends what would go on for long: waits and event streams.
    pub(crate) stopping: CancellationToken,
}

impl App {
    pub fn new(engine: Engine, config: ServerConfig) -> Self {
        Self {
            engine,
            in_flight: Arc::new(Semaphore::new(config.max_in_flight)),
            waiting: Arc::new(Semaphore::new(config.max_waiting)),
            following: Arc::new(Semaphore::new(config.max_waiting)),
            config: Arc::new(config),
            root_pem: None,
            stopping: CancellationToken::new(),
        }
    }

    /// `GET /v1/ca/root.pem` answers with this.
    pub fn with_root(mut self, pem: &str) -> Self {
        self.root_pem = Some(pem.into());
        self
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}

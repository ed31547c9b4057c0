//! The edge as others hold it: told of changes, asked what it knows, counted.

use crate::config::EdgeConfig;
use crate::index::{Hit, Index};
use crate::keys::Keys;
use crate::proxy::Proxy;
use crate::source::{EdgeSource, SourceError};
use crate::stats::{Counters, EdgeStats};
use certwright_model::edge::{EdgeChange, EdgeEntry};
use certwright_model::hostname::Hostname;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub struct Edge {
    pub(crate) config: EdgeConfig,
    pub(crate) source: Arc<dyn EdgeSource>,
    pub(crate) keys: Keys,
    pub(crate) proxy: Proxy,
    pub(crate) counters: Counters,
    index: Index,
    loaded: AtomicBool,
}

impl Edge {
    pub fn new(config: EdgeConfig, source: Arc<dyn EdgeSource>) -> Arc<Self> {
        Arc::new(Self {
            keys: Keys::new(config.certificate_cache),
            proxy: Proxy::new(&config),
            counters: Counters::default(),
            index: Index::new(),
            loaded: AtomicBool::new(false),
            config,
            source,
        })
    }

    /// Changes the index, in order. New handshakes and requests see it at once.
    pub fn apply(&self, changes: impl IntoIterator<Item = EdgeChange>) {
        self.index.apply(changes);
    }

    /// Says that the whole index is there: from now on a name outside it is refused without asking the source.
    pub fn loaded(&self) {
        self.loaded.store(true, Ordering::Release);
    }

    /// The entry that answers for `host`: its own, or the wildcard's over it.
    pub fn knows(&self, host: &Hostname) -> Option<EdgeEntry> {
        self.index.entry(host)
    }

    /// How many names the index holds.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn stats(&self) -> EdgeStats {
        let mut stats = self.counters.snapshot();
        stats.names_now = self.len() as u64;
        self.keys.add_to(&mut stats);
        stats
    }

    /// `name` in lower case, as it stands in a ClientHello or a Host header.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Hit>, SourceError> {
        if let Some(hit) = self.index.find(name) {
            return Ok(Some(hit));
        }
        if self.loaded.load(Ordering::Acquire) {
            return Ok(None);
        }
        let Ok(host) = Hostname::parse(name) else { return Ok(None) };
        Ok(self.source.lookup(&host).await?.map(Index::loose))
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("names", &self.len()).field("config", &self.config).finish_non_exhaustive()
    }
}

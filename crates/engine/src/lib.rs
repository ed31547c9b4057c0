//! The loops: they load what is due, ask the model what to do, have a provider do it, and store what was seen.
//!
//! Invariants: only [`certwright_model::planner`] decides; every effect happens under a fenced lease; intent is stored
//! before an effect and the observation after it; success only after a look from outside. The engine knows no SQL and no HTTP.

pub mod adapters;
pub mod clock;
pub mod content;
mod domain_steps;
pub mod edge_link;
mod gate;
pub mod inspect;
pub mod intake;
mod reconciler;
pub mod requests;
mod site_steps;
pub mod status;

use certwright_edge::Edge;
use certwright_model::ids::{DomainId, NodeId, SiteId};
use certwright_model::planner::Policy;
use certwright_providers::dns::Resolver;
use certwright_providers::issuer::Issuer;
use certwright_providers::probe::Prober;
use certwright_store::Store;
use clock::Clock;
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{RwLock, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use reconciler::Running;

/// What the loops need to know of their surroundings.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The same over restarts, and never of two processes at once: what it held when it died, it takes up at once.
    pub node: NodeId,
    /// Default domains are `<site>.<base_domain>`.
    pub base_domain: String,
    pub policy: Policy,
    /// Static content: `<sites_dir>/<site>/<version>/…`
    pub sites_dir: PathBuf,
    /// Where the edge listens, as this process can dial it; `None` when it can be reached through DNS alone.
    pub edge_address: Option<SocketAddr>,
    /// The port customers dial at the addresses that DNS gives.
    pub public_https_port: u16,
    /// A crashed node's work comes back after this long.
    pub lease: SignedDuration,
    /// Domains worked on at once.
    pub in_flight: usize,
    /// Orders under way at one CA at once.
    pub issuer_in_flight: usize,
    /// How long one look at an order may take before it is put aside; shorter than the lease.
    pub issue_deadline: Duration,
    /// Certificate events.
    pub intake: intake::IntakeConfig,
    /// The periodic scan, for wake-ups that were lost or came from another node.
    pub scan_every: Duration,
}

impl EngineConfig {
    pub fn new(node: NodeId, base_domain: impl Into<String>, policy: Policy, sites_dir: PathBuf) -> Self {
        Self {
            node,
            base_domain: base_domain.into(),
            policy,
            sites_dir,
            edge_address: None,
            public_https_port: 443,
            lease: SignedDuration::from_secs(120),
            in_flight: 256,
            issuer_in_flight: 16,
            issue_deadline: Duration::from_secs(60),
            intake: intake::IntakeConfig::default(),
            scan_every: Duration::from_secs(1),
        }
    }
}

/// Called with a step's name and `true` before it, `false` after it. Tests kill the process here.
pub type StepHook = Arc<dyn Fn(&str, bool) + Send + Sync>;

/// The parts an engine is put together from.
pub struct Parts {
    pub config: EngineConfig,
    pub store: Store,
    pub issuers: Vec<Arc<dyn Issuer>>,
    pub prober: Prober,
    pub resolver: Resolver,
    /// The built-in edge of this process, if it has one.
    pub edge: Option<Arc<Edge>>,
    pub clock: Clock,
    pub step_hook: Option<StepHook>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Something about this domain or site was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Site(SiteId),
    Domain(DomainId, Option<SiteId>),
}

/// The engine: cheap to clone, shared by the loops and by request handlers.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: EngineConfig,
    pub store: Store,
    pub issuers: BTreeMap<String, Arc<dyn Issuer>>,
    pub prober: Prober,
    pub resolver: Resolver,
    pub edge: Option<Arc<Edge>>,
    pub clock: Clock,
    pub hook: Option<StepHook>,
    pub gate: gate::Gate,
    pub intake: intake::Intake,
    pub changes: broadcast::Sender<Changed>,
    pub status: status::Board,
    /// Held for reading while a change is stored and applied to the edge, for writing while the feed reads and applies:
    /// so the feed can never put an older entry over a newer one.
    pub edge_order: RwLock<()>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Engine {
    pub fn new(parts: Parts) -> Self {
        let issuers: BTreeMap<String, Arc<dyn Issuer>> =
            parts.issuers.into_iter().map(|issuer| (issuer.name().to_owned(), issuer)).collect();
        let gate = gate::Gate::new(parts.store.clone(), parts.clock.clone(), issuers.values(), parts.config.issuer_in_flight);
        let inner = Inner {
            gate,
            intake: intake::Intake::new(parts.config.intake),
            issuers,
            config: parts.config,
            store: parts.store,
            prober: parts.prober,
            resolver: parts.resolver,
            edge: parts.edge,
            clock: parts.clock,
            hook: parts.step_hook,
            changes: broadcast::channel(4096).0,
            status: status::Board::default(),
            edge_order: RwLock::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    pub fn issuers(&self) -> impl Iterator<Item = &Arc<dyn Issuer>> {
        self.inner.issuers.values()
    }

    pub fn edge(&self) -> Option<&Arc<Edge>> {
        self.inner.edge.as_ref()
    }

    pub fn prober(&self) -> &Prober {
        &self.inner.prober
    }

    pub fn resolver(&self) -> &Resolver {
        &self.inner.resolver
    }

    /// What the loops last did.
    pub fn status(&self) -> &status::Board {
        &self.inner.status
    }

    /// Hears of everything that this process stores. A receiver that lags has to look again.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.inner.changes.subscribe()
    }

    /// Starts the loops. They stop when [`Running::stop`] is called; work under way ends first.
    pub fn start(&self) -> Running {
        let (token, tracker) = (CancellationToken::new(), TaskTracker::new());
        if let Err(error) = content::sweep(&self.inner.config.sites_dir) {
            tracing::warn!(%error, "unfinished uploads could not be removed");
        }
        reconciler::spawn(self, &token, &tracker);
        intake::spawn(self, &token, &tracker);
        if let Some(edge) = &self.inner.edge {
            edge_link::spawn(self, edge.clone(), &token, &tracker);
        }
        tracker.close();
        Running::new(token, tracker)
    }

    pub(crate) fn hook(&self, step: &str, before: bool) {
        if let Some(hook) = &self.inner.hook {
            hook(step, before);
        }
    }

    pub(crate) fn announce(&self, changed: Changed) {
        // Nobody listening is fine.
        let _ = self.inner.changes.send(changed);
    }
}

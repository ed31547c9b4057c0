//! An instance that serves: edge, loops, API and metrics, from start to drain.
//!
//! Invariants: the edge drains before the store closes; a part that ends by itself ends the instance with an error; what
//! client commands need (`server.json`, `admin.token`, `root.pem`) lies in the data folder while it runs.

use crate::compose::{self, Instance, Listeners};
use crate::node::Node;
use crate::private_file;
use crate::settings::Settings;
use anyhow::{Context, anyhow};
use certwright_engine::clock::Clock;
use certwright_engine::{Engine, Running as Loops, StepHook};
use certwright_server::AdminTokenError;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LOOPS_PATIENCE: Duration = Duration::from_secs(15);
pub(crate) const SERVER_FILE: &str = "server.json";
pub(crate) const TOKEN_FILE: &str = "admin.token";
pub(crate) const ROOT_FILE: &str = "root.pem";

/// How client commands find the server.
#[derive(Serialize, Deserialize)]
pub(crate) struct ServerFile {
    pub(crate) url: String,
    pub(crate) pid: u32,
}

/// Where it listens, as it turned out.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) api: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

pub(crate) struct Running {
    pub(crate) engine: Engine,
    pub(crate) addresses: Addresses,
    data_dir: PathBuf,
    _node: Node,
    loops: Loops,
    stop: CancellationToken,
    edge: JoinHandle<()>,
    api: JoinHandle<std::io::Result<()>>,
    metrics: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(crate) async fn start(settings: &Settings, hook: Option<StepHook>) -> anyhow::Result<Self> {
        compose::prepare_data_dir(&settings.table.data_dir)?;
        let listeners = Listeners::bind(&settings.table).await?;
        Self::start_on(settings, listeners, hook).await
    }

    pub(crate) async fn start_on(settings: &Settings, listeners: Listeners, hook: Option<StepHook>) -> anyhow::Result<Self> {
        let addresses = Addresses {
            api: listeners.api.local_addr()?,
            http: listeners.http.local_addr()?,
            https: listeners.https.local_addr()?,
            metrics: listeners.metrics.local_addr()?,
        };
        let data_dir = settings.table.data_dir.clone();
        let clock = Clock::system();
        let node = Node::take(&data_dir, &clock)?;
        let Instance { engine, edge, app, root_pem } = compose::build(settings, clock, node.id, Some(addresses.https), hook).await?;
        admin_token(&engine, &data_dir.join(TOKEN_FILE)).await?;
        let stop = CancellationToken::new();
        let edge = tokio::spawn(edge.serve(vec![listeners.https], vec![listeners.http], stop.clone()));
        let loops = engine.start();
        let api = tokio::spawn(certwright_server::serve(listeners.api, app.clone(), stop.clone()));
        let metrics = tokio::spawn(certwright_server::serve_metrics(listeners.metrics, app, stop.clone()));
        let server = ServerFile { url: format!("http://{}", reachable(addresses.api)), pid: std::process::id() };
        private_file::write(&data_dir.join(SERVER_FILE), &serde_json::to_vec(&server)?)?;
        private_file::write_public(&data_dir.join(ROOT_FILE), root_pem.as_bytes())?;
        Ok(Self { engine, addresses, data_dir, _node: node, loops, stop, edge, api, metrics })
    }

    /// Returns when a part ended that should not have: the reason.
    pub(crate) async fn broken(&mut self) -> anyhow::Error {
        let of_task = |name: &str, ended: Result<std::io::Result<()>, tokio::task::JoinError>| match ended {
            Ok(Err(error)) => anyhow!("the {name} ended: {error}"),
            _ => anyhow!("the {name} ended unexpectedly"),
        };
        tokio::select! {
            ended = &mut self.edge => of_task("edge", ended.map(Ok)),
            ended = &mut self.api => of_task("API", ended),
            ended = &mut self.metrics => of_task("metrics page", ended),
        }
    }

    /// Drains: no new connections, live requests end, work under way ends, the store closes.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.loops.stop(LOOPS_PATIENCE).await;
        // A part that failed has been told of already.
        let _ = tokio::join!(self.edge, self.api, self.metrics);
        self.engine.store().close().await;
        let file = self.data_dir.join(SERVER_FILE);
        let ours = read_server_file(&file).is_ok_and(|server| server.pid == std::process::id());
        if ours {
            let _ = std::fs::remove_file(file);
        }
    }
}

pub(crate) fn read_server_file(path: &Path) -> anyhow::Result<ServerFile> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} cannot be understood", path.display()))
}

async fn admin_token(engine: &Engine, path: &Path) -> anyhow::Result<()> {
    match certwright_server::ensure_admin_token(engine, path).await {
        Ok(_) => Ok(()),
        Err(error @ (AdminTokenError::Lost(_) | AdminTokenError::Stale(_))) => {
            tracing::warn!("{error}");
            Ok(())
        }
        Err(error) => Err(error).context("the administrator's token"),
    }
}

/// A listener on every address can be called on loopback.
fn reachable(listening: SocketAddr) -> SocketAddr {
    match listening {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (std::net::Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

/// Waits for SIGINT or SIGTERM. After the first, a second one ends the process at once.
pub(crate) async fn stop_asked() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        std::process::exit(130);
    });
    Ok(())
}

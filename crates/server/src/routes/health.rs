//! What anybody may ask: whether the server works, and the root certificate of its internal CA.

use crate::App;
use crate::problem::{Kind, Problem};
use crate::wire::admin::{Backlog, Health, HealthWord, LoopHealth, StoreHealth};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use certwright_store::Stats;
use http::{StatusCode, header};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// The loops that scan periodically, whether or not there is anything to do.
const SCANNING: [&str; 2] = ["domains", "sites"];
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// Whether the server works.
#[utoipa::path(get, path = "/api/health", tag = "server",
    responses((status = 200, description = "Working, or just starting", body = Health), (status = 503, description = "Not working", body = Health)))]
pub(crate) async fn health(State(app): State<App>) -> Response {
    let now = app.engine.clock().now();
    let stats = timeout(STORE_PATIENCE, app.engine.store().stats(now)).await.ok().and_then(Result::ok);
    let loops = loops(&app, now);
    let status = match (&stats, loops.is_empty(), loops.values().all(|one| one.ok)) {
        (None, ..) => HealthWord::Down,
        (_, true, _) => HealthWord::Starting,
        (_, _, false) => HealthWord::Stalled,
        (_, _, true) => HealthWord::Ok,
    };
    let ok = matches!(status, HealthWord::Ok | HealthWord::Starting);
    let code = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Health {
        ok,
        status,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: StoreHealth { ok: stats.is_some(), backend: app.engine.store().backend_name().to_owned() },
        loops,
        backlog: stats.map(|stats| backlog(&stats, now)),
    };
    (code, Json(body)).into_response()
}

/// A loop that scans has stalled when it has not run for two leases: by then another node does its work.
fn loops(app: &App, now: Timestamp) -> BTreeMap<String, LoopHealth> {
    let longest = app.engine.config().lease * 2;
    let board = app.engine.status().snapshot().into_iter();
    let health = board.map(|(name, status)| {
        let fresh = status.last_run_at.is_some_and(|at| now.duration_since(at) <= longest);
        (name.to_owned(), LoopHealth { ok: fresh || !SCANNING.contains(&name), last_run_at: status.last_run_at })
    });
    health.collect()
}

pub(crate) fn backlog(stats: &Stats, now: Timestamp) -> Backlog {
    let age = stats.oldest_due.map_or(0, |at| now.duration_since(at).as_secs().max(0));
    Backlog {
        due_domains: stats.due_domains,
        due_sites: stats.due_sites,
        open_jobs: stats.open_jobs,
        oldest_due_seconds: u64::try_from(age).unwrap_or(0),
    }
}

/// The root certificate of the internal CA, to be trusted by clients.
#[utoipa::path(get, path = "/v1/ca/root.pem", tag = "server",
    responses((status = 200, description = "PEM", body = String, content_type = "application/pem-certificate-chain")))]
pub(crate) async fn root_pem(State(app): State<App>) -> Result<Response, Problem> {
    let pem = app.root_pem.as_deref().ok_or_else(|| Problem::new(Kind::NotFound, "this server has no internal CA"))?;
    Ok(([(header::CONTENT_TYPE, "application/pem-certificate-chain")], pem.to_owned()).into_response())
}

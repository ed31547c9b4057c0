//! Connections: accepted, bounded in number and in patience, and ended in order.
//!
//! Nagle's algorithm is off; a head that does not arrive in time closes its connection; on shutdown no connection is
//! accepted any more and those that are open finish what they are doing.

use crate::{App, metrics, routes, upload};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const DRAIN: Duration = Duration::from_secs(10);

/// Serves the API and the dashboard until `shutdown`; then waits up to 10 seconds for requests under way.
pub async fn serve(listener: TcpListener, mut app: App, shutdown: CancellationToken) -> io::Result<()> {
    // A child: what ends with the server must not end the one who gave the word.
    app.stopping = shutdown.child_token();
    upload::sweep(&app.config.upload_dir).await;
    let (config, router) = (app.config.clone(), routes::router(app));
    accept(listener, router, config.max_connections, config.read_timeout, shutdown).await
}

/// Serves `/metrics`, to anybody who can reach the port: it holds counts, no names.
pub async fn serve_metrics(listener: TcpListener, app: App, shutdown: CancellationToken) -> io::Result<()> {
    let read_timeout = app.config.read_timeout;
    accept(listener, metrics::router(app), 64, read_timeout, shutdown).await
}

async fn accept(listener: TcpListener, router: Router, most: usize, read_timeout: Duration, shutdown: CancellationToken) -> io::Result<()> {
    let (graceful, slots) = (GracefulShutdown::new(), Arc::new(Semaphore::new(most)));
    let service = TowerToHyperService::new(router);
    loop {
        // Beyond the limit connections wait in the listener's own queue.
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot.map_err(io::Error::other)?,
            () = shutdown.cancelled() => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of file descriptors, for one: it passes when another connection ends.
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let connection = connection(stream, service.clone(), read_timeout);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // The client went away, or was too slow: nothing that anybody has to act on.
            let _ = connection.await;
            drop(slot);
        });
    }
    drop(listener);
    let _ = timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

type Connection = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, service: TowerToHyperService<Router>, read_timeout: Duration) -> Connection {
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(read_timeout).max_buf_size(64 << 10);
    builder.serve_connection(TokioIo::new(stream), service)
}

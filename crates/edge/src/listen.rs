//! Listeners, from bind to drain: accepts within the connection limit, spawns one task for each connection, and ends them.
//!
//! A failed accept (no file descriptors left, say) waits instead of spinning. A panic ends its own connection alone.

use crate::connection::{Activity, Connection, Ends, Slot, TlsFacts, Watched, drive};
use crate::edge::Edge;
use crate::handler;
use crate::stats::bump;
use crate::tls;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(Clone, Copy)]
enum Port {
    Https,
    Http,
}

/// What the tasks of one `serve` share.
#[derive(Clone)]
struct Run {
    edge: Arc<Edge>,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    shutdown: CancellationToken,
    abort: CancellationToken,
}

impl Edge {
    /// Serves until `shutdown` is cancelled; then stops accepting, lets live requests end (`Connection: close`, GOAWAY)
    /// for at most the drain timeout, and returns when the last connection is gone.
    pub async fn serve(self: Arc<Self>, https: Vec<TcpListener>, http: Vec<TcpListener>, shutdown: CancellationToken) {
        let run = Run {
            permits: Arc::new(Semaphore::new(self.config.max_connections.min(Semaphore::MAX_PERMITS))),
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
            shutdown,
            edge: self,
        };
        let listeners =
            https.into_iter().map(|listener| (listener, Port::Https)).chain(http.into_iter().map(|listener| (listener, Port::Http)));
        for (listener, port) in listeners {
            run.tasks.spawn(accept_loop(run.clone(), listener, port));
        }
        run.shutdown.cancelled().await;
        run.tasks.close();
        if tokio::time::timeout(run.edge.config.drain_timeout, run.tasks.wait()).await.is_err() {
            tracing::warn!(connections = run.tasks.len(), "the drain timeout is over; closing what is still open");
            run.abort.cancel();
            run.tasks.wait().await;
        }
    }
}

async fn accept_loop(run: Run, listener: TcpListener, port: Port) {
    let mut pause = Duration::ZERO;
    loop {
        let accepted = tokio::select! {
            () = run.shutdown.cancelled() => return,
            accepted = accept_one(&run, &listener, pause) => accepted,
        };
        match accepted {
            Ok((socket, remote, slot)) => {
                pause = Duration::ZERO;
                run.tasks.spawn(serve_socket(run.clone(), socket, remote, slot, port));
            }
            Err(error) => {
                bump(&run.edge.counters.accept_errors);
                // A client that left while it was queued is no reason to wait.
                let is_clients = matches!(error.kind(), std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset);
                if !is_clients {
                    pause = (pause * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "accept failed");
                }
            }
        }
    }
}

async fn accept_one(run: &Run, listener: &TcpListener, pause: Duration) -> std::io::Result<(TcpStream, SocketAddr, Slot)> {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    // The semaphore is never closed; if it were, accepting would be over.
    let permit = Arc::clone(&run.permits).acquire_owned().await.map_err(std::io::Error::other)?;
    let (socket, remote) = listener.accept().await?;
    Ok((socket, remote, Slot::new(Arc::clone(&run.edge), permit)))
}

async fn serve_socket(run: Run, socket: TcpStream, remote: SocketAddr, slot: Slot, port: Port) {
    // Both only matter to how fast a peer is served or found dead; the socket works without.
    let _ = socket.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(&socket, true);
    match port {
        Port::Http => serve_http(run, socket, remote, slot, None, false).await,
        Port::Https => {
            let session = tokio::select! {
                () = run.abort.cancelled() => return,
                session = tls::accept(&run.edge, socket) => session,
            };
            if let Some(session) = session {
                serve_http(run, session.stream, remote, slot, Some(session.facts), session.is_http2).await;
            }
        }
    }
}

async fn serve_http<IO>(run: Run, io: IO, remote: SocketAddr, slot: Slot, tls: Option<TlsFacts>, is_http2: bool)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new(!is_http2));
    let connection = Arc::new(Connection {
        edge: Arc::clone(&run.edge),
        remote,
        tls,
        activity: Arc::clone(&activity),
        tasks: run.tasks.clone(),
        abort: run.abort.clone(),
        _slot: slot,
    });
    let io = TokioIo::new(Watched::new(io, Arc::clone(&activity)));
    let service = service_fn(move |request| handler::handle(Arc::clone(&connection), request));
    let config = &run.edge.config;
    let ends = Ends { config, activity: &activity, shutdown: &run.shutdown, abort: &run.abort };
    if is_http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(128)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .serve_connection(io, service);
        drive(connection, |connection| connection.graceful_shutdown(), ends).await;
    } else {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(config.max_header_bytes.max(8192))
            .serve_connection(io, service)
            .with_upgrades();
        drive(connection, |connection| connection.graceful_shutdown(), ends).await;
    }
}

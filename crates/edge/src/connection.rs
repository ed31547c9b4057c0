//! One accepted connection: what is known of it, how long it may sit, and how it ends.
//!
//! hyper's own timer cannot tell an idle keep-alive connection from a header that trickles in, and has none for a client
//! that takes no octets; so the socket is watched here, the same way for HTTP/1.1 and HTTP/2.

use crate::config::EdgeConfig;
use crate::edge::Edge;
use crate::keys::Loaded;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) struct Connection {
    pub(crate) edge: Arc<Edge>,
    pub(crate) remote: SocketAddr,
    /// `None` on the plain HTTP port.
    pub(crate) tls: Option<TlsFacts>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) tasks: TaskTracker,
    /// The end of the drain: whatever still runs stops.
    pub(crate) abort: CancellationToken,
    /// Held as long as the connection, or a tunnel made out of it, lives.
    pub(crate) _slot: Slot,
}

pub(crate) struct TlsFacts {
    /// In lower case.
    pub(crate) sni: String,
    pub(crate) certificate: Arc<Loaded>,
}

/// One of the connections that may be open at once.
pub(crate) struct Slot {
    edge: Arc<Edge>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    pub(crate) fn new(edge: Arc<Edge>, permit: OwnedSemaphorePermit) -> Self {
        edge.counters.connections.fetch_add(1, Relaxed);
        edge.counters.connections_now.fetch_add(1, Relaxed);
        Self { edge, _permit: permit }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.edge.counters.connections_now.fetch_sub(1, Relaxed);
    }
}

/// What may end a connection from outside.
pub(crate) struct Ends<'a> {
    pub(crate) config: &'a EdgeConfig,
    pub(crate) activity: &'a Activity,
    pub(crate) shutdown: &'a CancellationToken,
    pub(crate) abort: &'a CancellationToken,
}

/// Drives an HTTP connection to its end: by itself, by its timeouts, or by shutdown. `finish` asks it to end gracefully.
pub(crate) async fn drive<C>(connection: C, finish: impl Fn(Pin<&mut C>), ends: Ends<'_>)
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let Ends { config, activity, shutdown, abort } = ends;
    let mut connection = pin!(connection);
    let mut draining = false;
    // A connection that was told to finish, and is idle, gets this long for the closing words.
    let mut closing: Option<Instant> = None;
    loop {
        let tick = Instant::now() + config.header_timeout.min(config.idle_timeout);
        let wake = closing.unwrap_or_else(|| activity.verdict_at(config).min(tick));
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = abort.cancelled() => return,
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                finish(connection.as_mut());
            }
            () = tokio::time::sleep_until(wake) => match activity.verdict(config, Instant::now()) {
                Verdict::Fine => closing = None,
                Verdict::Stuck => return,
                Verdict::Idle if closing.is_some() => return,
                Verdict::Idle => {
                    finish(connection.as_mut());
                    closing = Some(Instant::now() + Duration::from_secs(1));
                }
            }
        }
    }
}

/// What the socket and the requests did, in milliseconds since the connection began; 0 is "not".
pub(crate) struct Activity {
    start: Instant,
    /// A header that trickles in is an error for HTTP/1.1; in HTTP/2 any frame may come between requests.
    judges_headers: bool,
    requests_in_flight: AtomicU32,
    idle_since: AtomicU64,
    header_since: AtomicU64,
    write_blocked_since: AtomicU64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// Nothing was asked for too long.
    Idle,
    /// Half a header, or octets that the client does not take.
    Stuck,
}

impl Activity {
    pub(crate) fn new(judges_headers: bool) -> Self {
        Self {
            start: Instant::now(),
            judges_headers,
            requests_in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            header_since: AtomicU64::new(0),
            write_blocked_since: AtomicU64::new(0),
        }
    }

    pub(crate) fn request_started(&self) {
        self.requests_in_flight.fetch_add(1, Relaxed);
        self.header_since.store(0, Relaxed);
    }

    pub(crate) fn request_finished(&self) {
        self.idle_since.store(self.now(), Relaxed);
        self.requests_in_flight.fetch_sub(1, Relaxed);
    }

    fn has_read(&self) {
        if self.requests_in_flight.load(Relaxed) == 0 && self.header_since.load(Relaxed) == 0 {
            self.header_since.store(self.now(), Relaxed);
        }
    }

    fn write_is_blocked(&self, blocked: bool) {
        let since = self.write_blocked_since.load(Relaxed);
        if blocked && since == 0 {
            self.write_blocked_since.store(self.now(), Relaxed);
        } else if !blocked && since != 0 {
            self.write_blocked_since.store(0, Relaxed);
        }
    }

    fn verdict(&self, config: &EdgeConfig, now: Instant) -> Verdict {
        let (at, verdict) = self.judgement(config);
        if now >= at { verdict } else { Verdict::Fine }
    }

    fn verdict_at(&self, config: &EdgeConfig) -> Instant {
        self.judgement(config).0
    }

    /// What the connection is guilty of, and from when on, if nothing more happens.
    fn judgement(&self, config: &EdgeConfig) -> (Instant, Verdict) {
        let at = |since: u64, limit: Duration| self.start + Duration::from_millis(since) + limit;
        let blocked = self.write_blocked_since.load(Relaxed);
        let header = self.header_since.load(Relaxed);
        let idle = self.idle_since.load(Relaxed);
        if blocked > 0 {
            (at(blocked, config.idle_timeout), Verdict::Stuck)
        } else if self.requests_in_flight.load(Relaxed) > 0 {
            (Instant::now() + config.idle_timeout, Verdict::Fine)
        } else if header > 0 && self.judges_headers {
            (at(header, config.header_timeout), Verdict::Stuck)
        } else if idle == 0 {
            (at(0, config.header_timeout), Verdict::Idle)
        } else {
            (at(idle, config.idle_timeout), Verdict::Idle)
        }
    }

    fn now(&self) -> u64 {
        (self.start.elapsed().as_millis() as u64).max(1)
    }
}

/// A socket that tells its [`Activity`] what it does.
pub(crate) struct Watched<IO> {
    io: IO,
    activity: Arc<Activity>,
}

impl<IO> Watched<IO> {
    pub(crate) fn new(io: IO, activity: Arc<Activity>) -> Self {
        Self { io, activity }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.has_read();
        }
        result
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.activity.write_is_blocked(result.is_pending());
        result
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.activity.write_is_blocked(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.activity.write_is_blocked(result.is_pending());
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

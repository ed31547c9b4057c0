//! The reverse proxy: one HTTP/1.1 upstream for a route, streaming both ways over pooled connections.
//!
//! A request is sent again only where that is harmless: GET, HEAD or OPTIONS without a body, once, when the upstream
//! closed the connection (most often a pooled one) without a word. Failures are 502 (no answer), 504 (no answer in time) and 408 (the
//! client stopped sending). When the client goes away, the upstream's connection is closed with it.

mod headers;
mod request_body;
mod upgrade;

use crate::body::{self, Content, Response};
use crate::config::EdgeConfig;
use crate::connection::Connection;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, StatusCode, Version, request};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use request_body::{Progress, RequestBody};
use std::sync::Arc;
use std::time::Duration;

/// `http://host:port[/base]`, taken apart.
pub(crate) struct Upstream {
    authority: Authority,
    /// Without a slash at its end.
    base: String,
}

impl Upstream {
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_plain_http = uri.scheme() == Some(&Scheme::HTTP) && uri.query().is_none();
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?.clone();
        is_plain_http.then(|| Self { authority, base: uri.path().trim_end_matches('/').to_owned() })
    }

    fn uri(&self, asked: &Uri) -> Option<Uri> {
        let asked = asked.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = if self.base.is_empty() { asked.to_owned() } else { format!("{}{asked}", self.base) };
        Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(path).build().ok()
    }
}

pub(crate) struct Proxy {
    client: Client<HttpConnector, RequestBody>,
    response_timeout: Duration,
    body_timeout: Duration,
}

impl Proxy {
    pub(crate) fn new(config: &EdgeConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.upstream_connect_timeout));
        // Shorter than what common servers keep an idle connection for, so that few requests meet a closed one.
        let keep = Duration::from_secs(30);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(keep)
            .pool_max_idle_per_host(64)
            .set_host(false)
            .build(connector);
        Self {
            client,
            response_timeout: config.upstream_response_timeout,
            body_timeout: config.idle_timeout.min(config.upstream_response_timeout),
        }
    }
}

pub(crate) async fn serve(
    connection: &Arc<Connection>,
    mut request: Request<Incoming>,
    authority: &Authority,
    upstream: &Upstream,
) -> Response {
    let Some(uri) = upstream.uri(request.uri()) else {
        return body::text(StatusCode::BAD_REQUEST, "The path is not one that can be passed on.\n");
    };
    let upgrade = upgrade::asked_for(&request).map(|protocol| (protocol, hyper::upgrade::on(&mut request)));
    let (mut parts, incoming) = request.into_parts();
    headers::to_upstream(&mut parts.headers, authority, connection.remote.ip(), upgrade.as_ref().map(|(protocol, _)| protocol));
    parts.uri = uri;
    parts.version = Version::HTTP_11;
    parts.extensions = http::Extensions::new();

    let answer = send(&connection.edge.proxy, parts, incoming).await;
    let mut response = match answer {
        Ok(response) => response,
        Err(failure) => return failure.response(upstream),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrade {
            Some((protocol, client_side)) => upgrade::tunnel(connection, client_side, response, &protocol),
            None => Failure::BadAnswer("it switched protocols without being asked".to_owned()).response(upstream),
        };
    }
    headers::to_client(response.headers_mut());
    let (parts, incoming) = response.into_parts();
    body::respond(parts.status, parts.headers, Content::Upstream(incoming))
}

async fn send(proxy: &Proxy, parts: request::Parts, incoming: Incoming) -> Result<http::Response<Incoming>, Failure> {
    let progress = Progress::new(proxy.body_timeout);
    let is_repeatable = incoming.is_end_stream() && matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let spare = is_repeatable.then(|| parts.clone());
    let body = if incoming.is_end_stream() { RequestBody::Empty } else { RequestBody::streaming(incoming, Arc::clone(&progress)) };
    let first = attempt(proxy, parts, body, &progress).await;
    match (first, spare) {
        (Err(Failure::Closed(_)), Some(parts)) => attempt(proxy, parts, RequestBody::Empty, &progress).await,
        (outcome, _) => outcome,
    }
}

async fn attempt(
    proxy: &Proxy,
    parts: request::Parts,
    body: RequestBody,
    progress: &Progress,
) -> Result<http::Response<Incoming>, Failure> {
    let mut answer = std::pin::pin!(proxy.client.request(Request::from_parts(parts, body)));
    loop {
        let deadline = progress.last() + proxy.response_timeout;
        tokio::select! {
            outcome = answer.as_mut() => return outcome.map_err(|error| Failure::of(&error, progress)),
            () = tokio::time::sleep_until(deadline) => {
                // A long upload keeps moving the deadline; only silence after it counts.
                if progress.last() + proxy.response_timeout <= deadline {
                    return Err(Failure::Timeout);
                }
            }
        }
    }
}

/// Why there is no response from the upstream.
enum Failure {
    Unreachable(String),
    /// The connection ended before the response's header.
    Closed(String),
    Timeout,
    BadAnswer(String),
    ClientStalled,
    ClientGone,
}

impl Failure {
    fn of(error: &Error, progress: &Progress) -> Self {
        let chain = || crate::body::chain(error);
        if progress.has_stalled() {
            Self::ClientStalled
        } else if progress.has_failed() {
            Self::ClientGone
        } else if error.is_connect() {
            if is_timeout(error) { Self::Timeout } else { Self::Unreachable(chain()) }
        } else if is_closed(error) {
            Self::Closed(chain())
        } else {
            Self::BadAnswer(chain())
        }
    }

    fn response(&self, upstream: &Upstream) -> Response {
        let (status, text, detail) = match self {
            Self::Unreachable(detail) => (StatusCode::BAD_GATEWAY, "The site's server cannot be reached.\n", detail.as_str()),
            Self::Closed(detail) => {
                (StatusCode::BAD_GATEWAY, "The site's server closed the connection without an answer.\n", detail.as_str())
            }
            Self::BadAnswer(detail) => (StatusCode::BAD_GATEWAY, "The site's server gave no valid answer.\n", detail.as_str()),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "The site's server did not answer in time.\n", "timeout"),
            Self::ClientStalled => (StatusCode::REQUEST_TIMEOUT, "The request's body did not arrive in time.\n", ""),
            Self::ClientGone => (StatusCode::BAD_REQUEST, "The request's body ended early.\n", ""),
        };
        if !detail.is_empty() {
            tracing::debug!(upstream = %upstream.authority, %detail, status = status.as_u16(), "no answer from an upstream");
        }
        body::text(status, text)
    }
}

fn is_timeout(error: &Error) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut))
}

fn is_closed(error: &Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    causes(error).any(|cause| {
        let by_hyper = cause.downcast_ref::<hyper::Error>().is_some_and(|e| e.is_incomplete_message() || e.is_closed() || e.is_canceled());
        let by_socket = cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof));
        by_hyper || by_socket
    })
}

fn causes<'a>(error: &'a (dyn std::error::Error + 'static)) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

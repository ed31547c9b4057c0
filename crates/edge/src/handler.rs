//! One request: which host it is for, whether this connection may speak for that host, and who answers.

use crate::access::Record;
use crate::acme;
use crate::body::{self, Response};
use crate::connection::Connection;
use crate::edge::Edge;
use crate::files;
use crate::index::Hit;
use crate::proxy;
use certwright_model::edge::EdgeRoute;
use futures_util::FutureExt;
use http::header::{HOST, HeaderValue, LOCATION, STRICT_TRANSPORT_SECURITY};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

pub(crate) async fn handle(connection: Arc<Connection>, request: Request<Incoming>) -> Result<Response, Infallible> {
    let authority = authority(&request);
    let host = authority.as_ref().map(host_of).unwrap_or_default();
    let mut record = Record::start(Arc::clone(&connection), &request, &host);
    let mut response = match authority {
        // The handler owns nothing that outlives it, so nothing half changed can be seen after a panic.
        Some(authority) => match AssertUnwindSafe(route(&connection, request, &authority, &host)).catch_unwind().await {
            Ok(response) => response,
            Err(_panic) => {
                tracing::error!(%host, "a request handler panicked");
                body::text(StatusCode::INTERNAL_SERVER_ERROR, "The edge failed to answer this request.\n")
            }
        },
        None => body::text(StatusCode::BAD_REQUEST, "The request names no host, or more than one.\n"),
    };
    if connection.edge.config.hsts && connection.tls.is_some() {
        response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static("max-age=31536000"));
    }
    record.answered(response.status());
    response.body_mut().attach(record);
    Ok(response)
}

async fn route(connection: &Arc<Connection>, request: Request<Incoming>, authority: &Authority, host: &str) -> Response {
    let edge = &connection.edge;
    if request.method() == Method::CONNECT {
        return body::not_allowed("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    let Some(tls) = &connection.tls else { return plain_http(edge, &request, host).await };
    // A browser may reuse a connection for every name of its certificate (RFC 9113 section 9.1.1); no other name passes.
    if host != tls.sni && !tls.certificate.covers(host) {
        return misdirected();
    }
    let hit = match edge.find(host).await {
        Ok(Some(hit)) => hit,
        Ok(None) => return misdirected(),
        Err(error) => return source_down(host, &error),
    };
    serve(connection, request, authority, &hit).await
}

async fn serve(connection: &Arc<Connection>, request: Request<Incoming>, authority: &Authority, hit: &Hit) -> Response {
    match &hit.route.spec {
        EdgeRoute::Files { site, content } => files::serve(&connection.edge.config.sites_dir, site, content, &request).await,
        EdgeRoute::Proxy { .. } => match &hit.route.upstream {
            Some(upstream) => proxy::serve(connection, request, authority, upstream).await,
            None => body::text(StatusCode::BAD_GATEWAY, "The upstream of this site is not an http:// address.\n"),
        },
        EdgeRoute::Nothing => body::text(StatusCode::SERVICE_UNAVAILABLE, "Nothing is published here yet.\n"),
    }
}

/// The HTTP port: challenges first, then the redirect.
async fn plain_http(edge: &Edge, request: &Request<Incoming>, host: &str) -> Response {
    let hit = match edge.find(host).await {
        Ok(Some(hit)) => hit,
        Ok(None) => return body::text(StatusCode::NOT_FOUND, "This host is not served here.\n"),
        Err(error) => return source_down(host, &error),
    };
    if let Some(token) = acme::http01_token(request.uri().path()) {
        return acme::answer_http01(edge, request.method(), host, token).await;
    }
    if hit.certificate.is_none() {
        return body::text(StatusCode::SERVICE_UNAVAILABLE, "This host has no certificate yet.\n");
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let location = match edge.config.https_port_for_redirect {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    match HeaderValue::try_from(location) {
        Ok(location) => body::empty(StatusCode::PERMANENT_REDIRECT, HeaderMap::from_iter([(LOCATION, location)])),
        Err(_) => body::text(StatusCode::BAD_REQUEST, "The path has octets that no header can carry.\n"),
    }
}

fn misdirected() -> Response {
    body::text(StatusCode::MISDIRECTED_REQUEST, "This host is not served on this connection.\n")
}

fn source_down(host: &str, error: &crate::SourceError) -> Response {
    tracing::warn!(%error, %host, "a name could not be looked up");
    body::text(StatusCode::SERVICE_UNAVAILABLE, "Try again shortly.\n")
}

/// The one host that a request names (RFC 9112 section 3.2): two that differ, or none, are refused.
fn authority(request: &Request<Incoming>) -> Option<Authority> {
    let mut lines = request.headers().get_all(HOST).iter();
    let header = match (lines.next(), lines.next()) {
        (None, _) => None,
        (Some(line), None) => Some(Authority::try_from(line.as_bytes()).ok()?),
        (Some(_), Some(_)) => return None,
    };
    let authority = match (request.uri().authority(), header) {
        (Some(target), Some(header)) if *target != header => return None,
        (Some(target), _) => target.clone(),
        (None, header) => header?,
    };
    (!authority.as_str().contains('@') && !authority.host().is_empty()).then_some(authority)
}

/// Lower case, without the port and the root's dot: as the index spells it.
fn host_of(authority: &Authority) -> String {
    let host = authority.host();
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

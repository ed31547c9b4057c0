//! What every request passes: an id, the limit on work at once, the token and its role; and on the way out the body of a
//! problem, the headers that each answer carries, and one line in the log at debug.
//!
//! A token is looked up by its SHA-256 and is never logged.

use crate::App;
use crate::access::{self, Access};
use crate::extract::Caller;
use crate::problem::{Kind, Problem};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use certwright_store::TokenRow;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::panic::AssertUnwindSafe;
use tokio::time::Instant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Outermost.
pub(crate) async fn frame(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = given_id(request.headers()).unwrap_or_else(|| app.engine.clock().id().to_string());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // A bug in one handler is one answer, not a connection that ends without a word.
    let outcome = AssertUnwindSafe(admitted(&app, request, next)).catch_unwind().await;
    let mut response = outcome.unwrap_or_else(|_| Problem::internal("a handler panicked").into_response());
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = problem.render(&id);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let (status, elapsed_ms) = (response.status().as_u16(), started.elapsed().as_millis() as u64);
    tracing::debug!(%method, path, status, elapsed_ms, request_id = id, "request");
    response
}

async fn admitted(app: &App, request: Request, next: Next) -> Response {
    match app.in_flight.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => Problem::unavailable("too many requests are being worked on; try again in a moment").into_response(),
    }
}

/// Around the routes: knows which one it is.
pub(crate) async fn authorize(State(app): State<App>, path: MatchedPath, mut request: Request, next: Next) -> Response {
    let Access::Needs(permission) = access::of(request.method().as_str(), path.as_str()) else {
        return next.run(request).await;
    };
    match caller(&app, request.headers()).await {
        Err(problem) => problem.into_response(),
        Ok(caller) if !caller.role.may(permission) => {
            let detail = format!("the role `{}` may not `{permission}`; ask an administrator for a token that may", caller.role);
            Problem::new(Kind::Forbidden, detail).into_response()
        }
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
    }
}

async fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, Problem> {
    let no = |detail: &str| Problem::new(Kind::Unauthorized, detail);
    let token = presented(headers).ok_or_else(|| no("send a token as `X-API-Key: TOKEN` or `Authorization: Bearer TOKEN`"))?;
    match look_up(app, &sha256(token)).await? {
        Found::Valid(row) => Ok(Caller { name: row.name, role: row.role }),
        Found::Expired => Err(no("the token has expired")),
        Found::Nothing => Err(no("the token is not known; it may have been revoked")),
    }
}

/// What there is under the hash of a token.
pub(crate) enum Found {
    Valid(TokenRow),
    Expired,
    Nothing,
}

pub(crate) async fn look_up(app: &App, hash: &[u8; 32]) -> Result<Found, Problem> {
    let row = app.engine.store().token_by_sha256(hash).await?;
    Ok(match row.filter(|row| verify_slices_are_equal(&row.sha256, hash).is_ok()) {
        None => Found::Nothing,
        Some(row) if row.expires_at.is_some_and(|end| end <= app.engine.clock().now()) => Found::Expired,
        Some(row) => Found::Valid(row),
    })
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(API_KEY) {
        return Some(key.as_bytes().trim_ascii());
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

pub(crate) fn sha256(token: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

/// A caller's own id is kept when it is harmless in a log.
fn given_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    ((1..=64).contains(&id.len()) && id.bytes().all(harmless)).then(|| id.to_owned())
}

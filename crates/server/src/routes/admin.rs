//! Tokens, the audit log, and the state of the server.

use super::health::backlog;
use crate::App;
use crate::admin_token::new_secret;
use crate::extract::{Body, Caller, PageQuery, Params, Segment};
use crate::gate::sha256;
use crate::problem::{Kind, Problem};
use crate::wire::Listing;
use crate::wire::admin::{
    AuditView, Done, EdgeView, IssuerView, LoopView, NewToken, OrphanView, Repaired, StatusView, TokenCreated, TokenList,
};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use certwright_model::authority::Role;
use certwright_model::ids::TokenId;
use certwright_model::{Reason, ReasonCode};
use certwright_store::TokenRow;
use futures_util::future::join_all;
use http::StatusCode;
use std::time::Duration;
use tokio::time::timeout;

const ISSUER_PATIENCE: Duration = Duration::from_secs(5);

/// List the tokens.
#[utoipa::path(get, path = "/v1/admin/tokens", tag = "admin", responses((status = 200, description = "All of them", body = TokenList)))]
pub(crate) async fn tokens(State(app): State<App>) -> Result<Json<TokenList>, Problem> {
    let rows = app.engine.store().list_tokens().await?;
    Ok(Json(TokenList { items: rows.into_iter().map(Into::into).collect() }))
}

/// Make a token. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/admin/tokens", tag = "admin", request_body = NewToken,
    responses((status = 201, description = "Made", body = TokenCreated)))]
pub(crate) async fn create_token(State(app): State<App>, caller: Caller, Body(body): Body<NewToken>) -> Result<Response, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if body.name.is_empty() || body.name.len() > 64 || !body.name.chars().all(plain) {
        return Err(Problem::invalid("name", "a token's name has 1 to 64 characters out of letters, digits and `-_.@`"));
    }
    if body.name == "system" {
        return Err(Problem::invalid("name", "`system` is Certwright itself in the audit log"));
    }
    let now = app.engine.clock().now();
    if body.expires_at.is_some_and(|end| end <= now) {
        return Err(Problem::invalid("expires_at", "`expires_at` lies in the past"));
    }
    let secret = new_secret(app.engine.clock());
    let row = TokenRow {
        id: TokenId(app.engine.clock().id()),
        name: body.name,
        role: body.role,
        sha256: sha256(secret.as_bytes()),
        created_at: now,
        expires_at: body.expires_at,
    };
    app.engine.store().create_token(row.clone(), &caller.who(), now).await?;
    Ok((StatusCode::CREATED, Json(TokenCreated { ok: true, secret, token: row.into() })).into_response())
}

/// Revoke a token. The last administrator's stays.
#[utoipa::path(delete, path = "/v1/admin/tokens/{id}", tag = "admin", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "Revoked", body = Done)))]
pub(crate) async fn revoke_token(State(app): State<App>, caller: Caller, id: Segment) -> Result<Json<Done>, Problem> {
    let (id, now) = (id.id::<TokenId>("token")?, app.engine.clock().now());
    let rows = app.engine.store().list_tokens().await?;
    let row = rows.iter().find(|row| row.id == id).ok_or_else(|| Problem::not_found("token", id))?;
    let live_admin = |row: &&TokenRow| row.role == Role::Admin && row.expires_at.is_none_or(|end| end > now);
    if live_admin(&row) && !rows.iter().filter(live_admin).any(|other| other.id != id && other.expires_at.is_none()) {
        let detail = format!("`{}` is the last administrator's token that does not expire; make another one first", row.name);
        return Err(Problem::new(Kind::Conflict, detail));
    }
    app.engine.store().revoke_token(id, &caller.who(), now).await?;
    Ok(Json(Done { ok: true, message: format!("the token `{}` is revoked", row.name) }))
}

/// Who changed what, newest first.
#[utoipa::path(get, path = "/v1/admin/audit", tag = "admin", params(PageQuery),
    responses((status = 200, description = "One page", body = Listing<AuditView>)))]
pub(crate) async fn audit(State(app): State<App>, Params(page): Params<PageQuery>) -> Result<Json<Listing<AuditView>>, Problem> {
    let (cursor, limit) = page.check()?;
    let page = app.engine.store().audit(cursor, limit).await?;
    Ok(Json(Listing::new(page, AuditView::from)))
}

/// Loops, backlog, edge, issuers and orphans.
///
/// Asks each issuer whether it can be reached, for at most 5 seconds.
#[utoipa::path(get, path = "/v1/admin/status", tag = "admin", responses((status = 200, description = "As it is now", body = StatusView)))]
pub(crate) async fn status(State(app): State<App>) -> Result<Json<StatusView>, Problem> {
    let (engine, now) = (&app.engine, app.engine.clock().now());
    let stats = engine.store().stats(now).await?;
    let orphans = engine.store().orphans(now).await?;
    let issuers = join_all(engine.issuers().map(|issuer| async move {
        let check = timeout(ISSUER_PATIENCE, issuer.check()).await;
        let reason = check.unwrap_or_else(|_| Err(Reason::new(ReasonCode::CaUnavailable, "no answer within 5 seconds"))).err();
        IssuerView { name: issuer.name().to_owned(), kind: issuer.kind().to_owned(), ok: reason.is_none(), reason: reason.map(Into::into) }
    }));
    Ok(Json(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now,
        node: engine.config().node,
        base_domain: engine.config().base_domain.clone(),
        store: engine.store().backend_name().to_owned(),
        loops: engine.status().snapshot().into_iter().map(|(name, status)| (name.to_owned(), LoopView::from(status))).collect(),
        domains: stats.domains.iter().map(|(word, count)| (word.to_string(), *count)).collect(),
        sites: stats.sites.iter().map(|(word, count)| (word.to_string(), *count)).collect(),
        backlog: backlog(&stats, now),
        edge: edge(&app),
        issuers: issuers.await,
        orphans: orphans
            .into_iter()
            .map(|orphan| OrphanView { kind: orphan.kind.as_str().to_owned(), id: orphan.id, detail: orphan.detail })
            .collect(),
    }))
}

fn edge(app: &App) -> Option<EdgeView> {
    let stats = app.engine.edge()?.stats();
    let failed = stats.handshakes_failed;
    Some(EdgeView {
        names_now: stats.names_now,
        connections_now: stats.connections_now,
        connections: stats.connections,
        handshakes_ok: stats.handshakes_ok,
        handshakes_failed: failed.unknown_name
            + failed.source_down
            + failed.bad_certificate
            + failed.no_protocol
            + failed.not_tls
            + failed.timeout
            + failed.client,
        requests: stats.requests,
        certificates_cached_now: stats.certificates_cached_now,
        certificate_hits: stats.certificate_hits,
        certificate_misses: stats.certificate_misses,
    })
}

/// Remove rows that nothing looks at any more.
#[utoipa::path(post, path = "/v1/admin/repair", tag = "admin", responses((status = 200, description = "How many there were", body = Repaired)))]
pub(crate) async fn repair(State(app): State<App>, caller: Caller) -> Result<Json<Repaired>, Problem> {
    let repaired = app.engine.store().repair_orphans(&caller.who(), app.engine.clock().now()).await?;
    Ok(Json(Repaired { ok: true, repaired }))
}

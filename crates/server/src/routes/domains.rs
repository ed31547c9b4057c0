//! Domains, with or without a site. A path names a domain by its id or by its hostname.

use super::views::{about_domain, add_domain, begin, domain_view, domain_views};
use crate::App;
use crate::extract::{Body, Caller, PageQuery, Params, Segment, hostname, plain, site_name};
use crate::problem::{Kind, Problem};
use crate::wait::WaitQuery;
use crate::wire::domains::{CertificateList, ChangeDomain, DomainView, NewDomain, RouteBody};
use crate::wire::{Accepted, Listing};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use certwright_engine::requests::{self, DomainRequest, RequestError, RouteRequest};
use certwright_model::certificate::KeyType;
use certwright_model::domain::{Desired, Route, TlsStatus};
use certwright_model::ids::DomainId;
use certwright_model::record::Domain;
use certwright_store::{DomainChange, DomainFilter, StoreError};
use http::{StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DomainQuery {
    #[param(schema_with = crate::wire::words::tls_status)]
    tls_status: Option<String>,
    /// Part of the hostname.
    q: Option<String>,
    /// Of the route.
    region: Option<String>,
    /// The name of the site.
    site: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// 1 to 1000; 100 by default.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// List the domains, by hostname.
#[utoipa::path(get, path = "/v1/domains", tag = "domains", params(DomainQuery),
    responses((status = 200, description = "One page", body = Listing<DomainView>)))]
pub(crate) async fn list(State(app): State<App>, Params(query): Params<DomainQuery>) -> Result<Json<Listing<DomainView>>, Problem> {
    let (cursor, limit) = PageQuery { cursor: query.cursor, limit: query.limit }.check()?;
    let words = || TlsStatus::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", ");
    let status =
        |word: String| TlsStatus::parse(&word).ok_or_else(|| Problem::invalid("tls_status", format!("`tls_status` is one of {}", words())));
    let filter = DomainFilter {
        tls_status: query.tls_status.map(status).transpose()?,
        q: query.q.map(|q| plain("q", q, 253)).transpose()?,
        region: query.region.map(|region| plain("region", region, 64)).transpose()?,
        site_id: match query.site {
            Some(name) => Some(app.engine.site(&site_name(&name)?).await?.intent.id),
            None => None,
        },
    };
    let page = app.engine.store().domains(filter, cursor, limit).await?;
    Ok(Json(Listing { items: domain_views(&app, page.items).await?, next_cursor: page.next }))
}

/// Add a domain.
///
/// Adding it again with the same wishes changes nothing and says so.
#[utoipa::path(post, path = "/v1/domains", tag = "domains", params(WaitQuery), request_body = NewDomain,
    responses((status = 201, description = "Added", body = Accepted), (status = 200, description = "It is there already", body = Accepted)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Params(wait): Params<WaitQuery>,
    Body(body): Body<NewDomain>,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let request = request(body)?;
    let host = request.hostname.clone();
    let (id, taken) = match app.engine.add_domain(request.clone(), &caller.who()).await {
        Ok((domain, job)) => (domain.intent.id, requests::Accepted { job: Some(job), message: format!("{host} is being set up") }),
        Err(error) => match same_claim(&app, &request, &error).await? {
            Some(id) => (id, requests::Accepted { job: None, message: format!("{host} is there already; nothing changed") }),
            None => return Err(error.into()),
        },
    };
    let (code, mut answer) = begin(&app, taken, patience).await?;
    add_domain(&app, &mut answer, id).await?;
    let code = if code == StatusCode::ACCEPTED { StatusCode::CREATED } else { code };
    Ok((code, [(header::LOCATION, format!("/v1/domains/{id}"))], Json(answer)).into_response())
}

/// The domain that is in the way, if it is just what is asked for.
pub(crate) async fn same_claim(app: &App, request: &DomainRequest, error: &RequestError) -> Result<Option<DomainId>, Problem> {
    if !matches!(error, RequestError::Store(StoreError::Conflict { what: "hostname", .. })) {
        return Ok(None);
    }
    let Some(domain) = app.engine.store().domain_by_hostname(&request.hostname).await? else { return Ok(None) };
    let intent = &domain.intent;
    let same_route = match (&request.route, &intent.route) {
        (RouteRequest::None, None) => true,
        (RouteRequest::Site(name), Some(Route::Site)) => {
            let site = app.engine.store().site_by_name(name).await?;
            site.is_some_and(|site| intent.site_id == Some(site.intent.id))
        }
        (RouteRequest::Upstream { upstream, region }, Some(route)) => {
            *route == Route::Upstream { upstream: upstream.clone(), region: region.clone() }
        }
        (RouteRequest::Tunnel { tunnel, target, region }, Some(route)) => {
            *route == Route::Tunnel { tunnel: tunnel.clone(), target: target.clone(), region: region.clone() }
        }
        _ => false,
    };
    let same = same_route
        && intent.desired == Desired::Present
        && intent.tls_mode == request.tls_mode
        && intent.failure_policy == request.failure_policy
        && intent.issuers == request.issuers
        && intent.key_type == request.key_type;
    Ok(same.then_some(intent.id))
}

/// A body as the engine's request.
pub(crate) fn request(body: NewDomain) -> Result<DomainRequest, Problem> {
    let route = match body.route {
        None => RouteRequest::None,
        Some(route) => route_request(route)?,
    };
    let mut request = DomainRequest::new(hostname(&body.domain)?, route);
    request.tls_mode = body.tls_mode.unwrap_or(request.tls_mode);
    request.failure_policy = body.failure_policy.unwrap_or(request.failure_policy);
    request.issuers = issuers(body.issuer, body.issuers)?.unwrap_or_default();
    request.key_type = body.key_type.map(key_type).transpose()?.unwrap_or(request.key_type);
    Ok(request)
}

fn issuers(one: Option<String>, several: Option<Vec<String>>) -> Result<Option<Vec<String>>, Problem> {
    match (one, several) {
        (Some(_), Some(_)) => Err(Problem::invalid("issuer", "either `issuer` or `issuers`, not both")),
        (Some(one), None) => Ok(Some(vec![one])),
        (None, several) => Ok(several),
    }
}

fn key_type(key_type: KeyType) -> Result<KeyType, Problem> {
    match key_type {
        KeyType::Other => Err(Problem::invalid("key_type", "`other` is a key that Certwright did not make; it cannot be asked for")),
        known => Ok(known),
    }
}

fn route_request(route: RouteBody) -> Result<RouteRequest, Problem> {
    let text = |field: &'static str, text: Option<String>| text.map(|text| plain(field, text, 253)).transpose();
    let region = text("region", route.region)?;
    match (route.site, route.upstream, route.tunnel, route.target) {
        (Some(site), None, None, None) if region.is_none() => Ok(RouteRequest::Site(site_name(&site)?)),
        (None, Some(upstream), None, None) => Ok(RouteRequest::Upstream { upstream, region }),
        (None, None, Some(tunnel), target) => {
            Ok(RouteRequest::Tunnel { tunnel: plain("tunnel", tunnel, 253)?, target: text("target", target)?, region })
        }
        _ => Err(Problem::invalid("route", "a route is one of {site}, {upstream, region?} and {tunnel, target?, region?}")),
    }
}

/// Show a domain with its checklist.
#[utoipa::path(get, path = "/v1/domains/{id}", tag = "domains", params(("id" = String, Path, description = "Its id or its hostname")),
    responses((status = 200, description = "The domain", body = DomainView)))]
pub(crate) async fn show(State(app): State<App>, id: Segment) -> Result<Json<DomainView>, Problem> {
    let domain = find(&app, &id).await?;
    domain_view(&app, domain).await.map(Json)
}

pub(super) async fn find(app: &App, id: &Segment) -> Result<Domain, Problem> {
    if let Ok(id) = id.0.parse::<DomainId>() {
        return Ok(app.engine.domain(id).await?);
    }
    let host = hostname(&id.0).map_err(|_| Problem::invalid("id", "a domain is named by its id (a UUID) or its hostname"))?;
    let domain = app.engine.store().domain_by_hostname(&host).await?;
    domain.ok_or_else(|| Problem::not_found("domain", host))
}

/// Change what is wanted of a domain.
#[utoipa::path(patch, path = "/v1/domains/{id}", tag = "domains", params(("id" = String, Path, description = "Its id or its hostname")),
    request_body = ChangeDomain, responses((status = 200, description = "The domain as it is wanted now", body = DomainView)))]
pub(crate) async fn change(
    State(app): State<App>,
    caller: Caller,
    id: Segment,
    Body(body): Body<ChangeDomain>,
) -> Result<Json<DomainView>, Problem> {
    let domain = find(&app, &id).await?;
    let change = DomainChange {
        route: match body.route {
            None => None,
            Some(None) => Some(None),
            Some(Some(route)) => Some(Some(changed_route(&app, &domain, route).await?)),
        },
        tls_mode: body.tls_mode,
        failure_policy: body.failure_policy,
        issuers: issuers(body.issuer, body.issuers)?,
        key_type: body.key_type.map(key_type).transpose()?,
        ..DomainChange::default()
    };
    if change == DomainChange::default() {
        return Err(Problem::new(
            Kind::InvalidInput,
            "name what is to change: route, tls_mode, failure_policy, issuer, issuers or key_type",
        ));
    }
    let domain = app.engine.change_domain(domain.intent.id, change, &caller.who()).await?;
    domain_view(&app, domain).await.map(Json)
}

/// A domain stays with its site: traffic for another one is another claim.
async fn changed_route(app: &App, domain: &Domain, route: RouteBody) -> Result<Route, Problem> {
    match route_request(route)? {
        RouteRequest::Site(name) if domain.intent.site_id == Some(app.engine.site(&name).await?.intent.id) => Ok(Route::Site),
        RouteRequest::Site(name) => {
            let detail = format!("{} does not belong to `{name}`; remove it and add it to that site", domain.intent.hostname);
            Err(Problem::new(Kind::Conflict, detail))
        }
        RouteRequest::Upstream { upstream, region } => Ok(Route::Upstream { upstream, region }),
        RouteRequest::Tunnel { tunnel, target, region } => Ok(Route::Tunnel { tunnel, target, region }),
        RouteRequest::None => Err(Problem::internal("a route that is given is some route")),
    }
}

/// Remove a domain; it stops renewing.
#[utoipa::path(delete, path = "/v1/domains/{id}", tag = "domains",
    params(("id" = String, Path, description = "Its id or its hostname"), WaitQuery),
    responses((status = 202, description = "Taken", body = Accepted), (status = 200, description = "It is being removed already", body = Accepted)))]
pub(crate) async fn remove(
    State(app): State<App>,
    caller: Caller,
    id: Segment,
    Params(wait): Params<WaitQuery>,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let id = find(&app, &id).await?.intent.id;
    let taken = app.engine.remove_domain(id, &caller.who()).await?;
    about_domain(&app, id, taken, patience).await
}

/// Look again now, whatever the backoff says.
#[utoipa::path(post, path = "/v1/domains/{id}/verify", tag = "domains", params(("id" = String, Path, description = "Its id or its hostname")),
    responses((status = 200, description = "The domain; it is being looked at", body = DomainView)))]
pub(crate) async fn verify(State(app): State<App>, caller: Caller, id: Segment) -> Result<Json<DomainView>, Problem> {
    let id = find(&app, &id).await?.intent.id;
    let domain = app.engine.verify_domain(id, &caller.who()).await?;
    domain_view(&app, domain).await.map(Json)
}

/// Order a new certificate now.
#[utoipa::path(post, path = "/v1/domains/{id}/cert-retry", tag = "domains",
    params(("id" = String, Path, description = "Its id or its hostname"), WaitQuery),
    responses((status = 202, description = "Taken", body = Accepted)))]
pub(crate) async fn cert_retry(
    State(app): State<App>,
    caller: Caller,
    id: Segment,
    Params(wait): Params<WaitQuery>,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let id = find(&app, &id).await?.intent.id;
    let taken = app.engine.retry_certificate(id, &caller.who()).await?;
    about_domain(&app, id, taken, patience).await
}

/// The certificates of a domain: chains and facts, never keys.
#[utoipa::path(get, path = "/v1/domains/{id}/certificates", tag = "domains", params(("id" = String, Path, description = "Its id or its hostname")),
    responses((status = 200, description = "Newest first", body = CertificateList)))]
pub(crate) async fn certificates(State(app): State<App>, id: Segment) -> Result<Json<CertificateList>, Problem> {
    let id = find(&app, &id).await?.intent.id;
    let rows = app.engine.store().certificates_of(id).await?;
    Ok(Json(CertificateList { items: rows.into_iter().map(Into::into).collect() }))
}

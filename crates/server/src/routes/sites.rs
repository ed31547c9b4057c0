//! Sites: made, shown, given a domain, destroyed.

use super::views::{about_site, named};
use crate::App;
use crate::extract::{Body, Caller, Params, Segment, plain, site_name};
use crate::problem::{Kind, Problem};
use crate::upload;
use crate::wait::WaitQuery;
use crate::wire::admin::Done;
use crate::wire::domains::DomainStatus;
use crate::wire::sites::{Provision, SetDomain, SiteNamed, SiteView, StaticUpload};
use crate::wire::{Accepted, Listing};
use axum::Json;
use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::response::Response;
use certwright_engine::inspect;
use certwright_model::site::SiteLifecycle;
use certwright_store::SiteFilter;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;

/// Make a site before an upstream.
///
/// The site gets its default domain and a certificate. A failed site is tried again.
#[utoipa::path(post, path = "/api/provision", tag = "sites", params(WaitQuery), request_body = Provision,
    responses((status = 202, description = "Taken; the job tells how far it is", body = Accepted)))]
pub(crate) async fn provision(
    State(app): State<App>,
    caller: Caller,
    Params(wait): Params<WaitQuery>,
    Body(body): Body<Provision>,
) -> Result<Response, Problem> {
    let (name, patience) = (site_name(&body.site)?, wait.patience()?);
    let missing = "an upstream is needed: `http://host:port` of a server that runs already; files are uploaded to /api/static/provision";
    match body.kind.as_deref() {
        None | Some("proxy") => {}
        Some("static") => return Err(Problem::invalid("kind", "a static site is made with POST /api/static/provision")),
        Some("wordpress") => return Err(Problem::invalid("kind", "WordPress sites cannot be made yet; `static` and `proxy` can")),
        Some(_) => return Err(Problem::invalid("kind", "the kinds are `proxy` here and `static` with POST /api/static/provision")),
    }
    let upstream = body.upstream.ok_or_else(|| Problem::invalid("upstream", missing))?;
    let taken = app.engine.provision_proxy(&name, &upstream, &caller.who()).await?;
    about_site(&app, &name, taken, patience).await
}

/// Make a site of files.
///
/// The archive is checked whole before anything is stored: no traversal, links, duplicates or bombs.
#[utoipa::path(post, path = "/api/static/provision", tag = "sites", params(WaitQuery),
    request_body(content = StaticUpload, content_type = "multipart/form-data"),
    responses((status = 202, description = "Taken; the job tells how far it is", body = Accepted)))]
pub(crate) async fn provision_static(
    State(app): State<App>,
    caller: Caller,
    Params(wait): Params<WaitQuery>,
    body: Result<Multipart, MultipartRejection>,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let body = body.map_err(|_| Problem::new(Kind::UnsupportedType, "send `multipart/form-data` with the parts `site` and `zip`"))?;
    let upload = upload::receive(&app, body).await?;
    let taken = app.engine.provision_static(&upload.site, upload.archive.path(), &caller.who()).await?;
    drop(upload.archive);
    about_site(&app, &upload.site, taken, patience).await
}

/// Destroy a site, its domains and its content.
#[utoipa::path(post, path = "/api/destroy", tag = "sites", params(WaitQuery), request_body = SiteNamed,
    responses((status = 202, description = "Taken", body = Accepted), (status = 200, description = "It is destroyed already", body = Accepted)))]
pub(crate) async fn destroy(
    State(app): State<App>,
    caller: Caller,
    Params(wait): Params<WaitQuery>,
    Body(body): Body<SiteNamed>,
) -> Result<Response, Problem> {
    let (name, patience) = (site_name(&body.site)?, wait.patience()?);
    let taken = app.engine.destroy(&name, &caller.who()).await?;
    about_site(&app, &name, taken, patience).await
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SiteQuery {
    /// Part of the name.
    q: Option<String>,
    /// The site's own lifecycle.
    #[param(example = "ACTIVE")]
    lifecycle: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// 1 to 1000; 100 by default.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// List the sites, by name.
#[utoipa::path(get, path = "/api/sites", tag = "sites", params(SiteQuery),
    responses((status = 200, description = "One page", body = Listing<SiteView>)))]
pub(crate) async fn list(State(app): State<App>, Params(query): Params<SiteQuery>) -> Result<Json<Listing<SiteView>>, Problem> {
    let (cursor, limit) = crate::extract::PageQuery { cursor: query.cursor, limit: query.limit }.check()?;
    let lifecycle = query.lifecycle.map(|word| {
        SiteLifecycle::parse(&word).ok_or_else(|| {
            let words: Vec<&str> = SiteLifecycle::ALL.iter().map(|word| word.as_str()).collect();
            Problem::invalid("lifecycle", format!("`lifecycle` is one of {}", words.join(", ")))
        })
    });
    let filter = SiteFilter { lifecycle: lifecycle.transpose()?, q: query.q.map(|q| plain("q", q, 253)).transpose()? };
    let store = app.engine.store();
    let page = store.sites(cursor, limit, filter).await?;
    let views = stream::iter(page.items).map(|site| async move {
        let domains = store.domains_of_site(site.intent.id).await?;
        Ok::<SiteView, Problem>(inspect::assemble(site, domains).into())
    });
    let items = views.buffered(8).try_collect().await?;
    Ok(Json(Listing { items, next_cursor: page.next }))
}

/// Show a site with its live status.
#[utoipa::path(get, path = "/api/sites/{site}", tag = "sites", params(("site" = String, Path, example = "shop")),
    responses((status = 200, description = "The site", body = SiteView)))]
pub(crate) async fn show(State(app): State<App>, name: Segment) -> Result<Json<SiteView>, Problem> {
    Ok(Json(app.engine.site_view(&name.site()?).await?.into()))
}

/// Forget a destroyed site, so that its name is free again.
#[utoipa::path(delete, path = "/api/sites/{site}", tag = "sites", params(("site" = String, Path, example = "shop")),
    responses((status = 200, description = "The name is free", body = Done)))]
pub(crate) async fn delete(State(app): State<App>, caller: Caller, name: Segment) -> Result<Json<Done>, Problem> {
    let name = name.site()?;
    app.engine.delete_site(&name, &caller.who()).await?;
    Ok(Json(Done { ok: true, message: format!("the site `{name}` is deleted") }))
}

/// Set the custom domain of a site.
///
/// Setting the same domain again changes nothing and says so.
#[utoipa::path(post, path = "/api/sites/{site}/domain", tag = "sites", params(("site" = String, Path, example = "shop"), WaitQuery),
    request_body = SetDomain,
    responses((status = 202, description = "Taken", body = Accepted), (status = 200, description = "It is set already", body = Accepted)))]
pub(crate) async fn set_domain(
    State(app): State<App>,
    caller: Caller,
    name: Segment,
    Params(wait): Params<WaitQuery>,
    Body(body): Body<SetDomain>,
) -> Result<Response, Problem> {
    let (name, hostname, patience) = (name.site()?, crate::extract::hostname(&body.domain)?, wait.patience()?);
    let taken = app.engine.set_site_domain(&name, hostname, &caller.who()).await?;
    about_site(&app, &name, taken, patience).await
}

/// Take the custom domain away from a site.
#[utoipa::path(delete, path = "/api/sites/{site}/domain", tag = "sites", params(("site" = String, Path, example = "shop"), WaitQuery),
    responses((status = 202, description = "Taken", body = Accepted), (status = 200, description = "There was nothing to remove", body = Accepted)))]
pub(crate) async fn remove_domain(
    State(app): State<App>,
    caller: Caller,
    name: Segment,
    Params(wait): Params<WaitQuery>,
) -> Result<Response, Problem> {
    let (name, patience) = (name.site()?, wait.patience()?);
    let taken = app.engine.remove_site_domain(&name, &caller.who()).await?;
    about_site(&app, &name, taken, patience).await
}

/// What is missing until a site's domains are green, and whose move it is.
#[utoipa::path(get, path = "/api/sites/{site}/domain/status", tag = "sites", params(("site" = String, Path, example = "shop")),
    responses((status = 200, description = "Each domain with its checklist", body = DomainStatus)))]
pub(crate) async fn domain_status(State(app): State<App>, name: Segment) -> Result<Json<DomainStatus>, Problem> {
    let view = app.engine.site_view(&name.site()?).await?;
    let site = view.site.intent.name.to_string();
    let customs: Vec<_> = view.custom_domains.into_iter().map(|domain| named(&app, Some(site.clone()), domain)).collect();
    Ok(Json(DomainStatus {
        status: view.status,
        cert_status: view.cert_status.to_owned(),
        custom_domain: customs.first().cloned(),
        custom_domains: customs,
        default_domain: view.default_domain.map(|domain| named(&app, Some(site.clone()), domain)),
        site,
    }))
}

/// Order a new certificate for a site's domain now.
#[utoipa::path(post, path = "/api/sites/{site}/cert-retry", tag = "sites", params(("site" = String, Path, example = "shop"), WaitQuery),
    responses((status = 202, description = "Taken", body = Accepted)))]
pub(crate) async fn cert_retry(
    State(app): State<App>,
    caller: Caller,
    name: Segment,
    Params(wait): Params<WaitQuery>,
) -> Result<Response, Problem> {
    let (name, patience) = (name.site()?, wait.patience()?);
    let taken = app.engine.retry_site_certificate(&name, &caller.who()).await?;
    about_site(&app, &name, taken, patience).await
}

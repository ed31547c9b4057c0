//! From rows to answers: what a site or a domain looks like now, and what a taken request says.

use crate::App;
use crate::problem::Problem;
use crate::wait;
use crate::wire::Accepted;
use crate::wire::domains::DomainView;
use crate::wire::sites::SiteView;
use axum::Json;
use axum::response::{IntoResponse, Response};
use certwright_engine::requests;
use certwright_model::ids::{DomainId, SiteId};
use certwright_model::record::Domain;
use certwright_model::site::SiteName;
use http::StatusCode;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

pub(crate) async fn domain_view(app: &App, domain: Domain) -> Result<DomainView, Problem> {
    let mut views = domain_views(app, vec![domain]).await?;
    views.pop().ok_or_else(|| Problem::internal("one domain has one view"))
}

/// Each site's name is asked for once.
pub(crate) async fn domain_views(app: &App, domains: Vec<Domain>) -> Result<Vec<DomainView>, Problem> {
    let mut names: HashMap<SiteId, Option<String>> = HashMap::new();
    for id in domains.iter().filter_map(|domain| domain.intent.site_id) {
        if let Entry::Vacant(slot) = names.entry(id) {
            let site = app.engine.store().site_by_id(id).await?;
            slot.insert(site.map(|site| site.intent.name.to_string()));
        }
    }
    let name_of = |domain: &Domain| domain.intent.site_id.and_then(|id| names.get(&id).cloned().flatten());
    Ok(domains.into_iter().map(|domain| named(app, name_of(&domain), domain)).collect())
}

/// Of a domain whose site's name is known.
pub(crate) fn named(app: &App, site: Option<String>, domain: Domain) -> DomainView {
    let checklist = app.engine.checklist(&domain);
    DomainView::new(domain, site, checklist, &app.engine.config().policy.issuers)
}

/// The answer to a request about a site: 202, or 200 when there was nothing to do.
pub(crate) async fn about_site(app: &App, name: &SiteName, taken: requests::Accepted, patience: Duration) -> Result<Response, Problem> {
    let (code, mut answer) = begin(app, taken, patience).await?;
    let view: SiteView = app.engine.site_view(name).await?.into();
    answer.status = Some(view.status.to_string());
    answer.cert_status = view.cert_status.clone();
    answer.site = Some(view);
    Ok((code, Json(answer)).into_response())
}

/// The same about a domain, which may be gone when the wait ends.
pub(crate) async fn about_domain(app: &App, id: DomainId, taken: requests::Accepted, patience: Duration) -> Result<Response, Problem> {
    let (code, mut answer) = begin(app, taken, patience).await?;
    add_domain(app, &mut answer, id).await?;
    Ok((code, Json(answer)).into_response())
}

pub(crate) async fn add_domain(app: &App, answer: &mut Accepted, id: DomainId) -> Result<(), Problem> {
    if let Some(domain) = app.engine.store().domain_by_id(id).await? {
        let view = domain_view(app, domain).await?;
        answer.status = Some(view.lifecycle.to_string());
        answer.cert_status = view.cert_status.clone();
        answer.domain = Some(view);
    }
    Ok(())
}

pub(crate) async fn begin(app: &App, taken: requests::Accepted, patience: Duration) -> Result<(StatusCode, Accepted), Problem> {
    let code = if taken.job.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    let job = match taken.job {
        Some(job) => Some(wait::outcome(app, job, patience).await?.into()),
        None => None,
    };
    let (status, site, domain) = (None, None, None);
    Ok((code, Accepted { ok: true, message: taken.message, job, status, cert_status: String::new(), site, domain }))
}

//! Many domains in one call: an outcome for each, in order, and one transaction for those that can be stored.

use super::domains::{request, same_claim};
use crate::App;
use crate::extract::{Body, Caller};
use crate::problem::{Kind, Problem};
use crate::wire::domains::{BulkAnswer, BulkDomains, BulkOutcome};
use axum::Json;
use axum::extract::State;
use certwright_engine::requests::DomainRequest;
use certwright_model::Hostname;
use http::StatusCode;
use std::collections::HashSet;

/// Add up to 10,000 domains.
///
/// Each gets the outcome that a call for it alone would have had; one that is refused does not stop the others.
#[utoipa::path(post, path = "/v1/domains/bulk", tag = "domains", request_body = BulkDomains,
    responses((status = 200, description = "An outcome for each", body = BulkAnswer)))]
pub(crate) async fn create_many(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<BulkDomains, 10>,
) -> Result<Json<BulkAnswer>, Problem> {
    let limit = app.config.bulk_limit;
    if body.domains.is_empty() || body.domains.len() > limit {
        return Err(Problem::invalid("domains", format!("`domains` holds 1 to {limit} domains; here are {}", body.domains.len())));
    }
    let mut seen: HashSet<Hostname> = HashSet::with_capacity(body.domains.len());
    let (mut outcomes, mut wanted): (Vec<BulkOutcome>, Vec<(usize, DomainRequest)>) = Default::default();
    for (index, body) in body.domains.into_iter().enumerate() {
        let asked: String = body.domain.chars().take(300).collect();
        let request = request(body).and_then(|request| match seen.insert(request.hostname.clone()) {
            true => Ok(request),
            false => Err(Problem::new(Kind::Conflict, format!("{} stands in this list twice", request.hostname))),
        });
        let problem = request.as_ref().err().cloned();
        outcomes.push(outcome(asked, problem));
        wanted.extend(request.ok().map(|request| (index, request)));
    }
    let requests = wanted.iter().map(|(_, request)| request.clone()).collect();
    let stored = app.engine.add_domains(requests, &caller.who()).await;
    for ((index, request), stored) in wanted.into_iter().zip(stored) {
        let slot = &mut outcomes[index];
        match stored {
            Ok(domain) => slot.id = Some(domain.intent.id),
            Err(error) => match same_claim(&app, &request, &error).await? {
                Some(id) => (slot.id, slot.status) = (Some(id), StatusCode::OK.as_u16()),
                None => *slot = outcome(std::mem::take(&mut slot.domain), Some(error.into())),
            },
        }
    }
    let count = |status: StatusCode| outcomes.iter().filter(|outcome| outcome.status == status.as_u16()).count();
    let (created, unchanged) = (count(StatusCode::CREATED), count(StatusCode::OK));
    let failed = outcomes.len() - created - unchanged;
    Ok(Json(BulkAnswer { ok: failed == 0, created, unchanged, failed, outcomes }))
}

fn outcome(domain: String, problem: Option<Problem>) -> BulkOutcome {
    let status = problem.as_ref().map_or(StatusCode::CREATED, Problem::status).as_u16();
    BulkOutcome { domain, status, id: None, problem: problem.map(|problem| problem.document(None)) }
}

//! Jobs: what was asked for and how far it is.

use crate::App;
use crate::extract::{PageQuery, Params, Segment, site_name};
use crate::problem::Problem;
use crate::wire::Listing;
use crate::wire::jobs::{JobView, StepView};
use axum::Json;
use axum::extract::State;
use certwright_model::ids::JobId;
use certwright_model::record::Job;
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobQuery {
    /// The name of a site.
    site: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// 1 to 1000; 100 by default.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// List the jobs, newest first.
#[utoipa::path(get, path = "/api/jobs", tag = "jobs", params(JobQuery),
    responses((status = 200, description = "One page", body = Listing<JobView>)))]
pub(crate) async fn list(State(app): State<App>, Params(query): Params<JobQuery>) -> Result<Json<Listing<JobView>>, Problem> {
    let (cursor, limit) = PageQuery { cursor: query.cursor, limit: query.limit }.check()?;
    let site = match query.site {
        Some(name) => Some(app.engine.site(&site_name(&name)?).await?.intent.id),
        None => None,
    };
    let page = app.engine.store().jobs_page(cursor, limit, site).await?;
    Ok(Json(Listing::new(page, JobView::from)))
}

/// Show a job with its steps.
#[utoipa::path(get, path = "/api/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The job", body = JobView)))]
pub(crate) async fn show(State(app): State<App>, id: Segment) -> Result<Json<JobView>, Problem> {
    let job = find(&app, id.id("job")?).await?;
    let steps = app.engine.store().job_steps(job.id, 0).await?;
    let mut view = JobView::from(job);
    view.steps = Some(steps.into_iter().map(StepView::from).collect());
    Ok(Json(view))
}

pub(crate) async fn find(app: &App, id: JobId) -> Result<Job, Problem> {
    app.engine.store().job(id).await?.ok_or_else(|| Problem::not_found("job", id))
}

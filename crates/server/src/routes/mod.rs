//! The routes, grouped by what they are about, and the router made of them.
//!
//! A route is added with its `utoipa::path`, so that it is in the OpenAPI document by being in the router at all.

mod admin;
mod bulk;
mod cert_events;
mod domains;
mod events;
mod health;
mod jobs;
mod sites;
mod views;

use crate::problem::{Kind, Problem};
use crate::{App, dashboard, gate, openapi};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// All routes, with their documentation, without the gate.
pub(crate) fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(sites::provision))
        .routes(routes!(sites::provision_static))
        .routes(routes!(sites::destroy))
        .routes(routes!(sites::list))
        .routes(routes!(sites::show, sites::delete))
        .routes(routes!(sites::set_domain, sites::remove_domain))
        .routes(routes!(sites::domain_status))
        .routes(routes!(sites::cert_retry))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::show))
        .routes(routes!(events::events))
        .routes(routes!(domains::list, domains::create))
        .routes(routes!(bulk::create_many))
        .routes(routes!(domains::show, domains::change, domains::remove))
        .routes(routes!(domains::verify))
        .routes(routes!(domains::cert_retry))
        .routes(routes!(domains::certificates))
        .routes(routes!(cert_events::ingest))
        .routes(routes!(cert_events::of_domain))
        .routes(routes!(cert_events::list))
        .routes(routes!(cert_events::show))
        .routes(routes!(cert_events::replay))
        .routes(routes!(cert_events::replay_many))
        .routes(routes!(cert_events::sources))
        .routes(routes!(admin::tokens, admin::create_token))
        .routes(routes!(admin::revoke_token))
        .routes(routes!(admin::audit))
        .routes(routes!(admin::status))
        .routes(routes!(admin::repair))
        .routes(routes!(health::root_pem))
        .routes(routes!(openapi::serve_document))
        .routes(routes!(dashboard::page))
        .routes(routes!(dashboard::script))
        .routes(routes!(dashboard::style))
}

/// The whole API.
pub fn router(app: App) -> Router {
    // Only the multipart reader asks for this limit; JSON bodies have their own. The reader counts the parts itself and stops
    // at its own limit; this one bounds the heads between them, and what is thrown away afterwards.
    let upload = usize::try_from(app.config.max_upload_bytes).unwrap_or(usize::MAX).saturating_add(16 << 20);
    let (router, _) = documented().split_for_parts();
    router
        .route_layer(from_fn_with_state(app.clone(), gate::authorize))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(upload))
        .layer(from_fn_with_state(app.clone(), gate::frame))
        .with_state(app)
}

async fn unknown_route() -> Problem {
    Problem::new(Kind::UnknownRoute, "the routes are listed in /openapi.json")
}

async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "the methods of each route are listed in /openapi.json")
}

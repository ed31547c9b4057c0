//! The OpenAPI 3.1 document: made of the routes themselves, completed with what all of them share.
//!
//! Security comes from the table in [`crate::access`], problem responses from the shape of each route, so neither can be
//! forgotten on a new one.

use crate::access::{self, Access};
use crate::problem::Document;
use crate::routes;
use axum::Json;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

const KEY: &str = "api_key";
const BEARER: &str = "bearer";
const EVENT: &str = "event_token";

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "server",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub(crate) async fn serve_document() -> Json<OpenApi> {
    Json(document())
}

/// All of the API.
pub fn document() -> OpenApi {
    let mut document = routes::documented().into_openapi();
    document.info = InfoBuilder::new()
        .title("Certwright")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Sites, domains and their certificates. Nothing is reported issued before a TLS handshake has shown it. \
             Errors are problem documents (RFC 9457); lists are paged by cursor; times are RFC 3339 in UTC.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0 OR MIT").identifier(Some("Apache-2.0 OR MIT")).build()))
        .build();
    let components = document.components.get_or_insert_default();
    components.schemas.insert(Document::name().into_owned(), Document::schema());
    let key = ApiKeyValue::with_description("X-API-Key", "A token: `cw_…`");
    components.security_schemes.insert(KEY.into(), RefOr::T(SecurityScheme::ApiKey(ApiKey::Header(key))));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token: `cw_…`")).build();
    components.security_schemes.insert(BEARER.into(), RefOr::T(SecurityScheme::Http(bearer)));
    let event = ApiKeyValue::with_description("x-cert-event-token", "`CERT_EVENT_INGEST_TOKEN`, or a token of the role `ingest`");
    components.security_schemes.insert(EVENT.into(), RefOr::T(SecurityScheme::ApiKey(ApiKey::Header(event))));
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Patch, &mut item.patch),
            (HttpMethod::Delete, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                complete(path, method_name(&method), operation);
            }
        }
    }
    document
}

fn method_name(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Post => "POST",
        HttpMethod::Patch => "PATCH",
        HttpMethod::Delete => "DELETE",
        _ => "GET",
    }
}

fn complete(path: &str, method: &str, operation: &mut Operation) {
    let access = access::of(method, path);
    let reports = access == Access::Event;
    let secured = access != Access::Public;
    let changes = method != "GET";
    // Handlers are named within their module; client generators want one name each.
    let group = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
    operation.operation_id = operation.operation_id.take().map(|name| format!("{group}_{name}"));
    let requirement = |name: &str| SecurityRequirement::new::<_, [&str; 0], &str>(name, []);
    match access {
        Access::Public => {}
        Access::Event => operation.security = Some(vec![requirement(EVENT)]),
        Access::Needs(permission) => {
            operation.security = Some(vec![requirement(KEY), requirement(BEARER)]);
            let needs = format!("Needs the permission `{permission}`.");
            operation.description = Some(operation.description.take().map_or(needs.clone(), |text| format!("{text}\n\n{needs}")));
        }
    }
    let possible = [
        (400, secured, "The input is not valid"),
        (401, secured, "No token, or one that is not known or has expired"),
        (403, secured && !reports, "The token's role does not allow it"),
        (404, path.contains('{') || path.contains("root.pem") || secured, "It does not exist"),
        (408, operation.request_body.is_some(), "The body took too long to arrive"),
        (409, changes, "The present state does not allow it"),
        (413, operation.request_body.is_some(), "The body is too large"),
        (415, operation.request_body.is_some() && !reports, "The body has another content type"),
        (429, reports, "The source reports faster than it may; `Retry-After` says when to go on"),
        (500, true, "An error of our own; the log has it"),
        (503, true, "Not possible right now; `Retry-After` says when to ask again"),
        (507, changes, "The disk is full"),
    ];
    for (status, applies, description) in possible {
        let responses = &mut operation.responses.responses;
        if applies && !responses.contains_key(&status.to_string()) {
            responses.insert(status.to_string(), RefOr::T(problem(description)));
        }
    }
}

fn problem(description: &str) -> Response {
    let schema = Ref::from_schema_name(Document::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

//! The HTTP API, its OpenAPI document, the dashboard and the metrics page.
//!
//! Invariants: a handler validates, stores intent through the engine and answers; it never orders, deploys or dials. Each
//! route needs the permission that [`access`] gives it, and one that is missing there is closed to everybody but
//! administrators. Every error is a problem document (RFC 9457), made in [`problem`]. Nothing here answers with a private
//! key or a token's hash. This is the only crate that knows an HTTP status.

pub mod access;
mod admin_token;
mod app;
mod dashboard;
mod extract;
mod gate;
mod metrics;
mod openapi;
pub mod problem;
pub mod provenance;
mod routes;
mod serve;
mod upload;
mod wait;
pub mod wire;

pub use admin_token::{AdminToken, AdminTokenError, ensure_admin_token, replace_admin_token};
pub use app::{App, EventConfig, ServerConfig};
pub use openapi::document as openapi;
pub use routes::router;
pub use serve::{serve, serve_metrics};

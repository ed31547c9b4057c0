//! The bodies of the API, as they are on the wire: snake_case, times RFC 3339 in UTC, an unknown field refused.
//!
//! Answers can also be read back, for clients in Rust. No body holds a secret, but for [`admin::TokenCreated`], once.

pub mod admin;
pub mod cert_events;
pub mod domains;
pub mod jobs;
pub mod sites;
pub mod words;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list. `next_cursor` is `null` on the last page.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Listing<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

impl<T> Listing<T> {
    pub(crate) fn new<S>(page: certwright_store::Page<S>, view: impl Fn(S) -> T) -> Self {
        Self { items: page.items.into_iter().map(view).collect(), next_cursor: page.next }
    }
}

/// Why something is not green.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonView {
    #[schema(schema_with = words::reason_code)]
    pub code: certwright_model::ReasonCode,
    #[schema(example = "DNS has no record for shop.example.com yet")]
    pub message: String,
    /// Who has to act for it to go away.
    #[schema(schema_with = words::actor)]
    pub actor: certwright_model::Actor,
    /// When Certwright looks again by itself; `null` when it waits for somebody.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_look_at: Option<jiff::Timestamp>,
}

impl From<certwright_model::Reason> for ReasonView {
    fn from(reason: certwright_model::Reason) -> Self {
        Self { code: reason.code, message: reason.message, actor: reason.actor, next_look_at: reason.next_look_at }
    }
}

/// A request that was taken. Without a job there was nothing to do, and `message` says so.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    #[schema(example = true)]
    pub ok: bool,
    #[schema(example = "shop.example.com is being attached to `shop`")]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<jobs::JobView>,
    /// Of the site, or of the domain where there is no site: its status now, or when the wait ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "DOMAIN_PENDING")]
    pub status: Option<String>,
    /// `issued` only when a handshake has shown it; `pending` is not an error; empty where none is wanted.
    #[schema(schema_with = words::cert_status)]
    pub cert_status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<sites::SiteView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<domains::DomainView>,
}

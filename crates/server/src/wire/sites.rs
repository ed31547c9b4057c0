//! Sites on the wire.

use super::{ReasonView, words};
use certwright_engine::inspect;
use certwright_model::domain::Desired;
use certwright_model::ids::SiteId;
use certwright_model::site::SiteKind;
use certwright_model::view::SiteStatus;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A site before an upstream that runs already.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    /// `^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`
    #[schema(example = "shop")]
    pub site: String,
    /// `http://host:port`
    #[serde(default)]
    #[schema(example = "http://127.0.0.1:3000")]
    pub upstream: Option<String>,
    /// Only `proxy` here; a static site is made with `POST /api/static/provision`.
    #[serde(default)]
    #[schema(example = "proxy")]
    pub kind: Option<String>,
}

/// The multipart body of a static site.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes the body in the OpenAPI document")]
pub(crate) struct StaticUpload {
    #[schema(example = "docs")]
    site: String,
    /// A ZIP archive of the files; no links, no paths that leave it.
    #[schema(value_type = String, format = Binary, content_media_type = "application/zip")]
    zip: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteNamed {
    #[schema(example = "shop")]
    pub site: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDomain {
    #[schema(example = "shop.example.com")]
    pub domain: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SiteView {
    #[schema(value_type = String, format = "uuid")]
    pub id: SiteId,
    #[schema(example = "shop")]
    pub name: String,
    /// `static` or `proxy`.
    #[schema(example = "static")]
    pub kind: String,
    /// Of a proxy site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    #[schema(schema_with = words::desired)]
    pub desired: Desired,
    /// The site and its custom domain in one word.
    #[schema(schema_with = words::site_status)]
    pub status: SiteStatus,
    #[schema(example = "shop.sites.example.net")]
    pub default_domain: Option<String>,
    /// The first of `custom_domains`.
    #[schema(example = "shop.example.com")]
    pub custom_domain: Option<String>,
    pub custom_domains: Vec<String>,
    #[schema(schema_with = words::cert_status)]
    pub cert_status: String,
    /// The end of the certificate that `cert_status` speaks of.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub tls_not_after: Option<Timestamp>,
    pub reason: Option<ReasonView>,
    pub warnings: Vec<ReasonView>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When what is wanted of it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
    /// When its lifecycle last moved.
    #[schema(value_type = String, format = DateTime)]
    pub lifecycle_since: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_reconciled_at: Option<Timestamp>,
}

impl From<inspect::SiteView> for SiteView {
    fn from(view: inspect::SiteView) -> Self {
        let (intent, state) = (view.site.intent, view.site.state);
        let custom_domains: Vec<String> = view.custom_domains.iter().map(|domain| domain.intent.hostname.to_string()).collect();
        let speaker = view.custom_domains.first().or(view.default_domain.as_ref());
        Self {
            id: intent.id,
            name: intent.name.to_string(),
            kind: intent.kind.as_str().to_owned(),
            desired: intent.desired,
            status: view.status,
            default_domain: view.default_domain.as_ref().map(|domain| domain.intent.hostname.to_string()),
            custom_domain: custom_domains.first().cloned(),
            custom_domains,
            cert_status: view.cert_status.to_owned(),
            tls_not_after: speaker.and_then(|domain| domain.state.tls_not_after),
            reason: state.reason.map(ReasonView::from),
            warnings: view.warnings.into_iter().map(ReasonView::from).collect(),
            created_at: intent.created_at,
            changed_at: intent.changed_at,
            lifecycle_since: state.lifecycle_since,
            last_reconciled_at: state.last_reconciled_at,
            upstream: match intent.kind {
                SiteKind::Proxy { upstream } => Some(upstream),
                SiteKind::Static { .. } => None,
            },
        }
    }
}

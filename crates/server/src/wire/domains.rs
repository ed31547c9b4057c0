//! Domains, their checklist, certificates and history on the wire.

use super::{ReasonView, words};
use certwright_engine::inspect;
use certwright_model::answers::DnsRecord;
use certwright_model::certificate::{CertificateRef, KeyType};
use certwright_model::domain::{Desired, DomainKind, DomainLifecycle, FailurePolicy, Route, TlsMode, TlsStatus};
use certwright_model::ids::{CertificateId, DomainId, SiteId};
use certwright_model::record::{Domain, EventType};
use certwright_model::{Actor, ReasonCode, planner};
use certwright_store::CertificateRow;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDomain {
    #[schema(example = "shop.example.com")]
    pub domain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_tls_mode)]
    pub tls_mode: Option<TlsMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_failure_policy)]
    pub failure_policy: Option<FailurePolicy>,
    /// One issuer by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "internal")]
    pub issuer: Option<String>,
    /// Several in order of preference, instead of `issuer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_key_type)]
    pub key_type: Option<KeyType>,
}

/// One of `{site}`, `{upstream, region?}` and `{tunnel, target?, region?}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "http://127.0.0.1:3000")]
    pub upstream: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "eu-1")]
    pub region: Option<String>,
}

/// What is not named stays as it is; `"route": null` takes the route away.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeDomain {
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RouteBody>)]
    pub route: Option<Option<RouteBody>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_tls_mode)]
    pub tls_mode: Option<TlsMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_failure_policy)]
    pub failure_policy: Option<FailurePolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Empty: the server's own order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_key_type)]
    pub key_type: Option<KeyType>,
}

/// `null` and absence are two things.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<RouteBody>>, D::Error> {
    Option::<RouteBody>::deserialize(deserializer).map(Some)
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkDomains {
    pub domains: Vec<NewDomain>,
}

/// An outcome for each, in the order asked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkAnswer {
    pub ok: bool,
    pub created: usize,
    pub unchanged: usize,
    pub failed: usize,
    pub outcomes: Vec<BulkOutcome>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkOutcome {
    /// As it was asked for.
    #[schema(example = "shop.example.com")]
    pub domain: String,
    /// What a call for this domain alone would have answered: 201 created, 200 unchanged, 4xx refused.
    #[schema(example = 201)]
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub id: Option<DomainId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<crate::problem::Document>,
}

/// A domain: what is wanted, and the state of it (the columns of the contract's section on TLS state).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DomainView {
    #[schema(value_type = String, format = "uuid")]
    pub id: DomainId,
    /// In ASCII (`xn--` labels).
    #[schema(example = "shop.example.com")]
    pub domain: String,
    #[schema(schema_with = words::domain_kind)]
    pub kind: DomainKind,
    #[schema(value_type = Option<String>, format = "uuid")]
    pub site_id: Option<SiteId>,
    /// The name of its site.
    pub site: Option<String>,
    #[schema(schema_with = words::desired)]
    pub desired: Desired,
    #[schema(schema_with = words::domain_lifecycle)]
    pub lifecycle: DomainLifecycle,
    #[schema(value_type = String, format = DateTime)]
    pub lifecycle_since: Timestamp,
    pub route: Option<RouteBody>,
    pub region: Option<String>,
    #[schema(schema_with = words::tls_status)]
    pub tls_status: TlsStatus,
    #[schema(schema_with = words::tls_mode)]
    pub tls_mode: TlsMode,
    #[schema(schema_with = words::cert_status)]
    pub cert_status: String,
    /// Whether `tls_status` rests on a handshake.
    pub proven: bool,
    #[schema(value_type = Option<String>, example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub certificate_ref: Option<CertificateRef>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub tls_not_after: Option<Timestamp>,
    pub tls_last_error: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub tls_last_checked_at: Option<Timestamp>,
    #[schema(schema_with = words::failure_policy)]
    pub cert_failure_policy: FailurePolicy,
    pub cert_failure_count: u32,
    pub cert_retry_backoff_seconds: Option<i64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cert_next_retry_at: Option<Timestamp>,
    #[schema(schema_with = words::maybe_event_type)]
    pub cert_last_event_type: Option<EventType>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cert_last_event_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cert_renewal_due_at: Option<Timestamp>,
    pub reason: Option<ReasonView>,
    /// The issuers that are asked, in order; the server's own order where the domain names none. `external` where the TLS of the
    /// domain ends elsewhere, and somebody else gets the certificate.
    pub issuers: Vec<String>,
    #[schema(schema_with = words::key_type)]
    pub key_type: KeyType,
    pub checklist: ChecklistView,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
}

impl DomainView {
    /// `site`: the name of the domain's site. `issuers`: the server's own order.
    pub(crate) fn new(domain: Domain, site: Option<String>, checklist: inspect::Checklist, issuers: &[String]) -> Self {
        let cert_status = inspect::cert_status(&domain).to_owned();
        let is_issued_here = planner::is_issued_by_us(&domain);
        let Domain { intent, state } = domain;
        Self {
            id: intent.id,
            domain: intent.hostname.to_string(),
            kind: intent.kind,
            site_id: intent.site_id,
            desired: intent.desired,
            lifecycle: state.lifecycle,
            lifecycle_since: state.lifecycle_since,
            region: intent.route.as_ref().and_then(Route::region).map(str::to_owned),
            route: intent.route.map(|route| RouteBody::new(route, site.clone())),
            site,
            tls_status: state.tls_status,
            tls_mode: intent.tls_mode,
            cert_status,
            proven: state.proven,
            certificate_ref: state.certificate_ref,
            tls_not_after: state.tls_not_after,
            tls_last_error: state.tls_last_error,
            tls_last_checked_at: state.tls_last_checked_at,
            cert_failure_policy: intent.failure_policy,
            cert_failure_count: state.cert_failure_count,
            cert_retry_backoff_seconds: state.cert_retry_backoff_seconds,
            cert_next_retry_at: state.cert_next_retry_at,
            cert_last_event_type: state.cert_last_event_type,
            cert_last_event_at: state.cert_last_event_at,
            cert_renewal_due_at: state.cert_renewal_due_at,
            reason: state.reason.map(ReasonView::from),
            issuers: match intent.issuers {
                _ if !is_issued_here => vec!["external".to_owned()],
                none if none.is_empty() => issuers.to_vec(),
                named => named,
            },
            key_type: intent.key_type,
            checklist: checklist.into(),
            created_at: intent.created_at,
            changed_at: intent.changed_at,
        }
    }
}

impl RouteBody {
    fn new(route: Route, site: Option<String>) -> Self {
        match route {
            Route::Site => Self { site, ..Self::default() },
            Route::Upstream { upstream, region } => Self { upstream: Some(upstream), region, ..Self::default() },
            Route::Tunnel { tunnel, target, region } => Self { tunnel: Some(tunnel), target, region, ..Self::default() },
        }
    }
}

/// The three answers: who owns the name, where DNS leads, what the wire shows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChecklistView {
    pub ownership: AnswerView,
    pub routing: AnswerView,
    pub tls: AnswerView,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AnswerView {
    pub ok: bool,
    #[schema(schema_with = words::reason_code)]
    pub code: ReasonCode,
    pub message: String,
    /// Whose move it is.
    #[schema(schema_with = words::actor)]
    pub actor: Actor,
    /// The exact DNS records to add, where that is what is missing.
    pub records: Vec<RecordView>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub checked_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_check_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordView {
    #[schema(example = "_certwright.shop.example.com")]
    pub name: String,
    #[schema(example = "TXT")]
    pub kind: String,
    pub value: String,
}

impl From<inspect::Checklist> for ChecklistView {
    fn from(list: inspect::Checklist) -> Self {
        Self { ownership: list.ownership.into(), routing: list.routing.into(), tls: list.tls.into() }
    }
}

impl From<inspect::Answer> for AnswerView {
    fn from(answer: inspect::Answer) -> Self {
        let record = |record: DnsRecord| RecordView { name: record.name, kind: record.kind, value: record.value };
        Self {
            ok: answer.ok,
            code: answer.code,
            message: answer.message,
            actor: answer.actor,
            records: answer.records.into_iter().map(record).collect(),
            checked_at: answer.checked_at,
            next_check_at: answer.next_check_at,
        }
    }
}

/// A site's domains, each with its checklist. `custom_domain` is `null` when none is set.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DomainStatus {
    #[schema(example = "shop")]
    pub site: String,
    #[schema(schema_with = words::site_status)]
    pub status: certwright_model::view::SiteStatus,
    #[schema(schema_with = words::cert_status)]
    pub cert_status: String,
    pub custom_domain: Option<DomainView>,
    pub custom_domains: Vec<DomainView>,
    pub default_domain: Option<DomainView>,
}

/// Never with a key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    #[schema(value_type = String, format = "uuid")]
    pub id: CertificateId,
    /// `current`, `staged` (given to the edge, not seen yet) or `retired`.
    #[schema(example = "current")]
    pub status: String,
    #[schema(value_type = String)]
    pub certificate_ref: CertificateRef,
    pub names: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    pub not_before: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub not_after: Timestamp,
    #[schema(schema_with = words::key_type)]
    pub key_type: KeyType,
    /// The configured issuer that gave it.
    #[schema(example = "internal")]
    pub issuer: String,
    /// The issuer as the certificate names it (RFC 4514).
    pub issuer_dn: String,
    /// Lower-case hex.
    pub serial: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Leaf first.
    pub chain_pem: String,
}

impl From<CertificateRow> for CertificateView {
    fn from(row: CertificateRow) -> Self {
        Self {
            id: row.id,
            status: row.status.as_str().to_owned(),
            certificate_ref: row.facts.certificate_ref,
            names: row.facts.names,
            not_before: row.facts.not_before,
            not_after: row.facts.not_after,
            key_type: row.facts.key_type,
            issuer: row.facts.issuer,
            issuer_dn: row.facts.issuer_dn,
            serial: row.facts.serial,
            created_at: row.created_at,
            chain_pem: row.chain_pem,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertificateList {
    /// Newest first; all that are kept.
    pub items: Vec<CertificateView>,
}

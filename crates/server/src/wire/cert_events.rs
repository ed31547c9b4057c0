//! Certificate events on the wire (SPEC section 6): what is sent, and what is shown.

use super::words;
use certwright_model::certificate::CertificateRef;
use certwright_model::event::{self, CallbackAction, CallbackClass, EventStatus, Identity, Report, ReportError};
use certwright_model::ids::EventId;
use certwright_model::record::EventType;
use certwright_store::{EventNote, EventRow, SourceRow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a certificate manager reports. Each name may also be spelled in camelCase.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CertEvent {
    /// The manager. Must be that of `x-cert-source`, where that is sent.
    #[schema(example = "lego")]
    pub source: String,
    /// Which one of the managers of this kind.
    #[serde(alias = "clusterId")]
    #[schema(example = "web-1")]
    pub cluster_id: String,
    /// Unique for the source and cluster: the same again is the same event.
    #[serde(alias = "sourceEventId")]
    #[schema(example = "renew-2026-11-21-www")]
    pub source_event_id: String,
    /// This or `domain`.
    #[serde(alias = "domainId", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub domain_id: Option<String>,
    /// This or `domain_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "www.example.com")]
    pub domain: Option<String>,
    /// This, or `callback_class` and `callback_action`.
    #[serde(alias = "eventType", skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_event_type)]
    pub event_type: Option<EventType>,
    #[serde(alias = "callbackClass", skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_callback_class)]
    pub callback_class: Option<CallbackClass>,
    #[serde(alias = "callbackAction", skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_callback_action)]
    pub callback_action: Option<CallbackAction>,
    #[serde(alias = "callbackAttempt", skip_serializing_if = "Option::is_none")]
    pub callback_attempt: Option<u32>,
    #[serde(alias = "callbackReceivedAt", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub callback_received_at: Option<Timestamp>,
    /// When it happened; without it, when it arrived.
    #[serde(alias = "occurredAt", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub occurred_at: Option<Timestamp>,
    /// `sha256:` and the hex digest of the leaf.
    #[serde(alias = "certificateRef", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub certificate_ref: Option<CertificateRef>,
    #[serde(alias = "notAfter", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_after: Option<Timestamp>,
    #[serde(alias = "renewalDueAt", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub renewal_due_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Anything else; kept, and shown in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<serde_json::Value>,
}

/// What of a body is left when it has been checked.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) identity: Identity,
    pub(crate) source_event_id: String,
    pub(crate) domain_id: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) event_type: EventType,
    pub(crate) report: Report,
}

impl CertEvent {
    pub(crate) fn check(self) -> Result<Checked, ReportError> {
        let identity = Identity::new(&self.source, &self.cluster_id)?;
        event::check_source_event_id(&self.source_event_id)?;
        Ok(Checked {
            identity,
            source_event_id: self.source_event_id,
            domain_id: self.domain_id,
            domain: self.domain,
            event_type: event::event_type(self.event_type, self.callback_class, self.callback_action)?,
            report: Report {
                occurred_at: self.occurred_at,
                certificate_ref: self.certificate_ref,
                not_after: self.not_after,
                renewal_due_at: self.renewal_due_at,
                reason: self.reason,
                callback_class: self.callback_class,
                callback_action: self.callback_action,
                callback_attempt: self.callback_attempt,
                callback_received_at: self.callback_received_at,
                payload: self.payload,
            },
        })
    }
}

/// The event is on disk.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertEventAccepted {
    pub ok: bool,
    #[schema(value_type = String, format = "uuid")]
    pub event_id: EventId,
    #[schema(schema_with = words::event_status)]
    pub status: EventStatus,
    pub source: String,
    pub cluster_id: String,
    /// Whether a signature was asked for, and was right.
    pub provenance_verified: bool,
    /// `source:cluster` whose secret signed it.
    pub provenance_subject: Option<String>,
    /// It was accepted before.
    pub duplicate: bool,
}

/// One event, ours or reported.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertEventView {
    #[schema(value_type = String, format = "uuid")]
    pub id: EventId,
    /// `certwright` for what Certwright did itself.
    pub source: String,
    pub cluster_id: String,
    pub source_event_id: String,
    pub domain: String,
    /// `null` for a step of Certwright's own that is no event of a certificate, such as drift.
    #[schema(schema_with = words::maybe_event_type)]
    pub event_type: Option<EventType>,
    #[schema(schema_with = words::event_status)]
    pub status: EventStatus,
    /// What orders the events of a domain: `occurred_at`, or when it arrived.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    pub provenance_verified: bool,
    /// How often it was tried.
    pub tries: u32,
    pub replays: u32,
    /// When it is tried next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_try_at: Option<Timestamp>,
    /// Why the last try failed.
    pub error: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub settled_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub certificate_ref: Option<CertificateRef>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_after: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub renewal_due_at: Option<Timestamp>,
    pub reason: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub payload: Option<serde_json::Value>,
}

impl From<EventRow> for CertEventView {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id,
            source: row.identity.source,
            cluster_id: row.identity.cluster_id,
            source_event_id: row.source_event_id,
            domain: row.hostname.to_string(),
            event_type: row.event_type,
            status: row.status,
            at: row.at,
            received_at: row.received_at,
            provenance_verified: row.verified,
            tries: row.tries,
            replays: row.replays,
            next_try_at: row.due_at,
            error: row.error,
            settled_at: row.settled_at,
            certificate_ref: row.report.certificate_ref,
            not_after: row.report.not_after,
            renewal_due_at: row.report.renewal_due_at,
            reason: row.report.reason,
            payload: row.report.payload,
        }
    }
}

/// One event with what was done about it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertEventHistory {
    pub event: CertEventView,
    /// In order.
    pub history: Vec<CertEventNote>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertEventNote {
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub actor: String,
    #[schema(example = "replay")]
    pub action: String,
}

impl From<EventNote> for CertEventNote {
    fn from(note: EventNote) -> Self {
        Self { at: note.at, actor: note.actor, action: note.action }
    }
}

/// Which events to replay: those that all of this is true of.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayEvents {
    /// `failed` where nothing is said; `pending` ones are tried now instead of later.
    #[schema(schema_with = words::maybe_event_status)]
    pub status: Option<EventStatus>,
    pub source: Option<String>,
    pub cluster_id: Option<String>,
    pub domain: Option<String>,
    /// 1 to 10,000, oldest first; 1,000 by default.
    #[schema(minimum = 1, maximum = 10000)]
    pub limit: Option<u32>,
    /// Say how many there are, and change nothing.
    pub dry_run: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Replayed {
    pub ok: bool,
    pub dry_run: bool,
    /// How many are (or would be) tried again.
    pub replayed: u64,
}

/// Who reports, and how it went.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertSourceView {
    pub source: String,
    pub cluster_id: String,
    #[schema(value_type = String, format = DateTime)]
    pub first_seen_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub last_seen_at: Timestamp,
    pub accepted: u64,
    pub duplicates: u64,
    pub rejected: u64,
    /// Of the rejected, those whose signature or timestamp was wrong.
    pub signature_failures: u64,
    /// Whether `CERT_EVENT_SOURCE_KEYS` has a secret for it.
    pub has_key: bool,
}

impl CertSourceView {
    pub(crate) fn new(row: SourceRow, has_key: bool) -> Self {
        Self {
            source: row.identity.source,
            cluster_id: row.identity.cluster_id,
            first_seen_at: row.first_seen_at,
            last_seen_at: row.last_seen_at,
            accepted: row.accepted,
            duplicates: row.duplicates,
            rejected: row.rejected,
            signature_failures: row.signature_failures,
            has_key,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertSourceList {
    /// By name.
    pub items: Vec<CertSourceView>,
}

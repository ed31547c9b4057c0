//! Tokens, the audit log, health and status on the wire.

use super::{ReasonView, words};
use certwright_engine::status::LoopStatus;
use certwright_model::authority::Role;
use certwright_model::ids::TokenId;
use certwright_store::{AuditEntry, TokenRow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Unique; what the audit log shows. 1 to 64 characters out of letters, digits and `-_.@`.
    #[schema(example = "deploy")]
    pub name: String,
    #[schema(schema_with = words::role)]
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// Never with the secret or its hash.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    #[schema(value_type = String, format = "uuid")]
    pub id: TokenId,
    pub name: String,
    #[schema(schema_with = words::role)]
    pub role: Role,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

impl From<TokenRow> for TokenView {
    fn from(row: TokenRow) -> Self {
        Self { id: row.id, name: row.name, role: row.role, created_at: row.created_at, expires_at: row.expires_at }
    }
}

/// The one answer that holds a secret: it is shown here and never again.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    pub ok: bool,
    /// `cw_` and 43 characters of base64url.
    #[schema(example = "cw_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    pub secret: String,
    pub token: TokenView,
}

impl std::fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenCreated").field("token", &self.token).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// By name; expired ones too.
    pub items: Vec<TokenView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Done {
    pub ok: bool,
    pub message: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    pub id: i64,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// A token's name, or `system`.
    pub actor: String,
    #[schema(example = "domain.create")]
    pub action: String,
    pub subject: String,
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, at, actor, action, subject, before, after } = entry;
        Self { id, at, actor, action, subject, before, after }
    }
}

/// `ok`: working. `starting`: no loop has run yet. `stalled`: a loop has not run for too long.
/// `down`: the database does not answer. The last two come with 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthWord {
    Ok,
    Starting,
    Stalled,
    Down,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub ok: bool,
    pub status: HealthWord,
    pub version: String,
    pub store: StoreHealth,
    /// By name.
    pub loops: BTreeMap<String, LoopHealth>,
    pub backlog: Option<Backlog>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StoreHealth {
    pub ok: bool,
    /// `sqlite` or `postgres`.
    pub backend: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LoopHealth {
    pub ok: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_run_at: Option<Timestamp>,
}

/// What is due and not taken yet; counted up to 10,000.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Backlog {
    pub due_domains: u64,
    pub due_sites: u64,
    pub open_jobs: u64,
    /// How long the oldest due row has been due.
    pub oldest_due_seconds: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    pub version: String,
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    #[schema(value_type = String, format = "uuid")]
    pub node: certwright_model::ids::NodeId,
    pub base_domain: String,
    /// `sqlite` or `postgres`.
    pub store: String,
    pub loops: BTreeMap<String, LoopView>,
    pub domains: BTreeMap<String, u64>,
    pub sites: BTreeMap<String, u64>,
    pub backlog: Backlog,
    /// `null` where this process has no edge.
    pub edge: Option<EdgeView>,
    pub issuers: Vec<IssuerView>,
    /// Rows that nothing looks at any more; `doctor --repair` removes them.
    pub orphans: Vec<OrphanView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LoopView {
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_run_at: Option<Timestamp>,
    pub last_duration_ms: u64,
    pub runs: u64,
    /// Rows taken in all runs.
    pub taken: u64,
    pub done: u64,
    pub failed: u64,
    pub last_error: Option<String>,
}

impl From<LoopStatus> for LoopView {
    fn from(status: LoopStatus) -> Self {
        let LoopStatus { last_run_at, last_duration_ms, runs, taken, done, failed, last_error } = status;
        Self { last_run_at, last_duration_ms, runs, taken, done, failed, last_error }
    }
}

/// Totals since the start, except where a name says "now".
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EdgeView {
    pub names_now: u64,
    pub connections_now: u64,
    pub connections: u64,
    pub handshakes_ok: u64,
    pub handshakes_failed: u64,
    pub requests: u64,
    pub certificates_cached_now: u64,
    pub certificate_hits: u64,
    pub certificate_misses: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct IssuerView {
    pub name: String,
    /// `acme` or `internal`.
    pub kind: String,
    /// Whether it could be asked now.
    pub ok: bool,
    pub reason: Option<ReasonView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OrphanView {
    #[schema(example = "stale_order")]
    pub kind: String,
    pub id: String,
    pub detail: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Repaired {
    pub ok: bool,
    pub repaired: u64,
}

//! Errors as problem documents (RFC 9457): the one place where an error meets an HTTP status.
//!
//! A 4xx says what the caller can do. A 5xx says only what kind of trouble it is; the rest goes to the log, once, with the
//! request's id. Handlers give a [`Problem`]; the gate turns it into the body, because only the gate knows the request.

use crate::wire::words;
use axum::response::{IntoResponse, Response};
use certwright_engine::content::ContentError;
use certwright_engine::requests::RequestError;
use certwright_model::{Actor, ReasonCode};
use certwright_store::StoreError;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every error, as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct Document {
    #[serde(rename = "type")]
    #[schema(example = "https://certwright.dev/problems/invalid-input")]
    pub problem_type: String,
    #[schema(example = "The input is not valid")]
    pub title: String,
    #[schema(example = 400)]
    pub status: u16,
    #[schema(example = "a site name has 1 to 40 characters out of a-z, 0-9 and hyphens")]
    pub detail: String,
    /// The request: `urn:certwright:request:` and the value of its `x-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The part of the input that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "site")]
    pub field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_reason_code)]
    pub reason: Option<ReasonCode>,
    /// Who has to act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::maybe_actor)]
    pub actor: Option<Actor>,
}

/// What went wrong, as far as HTTP is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    InvalidInput,
    InvalidArchive,
    Unauthorized,
    Forbidden,
    NotFound,
    UnknownRoute,
    MethodNotAllowed,
    TooSlow,
    Conflict,
    TooLarge,
    TooMany,
    UnsupportedType,
    Internal,
    Unavailable,
    Full,
}

impl Kind {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidInput => (StatusCode::BAD_REQUEST, "invalid-input", "The input is not valid"),
            Self::InvalidArchive => (StatusCode::BAD_REQUEST, "invalid-archive", "The archive was refused"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The token's role does not allow this"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "It does not exist"),
            Self::UnknownRoute => (StatusCode::NOT_FOUND, "unknown-route", "There is no such route"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The route has no such method"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "request-timeout", "The request took too long to arrive"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "The present state does not allow this"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "More than the rate allows"),
            Self::UnsupportedType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has another content type"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something of our own went wrong"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not possible right now"),
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "disk-full", "The disk is full"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    field: Option<String>,
    reason: Option<ReasonCode>,
    actor: Option<Actor>,
    /// For `Retry-After`.
    retry_after_seconds: Option<u64>,
    /// For the log alone.
    cause: Option<String>,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), field: None, reason: None, actor: None, retry_after_seconds: None, cause: None }
    }

    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Kind::InvalidInput, detail) }
    }

    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what} `{name}`"))
    }

    /// An error of our own: the caller learns that the log has it.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(Kind::Internal, "the server's log has the detail; the request's id leads to it")
            .because(ReasonCode::Internal)
            .caused_by(cause)
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after_seconds: Some(2), ..Self::new(Kind::Unavailable, detail) }
    }

    /// `pause`: until it may be tried again.
    pub fn too_many(pause: std::time::Duration, detail: impl Into<String>) -> Self {
        Self { retry_after_seconds: Some(pause.as_secs() + 1), ..Self::new(Kind::TooMany, detail) }
    }

    fn because(self, reason: ReasonCode) -> Self {
        Self { reason: Some(reason), actor: Some(reason.actor()), ..self }
    }

    fn caused_by(self, cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    pub fn status(&self) -> StatusCode {
        self.kind.parts().0
    }

    pub fn document(&self, request_id: Option<&str>) -> Document {
        let (status, slug, title) = self.kind.parts();
        Document {
            problem_type: format!("https://certwright.dev/problems/{slug}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            instance: request_id.map(|id| format!("urn:certwright:request:{id}")),
            field: self.field.clone(),
            reason: self.reason,
            actor: self.actor,
        }
    }

    /// The response, and the one line in the log.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let document = self.document(Some(request_id));
        if document.status >= 500 {
            let cause = self.cause.as_deref().unwrap_or(&self.detail);
            tracing::error!(request_id, status = document.status, cause, "a request failed");
        }
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (self.status(), [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"certwright\""));
        }
        response
    }
}

/// Without its body, which the gate adds.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Invalid { field, message } => Self::invalid(field, message),
            RequestError::NotFound { what, name } => Self::not_found(what, name),
            RequestError::Conflict(message) => Self::new(Kind::Conflict, message),
            RequestError::Content(error) => error.into(),
            RequestError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let log = error.to_string();
        match error {
            StoreError::NotFound { what } => Self::new(Kind::NotFound, format!("there is no such {what}")),
            StoreError::Conflict { what: "hostname", message } => {
                Self { field: Some("domain".into()), ..Self::new(Kind::Conflict, format!("{message}: it belongs to another claim")) }
            }
            StoreError::Conflict { message, .. } => Self::new(Kind::Conflict, message),
            StoreError::BadCursor => {
                Self::invalid("cursor", "the cursor is not one of this list's; use the `next_cursor` of its last page")
            }
            StoreError::Busy | StoreError::LostLease => Self::unavailable("the database is busy; try again in a moment").caused_by(log),
            StoreError::Unavailable(_) => {
                Self::unavailable("the database cannot be reached; whether this was stored is unknown, asking again is harmless")
                    .because(ReasonCode::Internal)
                    .caused_by(log)
            }
            StoreError::Full => {
                Self::new(Kind::Full, "the disk of the database is full; nothing was changed").because(ReasonCode::Internal).caused_by(log)
            }
            StoreError::NewerSchema { .. }
            | StoreError::Key(_)
            | StoreError::Config(_)
            | StoreError::Corrupt(_)
            | StoreError::Backend(_) => Self::internal(log),
        }
    }
}

impl From<ContentError> for Problem {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::DiskFull => Self::new(Kind::Full, "the disk for the content is full; nothing was changed")
                .because(ReasonCode::Internal)
                .caused_by(error),
            ContentError::Io(error) => Self::internal(format!("content: {error}")),
            refused => Self { field: Some("zip".into()), ..Self::new(Kind::InvalidArchive, refused.to_string()) },
        }
    }
}

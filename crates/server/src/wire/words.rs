//! The closed word lists of the model as OpenAPI schemas, so that the document and the code cannot differ.

use certwright_model::authority::Role;
use certwright_model::certificate::KeyType;
use certwright_model::domain::{Desired, DomainKind, DomainLifecycle, FailurePolicy, TlsMode, TlsStatus};
use certwright_model::event::{CallbackAction, CallbackClass, EventStatus};
use certwright_model::job::{JobKind, JobStatus, StepStatus};
use certwright_model::record::EventType;
use certwright_model::view::SiteStatus;
use certwright_model::{Actor, ReasonCode};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

fn list(words: impl Iterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).enum_values(Some(words)).build()
}

fn list_or_null(words: impl Iterator<Item = &'static str>) -> Object {
    let values = words.map(serde_json::Value::from).chain([serde_json::Value::Null]);
    ObjectBuilder::new().schema_type(SchemaType::Array(vec![Type::String, Type::Null])).enum_values(Some(values)).build()
}

macro_rules! schemas {
    ($make:ident: $($name:ident = $words:ty),+ $(,)?) => {$(
        pub(crate) fn $name() -> Object {
            $make(<$words>::ALL.iter().map(|word| word.as_str()))
        }
    )+};
}

schemas! {
    list:
    actor = Actor,
    reason_code = ReasonCode,
    role = Role,
    key_type = KeyType,
    desired = Desired,
    domain_kind = DomainKind,
    domain_lifecycle = DomainLifecycle,
    failure_policy = FailurePolicy,
    tls_mode = TlsMode,
    tls_status = TlsStatus,
    job_kind = JobKind,
    job_status = JobStatus,
    step_status = StepStatus,
    site_status = SiteStatus,
    event_status = EventStatus,
}

schemas! {
    list_or_null:
    maybe_actor = Actor,
    maybe_reason_code = ReasonCode,
    maybe_key_type = KeyType,
    maybe_failure_policy = FailurePolicy,
    maybe_tls_mode = TlsMode,
    maybe_event_type = EventType,
    maybe_event_status = EventStatus,
    maybe_callback_class = CallbackClass,
    maybe_callback_action = CallbackAction,
}

pub(crate) fn cert_status() -> Object {
    list(["issued", "pending", ""].into_iter())
}

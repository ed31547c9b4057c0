//! Certificate events: taking them in (SPEC section 6), and what people do with them.
//!
//! The way in checks the token, then the provenance over the raw bytes, then the rate, and only then reads the body. A
//! refused caller is told nothing that helps a forger; the log and the source's counters have the reason.

use crate::App;
use crate::extract::{Body, Caller, PageQuery, Params, Segment, hostname, parse, plain, read_raw};
use crate::gate::{Found, look_up, sha256};
use crate::problem::{Kind, Problem};
use crate::provenance::{self, Refusal, hex};
use crate::wire::Listing;
use crate::wire::cert_events::{
    CertEvent, CertEventAccepted, CertEventHistory, CertEventView, CertSourceList, CertSourceView, Checked, ReplayEvents, Replayed,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Json;
use axum::body::Body as RawBody;
use axum::extract::State;
use certwright_model::authority::{Permission, Role};
use certwright_model::event::{EventStatus, Identity, OWN_SOURCE, Report, ReportError};
use certwright_model::ids::EventId;
use certwright_store::{Accepted, EventFilter, NewEvent, Subject};
use http::{HeaderMap, StatusCode};
use jiff::SignedDuration;
use serde::Deserialize;
use utoipa::IntoParams;

const TOKEN: &str = "x-cert-event-token";

/// Report what happened to a certificate.
#[utoipa::path(post, path = "/v1/domains/cert-events", tag = "events",
    params(
        ("x-cert-event-token" = String, Header, description = "`CERT_EVENT_INGEST_TOKEN`, or an API token of the role `ingest`"),
        ("x-cert-source" = Option<String>, Header, description = "With provenance: as `source` in the body"),
        ("x-cert-cluster" = Option<String>, Header, description = "With provenance: as `cluster_id` in the body"),
        ("x-cert-timestamp" = Option<String>, Header, description = "With provenance: Unix seconds, fresh"),
        ("x-cert-signature" = Option<String>, Header,
            description = "With provenance: lower-case hex HMAC-SHA256 of `<timestamp>.<raw body>`")),
    request_body = CertEvent,
    responses((status = 202, description = "On disk; applied in the order of its domain", body = CertEventAccepted)))]
pub(crate) async fn ingest(
    State(app): State<App>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<(StatusCode, Json<CertEventAccepted>), Problem> {
    check_token(&app, &headers).await?;
    let body = read_raw(body, app.config.events.max_body_bytes, app.config.read_timeout).await?;
    let verified = check_provenance(&app, &headers, &body)?;
    // Counted under the name that is proven; without provenance the token stands for whatever name the body gives.
    if let Some(identity) = &verified {
        admit(&app, identity)?;
    }
    let refused = |problem: Problem| {
        verified.iter().for_each(|identity| app.engine.refused(identity, false));
        problem
    };
    let Checked { identity, source_event_id, domain_id: id, domain, event_type, report } =
        parse::<CertEvent>(&body).and_then(|event| event.check().map_err(Problem::from)).map_err(refused)?;
    match &verified {
        Some(proven) if *proven != identity => return Err(refuse(&app, Some(proven), false, "another_identity_in_the_body")),
        Some(_) => {}
        None => admit(&app, &identity)?,
    }
    if identity.source == OWN_SOURCE {
        return Err(refused(Problem::invalid("source", "`certwright` is what Certwright itself reports as; take another name")));
    }
    let now = app.engine.clock().now();
    let ahead = SignedDuration::from_secs(app.config.events.max_age_seconds);
    report.check(now, ahead).map_err(|error| refused(error.into()))?;
    let subject = subject(id.as_deref(), domain.as_deref()).map_err(refused)?;
    let event = NewEvent {
        id: EventId(app.engine.clock().id()),
        digest: digest_of(&subject, event_type.as_str(), &report),
        identity,
        source_event_id,
        subject,
        event_type,
        at: report.occurred_at.unwrap_or(now),
        verified: verified.is_some(),
        report,
    };
    let (id, identity) = (event.id, event.identity.clone());
    let (event_id, status, duplicate) = match app.engine.accept_event(event).await? {
        Accepted::New => (id, EventStatus::Pending, false),
        Accepted::Duplicate { id, status } => (id, status, true),
        Accepted::Conflict => {
            let detail = "another event was accepted under this `source_event_id`; an event that differs needs an id of its own";
            return Err(Problem::new(Kind::Conflict, detail));
        }
        Accepted::UnknownDomain => return Err(Problem::not_found("domain", "with this domain_id")),
    };
    let accepted = CertEventAccepted {
        ok: true,
        event_id,
        status,
        provenance_verified: verified.is_some(),
        provenance_subject: verified.map(|identity| identity.to_string()),
        source: identity.source,
        cluster_id: identity.cluster_id,
        duplicate,
    };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// The configured token, or an API token that may report.
async fn check_token(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(TOKEN).map(|value| value.as_bytes().trim_ascii()).unwrap_or_default();
    let hash = sha256(given);
    let configured = &app.config.events.token_sha256;
    if configured.is_some_and(|right| verify_slices_are_equal(&right, &hash).is_ok()) {
        return Ok(());
    }
    if let Found::Valid(row) = look_up(app, &hash).await?
        && row.role.may(Permission::Report)
    {
        return Ok(());
    }
    if configured.is_none() && !given_to_anybody(app).await? {
        return Err(Problem::unavailable(
            "no event token is configured: set CERT_EVENT_INGEST_TOKEN, or make one with `certwright token create NAME --role ingest`",
        ));
    }
    Err(refuse(app, None, false, "token"))
}

async fn given_to_anybody(app: &App) -> Result<bool, Problem> {
    let now = app.engine.clock().now();
    let tokens = app.engine.store().list_tokens().await?;
    Ok(tokens.iter().any(|row| row.role == Role::Ingest && row.expires_at.is_none_or(|end| end > now)))
}

/// `None` where no provenance is asked for.
fn check_provenance(app: &App, headers: &HeaderMap, body: &[u8]) -> Result<Option<Identity>, Problem> {
    let events = &app.config.events;
    if events.source_keys.is_empty() {
        return Ok(None);
    }
    let now = app.engine.clock().now();
    match provenance::verify(&events.source_keys, headers, body, now, events.max_age_seconds) {
        Ok(identity) => Ok(Some(identity)),
        Err(refusal) => {
            let known = provenance::claimed(headers).filter(|claimed| events.source_keys.knows(claimed));
            let signature = matches!(refusal, Refusal::BadSignature | Refusal::Stale);
            Err(refuse(app, known.as_ref(), signature, refusal.as_str()))
        }
    }
}

/// One answer for every wrong token and provenance.
fn refuse(app: &App, known: Option<&Identity>, signature: bool, why: &'static str) -> Problem {
    known.into_iter().for_each(|identity| app.engine.refused(identity, signature));
    let source = known.map(Identity::to_string);
    tracing::info!(source, why, "a certificate event was refused");
    Problem::new(Kind::Unauthorized, "the event's token or provenance is not right")
}

fn admit(app: &App, identity: &Identity) -> Result<(), Problem> {
    app.engine.admit(identity).map_err(|pause| {
        app.engine.refused(identity, false);
        Problem::too_many(pause, "this source reports faster than it may")
    })
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        Problem::invalid(error.field, error.to_string())
    }
}

fn subject(id: Option<&str>, name: Option<&str>) -> Result<Subject, Problem> {
    match (id, name) {
        (Some(_), Some(_)) | (None, None) => Err(Problem::invalid("domain", "one of `domain` and `domain_id` is needed, and only one")),
        (Some(id), None) => id.parse().map(Subject::Id).map_err(|_| Problem::invalid("domain_id", "`domain_id` is a UUID")),
        (None, Some(name)) => hostname(name).map(Subject::Name),
    }
}

/// Of what is said, not of how often or how it is spelled: a sender that tries again may count its attempts.
fn digest_of(subject: &Subject, event_type: &str, report: &Report) -> String {
    let said = Report { callback_attempt: None, callback_received_at: None, callback_class: None, callback_action: None, ..report.clone() };
    let subject = match subject {
        Subject::Name(name) => name.to_string(),
        Subject::Id(id) => id.to_string(),
    };
    let text = serde_json::to_vec(&(subject, event_type, said)).unwrap_or_default();
    hex(&sha256(&text))
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    #[param(schema_with = crate::wire::words::event_status)]
    status: Option<String>,
    source: Option<String>,
    cluster_id: Option<String>,
    /// The whole hostname.
    domain: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// 1 to 1000; 100 by default.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

fn filter(
    status: Option<EventStatus>,
    source: Option<String>,
    cluster: Option<String>,
    domain: Option<&str>,
) -> Result<EventFilter, Problem> {
    Ok(EventFilter {
        status,
        source: source.map(|text| plain("source", text, 128)).transpose()?,
        cluster_id: cluster.map(|text| plain("cluster_id", text, 128)).transpose()?,
        domain: domain.map(hostname).transpose()?,
    })
}

/// List events: the queue, the dead letters (`status=failed`), the history.
#[utoipa::path(get, path = "/v1/admin/cert-events", tag = "events", params(EventQuery),
    responses((status = 200, description = "One page, newest first", body = Listing<CertEventView>)))]
pub(crate) async fn list(State(app): State<App>, Params(query): Params<EventQuery>) -> Result<Json<Listing<CertEventView>>, Problem> {
    let (cursor, limit) = PageQuery { cursor: query.cursor, limit: query.limit }.check()?;
    let words = || EventStatus::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", ");
    let status =
        |word: String| EventStatus::parse(&word).ok_or_else(|| Problem::invalid("status", format!("`status` is one of {}", words())));
    let filter = filter(query.status.map(status).transpose()?, query.source, query.cluster_id, query.domain.as_deref())?;
    let page = app.engine.store().events_page(&filter, cursor, limit).await?;
    Ok(Json(Listing::new(page, CertEventView::from)))
}

/// One event, with what was done about it.
#[utoipa::path(get, path = "/v1/admin/cert-events/{id}", tag = "events", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The event", body = CertEventHistory)))]
pub(crate) async fn show(State(app): State<App>, id: Segment) -> Result<Json<CertEventHistory>, Problem> {
    let id: EventId = id.id("event")?;
    let event = app.engine.store().event(id).await?.ok_or_else(|| Problem::not_found("event", id))?;
    let history = app.engine.store().event_notes(id).await?.into_iter().map(Into::into).collect();
    Ok(Json(CertEventHistory { event: event.into(), history }))
}

/// Try one event again now.
#[utoipa::path(post, path = "/v1/admin/cert-events/{id}/replay", tag = "events", params(("id" = String, Path, description = "Its id")),
    responses((status = 202, description = "It is pending again", body = CertEventHistory)))]
pub(crate) async fn replay(State(app): State<App>, caller: Caller, id: Segment) -> Result<(StatusCode, Json<CertEventHistory>), Problem> {
    let id: EventId = id.id("event")?;
    app.engine.replay_event(id, &caller.who()).await?;
    show(State(app), Segment(id.to_string())).await.map(|shown| (StatusCode::ACCEPTED, shown))
}

/// Try many events again now.
#[utoipa::path(post, path = "/v1/admin/cert-events/replay", tag = "events", request_body = ReplayEvents,
    responses((status = 200, description = "How many", body = Replayed)))]
pub(crate) async fn replay_many(
    State(app): State<App>,
    caller: Caller,
    Body(asked): Body<ReplayEvents>,
) -> Result<Json<Replayed>, Problem> {
    let status = asked.status.unwrap_or(EventStatus::Failed);
    if !matches!(status, EventStatus::Failed | EventStatus::Pending) {
        return Err(Problem::invalid("status", "only `failed` and `pending` events are tried again; the others are settled"));
    }
    let limit = asked.limit.unwrap_or(1000);
    if !(1..=10_000).contains(&limit) {
        return Err(Problem::invalid("limit", "`limit` is 1 to 10000"));
    }
    let filter = filter(Some(status), asked.source, asked.cluster_id, asked.domain.as_deref())?;
    let replayed = app.engine.replay_events(filter, limit, asked.dry_run, &caller.who()).await?;
    Ok(Json(Replayed { ok: true, dry_run: asked.dry_run, replayed }))
}

/// Who reports, and how it went.
#[utoipa::path(get, path = "/v1/admin/cert-sources", tag = "events",
    responses((status = 200, description = "All of them", body = CertSourceList)))]
pub(crate) async fn sources(State(app): State<App>) -> Result<Json<CertSourceList>, Problem> {
    let keys = &app.config.events.source_keys;
    let view = |row: certwright_store::SourceRow| {
        let has_key = keys.knows(&row.identity);
        CertSourceView::new(row, has_key)
    };
    let items = app.engine.sources().await?.into_iter().map(view).collect();
    Ok(Json(CertSourceList { items }))
}

/// The story of a domain's certificate: what was reported and what Certwright did, newest first.
#[utoipa::path(get, path = "/v1/domains/{id}/cert-events", tag = "events",
    params(("id" = String, Path, description = "Its id or its hostname"), PageQuery),
    responses((status = 200, description = "One page", body = Listing<CertEventView>)))]
pub(crate) async fn of_domain(
    State(app): State<App>,
    id: Segment,
    Params(page): Params<PageQuery>,
) -> Result<Json<Listing<CertEventView>>, Problem> {
    let (cursor, limit) = page.check()?;
    let domain = super::domains::find(&app, &id).await?.intent.hostname;
    let filter = EventFilter { domain: Some(domain), ..EventFilter::default() };
    let page = app.engine.store().events_page(&filter, cursor, limit).await?;
    Ok(Json(Listing::new(page, CertEventView::from)))
}

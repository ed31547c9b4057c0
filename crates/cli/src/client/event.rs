//! `certwright event …` and `certwright source …`

use super::wishes::word;
use super::{Api, CallError, segment};
use crate::args::{ClientArgs, EventArgs, EventCommand, Format, SendArgs, SourceArgs, SourceCommand, WhichEvents};
use crate::output;
use anyhow::{Context, anyhow, bail};
use certwright_engine::clock::Clock;
use certwright_model::event::EventStatus;
use certwright_model::record::EventType;
use certwright_providers::x509;
use certwright_server::provenance;
use certwright_server::wire::cert_events::{
    CertEvent, CertEventAccepted, CertEventHistory, CertEventView, CertSourceList, CertSourceView, ReplayEvents, Replayed,
};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) async fn run(args: EventArgs) -> anyhow::Result<()> {
    let client = &args.client;
    match args.command {
        EventCommand::Send(send) => report(client, *send).await,
        EventCommand::List { which, limit } => {
            let events: Vec<CertEventView> = Api::find(client)?.list("/v1/admin/cert-events", &query(&which)?, limit.limit).await?;
            list(client.output, &events)
        }
        EventCommand::Show { id } => {
            let shown = Api::find(client)?.get(&format!("/v1/admin/cert-events/{}", segment(&id))).await?;
            show(client.output, &shown)
        }
        EventCommand::Replay { id: Some(id), .. } => {
            let path = format!("/v1/admin/cert-events/{}/replay", segment(&id));
            show(client.output, &Api::find(client)?.post_empty(&path).await?)
        }
        EventCommand::Replay { id: None, which, max, dry_run } => {
            let status = status(&which)?;
            let WhichEvents { source, cluster: cluster_id, domain, .. } = which;
            let asked = ReplayEvents { status, source, cluster_id, domain, limit: Some(max), dry_run };
            let done: Replayed = Api::find(client)?.post("/v1/admin/cert-events/replay", &asked).await?;
            match client.output {
                Format::Json => output::json(&done),
                Format::Table => {
                    let verb = if done.dry_run { "would be" } else { "are" };
                    output::line(&format!("{} events {verb} tried again", done.replayed));
                    Ok(())
                }
            }
        }
    }
}

pub(crate) async fn source(args: SourceArgs) -> anyhow::Result<()> {
    let SourceCommand::List = args.command;
    let sources: CertSourceList = Api::find(&args.client)?.get("/v1/admin/cert-sources").await?;
    let row = |one: &CertSourceView| {
        vec![
            one.source.clone(),
            one.cluster_id.clone(),
            output::time(one.last_seen_at),
            one.accepted.to_string(),
            one.duplicates.to_string(),
            one.rejected.to_string(),
            one.signature_failures.to_string(),
            if one.has_key { "yes" } else { "no" }.to_owned(),
        ]
    };
    let head = ["source", "cluster", "last seen", "accepted", "duplicates", "refused", "wrong signatures", "key"];
    output::list(args.client.output, &sources.items, &head, row, "nobody has reported yet")
}

fn status(which: &WhichEvents) -> anyhow::Result<Option<EventStatus>> {
    word("--status", which.status.as_deref(), EventStatus::parse, EventStatus::ALL)
}

fn query(which: &WhichEvents) -> anyhow::Result<Vec<(&'static str, String)>> {
    let status = status(which)?.map(|status| status.to_string());
    let pairs =
        [("status", status), ("source", which.source.clone()), ("cluster_id", which.cluster.clone()), ("domain", which.domain.clone())];
    Ok(pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// The events of a domain look the same wherever they are listed.
pub(crate) fn list(format: Format, events: &[CertEventView]) -> anyhow::Result<()> {
    let row = |event: &CertEventView| {
        let step = event.payload.as_ref().and_then(|payload| payload.get("step")).and_then(|step| step.as_str()).unwrap_or_default();
        vec![
            output::time(event.at),
            event.domain.clone(),
            event.event_type.map_or_else(|| step.to_owned(), |kind| kind.to_string()),
            event.status.to_string(),
            event.source.clone(),
            event.error.clone().or_else(|| event.reason.clone()).unwrap_or_default(),
            event.id.to_string(),
        ]
    };
    output::list(format, events, &["at", "domain", "event", "status", "source", "why", "id"], row, "there are no events")
}

fn show(format: Format, shown: &CertEventHistory) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(shown);
    }
    let event = &shown.event;
    let note =
        |note: &certwright_server::wire::cert_events::CertEventNote| format!("{} {} by {}", output::time(note.at), note.action, note.actor);
    output::line(&output::facts(&[
        ("event", event.id.to_string()),
        ("domain", event.domain.clone()),
        ("type", event.event_type.map(|kind| kind.to_string()).unwrap_or_default()),
        ("status", event.status.to_string()),
        ("reported by", format!("{} {}", event.source, event.cluster_id)),
        ("its id there", event.source_event_id.clone()),
        ("signed", if event.provenance_verified { "yes" } else { "no" }.to_owned()),
        ("happened", output::time(event.at)),
        ("arrived", output::time(event.received_at)),
        ("tries", event.tries.to_string()),
        ("next try", output::maybe_time(event.next_try_at)),
        ("error", event.error.clone().unwrap_or_default()),
        ("reason", event.reason.clone().unwrap_or_default()),
        ("certificate", event.certificate_ref.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("not after", output::maybe_time(event.not_after)),
        ("history", shown.history.iter().map(note).collect::<Vec<_>>().join("\n")),
    ]));
    Ok(())
}

async fn report(client: &ClientArgs, args: SendArgs) -> anyhow::Result<()> {
    let clock = Clock::system();
    let events = made(&args, &clock)?;
    if args.dry_run {
        return output::json(&events);
    }
    let api = Api::find(client)?;
    let given = std::env::var("CERT_EVENT_INGEST_TOKEN").ok().filter(|token| !token.trim().is_empty());
    let token = given.or_else(|| api.token.clone()).ok_or_else(|| {
        anyhow!("there is no token: set CERT_EVENT_INGEST_TOKEN to the server's, or CERTWRIGHT_TOKEN to one of the role `ingest`")
    })?;
    let secret = secret(&args)?;
    let deadline = Instant::now() + args.retry_for;
    let mut answers = Vec::new();
    for event in &events {
        answers.push(deliver(&api, event, token.trim(), secret.as_deref(), &clock, deadline).await?);
    }
    if client.output == Format::Json {
        return output::json(&answers);
    }
    for (event, answer) in events.iter().zip(&answers) {
        let again = if answer.duplicate { ", known already" } else { "" };
        output::line(&format!("{} {}: accepted as {}{again}", event.domain.clone().unwrap_or_default(), args.event_type, answer.event_id));
    }
    Ok(())
}

fn made(args: &SendArgs, clock: &Clock) -> anyhow::Result<Vec<CertEvent>> {
    let Some(event_type) = word("--type", Some(&args.event_type), EventType::parse, EventType::ALL)? else { bail!("--type is missing") };
    let facts = match &args.certificate {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let chain = x509::chain_from_pem(&text).with_context(|| format!("{} holds no certificate in PEM", path.display()))?;
            Some(x509::facts_of(&chain, &args.source).with_context(|| format!("the leaf in {}", path.display()))?)
        }
    };
    let names = match (&facts, args.domains.as_slice()) {
        (Some(facts), []) => facts.names.clone(),
        (_, named) => named.to_vec(),
    };
    if names.is_empty() {
        bail!("the certificate has no names; say which domain it is for with --domain NAME");
    }
    let now = clock.now();
    let at = args.occurred_at.unwrap_or(now);
    let cluster_id = args.cluster.clone().map_or_else(host_name, Ok)?;
    let event = |name: String| {
        // Of one certificate each type is reported once; without one, each moment is another event.
        let what = facts.as_ref().map_or_else(|| at.as_millisecond().to_string(), |facts| facts.certificate_ref.to_string());
        let id = args.event_id.clone().unwrap_or_else(|| format!("{event_type}/{name}/{what}"));
        CertEvent {
            source: args.source.clone(),
            cluster_id: cluster_id.clone(),
            source_event_id: if args.event_id.is_some() && names.len() > 1 { format!("{id}/{name}") } else { id },
            event_type: Some(event_type),
            // With a certificate, the same hook run again has to say the very same.
            occurred_at: args.occurred_at.or_else(|| facts.is_none().then_some(now)),
            certificate_ref: facts.as_ref().map(|facts| facts.certificate_ref.clone()),
            not_after: facts.as_ref().map(|facts| facts.not_after),
            renewal_due_at: args.renewal_due_at,
            reason: args.reason.clone(),
            domain: Some(name),
            ..CertEvent::default()
        }
    };
    Ok(names.iter().cloned().map(event).collect())
}

fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("this machine has no name; say --cluster NAME")?;
    Ok(name.trim().to_owned())
}

fn secret(args: &SendArgs) -> anyhow::Result<Option<String>> {
    let text = match &args.signing_secret_file {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?),
        None => std::env::var("CERT_EVENT_SIGNING_SECRET").ok(),
    };
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// Tried again while the server is away, busy or asks for a pause; signed anew each time, for signatures grow old.
async fn deliver(
    api: &Api,
    event: &CertEvent,
    token: &str,
    secret: Option<&str>,
    clock: &Clock,
    deadline: Instant,
) -> anyhow::Result<CertEventAccepted> {
    let body = serde_json::to_vec(event)?;
    let mut pause = Duration::from_millis(500);
    loop {
        let mut request = api.request(Method::POST, "/v1/domains/cert-events")?;
        request = request.header("x-cert-event-token", token).header(CONTENT_TYPE, "application/json");
        if let Some(secret) = secret {
            let timestamp = clock.now().as_second().to_string();
            let signature = provenance::sign(secret.as_bytes(), &timestamp, &body);
            request = request
                .header("x-cert-source", &event.source)
                .header("x-cert-cluster", &event.cluster_id)
                .header("x-cert-timestamp", timestamp)
                .header("x-cert-signature", signature);
        }
        let error = match api.ask(request.body(body.clone())).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let passing = match &error {
            CallError::Unreachable { .. } => true,
            CallError::Problem(document) => document.status == 429 || document.status >= 500,
            _ => false,
        };
        if !passing || Instant::now() + pause > deadline {
            return Err(match &error {
                CallError::Problem(document) if document.status == 401 => anyhow!(
                    "the server does not believe this event: check CERT_EVENT_INGEST_TOKEN, and where it asks for signatures that \
                     CERT_EVENT_SIGNING_SECRET is the secret of `{}:{}` and that both clocks agree",
                    event.source,
                    event.cluster_id
                ),
                _ => error.into(),
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

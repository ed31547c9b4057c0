//! The `apply` bench: pending certificate events into the final state of their domains, history included.
//!
//! Fills a database with domains whose certificates somebody else gets, accepts the events, and then measures nothing but
//! the loop's own batches until none is pending. `--sqlite` or `--postgres`. Prints one line of JSON.

#[path = "../tests/lab/mod.rs"]
mod lab;

use certwright_engine::requests::{DomainRequest, RouteRequest};
use certwright_model::certificate::CertificateRef;
use certwright_model::domain::{DomainLifecycle, TlsStatus};
use certwright_model::event::{EventStatus, Identity, Report};
use certwright_model::ids::{EventId, NodeId};
use certwright_model::record::{DomainState, EventType};
use certwright_store::{Accepted, DomainSave, EventFilter, NewEvent, Next, Store, Subject};
use certwright_testkit::postgres::Database;
use jiff::{SignedDuration, Timestamp};
use lab::{Ground, Lab, Options, host, who};
use std::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned();
    let events: u64 = value("--events").map_or(Ok(200_000), |text| text.parse())?;
    let domains: u64 = value("--domains").map_or(Ok(10_000), |text| text.parse())?;
    let database = if arguments.iter().any(|a| a == "--postgres") { Database::from_environment("apply")? } else { None };
    let backend = if database.is_some() { "postgres" } else { "sqlite" };
    let options = Options { database_url: database.as_ref().map(Database::url), loops: false, ..Options::default() };
    let lab = Lab::start(Ground::new().await, options).await;
    let engine = &lab.engine;
    let name = |n: u64| host(&format!("d{n}.customers.example"));
    let route = || RouteRequest::Tunnel { tunnel: "t".into(), target: None, region: Some("eu-1".into()) };
    let requests = (0..domains).map(|n| DomainRequest::new(name(n), route())).collect();
    for outcome in engine.add_domains(requests, &who()).await {
        outcome?;
    }
    let start = lab.clock.now();
    routed(engine.store(), lab.clock.node(), start).await?;
    let kinds = [EventType::RenewalFailed, EventType::RenewalSucceeded, EventType::CertificateExpiring, EventType::IssuanceSucceeded];
    for first in (0..events).step_by(1000) {
        let batch: Vec<NewEvent> = (first..(first + 1000).min(events))
            .map(|n| NewEvent {
                id: EventId(lab.clock.id()),
                identity: Identity { source: "bench".into(), cluster_id: format!("c{}", n % 64) },
                source_event_id: n.to_string(),
                subject: Subject::Name(name(n % domains)),
                event_type: kinds[(n / domains) as usize % kinds.len()],
                at: start + SignedDuration::from_millis(n as i64 / 100),
                digest: format!("{n:064x}"),
                verified: true,
                report: Report {
                    certificate_ref: Some(CertificateRef::from_digest(&[(n / domains) as u8; 32])),
                    not_after: Some(start + SignedDuration::from_hours(24 * 90)),
                    reason: Some("the CA could not reach the challenge".into()),
                    ..Report::default()
                },
            })
            .collect();
        let outcomes = engine.store().accept_events(batch, start).await?;
        assert!(outcomes.iter().all(|outcome| *outcome == Accepted::New), "an event was not accepted");
    }
    lab.clock.shift(SignedDuration::from_mins(1));
    let started = Instant::now();
    let (mut applied, mut batches) = (0, 0);
    while applied < events {
        let batch = engine.apply_due_events(2000).await?;
        assert!(batch > 0, "{applied} of {events} were applied, and nothing is due");
        applied += batch;
        batches += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let left = EventFilter { status: Some(EventStatus::Pending), ..EventFilter::default() };
    assert!(engine.store().events_page(&left, None, 1).await?.items.is_empty(), "an event is still pending");
    let last = engine.store().domain_by_hostname(&name(0)).await?.ok_or("the first domain is gone")?;
    assert_eq!(last.state.cert_last_event_type, Some(kinds[((events / domains - 1) % 4) as usize]), "not the last event");
    assert_eq!(last.state.tls_status, TlsStatus::PendingIssue, "a report alone makes nothing green");
    println!(
        "{}",
        serde_json::json!({
            "bench": "apply", "backend": backend, "events": events, "domains": domains, "batches": batches,
            "seconds": seconds, "per_second": events as f64 / seconds, "peak_mib": peak_mib()?,
        })
    );
    lab.stop().await;
    Ok(())
}

/// As if all of them had been verified: a domain that is not routed has no status that a report could change.
async fn routed(store: &Store, node: NodeId, now: Timestamp) -> Result<(), Box<dyn std::error::Error>> {
    loop {
        let claimed = store.claim_domains(node, now, 60_000, 500).await?;
        if claimed.is_empty() {
            return Ok(());
        }
        let saves = claimed.into_iter().map(|claimed| {
            let state = DomainState { lifecycle: DomainLifecycle::Active, ..claimed.domain.state };
            let (id, lease) = (claimed.domain.intent.id, claimed.lease);
            let save = DomainSave { id, lease, state, events: vec![], job_steps: vec![], close_jobs: None, next: Next::Release(None) };
            store.save_domain(save, now)
        });
        futures_util::future::try_join_all(saves).await?;
    }
}

/// The most memory that this process has had resident.
fn peak_mib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}

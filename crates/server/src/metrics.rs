//! `/metrics` in the OpenMetrics text format.
//!
//! Cardinality is bounded: labels are words of closed lists, and the names of this program's loops. Names of domains and
//! sites never are. Values are read when the page is asked for; nothing is counted here.

use crate::App;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use certwright_store::Stats;
use http::{StatusCode, header};
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::time::Duration;
use tokio::time::timeout;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const STORE_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn router(app: App) -> Router {
    Router::new().route("/metrics", get(page)).with_state(app)
}

async fn page(State(app): State<App>) -> Response {
    let now = app.engine.clock().now();
    // Without the database the rest is still worth having.
    let stats = timeout(STORE_PATIENCE, app.engine.store().stats(now)).await.ok().and_then(Result::ok);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(families(&app, stats.as_ref(), now))));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Clone, Copy, Debug)]
enum Meaning {
    /// As it is now.
    Gauge,
    /// Since the start of this process; `_total` is added to the name.
    Counter,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    meaning: Meaning,
    label: Option<&'static str>,
    /// The label's value (unused where there is no label) and the number.
    samples: Vec<(String, u64)>,
}

fn one(name: &'static str, help: &'static str, meaning: Meaning, value: u64) -> Family {
    Family { name, help, meaning, label: None, samples: vec![(String::new(), value)] }
}

fn by(label: &'static str, name: &'static str, help: &'static str, meaning: Meaning, samples: Vec<(String, u64)>) -> Family {
    Family { name, help, meaning, label: Some(label), samples }
}

fn families(app: &App, stats: Option<&Stats>, now: Timestamp) -> Vec<Family> {
    use Meaning::{Counter, Gauge};
    let mut families = vec![one("certwright_store_up", "Whether the database answers", Gauge, u64::from(stats.is_some()))];
    if let Some(stats) = stats {
        let domains = stats.domains.iter().map(|(word, count)| (word.to_string(), *count)).collect();
        let sites = stats.sites.iter().map(|(word, count)| (word.to_string(), *count)).collect();
        let due = vec![("domain".to_owned(), stats.due_domains), ("site".to_owned(), stats.due_sites)];
        let age = stats.oldest_due.map_or(0, |at| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0));
        families.extend([
            by("status", "fdt_cert_domains_total", "Domains by TLS status", Gauge, domains),
            by("lifecycle", "certwright_sites", "Sites by lifecycle", Gauge, sites),
            by("kind", "certwright_due", "Rows that are due now, counted up to 10,000", Gauge, due),
            one("certwright_oldest_due_age_seconds", "How long the oldest due row has been due", Gauge, age),
            one("certwright_jobs_open", "Jobs that are not over", Gauge, stats.open_jobs),
        ]);
    }
    let board = app.engine.status().snapshot();
    let loops = |value: fn(&certwright_engine::status::LoopStatus) -> u64| -> Vec<(String, u64)> {
        board.iter().map(|(name, status)| ((*name).to_owned(), value(status))).collect()
    };
    let last_runs =
        board.iter().filter_map(|(name, status)| Some(((*name).to_owned(), u64::try_from(status.last_run_at?.as_second()).ok()?)));
    families.extend([
        by("loop", "certwright_loop_runs", "Runs of each loop", Counter, loops(|status| status.runs)),
        by("loop", "certwright_loop_taken", "Rows taken by each loop", Counter, loops(|status| status.taken)),
        by("loop", "certwright_loop_done", "Rows that each loop brought on", Counter, loops(|status| status.done)),
        by("loop", "certwright_loop_failed", "Rows or runs that failed in each loop", Counter, loops(|status| status.failed)),
        by("loop", "certwright_loop_last_run_timestamp_seconds", "When each loop last ran", Gauge, last_runs.collect()),
        by(
            "loop",
            "certwright_loop_last_duration_milliseconds",
            "How long its last scan took",
            Gauge,
            loops(|status| status.last_duration_ms),
        ),
    ]);
    let busy = app.config.max_in_flight.saturating_sub(app.in_flight.available_permits());
    families.push(one("certwright_api_requests_in_flight", "Requests being worked on", Gauge, busy as u64));
    if let Some(edge) = app.engine.edge() {
        let stats = edge.stats();
        let failed = stats.handshakes_failed;
        let failures = [
            ("unknown_name", failed.unknown_name),
            ("source_down", failed.source_down),
            ("bad_certificate", failed.bad_certificate),
            ("no_protocol", failed.no_protocol),
            ("not_tls", failed.not_tls),
            ("timeout", failed.timeout),
            ("client", failed.client),
        ];
        let challenges = [("tls-alpn-01", stats.tls_alpn01_answered), ("http-01", stats.http01_answered)];
        let lookups = [("hit", stats.certificate_hits), ("miss", stats.certificate_misses), ("eviction", stats.certificate_evictions)];
        let owned = |pairs: &[(&str, u64)]| pairs.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect();
        families.extend([
            one("certwright_edge_names", "Names in the edge's index", Gauge, stats.names_now),
            one("certwright_edge_connections_open", "Open connections", Gauge, stats.connections_now),
            one("certwright_edge_connections", "Connections accepted", Counter, stats.connections),
            one("certwright_edge_accept_errors", "Connections that could not be accepted", Counter, stats.accept_errors),
            one("certwright_edge_handshakes", "TLS handshakes that ended in a session", Counter, stats.handshakes_ok),
            one("certwright_edge_handshakes_resumed", "Of these, resumed", Counter, stats.handshakes_resumed),
            by("reason", "certwright_edge_handshake_failures", "TLS handshakes that did not", Counter, owned(&failures)),
            by("type", "certwright_edge_challenges", "ACME challenges answered", Counter, owned(&challenges)),
            one("certwright_edge_requests", "Requests served", Counter, stats.requests),
            one("certwright_edge_body_bytes", "Octets of response bodies", Counter, stats.body_bytes),
            one("certwright_edge_certificates_cached", "Certificates in the cache", Gauge, stats.certificates_cached_now),
            by("outcome", "certwright_edge_certificate_cache", "What became of looks into the cache", Counter, owned(&lookups)),
        ]);
    }
    families
}

#[derive(Debug)]
struct Snapshot(Vec<Family>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for family in &self.0 {
            let kind = match family.meaning {
                Meaning::Gauge => MetricType::Gauge,
                Meaning::Counter => MetricType::Counter,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (value, number) in &family.samples {
                match family.label {
                    None => write_sample(&mut metric, family.meaning, *number)?,
                    Some(label) => {
                        let labels = [(label, value.as_str())];
                        write_sample(&mut metric.encode_family(&labels)?, family.meaning, *number)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn write_sample(encoder: &mut MetricEncoder<'_>, meaning: Meaning, number: u64) -> Result<(), std::fmt::Error> {
    match meaning {
        Meaning::Gauge => encoder.encode_gauge(&i64::try_from(number).unwrap_or(i64::MAX)),
        Meaning::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&number, None),
    }
}

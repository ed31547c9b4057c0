//! `certwright doctor`: what is wrong, why, whose move it is, and when it is looked at next.
//!
//! Exit code 1 if anything is wrong. A domain that waits for its customer is shown and is nothing wrong here.

use super::{Api, domain};
use crate::args::{DoctorArgs, Format};
use crate::output;
use anyhow::bail;
use certwright_model::domain::TlsStatus;
use certwright_model::reason::Actor;
use certwright_server::wire::admin::{Health, HealthWord, Repaired, StatusView};
use certwright_server::wire::domains::DomainView;
use reqwest::Method;
use serde::Serialize;

/// Domains that are shown by name.
const SHOWN: usize = 200;

#[derive(Serialize)]
struct Report {
    ok: bool,
    findings: Vec<Finding>,
    repaired: Option<u64>,
    status: StatusView,
}

#[derive(Serialize)]
struct Finding {
    subject: String,
    problem: String,
    actor: String,
    next_look_at: Option<jiff::Timestamp>,
}

pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<()> {
    let (client, api) = (&args.client, Api::find(&args.client)?);
    let repaired = match args.repair {
        true => Some(api.post_empty::<Repaired>("/v1/admin/repair").await?.repaired),
        false => None,
    };
    let status: StatusView = api.get("/v1/admin/status").await?;
    let mut findings = of_health(&health(&api).await?);
    findings.extend(of_status(&status));
    findings.extend(of_domains(&api, &status).await?);
    let wrong = findings.iter().filter(|finding| finding.actor != Actor::Customer.as_str()).count();
    let report = Report { ok: wrong == 0, findings, repaired, status };
    match client.output {
        Format::Json => output::json(&report)?,
        Format::Table => print(&report),
    }
    match wrong {
        0 => Ok(()),
        1 => bail!("one thing is wrong"),
        count => bail!("{count} things are wrong"),
    }
}

/// A server that is not well answers 503 with the same body.
async fn health(api: &Api) -> anyhow::Result<Health> {
    let response = api.request(Method::GET, "/api/health")?.send().await.map_err(|error| api.unreachable(&error))?;
    let status = response.status();
    Ok(response.json().await.map_err(|error| api.strange(status, &error))?)
}

fn finding(subject: impl Into<String>, problem: impl Into<String>, actor: &str) -> Finding {
    Finding { subject: subject.into(), problem: problem.into(), actor: actor.into(), next_look_at: None }
}

fn of_health(health: &Health) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !health.store.ok {
        findings.push(finding("database", "it does not answer", "operator"));
    }
    if matches!(health.status, HealthWord::Stalled) {
        let stalled = health.loops.iter().filter(|(_, status)| !status.ok);
        findings.extend(stalled.map(|(name, status)| {
            let since = status.last_run_at.map_or_else(|| "it has never run".into(), |at| format!("it last ran at {}", output::time(at)));
            finding(format!("loop {name}"), since, "operator")
        }));
    }
    findings
}

fn of_status(status: &StatusView) -> Vec<Finding> {
    let issuers = status.issuers.iter().filter(|issuer| !issuer.ok).map(|issuer| Finding {
        subject: format!("issuer {}", issuer.name),
        problem: issuer.reason.as_ref().map_or_else(|| "it does not answer".into(), |reason| reason.message.clone()),
        actor: issuer.reason.as_ref().map_or("ca", |reason| reason.actor.as_str()).into(),
        next_look_at: None,
    });
    let orphans = status.orphans.iter().map(|orphan| {
        finding(format!("{} {}", orphan.kind, orphan.id), format!("{}; `certwright doctor --repair` removes it", orphan.detail), "operator")
    });
    issuers.chain(orphans).collect()
}

async fn of_domains(api: &Api, status: &StatusView) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let troubled = |word: &&TlsStatus| !matches!(word, TlsStatus::Issued | TlsStatus::PassthroughUnverified);
    for word in TlsStatus::ALL.iter().filter(troubled) {
        let count = status.domains.get(word.as_str()).copied().unwrap_or(0);
        if count == 0 {
            continue;
        }
        let query = [("tls_status", word.as_str().to_owned())];
        let domains: Vec<DomainView> = api.list("/v1/domains", &query, SHOWN).await?;
        let shown = domains.len() as u64;
        findings.extend(domains.iter().map(of_domain));
        if count > shown {
            let more = format!("certwright domain list --tls-status {word}");
            findings.push(finding(format!("{} more domains", count - shown), format!("{word}; see: {more}"), "operator"));
        }
    }
    Ok(findings)
}

fn of_domain(view: &DomainView) -> Finding {
    let why = domain::why(view);
    Finding {
        subject: view.domain.clone(),
        problem: if why.is_empty() { view.tls_status.to_string() } else { format!("{}, {why}", view.tls_status) },
        actor: view.reason.as_ref().map_or("certwright", |reason| reason.actor.as_str()).into(),
        next_look_at: view.reason.as_ref().and_then(|reason| reason.next_look_at),
    }
}

fn print(report: &Report) {
    let status = &report.status;
    let backlog = &status.backlog;
    let count = |counts: &std::collections::BTreeMap<String, u64>| counts.values().sum::<u64>();
    let issued = status.domains.get("issued").copied().unwrap_or(0);
    let loops: Vec<String> = status
        .loops
        .iter()
        .map(|(name, one)| {
            let age = one.last_run_at.map_or_else(|| "never".into(), |at| format!("{} ago", output::span(status.now.duration_since(at))));
            let error = one.last_error.as_ref().map(|error| format!("; last error: {error}")).unwrap_or_default();
            format!("{name}: {age}, {} done, {} failed{error}", one.done, one.failed)
        })
        .collect();
    output::line(&output::facts(&[
        ("server", format!("{} on {}, base domain {}", status.version, status.store, status.base_domain)),
        ("loops", loops.join("\n")),
        (
            "backlog",
            format!(
                "{} domains, {} sites due; {} open jobs; the oldest waits {} s",
                backlog.due_domains, backlog.due_sites, backlog.open_jobs, backlog.oldest_due_seconds
            ),
        ),
        ("domains", format!("{issued} of {} green", count(&status.domains))),
        ("sites", count(&status.sites).to_string()),
        ("repaired", report.repaired.map(|count| count.to_string()).unwrap_or_default()),
    ]));
    if report.findings.is_empty() {
        output::line("\nnothing is wrong");
        return;
    }
    let rows = report.findings.iter().map(|finding| {
        let next = finding.next_look_at.map(output::time).unwrap_or_default();
        vec![finding.subject.clone(), finding.actor.clone(), next, finding.problem.clone()]
    });
    output::line(&format!("\n{}", output::table(&["what", "move", "next look", "why"], rows)));
}

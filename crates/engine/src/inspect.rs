//! What people look at: a site with its live status, a domain's three answers as a checklist, and waiting for an outcome.

use crate::requests::RequestError;
use crate::{Changed, Engine};
use certwright_model::answers::{self, DnsRecord};
use certwright_model::domain::{DomainKind, TlsStatus};
use certwright_model::ids::JobId;
use certwright_model::planner;
use certwright_model::reason::{Actor, Reason, ReasonCode};
use certwright_model::record::{Domain, Job, Site};
use certwright_model::site::SiteName;
use certwright_model::view::{SiteStatus, spokesman, view};
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout};

/// A site and its domains, with the documented status.
#[derive(Clone, Debug)]
pub struct SiteView {
    pub site: Site,
    pub status: SiteStatus,
    pub default_domain: Option<Domain>,
    pub custom_domains: Vec<Domain>,
    /// `issued`, `pending` or empty: the custom domain's if there is one, else the default domain's.
    pub cert_status: &'static str,
    pub warnings: Vec<Reason>,
}

/// One of the three answers.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    pub ok: bool,
    pub code: ReasonCode,
    pub message: String,
    /// Whose move it is.
    pub actor: Actor,
    /// The exact records to add, where that is what is missing.
    pub records: Vec<DnsRecord>,
    pub checked_at: Option<Timestamp>,
    pub next_check_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Checklist {
    pub ownership: Answer,
    pub routing: Answer,
    pub tls: Answer,
}

/// `issued` only where a handshake has shown it, `pending` while it is being worked on, empty where nothing is wanted.
pub fn cert_status(domain: &Domain) -> &'static str {
    match domain.state.tls_status {
        TlsStatus::Issued | TlsStatus::Expiring => "issued",
        TlsStatus::PendingIssue | TlsStatus::PendingRoute | TlsStatus::TlsError => "pending",
        TlsStatus::PassthroughUnverified => "",
    }
}

impl Engine {
    pub async fn site_view(&self, name: &SiteName) -> Result<SiteView, RequestError> {
        let site = self.site(name).await?;
        let domains = self.store().domains_of_site(site.intent.id).await?;
        Ok(assemble(site, domains))
    }

    /// The three answers of a domain, as they were last seen.
    pub fn checklist(&self, domain: &Domain) -> Checklist {
        let policy = &self.inner.config.policy;
        let (intent, state) = (&domain.intent, &domain.state);
        let checked_at = state.look.dns.as_ref().map(|sight| sight.at);
        let dns_next = state.look.validate_at.or_else(|| state.reason.as_ref().and_then(|reason| reason.next_look_at));
        let answer = |verdict: Result<(), Reason>, records: Vec<DnsRecord>, good: &str| match verdict {
            Ok(()) => Answer {
                ok: true,
                code: ReasonCode::Healthy,
                message: good.to_owned(),
                actor: Actor::Certwright,
                records: Vec::new(),
                checked_at,
                next_check_at: dns_next,
            },
            Err(reason) => Answer {
                ok: false,
                code: reason.code,
                message: reason.message,
                actor: reason.actor,
                records,
                checked_at,
                next_check_at: reason.next_look_at.or(dns_next),
            },
        };
        let txt = vec![answers::ownership_record(&intent.hostname, &intent.ownership_token)];
        let ownership = answer(planner::ownership(domain, policy), txt, "the owner of the zone agrees");
        let records = answers::routing_records(&intent.hostname, &policy.edge);
        let routing = answer(planner::routing(domain, policy).map(drop), records, "DNS leads to the edge, and the edge routes it");
        Checklist { ownership, routing, tls: tls_answer(domain) }
    }

    /// Waits until the job is over or waits for somebody else, at most `patience`. Returns it as it is then.
    pub async fn wait_for_job(&self, id: JobId, patience: Duration) -> Result<Job, RequestError> {
        let mut changes = self.changes();
        let deadline = Instant::now() + patience;
        loop {
            let job = self.store().job(id).await?;
            let job = job.ok_or_else(|| RequestError::NotFound { what: "job", name: id.to_string() })?;
            if job.status.is_over() || Instant::now() >= deadline {
                return Ok(job);
            }
            // Woken by what this process does; the second is for what other nodes do.
            let nap = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
            let _ = timeout(nap, async {
                loop {
                    match changes.recv().await {
                        Ok(Changed::Site(site)) if job.site_id == Some(site) => return,
                        Ok(Changed::Domain(domain, site)) if job.domain_id == Some(domain) || (site.is_some() && job.site_id == site) => {
                            return;
                        }
                        Ok(_) => {}
                        Err(RecvError::Lagged(_) | RecvError::Closed) => return,
                    }
                }
            })
            .await;
        }
    }
}

pub fn assemble(site: Site, domains: Vec<Domain>) -> SiteView {
    let (customs, defaults): (Vec<Domain>, Vec<Domain>) = domains.into_iter().partition(|domain| domain.intent.kind == DomainKind::Custom);
    let status = view(site.state.lifecycle, spokesman(customs.iter().map(|domain| domain.state.lifecycle)));
    let default_domain = defaults.into_iter().next();
    let mut warnings = site.state.look.warnings.clone();
    let quiet = |reason: &Reason| matches!(reason.code, ReasonCode::Healthy);
    warnings.extend(site.state.reason.clone().filter(|reason| !quiet(reason)));
    for domain in customs.iter().chain(&default_domain) {
        warnings.extend(domain.state.reason.clone().filter(|reason| !quiet(reason)).map(|mut reason| {
            reason.message = format!("{}: {}", domain.intent.hostname, reason.message);
            reason
        }));
    }
    let serving = matches!(status, SiteStatus::Destroyed | SiteStatus::Destroying);
    let speaker = customs.first().or(default_domain.as_ref()).filter(|_| !serving);
    SiteView { cert_status: speaker.map_or("", cert_status), site, status, default_domain, custom_domains: customs, warnings }
}

fn tls_answer(domain: &Domain) -> Answer {
    let state = &domain.state;
    let ok = matches!(state.tls_status, TlsStatus::Issued | TlsStatus::Expiring);
    let reason = state.reason.clone().unwrap_or_else(|| Reason::new(ReasonCode::Queued, "nobody has looked yet"));
    let message = match (&state.certificate_ref, state.tls_not_after) {
        (Some(leaf), Some(end)) if ok => format!("the wire shows {leaf}, valid until {end}"),
        _ => reason.message,
    };
    Answer {
        ok,
        code: if ok { ReasonCode::Healthy } else { reason.code },
        message,
        actor: if ok { Actor::Certwright } else { reason.actor },
        records: Vec::new(),
        checked_at: state.tls_last_checked_at,
        next_check_at: reason.next_look_at,
    }
}

//! What people ask for: validated, stored as intent with an audit row, and answered. The loops do the rest.
//!
//! Nothing here dials, orders or deploys. Asking twice is harmless: the second answer says that nothing changed.

use crate::Engine;
use crate::content::{self, ContentError, Limits};
use crate::site_steps::default_domain;
use certwright_model::Hostname;
use certwright_model::certificate::KeyType;
use certwright_model::domain::{Desired, DomainKind, FailurePolicy, Route, TlsMode};
use certwright_model::ids::{DomainId, JobId, SiteId};
use certwright_model::job::{JobKind, JobStatus};
use certwright_model::planner::EXTERNAL;
use certwright_model::record::{Domain, DomainIntent, DomainState, Job, Site, SiteIntent, SiteLook, SiteState};
use certwright_model::site::{SiteKind, SiteLifecycle, SiteName};
use certwright_store::{DomainChange, SiteChange, StoreError, Who};
use jiff::Timestamp;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The input is wrong; `field` names the part of it.
    #[error("{message}")]
    Invalid { field: &'static str, message: String },
    #[error("there is no {what} `{name}`")]
    NotFound { what: &'static str, name: String },
    /// The state does not allow it now; the message says what to do.
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Result<T> = std::result::Result<T, RequestError>;

/// A request that was taken: the job to follow, or none when there was nothing to do.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub job: Option<Job>,
    pub message: String,
}

/// A domain as it is asked for, with or without a site.
#[derive(Clone, Debug)]
pub struct DomainRequest {
    pub hostname: Hostname,
    pub route: RouteRequest,
    pub tls_mode: TlsMode,
    pub failure_policy: FailurePolicy,
    pub issuers: Vec<String>,
    pub key_type: KeyType,
}

impl DomainRequest {
    pub fn new(hostname: Hostname, route: RouteRequest) -> Self {
        Self {
            hostname,
            route,
            tls_mode: TlsMode::Termination,
            failure_policy: FailurePolicy::Standard,
            issuers: Vec::new(),
            key_type: KeyType::EcdsaP256,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteRequest {
    None,
    Site(SiteName),
    Upstream { upstream: String, region: Option<String> },
    Tunnel { tunnel: String, target: Option<String>, region: Option<String> },
}

fn invalid(field: &'static str, message: impl Into<String>) -> RequestError {
    RequestError::Invalid { field, message: message.into() }
}

fn conflict<T>(message: impl Into<String>) -> Result<T> {
    Err(RequestError::Conflict(message.into()))
}

/// `http://host:port`, optionally with a path; no credentials, no query.
pub fn check_upstream(text: &str) -> Result<()> {
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(invalid("upstream", "an upstream is `http://host:port`, such as `http://127.0.0.1:3000`"));
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let bad = authority.is_empty() || text.len() > 512 || text.contains(['@', '?', '#', ' ', '\\']) || !text.is_ascii();
    let port_ok = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0),
        _ => true,
    };
    if bad || !port_ok || text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(invalid("upstream", "an upstream is `http://host:port` without credentials, query or fragment"));
    }
    Ok(())
}

impl Engine {
    /// A site before an upstream that already runs.
    pub async fn provision_proxy(&self, name: &SiteName, upstream: &str, who: &Who) -> Result<Accepted> {
        check_upstream(upstream)?;
        self.provision(name, SiteKind::Proxy { upstream: upstream.to_owned() }, who).await
    }

    /// A site of files. The archive is unpacked and checked before anything is stored; it is the caller's to delete.
    pub async fn provision_static(&self, name: &SiteName, archive: &Path, who: &Who) -> Result<Accepted> {
        self.check_free(name).await?;
        let version = self.inner.clock.id().to_string();
        let (dir, site, from, to) = (self.inner.config.sites_dir.clone(), name.clone(), archive.to_owned(), version.clone());
        tokio::task::spawn_blocking(move || content::unpack(&from, &dir, &site, &to, Limits::default()))
            .await
            .map_err(|error| ContentError::NotZip(error.to_string()))??;
        let taken = self.provision(name, SiteKind::Static { content: version.clone() }, who).await;
        if taken.is_err() {
            // The name was taken meanwhile; what was unpacked belongs to nobody.
            let path = content::path(&self.inner.config.sites_dir, name, &version);
            let _ = tokio::fs::remove_dir_all(path).await;
        }
        taken
    }

    async fn check_free(&self, name: &SiteName) -> Result<()> {
        match self.inner.store.site_by_name(name).await? {
            None => Ok(()),
            Some(site) if site.state.lifecycle == SiteLifecycle::Failed => Ok(()),
            Some(site) if site.state.lifecycle == SiteLifecycle::Destroyed => {
                conflict(format!("the site `{name}` is DESTROYED; delete it (DELETE /api/sites/{name}) before the name is used again"))
            }
            Some(site) => conflict(format!("the site `{name}` exists already and is {}", site.state.lifecycle)),
        }
    }

    async fn provision(&self, name: &SiteName, kind: SiteKind, who: &Who) -> Result<Accepted> {
        self.check_free(name).await?;
        let now = self.inner.clock.now();
        if let Some(site) = self.inner.store.site_by_name(name).await? {
            let job = self.job(JobKind::Provision, Some(site.intent.id), None, name.as_str(), now);
            let change = SiteChange { desired: Some(Desired::Present), kind: Some(kind) };
            self.inner.store.set_site_intent(site.intent.id, change, Some(job.clone()), who, now).await?;
            // Its domains do not wait out the pauses of the try before.
            for domain in self.inner.store.domains_of_site(site.intent.id).await? {
                self.inner.store.change_domain(domain.intent.id, DomainChange::default(), None, who, now).await?;
            }
            return Ok(Accepted { job: Some(job), message: format!("the failed site `{name}` is tried again") });
        }
        let hostname = Hostname::parse(&format!("{name}.{}", self.inner.config.base_domain))
            .map_err(|error| invalid("site", format!("{name} makes no valid hostname: {error}")))?;
        let id = SiteId(self.inner.clock.id());
        let intent = SiteIntent { id, name: name.clone(), kind, desired: Desired::Present, created_at: now, changed_at: now };
        let state = SiteState {
            lifecycle: SiteLifecycle::Created,
            lifecycle_since: now,
            attempts: 0,
            reason: None,
            last_reconciled_at: None,
            look: SiteLook::default(),
        };
        let request = DomainRequest::new(hostname, RouteRequest::Site(name.clone()));
        let domain = self.new_domain(&request, Some(id), DomainKind::Default, now);
        let job = self.job(JobKind::Provision, Some(id), None, name.as_str(), now);
        self.inner.store.create_site(Site { intent, state }, domain, job.clone(), who, now).await?;
        Ok(Accepted { job: Some(job), message: format!("the site `{name}` is being provisioned") })
    }

    pub async fn destroy(&self, name: &SiteName, who: &Who) -> Result<Accepted> {
        let site = self.site(name).await?;
        match site.state.lifecycle {
            SiteLifecycle::Destroyed => return Ok(Accepted { job: None, message: format!("the site `{name}` is destroyed already") }),
            SiteLifecycle::Created
            | SiteLifecycle::Provisioning
            | SiteLifecycle::Active
            | SiteLifecycle::Failed
            | SiteLifecycle::Destroying => {}
        }
        let now = self.inner.clock.now();
        let job = self.job(JobKind::Destroy, Some(site.intent.id), None, name.as_str(), now);
        let change = SiteChange { desired: Some(Desired::Absent), kind: None };
        self.inner.store.set_site_intent(site.intent.id, change, Some(job.clone()), who, now).await?;
        Ok(Accepted { job: Some(job), message: format!("the site `{name}` is being destroyed") })
    }

    /// Only a `DESTROYED` site can be deleted: the row, so that the name is free again.
    pub async fn delete_site(&self, name: &SiteName, who: &Who) -> Result<()> {
        let site = self.site(name).await?;
        Ok(self.inner.store.delete_site(site.intent.id, who, self.inner.clock.now()).await?)
    }

    /// The custom domain of a site.
    pub async fn set_site_domain(&self, name: &SiteName, hostname: Hostname, who: &Who) -> Result<Accepted> {
        let site = self.site_that_serves(name).await?;
        let domains = self.inner.store.domains_of_site(site.intent.id).await?;
        let customs = || domains.iter().filter(|domain| domain.intent.kind == DomainKind::Custom);
        if let Some(domain) = customs().find(|domain| domain.intent.hostname == hostname).or(customs().next()) {
            let theirs = &domain.intent.hostname;
            return match domain.intent.desired {
                Desired::Present if *theirs == hostname => {
                    Ok(Accepted { job: None, message: format!("{hostname} is the domain of `{name}` already; nothing changed") })
                }
                Desired::Present => {
                    conflict(format!("`{name}` has the domain {theirs}; remove it first, or attach more with POST /v1/domains"))
                }
                Desired::Absent => conflict(format!("{theirs} is being removed from `{name}`; try again in a moment")),
            };
        }
        let request = DomainRequest::new(hostname.clone(), RouteRequest::Site(name.clone()));
        let (domain, job) = self.attach(request, Some(site), who).await?;
        Ok(Accepted { job: Some(job), message: format!("{} is being attached to `{name}`", domain.intent.hostname) })
    }

    pub async fn remove_site_domain(&self, name: &SiteName, who: &Who) -> Result<Accepted> {
        let site = self.site(name).await?;
        let domains = self.inner.store.domains_of_site(site.intent.id).await?;
        let mut customs: Vec<Domain> = domains.into_iter().filter(|domain| domain.intent.kind == DomainKind::Custom).collect();
        match (customs.pop(), customs.len()) {
            (Some(domain), 0) => self.remove_domain(domain.intent.id, who).await,
            (None, _) => Ok(Accepted { job: None, message: format!("`{name}` has no custom domain; nothing changed") }),
            (Some(_), _) => conflict(format!("`{name}` has several domains; remove one with DELETE /v1/domains/ID")),
        }
    }

    /// A domain with or without a site.
    pub async fn add_domain(&self, request: DomainRequest, who: &Who) -> Result<(Domain, Job)> {
        let site = match &request.route {
            RouteRequest::Site(name) => Some(self.site_that_serves(name).await?),
            _ => None,
        };
        self.attach(request, site, who).await
    }

    /// Many at once; an outcome for each, in order.
    pub async fn add_domains(&self, requests: Vec<DomainRequest>, who: &Who) -> Vec<Result<Domain>> {
        let mut outcomes: Vec<Result<Domain>> = Vec::with_capacity(requests.len());
        let mut sites = std::collections::HashMap::new();
        let now = self.inner.clock.now();
        for request in requests {
            let site = match &request.route {
                RouteRequest::Site(name) => {
                    if !sites.contains_key(name) {
                        sites.insert(name.clone(), self.site_that_serves(name).await.map_err(|error| error.to_string()));
                    }
                    match sites.get(name) {
                        Some(Ok(site)) => Some(site.intent.id),
                        Some(Err(message)) => {
                            outcomes.push(conflict(message.clone()));
                            continue;
                        }
                        None => None,
                    }
                }
                _ => None,
            };
            outcomes.push(self.check_domain(&request).map(|()| self.new_domain(&request, site, DomainKind::Custom, now)));
        }
        let good: Vec<Domain> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok().cloned()).collect();
        let mut stored = self.inner.store.attach_domains(good, who, now).await.into_iter();
        for outcome in &mut outcomes {
            if outcome.is_ok()
                && let Some(Err(error)) = stored.next()
            {
                *outcome = Err(error.into());
            }
        }
        outcomes
    }

    pub async fn change_domain(&self, id: DomainId, change: DomainChange, who: &Who) -> Result<Domain> {
        if let Some(issuers) = &change.issuers {
            self.check_issuers(issuers)?;
        }
        if let Some(Some(Route::Upstream { upstream, .. })) = &change.route {
            check_upstream(upstream)?;
        }
        let Domain { intent, .. } = self.domain(id).await?;
        let issuers = change.issuers.as_ref().unwrap_or(&intent.issuers);
        self.check_wildcard(&intent.hostname, change.tls_mode.unwrap_or(intent.tls_mode), issuers)?;
        Ok(self.inner.store.change_domain(id, change, None, who, self.inner.clock.now()).await?)
    }

    pub async fn remove_domain(&self, id: DomainId, who: &Who) -> Result<Accepted> {
        let domain = self.domain(id).await?;
        let host = domain.intent.hostname;
        if domain.intent.kind == DomainKind::Default {
            return conflict(format!("{host} is the default domain of its site; it goes with the site"));
        }
        if domain.intent.desired == Desired::Absent {
            return Ok(Accepted { job: None, message: format!("{host} is being removed already") });
        }
        let now = self.inner.clock.now();
        let job = self.job(JobKind::DomainRemove, domain.intent.site_id, Some(id), host.as_str(), now);
        let change = DomainChange { desired: Some(Desired::Absent), ..DomainChange::default() };
        self.inner.store.change_domain(id, change, Some(job.clone()), who, now).await?;
        Ok(Accepted { job: Some(job), message: format!("{host} is being removed") })
    }

    /// Look again now, whatever the backoff says.
    pub async fn verify_domain(&self, id: DomainId, who: &Who) -> Result<Domain> {
        Ok(self.inner.store.change_domain(id, DomainChange::default(), None, who, self.inner.clock.now()).await?)
    }

    /// A new certificate, now. Without a certificate yet, the attempt that waits is made now.
    pub async fn retry_certificate(&self, id: DomainId, who: &Who) -> Result<Accepted> {
        let domain = self.domain(id).await?;
        if !certwright_model::planner::is_issued_by_us(&domain) {
            return conflict(format!("the certificate of {} is not issued here: its TLS ends somewhere else", domain.intent.hostname));
        }
        let now = self.inner.clock.now();
        let job = self.job(JobKind::CertRetry, domain.intent.site_id, Some(id), domain.intent.hostname.as_str(), now);
        let change = DomainChange { renew_requested_at: Some(now), ..DomainChange::default() };
        self.inner.store.change_domain(id, change, Some(job.clone()), who, now).await?;
        Ok(Accepted { job: Some(job), message: format!("a certificate for {} is being ordered", domain.intent.hostname) })
    }

    /// Of a site: its custom domain, else its default one.
    pub async fn retry_site_certificate(&self, name: &SiteName, who: &Who) -> Result<Accepted> {
        let site = self.site(name).await?;
        let domains = self.inner.store.domains_of_site(site.intent.id).await?;
        let domain = domains.iter().find(|d| d.intent.kind == DomainKind::Custom).or(default_domain(&domains));
        match domain {
            Some(domain) => self.retry_certificate(domain.intent.id, who).await,
            None => conflict(format!("`{name}` has no domain")),
        }
    }

    pub async fn site(&self, name: &SiteName) -> Result<Site> {
        let site = self.inner.store.site_by_name(name).await?;
        site.ok_or_else(|| RequestError::NotFound { what: "site", name: name.to_string() })
    }

    pub async fn domain(&self, id: DomainId) -> Result<Domain> {
        let domain = self.inner.store.domain_by_id(id).await?;
        domain.ok_or_else(|| RequestError::NotFound { what: "domain", name: id.to_string() })
    }

    async fn site_that_serves(&self, name: &SiteName) -> Result<Site> {
        let site = self.site(name).await?;
        if !site.state.lifecycle.takes_domains() || site.intent.desired == Desired::Absent {
            return conflict(format!("the site `{name}` is {}; a domain can be attached once it is ACTIVE", site.state.lifecycle));
        }
        Ok(site)
    }

    async fn attach(&self, request: DomainRequest, site: Option<Site>, who: &Who) -> Result<(Domain, Job)> {
        self.check_domain(&request)?;
        let site_id = site.map(|site| site.intent.id);
        let now = self.inner.clock.now();
        let domain = self.new_domain(&request, site_id, DomainKind::Custom, now);
        let job = self.job(JobKind::DomainSet, site_id, Some(domain.intent.id), domain.intent.hostname.as_str(), now);
        self.inner.store.attach_domain(domain.clone(), Some(job.clone()), who, now).await?;
        Ok((domain, job))
    }

    fn check_domain(&self, request: &DomainRequest) -> Result<()> {
        let (host, base) = (&request.hostname, &self.inner.config.base_domain);
        if host.is_within(base) {
            return Err(invalid(
                "domain",
                format!("{host} lies below {base}, where the default domains live; it cannot be a custom domain"),
            ));
        }
        self.check_wildcard(host, request.tls_mode, &request.issuers)?;
        if let RouteRequest::Upstream { upstream, .. } = &request.route {
            check_upstream(upstream)?;
        }
        self.check_issuers(&request.issuers)
    }

    /// No issuers: those of the configuration.
    fn check_wildcard(&self, host: &Hostname, tls_mode: TlsMode, issuers: &[String]) -> Result<()> {
        let issuers = if issuers.is_empty() { &self.inner.config.policy.issuers } else { issuers };
        let internal = |name: &String| name == EXTERNAL || self.inner.issuers.get(name).is_some_and(|issuer| issuer.kind() == "internal");
        if host.is_wildcard() && tls_mode == TlsMode::Termination && !issuers.iter().all(internal) {
            return Err(invalid(
                "domain",
                format!("{host} is a wildcard, which not all of its issuers can validate without DNS-01; use the internal issuer alone"),
            ));
        }
        Ok(())
    }

    fn check_issuers(&self, issuers: &[String]) -> Result<()> {
        if issuers.iter().any(|name| name == EXTERNAL) {
            let alone = issuers.len() == 1;
            let why = "`external` stands alone: whoever gets the certificate reports it, and nothing is issued here";
            return if alone { Ok(()) } else { Err(invalid("issuer", why.to_owned())) };
        }
        match issuers.iter().find(|name| !self.inner.issuers.contains_key(*name)) {
            None => Ok(()),
            Some(name) => {
                let known = self.inner.issuers.keys().cloned().collect::<Vec<_>>().join(", ");
                Err(invalid("issuer", format!("no issuer named `{name}` is configured; there is: {known}")))
            }
        }
    }

    fn new_domain(&self, request: &DomainRequest, site_id: Option<SiteId>, kind: DomainKind, now: Timestamp) -> Domain {
        let route = match &request.route {
            RouteRequest::None => None,
            RouteRequest::Site(_) => Some(Route::Site),
            RouteRequest::Upstream { upstream, region } => Some(Route::Upstream { upstream: upstream.clone(), region: region.clone() }),
            RouteRequest::Tunnel { tunnel, target, region } => {
                Some(Route::Tunnel { tunnel: tunnel.clone(), target: target.clone(), region: region.clone() })
            }
        };
        let intent = DomainIntent {
            id: DomainId(self.inner.clock.id()),
            hostname: request.hostname.clone(),
            site_id,
            kind,
            desired: Desired::Present,
            route,
            tls_mode: request.tls_mode,
            failure_policy: request.failure_policy,
            issuers: request.issuers.clone(),
            key_type: request.key_type,
            ownership_token: self.inner.clock.secret_hex()[..32].to_owned(),
            renew_requested_at: None,
            created_at: now,
            changed_at: now,
        };
        Domain { intent, state: DomainState::new(now) }
    }

    fn job(&self, kind: JobKind, site_id: Option<SiteId>, domain_id: Option<DomainId>, subject: &str, now: Timestamp) -> Job {
        Job {
            id: JobId(self.inner.clock.id()),
            kind,
            status: JobStatus::Queued,
            site_id,
            domain_id,
            subject: subject.to_owned(),
            error: None,
            created_at: now,
            finished_at: None,
        }
    }
}

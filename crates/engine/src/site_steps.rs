//! Does what [`certwright_model::site_planner`] says for one site, and stores what came of it.

use crate::content;
use crate::{Changed, Engine};
use certwright_model::backoff::jittered;
use certwright_model::domain::{Desired, DomainKind};
use certwright_model::job::{JobKind, JobStatus, StepStatus};
use certwright_model::reason::{Actor, Reason, ReasonCode};
use certwright_model::record::{Domain, JobStep, Site};
use certwright_model::site::{SiteKind, SiteLifecycle};
use certwright_model::site_planner::{SitePlan, SiteStep, plan_site};
use certwright_store::{ClaimedSite, CloseJobs, Lease, SiteNext, SiteSave, StoreError, Which};
use jiff::SignedDuration;
use std::time::Duration;
use tokio::time::{Instant, timeout};

struct Work<'a> {
    engine: &'a Engine,
    lease: Lease,
    site: Site,
    domains: Vec<Domain>,
    steps: Vec<JobStep>,
    close: Option<CloseJobs>,
}

pub(crate) async fn work(engine: &Engine, claim: ClaimedSite) {
    let ClaimedSite { lease, site, domains } = claim;
    let name = site.intent.name.clone();
    let mut work = Work { engine, lease, site, domains, steps: Vec::new(), close: None };
    match work.run().await {
        Ok(()) => engine.inner.status.done("sites"),
        // Another worker has it now; what it sees is newer.
        Err(StoreError::LostLease) => {}
        Err(error) => {
            engine.inner.status.failed("sites", &error.to_string());
            tracing::warn!(site = %name, %error, "site left for its lease to end");
        }
    }
}

impl Work<'_> {
    async fn run(&mut self) -> Result<(), StoreError> {
        // More steps than the longest way through the machine; a plan that never rests is a bug, and waits for its lease.
        for _ in 0..16 {
            match plan_site(&self.site, &self.domains, self.engine.inner.clock.now()) {
                SitePlan::Rest(reason) => return self.rest(reason).await,
                SitePlan::Do(step) => {
                    let started = Instant::now();
                    let name = step.name();
                    self.engine.hook(&format!("site_{name}"), true);
                    let stop = self.perform(step).await?;
                    self.engine.hook(&format!("site_{name}"), false);
                    tracing::debug!(site = %self.site.intent.name, step = name, elapsed_ms = started.elapsed().as_millis() as u64);
                    if stop {
                        return Ok(());
                    }
                }
            }
        }
        Err(StoreError::Corrupt(format!("the plan of site {} does not rest", self.site.intent.name)))
    }

    /// Whether the work ends here.
    async fn perform(&mut self, step: SiteStep) -> Result<bool, StoreError> {
        let now = self.engine.inner.clock.now();
        match step {
            SiteStep::Advance(to) => self.advance(to).await?,
            SiteStep::Fail(reason) => {
                // A site that was asked to go before it was served fails on its way; the destroying has only begun.
                let destroying = self.site.intent.desired == Desired::Absent;
                let kinds = if destroying { vec![JobKind::Provision] } else { vec![JobKind::Provision, JobKind::Destroy] };
                self.close = Some(self.over(kinds, JobStatus::Failed, Some(reason.message.clone())));
                self.site.state.look.failed_for = Some(self.site.intent.changed_at);
                self.site.state.reason = Some(reason);
                self.advance(SiteLifecycle::Failed).await?;
            }
            SiteStep::Prepare => return self.prepare().await,
            SiteStep::ReleaseUnsettled | SiteStep::ReleaseAll => {
                let which = if step == SiteStep::ReleaseAll { Which::All } else { Which::NotActive };
                self.engine.inner.store.mark_domains_absent(self.site.intent.id, which, now).await?;
                self.note("release_domains", StepStatus::Applied, "the domains are asked to go");
                self.domains = self.engine.inner.store.domains_of_site(self.site.intent.id).await?;
            }
            SiteStep::RemoveContent => {
                let (dir, name) = (self.engine.inner.config.sites_dir.clone(), self.site.intent.name.clone());
                let removed = tokio::task::spawn_blocking(move || content::remove(&dir, &name)).await;
                match removed {
                    Ok(Ok(())) => {
                        self.site.state.look.cleared = true;
                        self.note("remove_content", StepStatus::Applied, "the content is gone");
                    }
                    Ok(Err(error)) => {
                        return self
                            .retry_later(Reason::new(ReasonCode::Internal, format!("the content cannot be removed: {error}")))
                            .await;
                    }
                    Err(error) => {
                        return self.retry_later(Reason::new(ReasonCode::Internal, format!("removing the content failed: {error}"))).await;
                    }
                }
            }
        }
        Ok(false)
    }

    async fn advance(&mut self, to: SiteLifecycle) -> Result<(), StoreError> {
        let now = self.engine.inner.clock.now();
        let state = &mut self.site.state;
        state.lifecycle = state.lifecycle.become_(to).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        state.lifecycle_since = now;
        state.attempts = 0;
        match to {
            SiteLifecycle::Provisioning => state.look.prepared_at = None,
            SiteLifecycle::Active => self.close = Some(self.over(vec![JobKind::Provision], JobStatus::Succeeded, None)),
            SiteLifecycle::Destroyed => self.close = Some(self.over(vec![JobKind::Destroy], JobStatus::Succeeded, None)),
            _ => {}
        }
        self.note("advance", StepStatus::Applied, to.as_str());
        // Stored before the next step, so that every state can be seen from outside and resumed from.
        self.save(SiteNext::KeepLease).await
    }

    async fn prepare(&mut self) -> Result<bool, StoreError> {
        let now = self.engine.inner.clock.now();
        self.site.state.look.warnings.clear();
        match &self.site.intent.kind {
            SiteKind::Static { content } => {
                let path = content::path(&self.engine.inner.config.sites_dir, &self.site.intent.name, content);
                if !tokio::fs::metadata(&path).await.is_ok_and(|meta| meta.is_dir()) {
                    return self
                        .retry_later(Reason::new(ReasonCode::ContentMissing, "the uploaded content is not on this node; upload it again"))
                        .await;
                }
            }
            SiteKind::Proxy { upstream } => {
                if let Err(problem) = connect(upstream).await {
                    let message = format!("{upstream} does not accept connections ({problem}); visitors get 502 until it does");
                    self.site.state.look.warnings.push(Reason::new(ReasonCode::UpstreamUnreachable, message));
                }
            }
        }
        self.site.state.look.prepared_at = Some(now);
        self.site.state.reason = None;
        self.note("prepare", StepStatus::Applied, "what is to be served is there");
        Ok(false)
    }

    async fn retry_later(&mut self, reason: Reason) -> Result<bool, StoreError> {
        let clock = &self.engine.inner.clock;
        self.site.state.attempts += 1;
        let pause = SignedDuration::from_secs(1 << self.site.state.attempts.min(8));
        let at = clock.now() + jittered(pause, clock.entropy());
        self.note("prepare", StepStatus::Rejected, &reason.message);
        self.site.state.reason = Some(reason.at(at));
        self.save(SiteNext::Release(Some(at))).await?;
        Ok(true)
    }

    async fn rest(&mut self, reason: Reason) -> Result<(), StoreError> {
        let waits_for_others = reason.code != ReasonCode::Healthy && matches!(reason.actor, Actor::Customer | Actor::Operator | Actor::Ca);
        if waits_for_others && self.close.is_none() {
            let kinds = vec![JobKind::Provision, JobKind::Destroy];
            self.close = Some(self.over(kinds, JobStatus::Waiting, Some(reason.message.clone())));
        }
        // The default domain speaks for its site, and wakes it when it changes; only the site's own checks have a time.
        let own = self.site.state.lifecycle == SiteLifecycle::Provisioning && self.site.state.look.prepared_at.is_none();
        let next = reason.next_look_at.filter(|_| own);
        self.site.state.reason = (reason.code != ReasonCode::Healthy).then_some(reason);
        self.save(SiteNext::Release(next)).await
    }

    async fn save(&mut self, next: SiteNext) -> Result<(), StoreError> {
        let now = self.engine.inner.clock.now();
        self.site.state.last_reconciled_at = Some(now);
        let save = SiteSave {
            id: self.site.intent.id,
            lease: self.lease,
            state: self.site.state.clone(),
            job_steps: std::mem::take(&mut self.steps),
            close_jobs: self.close.take(),
            next,
        };
        self.engine.inner.store.save_site(save, now).await?;
        self.engine.announce(Changed::Site(self.site.intent.id));
        Ok(())
    }

    fn over(&self, kinds: Vec<JobKind>, status: JobStatus, error: Option<String>) -> CloseJobs {
        CloseJobs { kinds, status, error, asked_until: self.site.intent.changed_at }
    }

    fn note(&mut self, step: &str, status: StepStatus, message: &str) {
        let at = self.engine.inner.clock.now();
        self.steps.push(JobStep { at, step: step.into(), status, message: message.into(), elapsed_ms: None });
    }
}

async fn connect(upstream: &str) -> Result<(), String> {
    let authority = upstream.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let address = if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    match timeout(Duration::from_secs(2), tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in 2 s".into()),
    }
}

/// The default domain of a site, if the list holds it.
pub(crate) fn default_domain(domains: &[Domain]) -> Option<&Domain> {
    domains.iter().find(|domain| domain.intent.kind == DomainKind::Default)
}

//! Does what [`certwright_model::planner`] says for one domain, one provider call a step, and stores what came of it.
//!
//! Intent is saved before every effect outside (publish, order, withdraw) and the observation after it. A save that finds
//! the lease gone ends the work without a trace: whoever holds it now sees the same rows.

mod issue;

use crate::edge_link;
use crate::{Changed, Engine};
use certwright_model::certificate::CertificateFacts;
use certwright_model::domain::{Desired, DomainLifecycle, TlsStatus};
use certwright_model::fold;
use certwright_model::ids::EventId;
use certwright_model::job::{JobKind, JobStatus, StepStatus};
use certwright_model::planner::{self, Plan, Step, View};
use certwright_model::reason::{Actor, Reason, ReasonCode};
use certwright_model::record::{Domain, EventType, JobStep, Order, Site};
use certwright_model::renewal;
use certwright_model::wire;
use certwright_providers::Outcome;
use certwright_store::{ClaimedDomain, CloseJobs, DomainSave, Lease, Next, OwnEvent, StoreError};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

pub(crate) struct Work<'a> {
    engine: &'a Engine,
    lease: Lease,
    domain: Domain,
    site: Option<Site>,
    current: Option<CertificateFacts>,
    staged: Option<CertificateFacts>,
    order: Option<Order>,
    /// A token of the CA's budget was given for the next order.
    granted: bool,
    events: Vec<OwnEvent>,
    steps: Vec<JobStep>,
}

/// Whether the work goes on after a step.
enum Flow {
    Continue,
    Stop,
}

pub(crate) async fn work(engine: &Engine, claim: ClaimedDomain) {
    let ClaimedDomain { lease, domain, site, current, staged, order, granted } = claim;
    let host = domain.intent.hostname.clone();
    let (events, steps) = (Vec::new(), Vec::new());
    let mut work = Work { engine, lease, domain, site, current, staged, order, granted, events, steps };
    match work.run().await {
        Ok(()) => engine.inner.status.done("domains"),
        Err(StoreError::LostLease) => tracing::debug!(domain = %host, "the lease went to another worker"),
        Err(error) => {
            engine.inner.status.failed("domains", &error.to_string());
            tracing::warn!(domain = %host, %error, "domain left for its lease to end");
        }
    }
}

impl Work<'_> {
    async fn run(&mut self) -> Result<(), StoreError> {
        // Longer than the longest way from nothing to proven, with every issuer failing once on the way.
        for _ in 0..64 {
            self.keep_lease().await?;
            let now = self.engine.inner.clock.now();
            match planner::plan(&self.view(), &self.engine.inner.config.policy, now) {
                Plan::Rest(reason) => return self.rest(reason, now).await,
                Plan::Do(step) => {
                    let (started, name) = (Instant::now(), step.name());
                    self.engine.hook(name, true);
                    let flow = self.perform(step).await?;
                    self.engine.hook(name, false);
                    let elapsed_ms = started.elapsed().as_millis() as u64;
                    let site = self.site.as_ref().map(|site| site.intent.name.to_string());
                    tracing::debug!(site, domain = %self.domain.intent.hostname, step = name, elapsed_ms);
                    if matches!(flow, Flow::Stop) {
                        return Ok(());
                    }
                }
            }
        }
        Err(StoreError::Corrupt(format!("the plan of {} does not rest", self.domain.intent.hostname)))
    }

    fn view(&self) -> View<'_> {
        View {
            domain: &self.domain,
            site: self.site.as_ref(),
            current: self.current.as_ref(),
            staged: self.staged.as_ref(),
            order: self.order.as_ref(),
        }
    }

    async fn perform(&mut self, step: Step) -> Result<Flow, StoreError> {
        let now = self.engine.inner.clock.now();
        match step {
            Step::Advance(to) => self.advance(to, now).await?,
            Step::Retreat(reason) => {
                self.note("validate", StepStatus::Waiting, &reason.message, None);
                fold::retreat(&mut self.domain.state, reason, now).map_err(illegal)?;
            }
            Step::LookAtDns => self.look_at_dns(now).await,
            Step::Publish => {
                fold::published(&mut self.domain.state);
                self.note("publish", StepStatus::Applied, "the edge has the name", None);
                self.save_and_tell_edge(now).await?;
            }
            Step::Issue { issuer, .. } => return self.issue(&issuer, now).await,
            Step::PollAri => self.poll_ari(now).await,
            Step::Probe => self.probe(now).await,
            Step::Commit => self.commit(now),
            Step::Rollback(reason) => self.roll_back(reason, now).await?,
            Step::Withdraw => {
                fold::withdrawn(&mut self.domain.state);
                self.note("withdraw", StepStatus::Applied, "the name is taken off the edge", None);
                self.save_and_tell_edge(now).await?;
            }
            Step::ConfirmWithdrawn => self.confirm_withdrawn(now).await,
            Step::Forget => return self.forget(now).await,
        }
        Ok(Flow::Continue)
    }

    async fn advance(&mut self, to: DomainLifecycle, now: Timestamp) -> Result<(), StoreError> {
        fold::advance(&mut self.domain.state, to, now).map_err(illegal)?;
        self.note("advance", StepStatus::Applied, to.as_str(), None);
        match to {
            // Looking is about to begin, and may take a while: let it be seen.
            DomainLifecycle::Validating | DomainLifecycle::Removing => self.save(Next::KeepLease, now).await,
            _ => Ok(()),
        }
    }

    async fn look_at_dns(&mut self, now: Timestamp) {
        let started = Instant::now();
        let sight = self.engine.inner.resolver.look(&self.domain.intent.hostname, now).await;
        let policy = &self.engine.inner.config.policy;
        let mut looked = self.domain.clone();
        looked.state.look.dns = Some(sight.clone());
        let verdict = planner::dns_verdict(&looked, policy);
        // A look takes its time; what comes after it counts from its end.
        let (now, asked_at) = (self.engine.inner.clock.now(), self.domain.intent.changed_at);
        fold::looked_at_dns(&mut self.domain.state, asked_at, sight, verdict.is_ok(), now, self.engine.inner.clock.entropy());
        let (status, message) = match &verdict {
            Ok(()) => (StepStatus::Applied, "DNS leads here".to_owned()),
            Err(reason) => (StepStatus::Rejected, reason.message.clone()),
        };
        self.note("look_at_dns", status, &message, Some(started));
    }

    async fn poll_ari(&mut self, now: Timestamp) {
        let Some(current) = &self.current else { return };
        let look = &mut self.domain.state.look;
        let Some(issuer) = self.engine.inner.issuers.get(&current.issuer) else {
            look.ari_poll_at = Some(now + SignedDuration::from_hours(24));
            return;
        };
        match issuer.renewal_info(current, now, self.engine.inner.clock.entropy()).await {
            Outcome::Applied(Some(mut window)) => {
                // The moment is drawn once for a window, not at every poll.
                if let Some(known) = look.ari.as_ref().filter(|known| known.start == window.start && known.end == window.end) {
                    window.selected = known.selected;
                }
                self.domain.state.cert_renewal_due_at = Some(renewal::sla_due_at(current, Some(&window)));
                look.ari = Some(window);
            }
            Outcome::Applied(None) => {
                look.ari = None;
                look.ari_poll_at = Some(now + SignedDuration::from_hours(24));
            }
            Outcome::Rejected(_) | Outcome::Unknown(_) => {
                let again = now + SignedDuration::from_hours(1);
                look.ari_poll_at = Some(again);
                if let Some(window) = &mut look.ari {
                    window.poll_at = again;
                }
            }
        }
    }

    async fn probe(&mut self, now: Timestamp) {
        let started = Instant::now();
        let inner = &self.engine.inner;
        let intent = &self.domain.intent;
        let ours = intent.route.as_ref().is_some_and(certwright_model::domain::Route::is_ours);
        let edge = inner.config.edge_address.filter(|_| ours);
        let dns = Some((&inner.resolver, inner.config.public_https_port));
        let sights = inner.prober.look(&intent.hostname, edge, dns, now).await;
        let verdict =
            wire::judge(&sights, &intent.hostname, planner::expected(&self.domain, self.staged.as_ref().or(self.current.as_ref())), now);
        let dialled = sights.iter().map(|sight| sight.dialled.as_str()).collect::<Vec<_>>().join(", ");
        let was_good = self.domain.state.look.probe_failures == 0 && self.domain.state.tls_last_checked_at.is_some();
        let (now, asked_at) = (inner.clock.now(), intent.changed_at);
        let patience = (!planner::is_issued_by_us(&self.domain)).then_some(intent.failure_policy);
        let probe = fold::Probe { asked_at, sights, verdict: &verdict, patience };
        fold::probed(&mut self.domain.state, probe, &inner.config.policy, now, inner.clock.entropy());
        match &verdict {
            Ok(()) => self.note("probe", StepStatus::Applied, &format!("{dialled} serves the right certificate"), Some(started)),
            Err(reason) => {
                if was_good && self.staged.is_none() && self.domain.state.proven {
                    self.event(now, None, "drift", &reason.message);
                }
                self.note("probe", StepStatus::Rejected, &reason.message, Some(started));
            }
        }
    }

    fn commit(&mut self, now: Timestamp) {
        let Some(facts) = self.staged.take() else { return };
        fold::committed(&mut self.domain.state, &facts, self.domain.intent.renew_requested_at, now);
        let kind = self.domain.state.cert_last_event_type;
        let proof = self.domain.state.look.sights.iter().map(|sight| sight.dialled.as_str()).collect::<Vec<_>>().join(", ");
        self.current = Some(facts);
        let said =
            if self.engine.inner.config.policy.probing { format!("proven at {proof}") } else { "not proven: probing is off".to_owned() };
        self.event(now, kind, "commit", &said);
        self.note("commit", StepStatus::Applied, &said, None);
    }

    async fn roll_back(&mut self, reason: Reason, now: Timestamp) -> Result<(), StoreError> {
        let (policy, entropy) = (self.domain.intent.failure_policy, self.engine.inner.clock.entropy());
        self.note("rollback", StepStatus::Applied, &reason.message, None);
        self.event(now, Some(EventType::RenewalFailed), "rollback", &reason.message);
        self.staged = None;
        let failure = fold::Failure { reason, retry_after: None, asked_at: self.domain.intent.changed_at, issuers: 1 };
        fold::rolled_back(&mut self.domain.state, failure, policy, now, entropy);
        self.save_and_tell_edge(now).await
    }

    /// The edge is dialled until it does not show our certificate for the name any more.
    async fn confirm_withdrawn(&mut self, now: Timestamp) {
        let inner = &self.engine.inner;
        let sights = inner.prober.look(&self.domain.intent.hostname, inner.config.edge_address, None, now).await;
        let now = inner.clock.now();
        let ours = |served: &wire::Served| {
            [&self.current, &self.staged].into_iter().flatten().any(|facts| facts.certificate_ref == served.certificate_ref)
        };
        let still = sights.iter().filter_map(|sight| sight.seen.as_ref().ok()).any(ours);
        let look = &mut self.domain.state.look;
        look.withdrawn = !still;
        if still {
            look.probe_failures = look.probe_failures.saturating_add(1);
            look.probe_at = Some(now + SignedDuration::from_millis(200 << look.probe_failures.min(8)));
        }
        let (status, message) =
            if still { (StepStatus::Rejected, "the edge still answers") } else { (StepStatus::Applied, "the edge refuses the name") };
        self.note("confirm_withdrawn", status, message, None);
    }

    async fn forget(&mut self, now: Timestamp) -> Result<Flow, StoreError> {
        self.note("forget", StepStatus::Applied, "nothing of the domain is left", None);
        self.save(Next::Delete, now).await?;
        Ok(Flow::Stop)
    }

    async fn rest(&mut self, reason: Reason, now: Timestamp) -> Result<(), StoreError> {
        let until = reason.next_look_at;
        self.conclude(reason, now);
        self.save(Next::Release(until), now).await
    }

    /// A step is never begun with less of the lease than it may take.
    async fn keep_lease(&mut self) -> Result<(), StoreError> {
        let inner = &self.engine.inner;
        let now = inner.clock.now();
        if self.lease.until.duration_since(now) < inner.config.lease.mul_f64(0.6) {
            self.lease = inner.store.extend_lease(self.domain.intent.id, &self.lease, now + inner.config.lease).await?;
        }
        Ok(())
    }

    async fn save_and_tell_edge(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let _order = self.engine.inner.edge_order.read().await;
        self.save(Next::KeepLease, now).await?;
        edge_link::apply_now(self.engine, &self.domain.intent.hostname).await
    }

    async fn save(&mut self, next: Next, now: Timestamp) -> Result<(), StoreError> {
        let close_jobs = self.jobs_over(&next);
        let save = DomainSave {
            id: self.domain.intent.id,
            lease: self.lease,
            state: self.domain.state.clone(),
            events: std::mem::take(&mut self.events),
            job_steps: std::mem::take(&mut self.steps),
            close_jobs,
            next,
        };
        self.engine.inner.store.save_domain(save, now).await?;
        self.engine.announce(Changed::Domain(self.domain.intent.id, self.domain.intent.site_id));
        Ok(())
    }

    /// What this save means for the jobs that wait for the domain.
    fn jobs_over(&self, next: &Next) -> Option<CloseJobs> {
        let Domain { intent, state } = &self.domain;
        let close =
            |kinds: &[JobKind], status, error| Some(CloseJobs { kinds: kinds.to_vec(), status, error, asked_until: intent.changed_at });
        match next {
            Next::KeepLease => None,
            Next::Delete => close(&[JobKind::DomainRemove], JobStatus::Succeeded, None),
            Next::Park { .. } => {
                close(&[JobKind::DomainSet, JobKind::CertRetry], JobStatus::Waiting, Some("the CA's local budget is spent".into()))
            }
            Next::Release(_) => {
                let green =
                    matches!(state.tls_status, TlsStatus::Issued | TlsStatus::Expiring) && state.lifecycle == DomainLifecycle::Active;
                let renewed = state.look.renewed_for == intent.renew_requested_at && self.staged.is_none();
                let watched = !planner::is_issued_by_us(&self.domain) && state.lifecycle == DomainLifecycle::Active;
                if intent.desired == Desired::Present && (green || watched) && (renewed || watched) {
                    return close(&[JobKind::DomainSet, JobKind::CertRetry], JobStatus::Succeeded, None);
                }
                let reason = state.reason.as_ref()?;
                let waits = matches!(reason.code, ReasonCode::BackingOff | ReasonCode::SiteNotReady);
                let blocked = waits || matches!(reason.actor, Actor::Customer | Actor::Operator | Actor::Ca);
                if !blocked {
                    return None;
                }
                close(&[JobKind::DomainSet, JobKind::CertRetry, JobKind::DomainRemove], JobStatus::Waiting, Some(reason.message.clone()))
            }
        }
    }

    fn note(&mut self, step: &str, status: StepStatus, message: &str, started: Option<Instant>) {
        let elapsed_ms = started.map(|started| u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX));
        let at = self.engine.inner.clock.now();
        self.steps.push(JobStep { at, step: step.into(), status, message: message.into(), elapsed_ms });
    }

    fn event(&mut self, at: Timestamp, event_type: Option<EventType>, step: &str, message: &str) {
        let certificate_ref = self.staged.as_ref().or(self.current.as_ref()).map(|facts| facts.certificate_ref.clone());
        let (id, node) = (EventId(self.engine.inner.clock.id()), self.engine.inner.config.node);
        self.events.push(OwnEvent { id, node, at, event_type, step: step.into(), message: message.into(), certificate_ref });
    }
}

/// The planner only names legal steps; a state that refuses one was changed by something else.
fn illegal(error: certwright_model::site::IllegalTransition) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

//! The issuing step: pass the gate, open or resume the order, and judge what the CA answered.

use super::{Flow, Work};
use crate::adapters::StoredOrder;
use crate::edge_link;
use certwright_model::backoff::jittered;
use certwright_model::certificate::KeyType;
use certwright_model::fold::{self, Failure};
use certwright_model::ids::{CertificateId, OrderId};
use certwright_model::job::StepStatus;
use certwright_model::planner;
use certwright_model::reason::{Reason, ReasonCode};
use certwright_model::record::{Order, OrderStage};
use certwright_model::renewal;
use certwright_providers::issuer::{IssueProgress, IssueRequest, Issued, Issuer};
use certwright_providers::{Outcome, x509};
use certwright_store::{NewCertificate, Next, StoreError};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait for a place at a CA before letting go of the lease.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);

impl Work<'_> {
    pub(super) async fn issue(&mut self, wanted: &str, now: Timestamp) -> Result<Flow, StoreError> {
        // An order that is open is finished first, whoever is preferred by now.
        let name = self.order.as_ref().map_or(wanted, |order| order.issuer.as_str()).to_owned();
        let Some(issuer) = self.engine.inner.issuers.get(&name).cloned() else {
            self.drop_order("its issuer is not configured any more", now).await?;
            let reason = Reason::new(ReasonCode::IssuerMisconfigured, format!("no issuer named `{name}` is configured"));
            self.failed(reason, None, true, now).await?;
            return Ok(Flow::Continue);
        };
        if self.order.is_none() && !self.open_order(&issuer, now).await? {
            return Ok(Flow::Stop);
        }
        let Some(_slot) = self.engine.inner.gate.slot(&name, SLOT_PATIENCE).await else {
            let clock = &self.engine.inner.clock;
            let (now, pause) = (clock.now(), jittered(SignedDuration::from_secs(2), clock.entropy()));
            let at = now + pause;
            return self.put_aside(Reason::new(ReasonCode::CaPending, format!("other orders at {name} come first")).at(at), now).await;
        };
        self.keep_lease().await?;
        self.ask(&issuer, now).await
    }

    /// Whether there is an order now; otherwise the domain is parked.
    async fn open_order(&mut self, issuer: &Arc<dyn Issuer>, now: Timestamp) -> Result<bool, StoreError> {
        let inner = &self.engine.inner;
        let Work { domain, current, .. } = self;
        // A renewal is late from its SLA on; a new name has a day. So neither a backlog of new names nor one of renewals
        // that have time starves the other.
        let deadline = match current {
            Some(facts) => renewal::sla_due_at(facts, domain.state.look.ari.as_ref()),
            None => domain.intent.created_at + SignedDuration::from_hours(24),
        };
        if !std::mem::take(&mut self.granted) && !inner.gate.spend(issuer.name(), deadline).await? {
            let reason =
                Reason::new(ReasonCode::CaBudget, format!("the local budget for {} is spent; earlier deadlines go first", issuer.name()));
            self.domain.state.reason = Some(reason.clone());
            self.note("issue", StepStatus::Waiting, &reason.message, None);
            self.conclude(reason, now);
            self.save(Next::Park { issuer: issuer.name().to_owned(), deadline }, now).await?;
            return Ok(false);
        }
        let order = Order {
            id: OrderId(inner.clock.id()),
            domain_id: self.domain.intent.id,
            issuer: issuer.name().to_owned(),
            stage: OrderStage::Intended,
            order_url: None,
            key_pkcs8_der: make_key(self.domain.intent.key_type).await?,
            key_type: self.domain.intent.key_type,
            replaces: self.current.as_ref().filter(|facts| facts.issuer == issuer.name()).and_then(|facts| facts.ari_id.clone()),
            is_renewal: self.current.is_some(),
            created_at: now,
        };
        inner.store.open_order(&self.lease, order.clone()).await?;
        self.order = Some(order);
        Ok(true)
    }

    async fn ask(&mut self, issuer: &Arc<dyn Issuer>, now: Timestamp) -> Result<Flow, StoreError> {
        let started = Instant::now();
        let Some(order) = self.order.clone() else { return Ok(Flow::Continue) };
        let names = vec![self.domain.intent.hostname.clone()];
        let engine = self.engine;
        let hook = |step: &str, before: bool| engine.hook(step, before);
        let journal = StoredOrder {
            store: &engine.inner.store,
            lease: self.lease,
            order: order.id,
            now,
            hook: &hook,
            finalizing: AtomicBool::new(order.stage == OrderStage::Finalizing),
        };
        let request = IssueRequest { order: order.clone(), names, lifetime_hint: None };
        let deadline = started + engine.inner.config.issue_deadline;
        let outcome = issuer.issue(&request, &journal, now, deadline).await;
        // Once the CSR may have been sent, a certificate may exist: that order is finished, not passed over.
        let passable = !journal.finalizing.load(Ordering::Relaxed);
        // The clock went on while the CA worked.
        let now = engine.inner.clock.now();
        match outcome {
            Outcome::Applied(IssueProgress::Issued(issued)) => {
                self.issued(&order, issued, now).await?;
                self.note("issue", StepStatus::Applied, &format!("{} issued the certificate", issuer.name()), Some(started));
            }
            Outcome::Applied(IssueProgress::Pending { look_again_at }) => {
                let reason = Reason::new(ReasonCode::CaPending, format!("{} is still working on the order", issuer.name()));
                return self.put_aside(reason.at(look_again_at), now).await;
            }
            Outcome::Applied(IssueProgress::OrderGone { why }) => {
                self.drop_order(&why, now).await?;
                let reason = Reason::new(ReasonCode::CaUnavailable, format!("{} lost the order: {why}", issuer.name()));
                self.failed(reason, None, true, now).await?;
            }
            Outcome::Rejected(rejection) => {
                // An outage or a rate limit leaves the order good: the next look goes on with it.
                let open = rejection.leaves_order_open();
                if !open {
                    self.drop_order(&rejection.reason.message, now).await?;
                }
                self.note("issue", StepStatus::Rejected, &rejection.reason.message, Some(started));
                self.failed(rejection.reason, rejection.retry_after, passable || !open, now).await?;
            }
            Outcome::Unknown(why) => {
                // The order stays open: the next look asks the CA what became of it.
                self.note("issue", StepStatus::Unknown, &why, Some(started));
                let reason = Reason::new(ReasonCode::CaUnavailable, format!("{} did not answer: {why}", issuer.name()));
                self.failed(reason, None, passable, now).await?;
            }
        }
        Ok(Flow::Continue)
    }

    async fn issued(&mut self, order: &Order, issued: Issued, now: Timestamp) -> Result<(), StoreError> {
        let inner = &self.engine.inner;
        let id = CertificateId(inner.clock.id());
        let certificate = NewCertificate { id, facts: issued.facts.clone(), chain_pem: issued.chain_pem };
        self.engine.hook("store_certificate", true);
        let _order = inner.edge_order.read().await;
        inner.store.order_issued(&self.lease, order.id, certificate, now).await?;
        edge_link::apply_now(self.engine, &self.domain.intent.hostname).await?;
        self.engine.hook("store_certificate", false);
        fold::staged(&mut self.domain.state, id, self.domain.intent.renew_requested_at);
        self.order = None;
        self.staged = Some(issued.facts);
        Ok(())
    }

    async fn drop_order(&mut self, why: &str, now: Timestamp) -> Result<(), StoreError> {
        if let Some(order) = self.order.take() {
            self.engine.inner.store.order_failed(&self.lease, order.id, why, now).await?;
        }
        Ok(())
    }

    /// `passable`: another issuer may be asked in place of this one, as far as the order is concerned.
    async fn failed(&mut self, reason: Reason, retry_after: Option<Timestamp>, passable: bool, now: Timestamp) -> Result<(), StoreError> {
        let settings = &self.engine.inner.config.policy;
        let passable = passable && planner::may_fall_back(self.current.as_ref(), settings, now);
        let issuers = if passable { planner::issuers_of(&self.domain, settings).len() } else { 1 };
        let (policy, entropy) = (self.domain.intent.failure_policy, self.engine.inner.clock.entropy());
        let message = reason.message.clone();
        let failure = Failure { reason, retry_after, asked_at: self.domain.intent.changed_at, issuers };
        let counted = fold::failed(&mut self.domain.state, failure, policy, now, entropy);
        if counted {
            let kind = self.domain.state.cert_last_event_type;
            self.event(now, kind, "issue", &message);
            tracing::warn!(domain = %self.domain.intent.hostname, count = self.domain.state.cert_failure_count, reason = message, "issuance failed");
        } else {
            // Another issuer is asked next; it makes an order of its own.
            self.drop_order("another issuer is asked", now).await?;
        }
        Ok(())
    }

    /// Lets go of the lease until the CA may be further.
    async fn put_aside(&mut self, reason: Reason, now: Timestamp) -> Result<Flow, StoreError> {
        let until = reason.next_look_at;
        self.note("issue", StepStatus::Waiting, &reason.message, None);
        self.conclude(reason, now);
        self.save(Next::Release(until), now).await?;
        Ok(Flow::Stop)
    }

    pub(super) fn conclude(&mut self, reason: Reason, now: Timestamp) {
        let mut state = self.domain.state.clone();
        fold::conclude(&self.view(), &mut state, reason, &self.engine.inner.config.policy, now);
        self.domain.state = state;
    }
}

async fn make_key(key_type: KeyType) -> Result<Vec<u8>, StoreError> {
    // RSA keys take a second of one core; the others take nothing.
    let made = match key_type {
        KeyType::Rsa2048 | KeyType::Rsa4096 => tokio::task::spawn_blocking(move || x509::key_pair(key_type)).await,
        _ => Ok(x509::key_pair(key_type)),
    };
    match made {
        Ok(Ok(key)) => Ok(key),
        Ok(Err(error)) => Err(StoreError::Config(error.to_string())),
        Err(error) => Err(StoreError::Config(error.to_string())),
    }
}

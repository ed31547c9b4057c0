//! One order from where it stands to its certificate.
//!
//! Invariants: the journal hears of each effect before it happens (the order's URL right after, because the CA chooses it);
//! what an order needs next is read from the CA each time, so a resumed order and a new one walk the same path.

use super::account::Session;
use super::http::{Failure, failure_of, last_retry_after};
use super::problems::{About, Stop, is_bad_nonce, problem_stop, rejection, stop};
use super::{AcmeIssuer, BAD_NONCE_ROUNDS};
use crate::issuer::{ChallengeKind, IssueRequest, Issued, JournalError, OrderJournal, PublishedChallenge};
use crate::x509;
use certwright_model::record::OrderStage;
use certwright_model::{Hostname, ReasonCode};
use http::StatusCode;
use instant_acme::{
    AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
};
use jiff::{SignedDuration, Timestamp};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const FIRST_POLL: Duration = Duration::from_millis(10);
const SLOWEST_POLL: Duration = Duration::from_secs(2);

/// Repeats a call whose nonce was refused: beyond the library's three tries, and bounded. Such a call had no effect.
macro_rules! with_nonces {
    ($call:expr) => {{
        let mut rounds = 0;
        loop {
            match $call {
                Err(error) if is_bad_nonce(&error) && rounds < BAD_NONCE_ROUNDS => rounds += 1,
                answer => break answer,
            }
        }
    }};
}

/// How long the CA usually takes for one of its parts, as the orders before have shown: a poll that comes too early is work
/// for both sides.
#[derive(Debug, Default)]
pub(super) struct Usual(AtomicU32);

/// Both are the CA's: validating the challenges, and signing.
#[derive(Debug, Default)]
pub(super) struct Pace {
    validating: Usual,
    signing: Usual,
}

struct Wait {
    started: Instant,
    next: Duration,
    polls: u32,
}

impl Wait {
    fn new(first: Duration) -> Self {
        Self { started: Instant::now(), next: first, polls: 0 }
    }
}

impl Usual {
    fn usual(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).into()).clamp(FIRST_POLL, SLOWEST_POLL)
    }

    /// What the first poll found done may have been done for a while: the next one comes a little earlier.
    fn learn(&self, wait: &Wait) {
        if wait.polls == 0 {
            return;
        }
        let took = u32::try_from(wait.started.elapsed().as_millis()).unwrap_or(u32::MAX).min(SLOWEST_POLL.as_millis() as u32);
        let took = if wait.polls == 1 { took - took / 4 } else { took };
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(if before == 0 { took } else { before - before / 4 + took / 4 }, Ordering::Relaxed);
    }
}

pub(super) struct Flow<'a> {
    pub(super) issuer: &'a AcmeIssuer,
    pub(super) request: &'a IssueRequest,
    pub(super) journal: &'a dyn OrderJournal,
    pub(super) now: Timestamp,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
}

impl Flow<'_> {
    pub(super) async fn run(&self) -> Result<Issued, Stop> {
        let resumed = self.request.order.stage != OrderStage::Intended && self.request.order.order_url.is_some();
        let mut order = if resumed { self.fetch().await? } else { self.place().await? };
        let pace = &self.issuer.pace;
        let mut wait = Wait::new(FIRST_POLL);
        let mut triggered = false;
        loop {
            match order.state().status {
                OrderStatus::Pending if !triggered => {
                    self.answer_challenges(&mut order).await?;
                    triggered = true;
                    wait = Wait::new(pace.validating.usual());
                }
                OrderStatus::Pending | OrderStatus::Processing => self.poll(&mut order, &mut wait).await?,
                OrderStatus::Ready => {
                    pace.validating.learn(&wait);
                    self.finalize(&mut order).await?;
                    wait = Wait::new(pace.signing.usual());
                }
                OrderStatus::Valid => {
                    pace.signing.learn(&wait);
                    return self.download(&mut order).await;
                }
                OrderStatus::Invalid => return Err(self.why_invalid(&mut order, resumed).await),
            }
        }
    }

    /// A new order. An account that the CA has lost is made anew, once.
    async fn place(&self) -> Result<Order, Stop> {
        let session = self.issuer.session(self.clock()).await?;
        let order = match self.new_order(&session).await {
            Err(Stop::NoAccount(why)) => {
                tracing::warn!(issuer = self.name(), why, "the CA has lost our account; making another");
                self.issuer.forget(&session).await?;
                let session = self.issuer.session(self.clock()).await?;
                self.new_order(&session).await?
            }
            answer => answer?,
        };
        self.journal.placed(order.url()).await.map_err(journal_failed)?;
        Ok(order)
    }

    async fn new_order(&self, session: &Session) -> Result<Order, Stop> {
        let identifiers: Vec<Identifier> = self.request.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
        let plain = || match &self.issuer.config.profile {
            Some(profile) => NewOrder::new(&identifiers).profile(profile),
            None => NewOrder::new(&identifiers),
        };
        if let Some(replaced) = self.replaced().await? {
            let wanted = plain().replaces(replaced);
            match with_nonces!(session.account.new_order(&wanted).await) {
                // RFC 9773 section 5: already replaced (409), or not a certificate that this CA and account can replace.
                Err(error) if is_about_replacing(&error) => {
                    tracing::info!(issuer = self.name(), %error, "ordering without `replaces`");
                }
                answer => return answer.map_err(|error| self.before_order(&error)),
            }
        }
        let wanted = plain();
        with_nonces!(session.account.new_order(&wanted).await).map_err(|error| self.before_order(&error))
    }

    /// The certificate to name in `replaces`, where the CA takes that.
    async fn replaced(&self) -> Result<Option<CertificateIdentifier<'static>>, Stop> {
        let Some(id) = &self.request.order.replaces else { return Ok(None) };
        let directory = self.issuer.directory(self.clock()).await?;
        let quoted = format!("\"{id}\"");
        let parsed = serde_json::from_str::<CertificateIdentifier<'_>>(&quoted).ok().map(CertificateIdentifier::into_owned);
        Ok(parsed.filter(|_| directory.renewal_info.is_some()))
    }

    /// An order that was placed before this call.
    async fn fetch(&self) -> Result<Order, Stop> {
        let url = self.request.order.order_url.clone().unwrap_or_default();
        let session = self.issuer.session(self.clock()).await?;
        let error = match with_nonces!(session.account.order(url.clone()).await) {
            Ok(order) => return Ok(order),
            Err(error) => error,
        };
        match (self.stop(&error, About::Order), failure_of(&error)) {
            (Stop::NoAccount(why), _) => {
                self.issuer.forget(&session).await?;
                Err(Stop::Gone(why))
            }
            (stop, Some(Failure::Refused(refusal)))
                if refusal.status.is_client_error() && refusal.status != StatusCode::TOO_MANY_REQUESTS && !is_wait(&stop) =>
            {
                Err(Stop::Gone(format!("`{}` does not know the order any more ({})", self.name(), refusal.status)))
            }
            (stop, _) => Err(stop),
        }
    }

    /// Publishes what the CA will look for, then asks it to look. Authorizations that are valid already need nothing.
    async fn answer_challenges(&self, order: &mut Order) -> Result<(), Stop> {
        let mut published = Vec::new();
        self.fetch_authorizations(order).await.map_err(|error| self.stop(&error, About::Order))?;
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|error| self.stop(&error, About::Order))?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                // The order's own status is about to say so; polling finds it.
                AuthorizationStatus::Invalid => continue,
                AuthorizationStatus::Revoked | AuthorizationStatus::Expired | AuthorizationStatus::Deactivated => {
                    return Err(Stop::Gone(format!("an authorization at `{}` is {:?}", self.name(), authorization.status)));
                }
            }
            let name = authorization.identifier().to_string();
            let host = Hostname::parse(&name).map_err(|error| Stop::Gone(format!("the order names {name}: {error}")))?;
            let offered: Vec<ChallengeType> = authorization.challenges.iter().map(|challenge| challenge.r#type.clone()).collect();
            let kind = self.choose(&offered).ok_or_else(|| self.no_challenge(&host))?;
            if let Some(challenge) = authorization.challenge(acme_type(kind)) {
                let key_authorization = challenge.key_authorization().as_str().to_owned();
                published.push(PublishedChallenge { kind, host, token: challenge.token.clone(), key_authorization });
            }
        }
        if published.is_empty() {
            return Ok(());
        }
        let kinds: Vec<(String, ChallengeKind)> = published.iter().map(|challenge| (challenge.host.to_string(), challenge.kind)).collect();
        self.journal.publish(published).await.map_err(journal_failed)?;
        for (name, kind) in kinds {
            self.trigger(order, &name, kind).await?;
        }
        Ok(())
    }

    /// The library's iterator passes over what it could not fetch, so a refused nonce starts it over; what it has, it keeps.
    async fn fetch_authorizations(&self, order: &mut Order) -> Result<(), Error> {
        let mut rounds = 0;
        'over: loop {
            let mut authorizations = order.authorizations();
            while let Some(next) = authorizations.next().await {
                match next {
                    Ok(_) => {}
                    Err(error) if is_bad_nonce(&error) && rounds < BAD_NONCE_ROUNDS => {
                        rounds += 1;
                        continue 'over;
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
    }

    async fn trigger(&self, order: &mut Order, name: &str, kind: ChallengeKind) -> Result<(), Stop> {
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|error| self.stop(&error, About::Order))?;
            if authorization.identifier().to_string() != name {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(acme_type(kind))
                // Triggered before a crash: the CA is looking already.
                && challenge.status == ChallengeStatus::Pending
            {
                match with_nonces!(challenge.set_ready().await) {
                    // Somebody triggered it a moment ago, or it failed at once: the order's status tells which.
                    Ok(()) => {}
                    Err(error) if matches!(failure_of(&error), Some(Failure::Refused(r)) if r.kind == "malformed") => {}
                    Err(Error::Api(problem)) => return Err(problem_stop(self.name(), &problem, About::Validation)),
                    Err(error) => return Err(self.stop(&error, About::Order)),
                }
            }
            return Ok(());
        }
        Ok(())
    }

    async fn finalize(&self, order: &mut Order) -> Result<(), Stop> {
        let internal = |error: x509::X509Error| Stop::Rejected(rejection(ReasonCode::Internal, error.to_string(), None, true));
        let csr = x509::csr(&self.request.names, &self.request.order.key_pkcs8_der).map_err(internal)?;
        self.journal.finalizing().await.map_err(journal_failed)?;
        match with_nonces!(order.finalize_csr(&csr).await) {
            Ok(()) => Ok(()),
            // A CA that lags behind itself, or has it already: what the order says now decides.
            Err(error) if matches!(failure_of(&error), Some(Failure::Refused(r)) if r.kind == "orderNotReady") => {
                let mut wait = Wait::new(FIRST_POLL * 10);
                self.poll(order, &mut wait).await
            }
            Err(error) => Err(match (self.stop(&error, About::Order), failure_of(&error)) {
                (Stop::Rejected(rejected), Some(Failure::Refused(refusal))) if refusal.status.is_server_error() => {
                    Stop::Unknown(rejected.reason.message)
                }
                (stop, _) => stop,
            }),
        }
    }

    /// Waits as the CA says, else as long as it usually takes and then growing to 2 s; gives up where the wait would pass the
    /// deadline.
    async fn poll(&self, order: &mut Order, wait: &mut Wait) -> Result<(), Stop> {
        let own = wait.next;
        wait.next = own.mul_f32(1.6).min(SLOWEST_POLL);
        wait.polls += 1;
        let now = self.clock();
        let due = match last_retry_after().map(|after| after.at(now).duration_since(now)) {
            Some(delay) if delay > SignedDuration::ZERO => delay.unsigned_abs(),
            _ => own,
        };
        if Instant::now() + due >= self.deadline {
            return Err(Stop::Pending(now.saturating_add(due).unwrap_or(now)));
        }
        tokio::time::sleep(due).await;
        with_nonces!(order.refresh().await.map(|_| ())).map_err(|error| match self.stop(&error, About::Order) {
            Stop::NoAccount(why) => Stop::Gone(why),
            stop => stop,
        })
    }

    async fn download(&self, order: &mut Order) -> Result<Issued, Stop> {
        let pem = with_nonces!(order.certificate().await).map_err(|error| self.stop(&error, About::Order))?;
        let chain = x509::chain_from_pem(&pem.unwrap_or_default());
        let checked = chain.and_then(|chain| {
            let order = &self.request.order;
            x509::accept(&chain, &order.key_pkcs8_der, &self.request.names, self.name(), self.clock()).map(|facts| (chain, facts))
        });
        match checked {
            Ok((chain_der, facts)) => Ok(Issued { chain_pem: x509::chain_to_pem(&chain_der), chain_der, facts }),
            Err(error) => {
                let message = format!("`{}` returned a certificate that must not be used: {error}", self.name());
                Err(Stop::Rejected(rejection(ReasonCode::CaBadCertificate, message, None, false)))
            }
        }
    }

    /// The challenge's own words say more than the order's.
    async fn why_invalid(&self, order: &mut Order, resumed: bool) -> Stop {
        if let Err(error) = self.fetch_authorizations(order).await {
            tracing::debug!(issuer = self.name(), %error, "the authorizations of an invalid order cannot be read");
        }
        let mut authorizations = order.authorizations();
        while let Some(Ok(authorization)) = authorizations.next().await {
            if authorization.status == AuthorizationStatus::Invalid {
                let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
                if let Some(problem) = problem {
                    return problem_stop(self.name(), problem, About::Validation);
                }
            }
        }
        match &order.state().error {
            Some(problem) => problem_stop(self.name(), problem, About::Order),
            None if resumed => Stop::Gone(format!("the order at `{}` is invalid", self.name())),
            None => {
                let message = format!("`{}` made the order invalid without saying why", self.name());
                Stop::Rejected(rejection(ReasonCode::CaRejected, message, None, false))
            }
        }
    }

    fn choose(&self, offered: &[ChallengeType]) -> Option<ChallengeKind> {
        self.issuer.config.challenges.iter().copied().find(|kind| offered.contains(&acme_type(*kind)))
    }

    fn no_challenge(&self, host: &Hostname) -> Stop {
        let own: Vec<&str> = self.issuer.config.challenges.iter().map(|kind| kind.as_str()).collect();
        let message = format!("`{}` offers {host} none of the challenges that are configured ({})", self.name(), own.join(", "));
        Stop::Rejected(rejection(ReasonCode::IssuerMisconfigured, message, None, true))
    }

    /// Without an order URL a lost answer leaves nothing behind that matters.
    fn before_order(&self, error: &Error) -> Stop {
        match self.stop(error, About::Order) {
            Stop::Unknown(message) => Stop::Rejected(rejection(ReasonCode::CaUnavailable, message, None, false)),
            stop => stop,
        }
    }

    fn stop(&self, error: &Error, about: About) -> Stop {
        stop(self.name(), error, about, self.clock())
    }

    fn name(&self) -> &str {
        &self.issuer.config.name
    }

    /// The caller's time, carried on by the monotonic clock.
    pub(super) fn clock(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
        self.now.saturating_add(passed).unwrap_or(self.now)
    }
}

fn acme_type(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// The library refuses a reply that does not echo `replaces`; CAs refuse what they cannot replace in several ways.
fn is_about_replacing(error: &Error) -> bool {
    match failure_of(error) {
        Some(Failure::Refused(refusal)) => {
            refusal.status == StatusCode::CONFLICT
                || matches!(refusal.kind.as_str(), "alreadyReplaced" | "malformed")
                || (matches!(refusal.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED)
                    && matches!(refusal.kind.as_str(), "" | "unauthorized"))
        }
        Some(_) => false,
        None => matches!(error, Error::Other(_)),
    }
}

fn is_wait(stop: &Stop) -> bool {
    let code = match stop {
        Stop::Rejected(rejected) => rejected.reason.code,
        _ => return false,
    };
    matches!(code, ReasonCode::CaRateLimited | ReasonCode::CaUnavailable)
}

fn journal_failed(error: JournalError) -> Stop {
    Stop::Unknown(format!("stopped before the next step: {error}"))
}

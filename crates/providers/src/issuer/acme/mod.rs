//! Any RFC 8555 CA: Let's Encrypt, ZeroSSL, step-ca, Pebble …
//!
//! Invariants: one account an issuer, kept and reused; every request and every wait is bounded; refusals arrive as reasons
//! with the CA's own words and its `Retry-After`. Budgets are the caller's.

mod account;
mod flow;
mod http;
mod problems;

use super::{ChallengeKind, IssueProgress, IssueRequest, Issuer, JournalError, OrderJournal};
use crate::{Outcome, Rejection};
use account::Session;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certwright_model::budget::Limit;
use certwright_model::certificate::CertificateFacts;
use certwright_model::renewal::AriWindow;
use certwright_model::{Reason, ReasonCode};
use flow::{Flow, Pace};
use http::{Failure, Http};
use instant_acme::Error;
use jiff::{SignedDuration, Timestamp};
use problems::{About, Stop, rejection, stop};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

/// Of the library's three tries each. A CA that rejects every second nonce fails one request in sixteen million.
const BAD_NONCE_ROUNDS: u32 = 7;
/// RFC 9773 section 4.3: where the CA does not say, and within these bounds where it does.
const ARI_POLL: SignedDuration = SignedDuration::from_hours(6);
const ARI_POLL_SHORTEST: SignedDuration = SignedDuration::from_mins(1);
const ARI_POLL_LONGEST: SignedDuration = SignedDuration::from_hours(24);

#[derive(Clone)]
pub struct AcmeConfig {
    pub name: String,
    pub directory_url: String,
    /// Such as `mailto:ops@example.com`.
    pub contacts: Vec<String>,
    pub eab: Option<ExternalAccount>,
    pub profile: Option<String>,
    /// In order of preference.
    pub challenges: Vec<ChallengeKind>,
    /// Trusted for the directory, beside the operating system's roots.
    pub roots_pem: Option<String>,
    pub limit: Option<Limit>,
    /// For every single request.
    pub request_timeout: Duration,
}

impl AcmeConfig {
    pub fn new(name: impl Into<String>, directory_url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            directory_url: directory_url.into(),
            contacts: Vec::new(),
            eab: None,
            profile: None,
            challenges: vec![ChallengeKind::Http01, ChallengeKind::TlsAlpn01],
            roots_pem: None,
            limit: None,
            request_timeout: Duration::from_secs(15),
        }
    }
}

impl std::fmt::Debug for AcmeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AcmeConfig({} {})", self.name, self.directory_url)
    }
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone)]
pub struct ExternalAccount {
    pub kid: String,
    /// As the CA hands it out: base64url.
    pub hmac_key_base64url: String,
}

impl std::fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExternalAccount({})", self.kid)
    }
}

/// Where the account's credentials (JSON with a private key: seal it) are kept.
#[async_trait]
pub trait AccountStore: Send + Sync {
    async fn load(&self, issuer: &str, directory_url: &str) -> Result<Option<String>, JournalError>;
    /// Stores unless there is one already; returns the one that is stored now.
    async fn save_if_absent(&self, issuer: &str, directory_url: &str, credentials: &str) -> Result<String, JournalError>;
    /// The CA does not know this account any more: forgets it, unless another has been stored meanwhile.
    async fn forget(&self, issuer: &str, directory_url: &str, credentials: &str) -> Result<(), JournalError>;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcmeConfigError {
    #[error("the issuer `{issuer}`: {problem}")]
    Invalid { issuer: String, problem: String },
}

pub struct AcmeIssuer {
    config: AcmeConfig,
    accounts: Arc<dyn AccountStore>,
    http: Http,
    /// The key identifier and the raw MAC key.
    external_key: Option<(String, Vec<u8>)>,
    session: Mutex<Option<Session>>,
    directory: OnceCell<Directory>,
    pace: Pace,
}

impl std::fmt::Debug for AcmeIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AcmeIssuer({} {})", self.config.name, self.config.directory_url)
    }
}

/// The part of the directory that the library keeps to itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    #[serde(rename = "newOrder")]
    _new_order: String,
    renewal_info: Option<String>,
}

impl AcmeIssuer {
    /// Settings are checked here; the CA is asked on first use.
    pub fn new(config: AcmeConfig, accounts: Arc<dyn AccountStore>) -> Result<Self, AcmeConfigError> {
        let invalid = |problem: &str| AcmeConfigError::Invalid { issuer: config.name.clone(), problem: problem.to_owned() };
        if !config.directory_url.starts_with("https://") {
            return Err(invalid("the directory URL must start with https://"));
        }
        if config.challenges.is_empty() {
            return Err(invalid("at least one challenge kind is needed"));
        }
        let external_key = match &config.eab {
            Some(eab) => {
                let key = URL_SAFE_NO_PAD.decode(eab.hmac_key_base64url.trim().trim_end_matches('='));
                Some((eab.kid.clone(), key.map_err(|_| invalid("the key of the external account is not base64url"))?))
            }
            None => None,
        };
        let http = Http::new(&config.name, config.roots_pem.as_deref(), config.request_timeout)?;
        Ok(Self { config, accounts, http, external_key, session: Mutex::default(), directory: OnceCell::new(), pace: Pace::default() })
    }

    async fn directory(&self, now: Timestamp) -> Result<&Directory, Stop> {
        let fetch = async || self.http.get(&self.config.directory_url).await.map(|(directory, _)| directory);
        let fetched = self.directory.get_or_try_init(fetch).await;
        fetched.map_err(|failure| self.stop(failure, now))
    }

    /// Nothing but reading goes through here: a lost answer is a CA that is not there.
    fn stop(&self, failure: Failure, now: Timestamp) -> Stop {
        stop(&self.config.name, &Error::Other(Box::new(failure)), About::Account, now)
    }

    async fn ask_renewal_info(&self, facts: &CertificateFacts, now: Timestamp, entropy: f64) -> Result<Option<AriWindow>, Stop> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct RenewalInfo {
            suggested_window: SuggestedWindow,
        }
        #[derive(Deserialize)]
        struct SuggestedWindow {
            start: Timestamp,
            end: Timestamp,
        }
        let directory = self.directory(now).await?;
        let (Some(base), Some(id)) = (&directory.renewal_info, &facts.ari_id) else { return Ok(None) };
        let url = format!("{}/{id}", base.trim_end_matches('/'));
        let (info, retry_after): (RenewalInfo, _) = match self.http.get(&url).await {
            Ok(answer) => answer,
            // Not a certificate of this CA, or forgotten: the schedule decides.
            Err(Failure::Refused(refusal))
                if refusal.status.is_client_error() && refusal.status != ::http::StatusCode::TOO_MANY_REQUESTS =>
            {
                return Ok(None);
            }
            Err(failure) => return Err(self.stop(failure, now)),
        };
        let SuggestedWindow { start, end } = info.suggested_window;
        if end <= start {
            let message = format!("`{}` suggests a renewal window that ends before it starts", self.config.name);
            return Err(Stop::Rejected(rejection(ReasonCode::CaUnavailable, message, None, false)));
        }
        let wait = retry_after.map_or(ARI_POLL, |after| after.at(now).duration_since(now));
        let poll_at = now.saturating_add(wait.clamp(ARI_POLL_SHORTEST, ARI_POLL_LONGEST)).unwrap_or(now);
        Ok(Some(AriWindow::select(start, end, poll_at, entropy)))
    }
}

#[async_trait]
impl Issuer for AcmeIssuer {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn kind(&self) -> &'static str {
        "acme"
    }

    fn budget(&self) -> Option<Limit> {
        self.config.limit
    }

    async fn issue(&self, request: &IssueRequest, journal: &dyn OrderJournal, now: Timestamp, deadline: Instant) -> Outcome<IssueProgress> {
        let flow = Flow { issuer: self, request, journal, now, started: Instant::now(), deadline };
        match tokio::time::timeout_at(deadline, Http::listening(flow.run())).await {
            Ok(Ok(issued)) => Outcome::Applied(IssueProgress::Issued(issued)),
            Ok(Err(stop)) => self.outcome(stop),
            Err(_) => Outcome::Unknown(format!("`{}` had not answered when the time for this step was up", self.config.name)),
        }
    }

    async fn renewal_info(&self, facts: &CertificateFacts, now: Timestamp, entropy: f64) -> Outcome<Option<AriWindow>> {
        match self.ask_renewal_info(facts, now, entropy).await {
            Ok(window) => Outcome::Applied(window),
            Err(Stop::Rejected(rejected)) => Outcome::Rejected(rejected),
            Err(stop) => Outcome::Unknown(format!("{stop:?}")),
        }
    }

    async fn check(&self) -> Result<(), Reason> {
        let fetched: Result<(Directory, _), Failure> = self.http.get(&self.config.directory_url).await;
        match fetched {
            Ok(_) => Ok(()),
            Err(failure) => Err(Reason::new(ReasonCode::CaUnavailable, format!("`{}` {failure}", self.config.name))),
        }
    }
}

impl AcmeIssuer {
    fn outcome(&self, stop: Stop) -> Outcome<IssueProgress> {
        match stop {
            Stop::Rejected(rejected) => Outcome::Rejected(rejected),
            Stop::Unknown(why) => Outcome::Unknown(why),
            Stop::Pending(look_again_at) => Outcome::Applied(IssueProgress::Pending { look_again_at }),
            Stop::Gone(why) => Outcome::Applied(IssueProgress::OrderGone { why }),
            // Made anew once already in this call: the CA loses accounts as fast as we make them.
            Stop::NoAccount(why) => {
                let reason = Reason::new(ReasonCode::CaUnavailable, why);
                Outcome::Rejected(Rejection { reason, retry_after: None, permanent: false })
            }
        }
    }
}

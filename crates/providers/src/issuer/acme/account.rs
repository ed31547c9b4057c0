//! The account at the CA: loaded or created once, shared by every order, made anew where the CA has lost it.
//!
//! Invariants: concurrent callers share one creation; of two nodes that create at once, the first stored wins and the
//! other's account is left unused at the CA.

use super::problems::{About, Stop, is_bad_nonce, rejection, stop};
use super::{AcmeIssuer, BAD_NONCE_ROUNDS, JournalError};
use certwright_model::ReasonCode;
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use jiff::Timestamp;

#[derive(Clone)]
pub(super) struct Session {
    pub(super) account: Account,
    credentials: String,
}

impl AcmeIssuer {
    pub(super) async fn session(&self, now: Timestamp) -> Result<Session, Stop> {
        let mut shared = self.session.lock().await;
        if let Some(session) = shared.as_ref() {
            return Ok(session.clone());
        }
        let (name, url) = (&self.config.name, &self.config.directory_url);
        let stored = self.accounts.load(name, url).await.map_err(not_stored)?;
        let session = match stored {
            Some(credentials) => self.restore(credentials, now).await?,
            None => {
                let (account, credentials) = self.create(now).await?;
                let winner = self.accounts.save_if_absent(name, url, &credentials).await.map_err(not_stored)?;
                if winner == credentials { Session { account, credentials } } else { self.restore(winner, now).await? }
            }
        };
        *shared = Some(session.clone());
        Ok(session)
    }

    /// The CA said that it does not know the account of this session.
    pub(super) async fn forget(&self, session: &Session) -> Result<(), Stop> {
        let mut shared = self.session.lock().await;
        if shared.as_ref().is_some_and(|current| current.credentials != session.credentials) {
            return Ok(());
        }
        *shared = None;
        self.accounts.forget(&self.config.name, &self.config.directory_url, &session.credentials).await.map_err(not_stored)
    }

    async fn restore(&self, credentials: String, now: Timestamp) -> Result<Session, Stop> {
        let parsed: AccountCredentials = serde_json::from_str(&credentials).map_err(|error| {
            let message = format!("the stored account of `{}` cannot be read: {error}", self.config.name);
            Stop::Rejected(rejection(ReasonCode::IssuerMisconfigured, message, None, true))
        })?;
        let built = Account::builder_with_http(Box::new(self.http.clone())).from_credentials(parsed).await;
        let account = built.map_err(|error| stop(&self.config.name, &error, About::Account, now))?;
        Ok(Session { account, credentials })
    }

    async fn create(&self, now: Timestamp) -> Result<(Account, String), Stop> {
        let contacts: Vec<&str> = self.config.contacts.iter().map(String::as_str).collect();
        let wanted = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
        let external = self.external_key.as_ref().map(|(kid, key)| ExternalAccountKey::new(kid.clone(), key));
        let mut rounds = 0;
        let (account, credentials) = loop {
            let builder = Account::builder_with_http(Box::new(self.http.clone()));
            match builder.create(&wanted, self.config.directory_url.clone(), external.as_ref()).await {
                Ok(made) => break made,
                Err(error) if is_bad_nonce(&error) && rounds < BAD_NONCE_ROUNDS => rounds += 1,
                Err(error) => return Err(stop(&self.config.name, &error, About::Account, now)),
            }
        };
        let text = serde_json::to_string(&credentials).map_err(|error| Stop::Unknown(error.to_string()))?;
        tracing::info!(issuer = %self.config.name, account = account.id(), "account created");
        Ok((account, text))
    }
}

fn not_stored(error: JournalError) -> Stop {
    Stop::Unknown(format!("the account store did not answer: {error}"))
}

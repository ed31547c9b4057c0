//! What providers and the edge ask for, answered by the store: the order journal, ACME accounts, CA keys, the edge's source.

use async_trait::async_trait;
use certwright_edge::{EdgeSource, SourceError};
use certwright_model::Hostname;
use certwright_model::edge::{EdgeEntry, ServingCertificate};
use certwright_model::ids::{CertificateId, OrderId};
use certwright_providers::issuer::acme::AccountStore;
use certwright_providers::issuer::internal::{CaMaterial, CaRole, CaStore};
use certwright_providers::issuer::{ChallengeKind, JournalError, OrderJournal, PublishedChallenge};
use certwright_providers::x509;
use certwright_store::{AccountRow, CaKeyRow, Challenge, Lease, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use std::sync::atomic::{AtomicBool, Ordering};

fn journal_error(error: StoreError) -> JournalError {
    JournalError(error.to_string())
}

/// The journal of one order, fenced by its domain's lease.
pub(crate) struct StoredOrder<'a> {
    pub store: &'a Store,
    pub lease: Lease,
    pub order: OrderId,
    pub now: Timestamp,
    pub hook: &'a (dyn Fn(&str, bool) + Send + Sync),
    /// Whether the CSR may have been sent.
    pub finalizing: AtomicBool,
}

#[async_trait]
impl OrderJournal for StoredOrder<'_> {
    async fn placed(&self, order_url: &str) -> Result<(), JournalError> {
        (self.hook)("order_placed", true);
        self.store.order_placed(&self.lease, self.order, order_url).await.map_err(journal_error)?;
        (self.hook)("order_placed", false);
        Ok(())
    }

    async fn publish(&self, challenges: Vec<PublishedChallenge>) -> Result<(), JournalError> {
        (self.hook)("publish_challenges", true);
        let rows = challenges.into_iter().map(|challenge| Challenge {
            kind: stored_kind(challenge.kind),
            host: challenge.host,
            token: challenge.token,
            key_authorization: challenge.key_authorization,
        });
        let expires_at = self.now + SignedDuration::from_hours(24);
        self.store.put_challenges(self.order, rows.collect(), expires_at).await.map_err(journal_error)?;
        (self.hook)("publish_challenges", false);
        Ok(())
    }

    async fn finalizing(&self) -> Result<(), JournalError> {
        (self.hook)("finalize", true);
        self.finalizing.store(true, Ordering::Relaxed);
        self.store.order_finalizing(&self.lease, self.order).await.map_err(journal_error)?;
        (self.hook)("finalize", false);
        Ok(())
    }
}

fn stored_kind(kind: ChallengeKind) -> certwright_store::ChallengeKind {
    match kind {
        ChallengeKind::Http01 => certwright_store::ChallengeKind::Http01,
        ChallengeKind::TlsAlpn01 => certwright_store::ChallengeKind::TlsAlpn01,
    }
}

/// ACME accounts, sealed in the store.
#[derive(Debug)]
pub struct StoredAccounts {
    pub store: Store,
    pub clock: crate::clock::Clock,
}

#[async_trait]
impl AccountStore for StoredAccounts {
    async fn load(&self, issuer: &str, directory_url: &str) -> Result<Option<String>, JournalError> {
        let row = self.store.acme_account(issuer, directory_url).await.map_err(journal_error)?;
        Ok(row.map(|row| row.credentials_json))
    }

    async fn save_if_absent(&self, issuer: &str, directory_url: &str, credentials: &str) -> Result<String, JournalError> {
        let url = serde_json::from_str::<serde_json::Value>(credentials)
            .ok()
            .and_then(|value| value.get("id").and_then(|id| id.as_str().map(str::to_owned)))
            .unwrap_or_default();
        let row = AccountRow { url, credentials_json: credentials.to_owned() };
        let stored = self.store.put_acme_account(issuer, directory_url, row, self.clock.now()).await.map_err(journal_error)?;
        Ok(stored.credentials_json)
    }

    async fn forget(&self, issuer: &str, directory_url: &str, credentials: &str) -> Result<(), JournalError> {
        match self.store.acme_account(issuer, directory_url).await.map_err(journal_error)? {
            Some(row) if row.credentials_json == credentials => {
                self.store.delete_acme_account(issuer, directory_url, &row.url).await.map_err(journal_error)
            }
            _ => Ok(()),
        }
    }
}

/// The internal CA's keys, sealed in the store.
#[derive(Debug)]
pub struct StoredCa {
    pub store: Store,
    pub clock: crate::clock::Clock,
}

#[async_trait]
impl CaStore for StoredCa {
    async fn load(&self, role: CaRole) -> Result<Option<CaMaterial>, JournalError> {
        self.store.ca_key(stored_role(role)).await.map_err(journal_error)?.map(material).transpose()
    }

    async fn put_if_absent(&self, role: CaRole, made: CaMaterial) -> Result<CaMaterial, JournalError> {
        let row = CaKeyRow { cert_pem: x509::chain_to_pem(&[made.certificate_der]), key_pkcs8_der: made.key_pkcs8_der };
        let stored = self.store.put_ca_key_if_absent(stored_role(role), row, self.clock.now()).await.map_err(journal_error)?;
        material(stored)
    }
}

fn material(row: CaKeyRow) -> Result<CaMaterial, JournalError> {
    let chain = x509::chain_from_pem(&row.cert_pem).map_err(|error| JournalError(error.to_string()))?;
    let certificate_der = chain.into_iter().next().ok_or_else(|| JournalError("the stored CA certificate is empty".into()))?;
    Ok(CaMaterial { certificate_der, key_pkcs8_der: row.key_pkcs8_der.clone() })
}

fn stored_role(role: CaRole) -> certwright_store::CaRole {
    match role {
        CaRole::Root => certwright_store::CaRole::Root,
        CaRole::Intermediate => certwright_store::CaRole::Intermediate,
    }
}

/// What the built-in edge serves, read from the store on first use.
#[derive(Debug)]
pub struct StoreSource(pub Store);

fn source_error(error: StoreError) -> SourceError {
    SourceError(error.to_string())
}

#[async_trait]
impl EdgeSource for StoreSource {
    async fn certificate(&self, id: CertificateId) -> Result<Option<ServingCertificate>, SourceError> {
        self.0.serving_certificate(id).await.map_err(source_error)
    }

    async fn lookup(&self, host: &Hostname) -> Result<Option<EdgeEntry>, SourceError> {
        if let Some(entry) = self.0.edge_entry(host).await.map_err(source_error)? {
            return Ok(Some(entry));
        }
        match host.covering_wildcard() {
            Some(wildcard) => self.0.edge_entry(&wildcard).await.map_err(source_error),
            None => Ok(None),
        }
    }

    async fn http01(&self, host: &Hostname, token: &str) -> Result<Option<String>, SourceError> {
        self.0.challenge(certwright_store::ChallengeKind::Http01, host, Some(token)).await.map_err(source_error)
    }

    async fn tls_alpn01(&self, host: &Hostname) -> Result<Option<String>, SourceError> {
        self.0.challenge(certwright_store::ChallengeKind::TlsAlpn01, host, None).await.map_err(source_error)
    }
}

//! ACME accounts and the internal CA's keys: made once, then shared by every node.

use crate::backend::args;
use crate::rows::corrupt;
use crate::{Result, Store, StoreError};
use jiff::Timestamp;

#[derive(Clone, PartialEq, Eq)]
pub struct AccountRow {
    pub url: String,
    /// Sealed at rest.
    pub credentials_json: String,
}

impl std::fmt::Debug for AccountRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccountRow({})", self.url)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaRole {
    Root,
    Intermediate,
}

impl CaRole {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct CaKeyRow {
    pub cert_pem: String,
    /// Sealed at rest.
    pub key_pkcs8_der: Vec<u8>,
}

impl std::fmt::Debug for CaKeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CaKeyRow")
    }
}

impl Store {
    pub async fn acme_account(&self, issuer: &str, directory_url: &str) -> Result<Option<AccountRow>> {
        let select = "SELECT url, credentials_sealed FROM acme_accounts WHERE issuer = $1 AND directory_url = $2";
        let Some(row) = self.db.one(select, args![issuer, directory_url]).await? else { return Ok(None) };
        let plain = self.sealer.unseal("acme_accounts", &account_row(issuer, directory_url), &row.blob(1)?)?;
        let credentials_json = String::from_utf8(plain.to_vec()).map_err(|_| corrupt("an account's credentials are not text"))?;
        Ok(Some(AccountRow { url: row.text(0)?, credentials_json }))
    }

    /// Stores it unless there is one; returns the one that is stored.
    pub async fn put_acme_account(&self, issuer: &str, directory_url: &str, account: AccountRow, now: Timestamp) -> Result<AccountRow> {
        let sealed = self.sealer.seal("acme_accounts", &account_row(issuer, directory_url), account.credentials_json.as_bytes())?;
        let args = args![issuer, directory_url, account.url, sealed, now];
        let insert = "INSERT INTO acme_accounts (issuer, directory_url, url, credentials_sealed, created_at) \
                      VALUES ($1, $2, $3, $4, $5) ON CONFLICT (issuer, directory_url) DO NOTHING";
        self.db.write(move |tx| Box::pin(async move { tx.exec(insert, args).await })).await?;
        self.acme_account(issuer, directory_url).await?.ok_or(StoreError::NotFound { what: "account" })
    }

    /// The CA does not know the account any more. Only the row with this URL goes.
    pub async fn delete_acme_account(&self, issuer: &str, directory_url: &str, url: &str) -> Result<()> {
        let args = args![issuer, directory_url, url];
        let delete = "DELETE FROM acme_accounts WHERE issuer = $1 AND directory_url = $2 AND url = $3";
        self.db.write(move |tx| Box::pin(async move { tx.exec(delete, args).await })).await?;
        Ok(())
    }

    pub async fn ca_key(&self, role: CaRole) -> Result<Option<CaKeyRow>> {
        let select = "SELECT cert_pem, key_sealed FROM ca_keys WHERE role = $1";
        let Some(row) = self.db.one(select, args![role.as_str()]).await? else { return Ok(None) };
        let key = self.sealer.unseal("ca_keys", role.as_str(), &row.blob(1)?)?;
        Ok(Some(CaKeyRow { cert_pem: row.text(0)?, key_pkcs8_der: key.to_vec() }))
    }

    /// Stores it unless there is one; returns the one that is stored.
    pub async fn put_ca_key_if_absent(&self, role: CaRole, key: CaKeyRow, now: Timestamp) -> Result<CaKeyRow> {
        let sealed = self.sealer.seal("ca_keys", role.as_str(), &key.key_pkcs8_der)?;
        let args = args![role.as_str(), key.cert_pem, sealed, now];
        let insert = "INSERT INTO ca_keys (role, cert_pem, key_sealed, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (role) DO NOTHING";
        self.db.write(move |tx| Box::pin(async move { tx.exec(insert, args).await })).await?;
        self.ca_key(role).await?.ok_or(StoreError::NotFound { what: "CA key" })
    }
}

fn account_row(issuer: &str, directory_url: &str) -> String {
    format!("{issuer} {directory_url}")
}

//! API tokens, stored as SHA-256. A revoked token's row is gone; the audit log remembers it.

use crate::audit::{Note, Who, note};
use crate::backend::{Row, args};
use crate::rows::{Cells, corrupt};
use crate::{Result, Store, StoreError};
use certwright_model::authority::Role;
use certwright_model::ids::TokenId;
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub id: TokenId,
    /// Unique.
    pub name: String,
    pub role: Role,
    pub sha256: [u8; 32],
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

impl Store {
    /// Conflict `token` when the name exists.
    pub async fn create_token(&self, token: TokenRow, who: &Who, now: Timestamp) -> Result<()> {
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let insert = "INSERT INTO tokens (id, name, role, sha256, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)";
                    let after = describe(&token);
                    let subject = token.name.clone();
                    let sha256 = token.sha256.to_vec();
                    tx.exec(insert, args![token.id, token.name, token.role.as_str(), sha256, token.created_at, token.expires_at]).await?;
                    note(tx, &who, now, "token.create", vec![Note { subject, before: None, after: Some(after) }]).await
                })
            })
            .await
    }

    /// Expired ones too: the caller compares with its clock.
    pub async fn token_by_sha256(&self, sha256: &[u8; 32]) -> Result<Option<TokenRow>> {
        let select = "SELECT id, name, role, sha256, created_at, expires_at FROM tokens WHERE sha256 = $1";
        self.db.one(select, args![sha256.to_vec()]).await?.as_ref().map(token).transpose()
    }

    /// By name.
    pub async fn list_tokens(&self) -> Result<Vec<TokenRow>> {
        let select = "SELECT id, name, role, sha256, created_at, expires_at FROM tokens ORDER BY name";
        self.db.all(select, vec![]).await?.iter().map(token).collect()
    }

    pub async fn revoke_token(&self, id: TokenId, who: &Who, now: Timestamp) -> Result<()> {
        let who = who.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let delete = "DELETE FROM tokens WHERE id = $1 RETURNING id, name, role, sha256, created_at, expires_at";
                    let row = tx.one(delete, args![id]).await?.ok_or(StoreError::NotFound { what: "token" })?;
                    let gone = token(&row)?;
                    let before = Some(describe(&gone));
                    note(tx, &who, now, "token.revoke", vec![Note { subject: gone.name, before, after: None }]).await
                })
            })
            .await
    }
}

fn describe(token: &TokenRow) -> Value {
    json!({ "id": token.id.to_string(), "name": token.name, "role": token.role.as_str(), "expires_at": token.expires_at })
}

fn token(row: &Row) -> Result<TokenRow> {
    let mut cells = Cells::new(row);
    Ok(TokenRow {
        id: cells.parsed()?,
        name: cells.text()?,
        role: cells.word(Role::parse)?,
        sha256: cells.blob()?.try_into().map_err(|_| corrupt("a token's hash has another length"))?,
        created_at: cells.time()?,
        expires_at: cells.time_opt()?,
    })
}

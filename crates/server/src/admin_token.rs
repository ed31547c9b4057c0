//! The first token: made once, kept in a file that only its owner reads, so that the person who started the server can
//! call it.
//!
//! The file is on disk before the database knows the token, so a crash between the two is healed by the next start. A lost
//! file is never replaced in silence: a token that works would otherwise appear wherever somebody removes a file.

use crate::gate::sha256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certwright_engine::Engine;
use certwright_engine::clock::Clock;
use certwright_model::authority::Role;
use certwright_model::ids::TokenId;
use certwright_store::{StoreError, TokenRow, Who};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const NAME: &str = "admin";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminToken {
    /// Made now.
    Created,
    /// The file's token is a live administrator's.
    Kept,
}

#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// Not fatal: the other tokens work. Another node of the same database sees this too.
    #[error(
        "{} is missing, but tokens exist already, so no other one is made by itself; use one of those, or make a new one with `certwright token reset`",
        .0.display()
    )]
    Lost(PathBuf),
    #[error(
        "the token in {} is not an administrator's of this database (revoked, expired, or from another one); remove the file and run `certwright token reset`",
        .0.display()
    )]
    Stale(PathBuf),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `cw_` and 256 random bits in base64url.
pub(crate) fn new_secret(clock: &Clock) -> String {
    format!("cw_{}", URL_SAFE_NO_PAD.encode(clock.secret()))
}

/// Makes the first administrator's token when there is no token at all.
pub async fn ensure_admin_token(engine: &Engine, path: &Path) -> Result<AdminToken, AdminTokenError> {
    let tokens = engine.store().list_tokens().await?;
    match read(path).await? {
        Some(secret) => {
            let (hash, now) = (sha256(secret.as_bytes()), engine.clock().now());
            let live = |token: &TokenRow| token.role == Role::Admin && token.expires_at.is_none_or(|end| end > now);
            if tokens.iter().any(|token| token.sha256 == hash && live(token)) {
                return Ok(AdminToken::Kept);
            }
            if !tokens.is_empty() || !well_formed(&secret) {
                return Err(AdminTokenError::Stale(path.to_owned()));
            }
            store(engine, &secret).await?;
        }
        None if !tokens.is_empty() => return Err(AdminTokenError::Lost(path.to_owned())),
        None => {
            let secret = new_secret(engine.clock());
            write(path, &secret).await?;
            store(engine, &secret).await?;
        }
    }
    Ok(AdminToken::Created)
}

/// On a person's word: the token named `admin` is revoked, and another one is written to the file. Other tokens stay.
pub async fn replace_admin_token(engine: &Engine, path: &Path) -> Result<(), AdminTokenError> {
    let tokens = engine.store().list_tokens().await?;
    if let Some(old) = tokens.iter().find(|token| token.name == NAME) {
        engine.store().revoke_token(old.id, &Who::system(), engine.clock().now()).await?;
    }
    match tokio::fs::remove_file(path).await {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(AdminTokenError::File { path: path.to_owned(), source }),
        _ => {}
    }
    let secret = new_secret(engine.clock());
    write(path, &secret).await?;
    store(engine, &secret).await
}

async fn store(engine: &Engine, secret: &str) -> Result<(), AdminTokenError> {
    let now = engine.clock().now();
    let row = TokenRow {
        id: TokenId(engine.clock().id()),
        name: NAME.to_owned(),
        role: Role::Admin,
        sha256: sha256(secret.as_bytes()),
        created_at: now,
        expires_at: None,
    };
    Ok(engine.store().create_token(row, &Who::system(), now).await?)
}

fn well_formed(secret: &str) -> bool {
    secret.strip_prefix("cw_").is_some_and(|body| URL_SAFE_NO_PAD.decode(body).is_ok_and(|bytes| bytes.len() == 32))
}

async fn read(path: &Path) -> Result<Option<String>, AdminTokenError> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AdminTokenError::File { path: path.to_owned(), source }),
    }
}

/// Readable by its owner alone from the first moment.
async fn write(path: &Path, secret: &str) -> Result<(), AdminTokenError> {
    let (to, text) = (path.to_owned(), format!("{secret}\n"));
    let written = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    written.map_err(|source| AdminTokenError::File { path: path.to_owned(), source })
}

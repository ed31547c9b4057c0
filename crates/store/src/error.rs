//! The one error of this crate. It is `Clone`, because a commit that failed failed for everybody who was in it.

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("there is no such {what}")]
    NotFound { what: &'static str },
    /// `what`: `site`, `hostname`, `job`, `order`, `token`, `domain`.
    #[error("{message}")]
    Conflict { what: &'static str, message: String },
    /// Somebody else holds the lease now, or the row is gone. Whatever was to be written was not.
    #[error("the lease was lost: another worker has taken this row, or it is gone")]
    LostLease,
    #[error("the database is locked by another process")]
    Busy,
    #[error("the disk of the database is full")]
    Full,
    /// The database cannot be reached now. The call may be repeated; whether it was applied is unknown.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    #[error("the database was written by a newer version (schema {found}, this one knows {known}); start that version instead")]
    NewerSchema { found: i64, known: i64 },
    /// The key-encryption key is missing, unreadable or another one.
    #[error("the key-encryption key: {0}")]
    Key(String),
    #[error("the setting is not usable: {0}")]
    Config(String),
    #[error("the cursor is not one of this list's")]
    BadCursor,
    #[error("a stored value is damaged: {0}")]
    Corrupt(String),
    #[error("the database answered with an error: {0}")]
    Backend(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error;
        match error {
            Error::Database(error) => from_database(error.as_ref()),
            Error::Io(error) => Self::Unavailable(error.to_string()),
            Error::PoolTimedOut => Self::Unavailable("no connection became free in time".into()),
            Error::PoolClosed => Self::Unavailable("the store is closed".into()),
            Error::WorkerCrashed => Self::Unavailable("the connection's worker ended".into()),
            Error::Tls(error) => Self::Unavailable(format!("TLS to the database: {error}")),
            Error::Configuration(error) => Self::Config(error.to_string()),
            Error::ColumnDecode { .. } | Error::Decode(_) | Error::ColumnIndexOutOfBounds { .. } | Error::ColumnNotFound(_) => {
                Self::Corrupt(error.to_string())
            }
            other => Self::Backend(other.to_string()),
        }
    }
}

/// SQLite gives its extended result code in decimal, PostgreSQL its five-character SQLSTATE.
fn from_database(error: &dyn sqlx::error::DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    if let Some(what) = error.is_unique_violation().then(|| duplicate(error.constraint().unwrap_or(error.message()))).flatten() {
        return what;
    }
    if code.len() == 5 {
        return match (&code[..2], &*code) {
            (_, "53100") => StoreError::Full,
            (_, "55P03" | "40P01" | "40001") => StoreError::Busy,
            ("08" | "57" | "53", _) => StoreError::Unavailable(error.message().to_owned()),
            _ => StoreError::Backend(error.message().to_owned()),
        };
    }
    // The low byte of an extended code is the primary one.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => StoreError::Busy,
        Ok(13) => StoreError::Full,
        Ok(8 | 10 | 14) => StoreError::Unavailable(error.message().to_owned()),
        Ok(11 | 26) => StoreError::Corrupt(error.message().to_owned()),
        _ => StoreError::Backend(error.message().to_owned()),
    }
}

/// PostgreSQL names the index, SQLite its columns.
fn duplicate(constraint: &str) -> Option<StoreError> {
    let table: [(&str, &str, &'static str, &str); 5] = [
        ("sites_name", "sites.name", "site", "a site with this name exists"),
        ("custom_domains_hostname", "custom_domains.hostname", "hostname", "this hostname is taken"),
        ("jobs_active_site", "jobs.site_id", "job", "the site has an active job"),
        ("orders_open", "orders.domain_id", "order", "the domain has an open order"),
        ("tokens_name", "tokens.name", "token", "a token with this name exists"),
    ];
    let (_, _, what, message) =
        table.into_iter().find(|(index, columns, ..)| constraint.contains(index) || constraint.contains(columns))?;
    Some(StoreError::Conflict { what, message: message.to_owned() })
}

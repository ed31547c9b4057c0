//! The two engines behind one shape: the only place that knows which one runs.
//!
//! One SQL text serves both, with `$N` parameters; the texts that must differ are [`Sql::Two`], made by the macros
//! here. A write is a closure over a transaction: SQLite queues it for the one writer connection (`writer`), PostgreSQL
//! takes a connection from the pool. A closure may run statements and compute; it must not wait for anything else.

use crate::error::StoreError;
use crate::writer::Writer;
use crate::{Result, Wakes};
use certwright_model::ids::{CertificateId, DomainId, EventId, JobId, NodeId, OrderId, SiteId, TokenId};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection, Postgres, Row as _, Sqlite, Transaction};
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::watch;

/// How long a locked database is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is waited for: a restart of PostgreSQL fits in.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a transaction is tried that PostgreSQL ends in favour of another one.
const TRIES: u32 = 4;

pub(crate) enum Db {
    Sqlite { read: SqlitePool, writer: Writer },
    Postgres { pool: PgPool, wakes: watch::Sender<u64> },
}

/// One statement.
#[derive(Clone)]
pub(crate) enum Sql {
    One(&'static str),
    Two {
        sqlite: &'static str,
        postgres: &'static str,
    },
    /// Put together from constant parts at run time.
    Joined(String),
}

/// `head [FOR UPDATE SKIP LOCKED] tail`: PostgreSQL's other writers are stepped around; SQLite has none.
macro_rules! skip_locked {
    ($head:expr, $tail:expr) => {
        $crate::backend::Sql::Two { sqlite: concat!($head, $tail), postgres: concat!($head, " FOR UPDATE SKIP LOCKED ", $tail) }
    };
}
/// `text [FOR UPDATE …]`: the row stays as it was read until the commit.
macro_rules! for_update {
    ($text:expr) => {
        for_update!($text, "")
    };
    ($text:expr, $of:expr) => {
        $crate::backend::Sql::Two { sqlite: $text, postgres: concat!($text, " FOR UPDATE ", $of) }
    };
}
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::backend::Arg::from($value)),*] };
}
pub(crate) use {args, for_update, skip_locked};

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self::One(text)
    }
}

impl Db {
    pub(crate) async fn connect(url: &str, max_connections: u32, wakes: watch::Sender<u64>) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            if path.is_empty() || path.contains(":memory:") {
                return Err(StoreError::Config("the database URL is `sqlite:PATH` with a file".into()));
            }
            let options = SqliteConnectOptions::new()
                .filename(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT)
                .pragma("cache_size", "-16384")
                .pragma("journal_size_limit", "67108864");
            let writer = SqliteConnection::connect_with(&options).await?;
            // `query_only` instead of a read-only file handle: that one could not recover the log after a crash.
            let read = SqlitePoolOptions::new()
                .max_connections(max_connections.max(1))
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_lazy_with(options.pragma("query_only", "1"));
            Ok(Self::Sqlite { read, writer: Writer::start(writer, wakes) })
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // The parser's own message could repeat the URL, and with it a password.
            let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Config("the PostgreSQL URL cannot be read".into()))?;
            let options = options.application_name("certwright").options([("lock_timeout", "5000")]);
            let pool =
                PgPoolOptions::new().max_connections(max_connections.max(2)).acquire_timeout(ACQUIRE_TIMEOUT).connect_with(options).await?;
            Ok(Self::Postgres { pool, wakes })
        } else {
            Err(StoreError::Config("the database URL starts with `sqlite:` or `postgres://`".into()))
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { read, writer } => {
                read.close().await;
                writer.close().await;
            }
            Self::Postgres { pool, .. } => pool.close().await,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }

    pub(crate) fn wakes(&self) -> Wakes {
        match self {
            Self::Sqlite { writer, .. } => Wakes(writer.wakes().subscribe()),
            Self::Postgres { wakes, .. } => Wakes(wakes.subscribe()),
        }
    }

    /// Runs `work` in a transaction: all of it is stored, or nothing. It runs again when two transactions on PostgreSQL
    /// wait for each other's rows and this one is the one to go.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        let (pool, wakes) = match self {
            Self::Sqlite { writer, .. } => return writer.run(work).await,
            Self::Postgres { pool, wakes } => (pool, wakes),
        };
        for _ in 1..TRIES {
            if let Some(outcome) = attempt(pool, wakes, work.clone()).await? {
                return outcome;
            }
        }
        attempt(pool, wakes, work).await?.unwrap_or(Err(StoreError::Busy))
    }

    pub(crate) async fn all(&self, sql: impl Into<Sql>, args: Vec<Arg>) -> Result<Vec<Row>> {
        let sql = sql.into();
        match self {
            Self::Sqlite { read, .. } => Ok(sqlite_query(sql, args).fetch_all(read).await?.into_iter().map(Row::Sqlite).collect()),
            Self::Postgres { pool, .. } => Ok(pg_query(sql, args).fetch_all(pool).await?.into_iter().map(Row::Postgres).collect()),
        }
    }

    /// Fresh statistics for the planner, after many rows were made at once.
    pub(crate) async fn analyze(&self) -> Result<()> {
        match self {
            Self::Sqlite { .. } => self.write(|tx| Box::pin(async move { tx.exec("ANALYZE", vec![]).await.map(drop) })).await,
            // It must not run inside a transaction.
            Self::Postgres { pool, .. } => Ok(sqlx::raw_sql("VACUUM ANALYZE").execute(pool).await.map(drop)?),
        }
    }

    pub(crate) async fn one(&self, sql: impl Into<Sql>, args: Vec<Arg>) -> Result<Option<Row>> {
        let sql = sql.into();
        match self {
            Self::Sqlite { read, .. } => Ok(sqlite_query(sql, args).fetch_optional(read).await?.map(Row::Sqlite)),
            Self::Postgres { pool, .. } => Ok(pg_query(sql, args).fetch_optional(pool).await?.map(Row::Postgres)),
        }
    }
}

/// `None` when the transaction was rolled back in favour of another one.
async fn attempt<T, F>(pool: &PgPool, wakes: &watch::Sender<u64>, work: F) -> Result<Option<Result<T>>>
where
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>>,
{
    let mut tx = Tx::new(Conn::Postgres(Box::new(pool.begin().await?)));
    let outcome = work(&mut tx).await;
    let Conn::Postgres(transaction) = tx.conn else { return Err(StoreError::Backend("the engine changed".into())) };
    if outcome.is_err() || tx.gave_way {
        // A connection that cannot roll back is closed by the pool, which rolls back as well.
        let _ = transaction.rollback().await;
        return Ok((!tx.gave_way).then_some(outcome));
    }
    match transaction.commit().await {
        Err(error) if is_conflict(&error) => return Ok(None),
        committed => committed?,
    }
    if tx.woke {
        wakes.send_modify(|n| *n += 1);
    }
    Ok(Some(outcome))
}

/// A deadlock, or a failed serialization: nothing was stored, and the same again may well succeed.
fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| matches!(&*code, "40P01" | "40001"))
}

pub(crate) enum Conn {
    Sqlite(SqliteConnection),
    Postgres(Box<Transaction<'static, Postgres>>),
}

/// An open transaction.
pub(crate) struct Tx {
    pub(crate) conn: Conn,
    /// Something became due.
    pub(crate) woke: bool,
    /// PostgreSQL ended it in favour of another transaction.
    gave_way: bool,
}

impl Tx {
    pub(crate) fn new(conn: Conn) -> Self {
        Self { conn, woke: false, gave_way: false }
    }

    fn heard<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T> {
        self.gave_way |= outcome.as_ref().is_err_and(is_conflict);
        Ok(outcome?)
    }

    /// The number of rows that were changed.
    pub(crate) async fn exec(&mut self, sql: impl Into<Sql>, args: Vec<Arg>) -> Result<u64> {
        let sql = sql.into();
        match &mut self.conn {
            Conn::Sqlite(conn) => Ok(sqlite_query(sql, args).execute(conn).await?.rows_affected()),
            Conn::Postgres(tx) => {
                let done = pg_query(sql, args).execute(&mut ***tx).await;
                self.heard(done).map(|done| done.rows_affected())
            }
        }
    }

    pub(crate) async fn all(&mut self, sql: impl Into<Sql>, args: Vec<Arg>) -> Result<Vec<Row>> {
        let sql = sql.into();
        match &mut self.conn {
            Conn::Sqlite(conn) => Ok(sqlite_query(sql, args).fetch_all(conn).await?.into_iter().map(Row::Sqlite).collect()),
            Conn::Postgres(tx) => {
                let rows = pg_query(sql, args).fetch_all(&mut ***tx).await;
                Ok(self.heard(rows)?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    pub(crate) async fn one(&mut self, sql: impl Into<Sql>, args: Vec<Arg>) -> Result<Option<Row>> {
        let sql = sql.into();
        match &mut self.conn {
            Conn::Sqlite(conn) => Ok(sqlite_query(sql, args).fetch_optional(conn).await?.map(Row::Sqlite)),
            Conn::Postgres(tx) => {
                let row = pg_query(sql, args).fetch_optional(&mut ***tx).await;
                Ok(self.heard(row)?.map(Row::Postgres))
            }
        }
    }

    /// Several statements without parameters: migrations.
    pub(crate) async fn script(&mut self, sqlite: &'static str, postgres: &'static str) -> Result<()> {
        match &mut self.conn {
            Conn::Sqlite(conn) => sqlx::raw_sql(sqlite).execute(conn).await.map(drop)?,
            Conn::Postgres(tx) => sqlx::raw_sql(postgres).execute(&mut ***tx).await.map(drop)?,
        }
        Ok(())
    }
}

/// A parameter. Text is cleaned.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    Int(Option<i64>),
    Text(Option<String>),
    Blob(Option<Vec<u8>>),
}

fn sqlite_query(sql: Sql, args: Vec<Arg>) -> sqlx::query::Query<'static, Sqlite, sqlx::sqlite::SqliteArguments> {
    let query = match sql {
        Sql::One(text) | Sql::Two { sqlite: text, .. } => sqlx::query(text),
        Sql::Joined(text) => sqlx::query(AssertSqlSafe(text)),
    };
    args.into_iter().fold(query, |query, arg| match arg {
        Arg::Int(value) => query.bind(value),
        Arg::Text(value) => query.bind(value),
        Arg::Blob(value) => query.bind(value),
    })
}

fn pg_query(sql: Sql, args: Vec<Arg>) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments> {
    let query = match sql {
        Sql::One(text) | Sql::Two { postgres: text, .. } => sqlx::query(text),
        Sql::Joined(text) => sqlx::query(AssertSqlSafe(text)),
    };
    args.into_iter().fold(query, |query, arg| match arg {
        Arg::Int(value) => query.bind(value),
        Arg::Text(value) => query.bind(value),
        Arg::Blob(value) => query.bind(value),
    })
}

/// PostgreSQL has no text with NUL, and `edge` separates by two other control characters; both engines must behave alike.
pub(crate) fn clean(text: String) -> String {
    let is_barred = |c: char| matches!(c, '\0' | '\u{1e}' | '\u{1f}');
    if text.contains(is_barred) { text.replace(is_barred, "\u{fffd}") } else { text }
}

impl From<String> for Arg {
    fn from(value: String) -> Self {
        Self::Text(Some(clean(value)))
    }
}
impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}
impl From<Option<String>> for Arg {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(clean))
    }
}
impl From<Option<&str>> for Arg {
    fn from(value: Option<&str>) -> Self {
        value.map(str::to_owned).into()
    }
}
impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}
impl From<u32> for Arg {
    fn from(value: u32) -> Self {
        i64::from(value).into()
    }
}
impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        i64::from(value).into()
    }
}
impl From<Option<i64>> for Arg {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}
impl From<Timestamp> for Arg {
    fn from(value: Timestamp) -> Self {
        value.as_millisecond().into()
    }
}
impl From<Option<Timestamp>> for Arg {
    fn from(value: Option<Timestamp>) -> Self {
        value.map(Timestamp::as_millisecond).into()
    }
}
impl From<Vec<u8>> for Arg {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(Some(value))
    }
}
macro_rules! id_args {
    ($($id:ty),+) => {$(
        impl From<$id> for Arg { fn from(value: $id) -> Self { value.to_string().into() } }
        impl From<Option<$id>> for Arg { fn from(value: Option<$id>) -> Self { value.map(|id| id.to_string()).into() } }
    )+};
}
id_args!(EventId, SiteId, DomainId, CertificateId, OrderId, JobId, TokenId, NodeId);

pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! getter {
    ($name:ident, $type:ty) => {
        pub(crate) fn $name(&self, index: usize) -> Result<$type> {
            match self {
                Self::Sqlite(row) => row.try_get_unchecked(index),
                Self::Postgres(row) => row.try_get_unchecked(index),
            }
            .map_err(|error| StoreError::Corrupt(error.to_string()))
        }
    };
}

impl Row {
    getter!(int, i64);
    getter!(int_opt, Option<i64>);
    getter!(text, String);
    getter!(text_opt, Option<String>);
    getter!(blob, Vec<u8>);
}

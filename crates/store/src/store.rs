//! The handle: opened once, cloned freely.

use crate::backend::{Db, args};
use crate::kek::KekSource;
use crate::migrate::migrate;
use crate::seal::Sealer;
use crate::{Result, StoreError};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `sqlite:PATH` or `postgres://…`
    pub url: String,
    pub kek: KekSource,
    pub max_connections: u32,
}

#[derive(Clone)]
pub struct Store {
    pub(crate) db: Arc<Db>,
    pub(crate) sealer: Arc<Sealer>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.backend_name())
    }
}

/// One page of a list, with the cursor of the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// From `limit + 1` rows: the one too many says that there is a next page.
    pub(crate) fn cut(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        Self { next: items.last().filter(|_| more).map(cursor), items }
    }
}

/// Fires when this process committed something that made a site or a domain due. Each clone sees every later wake-up
/// once; several may be seen as one. Other processes are not heard: a loop also scans by itself.
#[derive(Clone, Debug)]
pub struct Wakes(pub(crate) watch::Receiver<u64>);

impl Wakes {
    /// Never returns after the store is gone.
    pub async fn notified(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Store {
    /// Connects, migrates, and opens the data keys.
    pub async fn open(config: StoreConfig, now: Timestamp) -> Result<Self> {
        let db = Db::connect(&config.url, config.max_connections, watch::channel(0).0).await?;
        migrate(&db, now).await?;
        let sealer = Sealer::open(&db, &config.kek, now).await?;
        Ok(Self { db: Arc::new(db), sealer: Arc::new(sealer) })
    }

    /// Finishes the writes that are queued. Every later call is `Unavailable`.
    pub async fn close(&self) {
        self.db.close().await;
    }

    pub fn backend_name(&self) -> &'static str {
        self.db.name()
    }

    pub fn wakes(&self) -> Wakes {
        self.db.wakes()
    }

    /// Re-wraps the data keys with another key-encryption key, in one transaction. A new key file is on disk before the
    /// database depends on it; the old key opens the database until the commit, the new one from then on.
    pub async fn rotate_kek(&self, new: KekSource) -> Result<()> {
        let kek = new.load(true).await?;
        let wrapped = self.sealer.rewrap(&kek)?;
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let mut left = tx.all("SELECT id FROM data_keys", vec![]).await?.len();
                    for (id, wrapped, check) in wrapped {
                        tx.exec("UPDATE data_keys SET wrapped = $2, kek_check = $3 WHERE id = $1", args![id, wrapped, check]).await?;
                        left = left.saturating_sub(1);
                    }
                    // A key that was added meanwhile would stay behind the old one.
                    if left == 0 { Ok(()) } else { Err(StoreError::Busy) }
                })
            })
            .await
    }

    pub async fn meta(&self, key: &str) -> Result<Option<String>> {
        self.db.one("SELECT value FROM meta WHERE key = $1", args![key]).await?.map(|row| row.text(0)).transpose()
    }

    pub async fn put_meta(&self, key: &str, value: &str) -> Result<()> {
        let args = args![key, value];
        let upsert = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.db.write(move |tx| Box::pin(async move { tx.exec(upsert, args).await.map(drop) })).await
    }
}

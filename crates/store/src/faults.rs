//! A full disk, by SQLite's own limit on the file: everybody in the commit hears of it, nothing is half done, and the
//! store goes on when there is room again.

use crate::{KekSource, Result, Store, StoreConfig, StoreError};
use jiff::Timestamp;

async fn limit_pages(store: &Store, pragma: &'static str) -> Result<()> {
    store.db.write(move |tx| Box::pin(async move { tx.all(pragma, vec![]).await.map(drop) })).await
}

#[tokio::test]
async fn a_full_disk_is_told_to_every_caller_and_heals() {
    let folder = tempfile::TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let config = StoreConfig { url, kek: KekSource::File(folder.path().join("kek")), max_connections: 4 };
    let store = Store::open(config, Timestamp::UNIX_EPOCH).await.unwrap();
    store.put_meta("before", "1").await.unwrap();
    // Below what is there: the file keeps its size and takes no page more.
    limit_pages(&store, "PRAGMA max_page_count = 1").await.unwrap();
    let large = "x".repeat(200_000);
    let writes = (0..8).map(|n| {
        let (store, large) = (store.clone(), large.clone());
        tokio::spawn(async move { store.put_meta(&format!("large{n}"), &large).await })
    });
    for write in writes.collect::<Vec<_>>() {
        assert_eq!(write.await.unwrap(), Err(StoreError::Full));
    }
    assert_eq!(store.meta("large0").await.unwrap(), None);
    assert_eq!(store.meta("before").await.unwrap().as_deref(), Some("1"));
    limit_pages(&store, "PRAGMA max_page_count = 1000000").await.unwrap();
    store.put_meta("large0", &large).await.unwrap();
    assert_eq!(store.meta("large0").await.unwrap(), Some(large));
}

#[tokio::test]
async fn a_write_that_panics_takes_nobody_with_it() {
    let folder = tempfile::TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let config = StoreConfig { url, kek: KekSource::File(folder.path().join("kek")), max_connections: 4 };
    let store = Store::open(config, Timestamp::UNIX_EPOCH).await.unwrap();
    let broken = store.db.write::<(), _>(|tx| {
        Box::pin(async move {
            tx.exec("INSERT INTO meta (key, value) VALUES ('half', 'done')", vec![]).await?;
            panic!("a bug")
        })
    });
    assert!(matches!(broken.await, Err(StoreError::Backend(_))));
    assert_eq!(store.meta("half").await.unwrap(), None, "it was rolled back");
    store.put_meta("k", "v").await.unwrap();
}

/// Two transactions that take the same two rows in opposite order: PostgreSQL ends one of them, and it runs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_costs_time_but_no_write() {
    use sqlx::{AssertSqlSafe, Connection};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    let Ok(admin) = std::env::var("CERTWRIGHT_TEST_POSTGRES") else {
        eprintln!("not run: PostgreSQL (CERTWRIGHT_TEST_POSTGRES is not set)");
        return;
    };
    let folder = tempfile::TempDir::new().unwrap();
    let name = format!("certwright_deadlock_{}", std::process::id());
    let mut connection = sqlx::PgConnection::connect(&admin).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    let url = format!("{}/{name}", admin.rsplit_once('/').unwrap().0);
    let config = StoreConfig { url, kek: KekSource::File(folder.path().join("kek")), max_connections: 4 };
    let store = Store::open(config, Timestamp::UNIX_EPOCH).await.unwrap();
    store.put_meta("a", "").await.unwrap();
    store.put_meta("b", "").await.unwrap();
    let (both, runs) = (Arc::new(tokio::sync::Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    let write = |first: &'static str, second: &'static str| {
        let (store, both, runs) = (store.clone(), both.clone(), runs.clone());
        tokio::spawn(async move {
            let work = store.db.write(move |tx| {
                Box::pin(async move {
                    let add = "UPDATE meta SET value = value || 'x' WHERE key = $1";
                    let run = runs.fetch_add(1, Ordering::SeqCst);
                    tx.exec(add, crate::backend::args![first]).await?;
                    if run < 2 {
                        both.wait().await;
                    }
                    tx.exec(add, crate::backend::args![second]).await.map(drop)
                })
            });
            work.await
        })
    };
    let (one, other) = (write("a", "b"), write("b", "a"));
    one.await.unwrap().unwrap();
    other.await.unwrap().unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 3, "one of them ran twice");
    for key in ["a", "b"] {
        assert_eq!(store.meta(key).await.unwrap().as_deref(), Some("xx"), "each was stored once");
    }
    store.close().await;
    sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut connection).await.unwrap();
}

//! How long one claim of 500 due domains takes with 10,000, 100,000 and 1,000,000 in the table. Prints JSON lines. SQLite
//! in a temporary file always, PostgreSQL when `CERTWRIGHT_TEST_POSTGRES` names a server.
//!
//! `cargo run --release -p certwright-store --example due_scan`

use certwright_model::ids::NodeId;
use certwright_store::{KekSource, Store, StoreConfig, Synthetic};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection};
use std::error::Error;
use std::path::Path;
use tokio::time::Instant;
use uuid::Uuid;

const BATCH: u32 = 500;
const ROUNDS: u32 = 15;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let admin = std::env::var("CERTWRIGHT_TEST_POSTGRES").ok();
    if admin.is_none() {
        eprintln!("not run: PostgreSQL (CERTWRIGHT_TEST_POSTGRES is not set)");
    }
    for rows in [10_000, 100_000, 1_000_000] {
        let folder = tempfile::TempDir::new()?;
        measure(format!("sqlite:{}", folder.path().join("store.db").display()), folder.path(), rows).await?;
        if let Some(admin) = &admin {
            let name = format!("certwright_due_scan_{}_{rows}", std::process::id());
            let mut connection = sqlx::PgConnection::connect(admin).await?;
            sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
            let server = admin.rsplit_once('/').map_or(admin.as_str(), |(server, _)| server);
            let measured = measure(format!("{server}/{name}"), folder.path(), rows).await;
            sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut connection).await?;
            measured?;
        }
    }
    Ok(())
}

async fn measure(url: String, folder: &Path, rows: u32) -> Result<(), Box<dyn Error>> {
    let now = Timestamp::from_second(1_800_000_000)?;
    let kek = KekSource::File(folder.join(if url.starts_with("sqlite") { "kek-sqlite" } else { "kek-postgres" }));
    let store = Store::open(StoreConfig { url, kek, max_connections: 4 }, now).await?;
    // The same number is due at every size: what grows is only what is not.
    let what = Synthetic { count: rows, due: BATCH * (ROUNDS + 1), parked: 0, published: true, certificate: None };
    store.generate_domains(what, now).await?;
    let node = NodeId(Uuid::nil());
    store.claim_domains(node, now, 60_000, BATCH).await?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let claimed = store.claim_domains(node, now, 60_000, BATCH).await?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        if claimed.len() != BATCH as usize {
            return Err(format!("claimed {} instead of {BATCH}", claimed.len()).into());
        }
    }
    times.sort_by(f64::total_cmp);
    let start = Instant::now();
    let (mut after, mut entries) = (None, 0);
    loop {
        let page = store.edge_entries(after.as_ref(), 20_000).await?;
        let Some(last) = page.last() else { break };
        entries += page.len();
        after = Some(last.host.clone());
    }
    let line = serde_json::json!({
        "backend": store.backend_name(),
        "rows": rows,
        "claim_500_ms": { "median": round(times[times.len() / 2]), "min": round(times[0]), "max": round(times[times.len() - 1]) },
        "edge_entries": entries,
        "edge_entries_ms": round(start.elapsed().as_secs_f64() * 1000.0),
    });
    println!("{line}");
    store.close().await;
    Ok(())
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}

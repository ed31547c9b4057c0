//! The plans of the queries that loops run, over 1,000,000 domains: each must take its index, and touch what is due only.

use crate::backend::{Arg, Sql, args};
use crate::edge::{CHANGED, UNIT};
use crate::synthetic::Synthetic;
use crate::{KekSource, Store, StoreConfig};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection};

const WHAT: Synthetic = Synthetic { count: 1_000_000, due: 50_000, parked: 20_000, published: true, certificate: None };

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

async fn open(url: String, folder: &tempfile::TempDir) -> Store {
    Store::open(StoreConfig { url, kek: KekSource::File(folder.path().join("kek")), max_connections: 4 }, now()).await.unwrap()
}

async fn plan(store: &Store, sql: impl Into<Sql>, args: Vec<Arg>) -> String {
    let is_sqlite = store.backend_name() == "sqlite";
    let text = match sql.into() {
        Sql::One(text) => text.to_owned(),
        Sql::Two { sqlite, postgres } => if is_sqlite { sqlite } else { postgres }.to_owned(),
        Sql::Joined(text) => text,
    };
    let explain = if is_sqlite { "EXPLAIN QUERY PLAN " } else { "EXPLAIN " };
    let rows = store.db.all(Sql::Joined(explain.to_owned() + &text), args).await.unwrap();
    let lines = rows.iter().map(|row| row.text(if is_sqlite { 3 } else { 0 }).unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

async fn assert_plans(store: &Store) {
    store.generate_domains(WHAT, now()).await.unwrap();
    let later = now().as_millisecond() + 60_000;
    let recent = now().as_millisecond() - 1000;
    #[rustfmt::skip]
    let table: [(&str, &str, Sql, Vec<Arg>); 9] = [
        ("claim_domains", "custom_domains_due", crate::claim::CLAIM_DOMAINS, args![now(), 500u32, later, "node"]),
        ("unpark", "custom_domains_parked", crate::budget::UNPARK, args!["bench", 100u32, now()]),
        ("parked", "custom_domains_parked", "SELECT COUNT(*) FROM custom_domains WHERE budget_issuer = $1".into(), args!["bench"]),
        ("edge_changes", "custom_domains_edge", CHANGED.into(), args![recent, now(), UNIT]),
        ("edge_entries", "custom_domains_published", crate::edge::ENTRIES.into(), args!["d00500000", 1000u32, UNIT, "r"]),
        ("next_due", "custom_domains_due", crate::claim::NEXT_DOMAIN.into(), vec![]),
        ("next lease end", "custom_domains_due", crate::claim::NEXT_DOMAIN_END.into(), args![now()]),
        ("due backlog", "custom_domains_due", crate::stats::DUE_DOMAINS.into(), args![now()]),
        ("domains of sites", "custom_domains_site", crate::claim::DOMAINS_OF_SITES.into(), args!["[[\"x\"]]"]),
    ];
    for (name, index, sql, args) in table {
        let plan = plan(store, sql, args).await;
        assert!(plan.contains(index), "{name} does not use {index}:\n{plan}");
        let whole_table = plan.lines().any(|line| {
            let line = line.trim();
            line == "SCAN custom_domains" || line == "SCAN d" || line.contains("Seq Scan on custom_domains")
        });
        assert!(!whole_table, "{name} reads the whole table:\n{plan}");
        // A sort would read everything that is due before it answers.
        let sorts = plan.contains("USE TEMP B-TREE FOR ORDER BY") || plan.contains("Sort Key: custom_domains.due_at");
        assert!(!sorts || name == "domains of sites", "{name} sorts:\n{plan}");
    }
}

#[tokio::test]
async fn scans_take_their_index_at_a_million_domains_on_sqlite() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open(format!("sqlite:{}", folder.path().join("store.db").display()), &folder).await;
    assert_plans(&store).await;
    store.close().await;
}

#[tokio::test]
async fn scans_take_their_index_at_a_million_domains_on_postgres() {
    let Ok(admin) = std::env::var("CERTWRIGHT_TEST_POSTGRES") else {
        eprintln!("not run: PostgreSQL (CERTWRIGHT_TEST_POSTGRES is not set)");
        return;
    };
    let folder = tempfile::TempDir::new().unwrap();
    let name = format!("certwright_plans_{}", std::process::id());
    let mut connection = sqlx::PgConnection::connect(&admin).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    let store = open(format!("{}/{name}", admin.rsplit_once('/').unwrap().0), &folder).await;
    assert_plans(&store).await;
    store.close().await;
    sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut connection).await.unwrap();
}

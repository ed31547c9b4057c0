//! Many callers, several stores, faults of the engine.

use crate::fixture::*;
use crate::on_both;
use certwright_model::budget::Limit;
use certwright_store::*;
use std::collections::HashSet;

on_both!(sixty_four_callers_are_all_answered_and_a_failing_one_fails_alone, two_stores_share_one_database, a_closed_store_says_so,);

async fn sixty_four_callers_are_all_answered_and_a_failing_one_fails_alone(place: &Place) {
    let store = place.open().await;
    stored_domain(&store, "d7.example.com").await;
    let callers = (0..64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.attach_domain(domain(&format!("d{n}.example.com"), None), None, &who(), at(1)).await })
    });
    let mut failed = 0;
    for caller in callers.collect::<Vec<_>>() {
        match caller.await.unwrap() {
            Ok(()) => {}
            Err(StoreError::Conflict { what: "hostname", .. }) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(failed, 1);
    assert_eq!(store.domains(DomainFilter::default(), None, 100).await.unwrap().items.len(), 64);
    assert_eq!(store.audit(None, 100).await.unwrap().items.len(), 64, "a refused change leaves no audit row");
}

async fn two_stores_share_one_database(place: &Place) {
    let (a, b) = (place.open().await, place.open().await);
    let domains: Vec<_> = (0..200).map(|n| domain(&format!("d{n}.example.com"), None)).collect();
    assert!(a.attach_domains(domains, &who(), at(0)).await.iter().all(Result::is_ok));
    let claim = |store: Store| {
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let rows = store.claim_domains(node(), at(1), 60_000, 7).await.unwrap();
                if rows.is_empty() {
                    return mine;
                }
                for row in rows {
                    store.save_domain(save(&row, Next::Release(None)), at(1)).await.unwrap();
                    mine.push(row.domain.intent.id);
                }
            }
        })
    };
    let (mine, theirs) = (claim(a.clone()), claim(b.clone()));
    let all: Vec<_> = mine.await.unwrap().into_iter().chain(theirs.await.unwrap()).collect();
    assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (200, 200), "each was claimed once");
    let limit = Limit { burst: 50, refill_ms: 1000 };
    let takes = (0..40).map(|n| {
        let store = if n % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { store.ca_budget_take("le", limit, at(0), 3).await.unwrap() })
    });
    let mut taken = 0;
    for take in takes.collect::<Vec<_>>() {
        taken += take.await.unwrap();
    }
    assert_eq!(taken, 50, "no token was given twice");
}

async fn a_closed_store_says_so(place: &Place) {
    let store = place.open().await;
    store.close().await;
    assert!(matches!(store.put_meta("k", "v").await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.meta("k").await, Err(StoreError::Unavailable(_))));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_sqlite_file_is_waited_for_and_then_busy() {
    use sqlx::Connection;
    let place = Place::sqlite();
    let store = place.open().await;
    let mut other = sqlx::SqliteConnection::connect(&place.url).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.put_meta("k", "waited").await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    waiting.await.unwrap().unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    assert_eq!(store.put_meta("k", "busy").await, Err(StoreError::Busy));
    assert_eq!(store.meta("k").await.unwrap().as_deref(), Some("waited"), "readers are not held up");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    store.put_meta("k", "again").await.unwrap();
}

/// What a restart of the server does to its clients: every connection is ended, also the one in the middle of a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_that_drops_its_connections_costs_the_calls_in_flight_only() {
    use sqlx::Connection;
    let Some(place) = Place::postgres().await else { return };
    let store = place.open().await;
    store.put_meta("k", "before").await.unwrap();
    let mut other = sqlx::PgConnection::connect(&place.url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE meta IN EXCLUSIVE MODE").execute(&mut other).await.unwrap();
    let in_flight = {
        let store = store.clone();
        tokio::spawn(async move { store.put_meta("k", "in flight").await })
    };
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut other).await.unwrap() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::raw_sql(end).execute(&mut other).await.unwrap();
    assert!(matches!(in_flight.await.unwrap(), Err(StoreError::Unavailable(_))));
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(store.meta("k").await.unwrap().as_deref(), Some("before"));
    store.put_meta("k", "after").await.unwrap();
    drop(other);
    store.close().await;
    place.remove().await;
}

//! Domains that wait for a CA's budget.

use crate::fixture::*;
use crate::on_both;
use certwright_model::budget::Limit;
use certwright_store::*;

on_both!(the_earliest_deadline_is_served_first, a_woken_domain_leaves_the_queue_by_itself);

const LIMIT: Limit = Limit { burst: 2, refill_ms: 10_000 };

async fn the_earliest_deadline_is_served_first(place: &Place) {
    let store = place.open().await;
    let mut ids = Vec::new();
    for (name, deadline) in [("a.example.com", 300), ("b.example.com", 100), ("c.example.com", 200)] {
        let id = stored_domain(&store, name).await.intent.id;
        let row = claimed(&store, id, at(0)).await;
        assert!(!row.granted);
        store.save_domain(save(&row, Next::Park { issuer: "le".into(), deadline: at(deadline) }), at(0)).await.unwrap();
        ids.push(id);
    }
    assert_eq!((store.parked("le").await.unwrap(), store.parked("other").await.unwrap()), (3, 0));
    assert!(store.claim_domains(node(), at(10_000), 1000, 10).await.unwrap().is_empty(), "they wait for the budget, not for time");
    assert_eq!(store.ca_budget_take("le", LIMIT, at(0), 3).await.unwrap(), 2);
    assert_eq!(store.next_budget_at("le", LIMIT, at(0)).await.unwrap(), Some(at(10)));
    assert_eq!(store.next_budget_at("other", LIMIT, at(0)).await.unwrap(), None);
    assert_eq!(store.unpark("le", 2, at(1)).await.unwrap(), 2);
    let rows = store.claim_domains(node(), at(1), 60_000, 10).await.unwrap();
    let mut served: Vec<_> = rows.iter().map(|row| (row.domain.intent.id, row.granted)).collect();
    served.sort();
    assert_eq!(served, [(ids[1], true), (ids[2], true)]);
    store.save_domain(save(&rows[0], Next::Release(Some(at(2)))), at(2)).await.unwrap();
    assert!(!store.claim_domains(node(), at(2), 60_000, 10).await.unwrap()[0].granted, "a grant is for one lease");
    assert_eq!(store.unpark("le", 5, at(3)).await.unwrap(), 1);
}

async fn a_woken_domain_leaves_the_queue_by_itself(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let row = claimed(&store, id, at(0)).await;
    store.save_domain(save(&row, Next::Park { issuer: "le".into(), deadline: at(5) }), at(0)).await.unwrap();
    store.wake_domain(id, at(1)).await.unwrap();
    let row = claimed(&store, id, at(1)).await;
    assert_eq!(store.parked("le").await.unwrap(), 0);
    store.wake_domain(id, at(2)).await.unwrap();
    store.save_domain(save(&row, Next::Park { issuer: "le".into(), deadline: at(5) }), at(2)).await.unwrap();
    claimed(&store, id, at(2)).await;
}

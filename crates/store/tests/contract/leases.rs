//! Fenced leases, wake-ups, and the state that is written under them.

use crate::fixture::*;
use crate::on_both;
use certwright_model::certificate::CertificateRef;
use certwright_model::domain::{DomainLifecycle, TlsStatus};
use certwright_model::event::{EventStatus, OWN_SOURCE};
use certwright_model::ids::{CertificateId, EventId};
use certwright_model::record::EventType;
use certwright_model::{Reason, ReasonCode};
use certwright_store::*;

on_both!(
    every_column_of_the_state_reads_back,
    a_claimed_domain_is_nobody_elses_until_the_lease_ends,
    a_stale_lease_cannot_write,
    a_wake_up_during_a_lease_is_not_lost,
    the_leases_of_one_node_are_released_at_once,
    the_next_thing_to_do_may_be_the_end_of_a_lease,
    domains_are_claimed_in_the_order_they_were_due,
    a_deleted_domain_takes_its_rows_along_and_wakes_its_site,
    a_commit_that_makes_something_due_is_heard,
);

async fn every_column_of_the_state_reads_back(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let row = claimed(&store, id, at(1)).await;
    let mut save = save(&row, Next::KeepLease);
    let state = &mut save.state;
    state.lifecycle = DomainLifecycle::Active;
    state.lifecycle_since = at(2);
    state.published = true;
    state.certificate_id = Some(CertificateId(uuid()));
    state.staged_certificate_id = Some(CertificateId(uuid()));
    state.tls_status = TlsStatus::TlsError;
    state.certificate_ref = Some(CertificateRef::from_digest(&[3; 32]));
    state.tls_not_after = Some(at(3));
    state.tls_last_error = Some("it \u{1f} failed".into());
    state.tls_last_checked_at = Some(at(4));
    state.cert_failure_count = 5;
    state.cert_retry_backoff_seconds = Some(60);
    state.cert_next_retry_at = Some(at(6));
    state.cert_last_event_type = Some(EventType::RenewalFailed);
    state.cert_last_event_at = Some(at(7));
    state.cert_renewal_due_at = Some(at(8));
    state.proven = true;
    state.reason = Some(Reason::new(ReasonCode::CaUnavailable, "NUL \0 in JSON").at(at(9)));
    state.look.validation_tries = 4;
    let event = |n: u8| OwnEvent {
        id: EventId(uuid()),
        node: node(),
        at: at(2),
        event_type: (n == 1).then_some(EventType::IssuanceSucceeded),
        step: "issue".into(),
        message: n.to_string(),
        certificate_ref: Some(CertificateRef::from_digest(&[n; 32])),
    };
    save.events = vec![event(1), event(2)];
    store.save_domain(save.clone(), at(2)).await.unwrap();
    save.state.tls_last_error = Some("it \u{fffd} failed".into());
    assert_eq!(store.domain_by_id(id).await.unwrap().unwrap().state, save.state);
    let of_domain = EventFilter { domain: Some(host("a.example.com")), ..EventFilter::default() };
    let events = store.events_page(&of_domain, None, 1).await.unwrap();
    let newest = &events.items[0];
    assert_eq!((newest.report.reason.as_deref(), newest.event_type), (Some("2"), None), "newest first");
    assert_eq!((newest.identity.source.as_str(), newest.status), (OWN_SOURCE, EventStatus::Applied));
    let older = store.events_page(&of_domain, events.next, 1).await.unwrap();
    assert_eq!((older.items[0].event_type, older.next), (Some(EventType::IssuanceSucceeded), None));
    assert_eq!(older.items[0].report.certificate_ref, Some(CertificateRef::from_digest(&[1; 32])));
}

async fn a_claimed_domain_is_nobody_elses_until_the_lease_ends(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let row = claimed(&store, id, at(0)).await;
    assert_eq!(row.lease.until, at(60));
    assert!(store.claim_domains(node(), at(59), 60_000, 10).await.unwrap().is_empty());
    assert_eq!(soonest(&store).await, Some(at(60)));
    let longer = store.extend_lease(id, &row.lease, at(100)).await.unwrap();
    assert_eq!(longer, Lease { token: row.lease.token, until: at(100) });
    assert!(store.claim_domains(node(), at(99), 60_000, 10).await.unwrap().is_empty());
    let second = store.claim_domains(node(), at(100), 60_000, 10).await.unwrap();
    assert_eq!(second[0].lease.token, row.lease.token + 1, "a dead node's work comes back by itself");
    assert_eq!(store.extend_lease(id, &row.lease, at(300)).await, Err(StoreError::LostLease));
}

async fn a_stale_lease_cannot_write(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let stale = claimed(&store, id, at(0)).await;
    let present = claimed(&store, id, at(60)).await;
    let mut late = save(&stale, Next::Release(None));
    late.state.tls_last_error = Some("late".into());
    assert_eq!(store.save_domain(late.clone(), at(61)).await, Err(StoreError::LostLease));
    late.next = Next::Delete;
    assert_eq!(store.save_domain(late.clone(), at(61)).await, Err(StoreError::LostLease));
    assert_eq!(store.open_order(&stale.lease, order(id)).await, Err(StoreError::LostLease));
    assert_eq!(store.domain_by_id(id).await.unwrap().unwrap().state.tls_last_error, None);
    store.save_domain(save(&present, Next::Release(None)), at(62)).await.unwrap();
    let again = store.save_domain(save(&present, Next::Release(None)), at(63)).await;
    assert_eq!(again, Err(StoreError::LostLease), "a released lease is over");
}

async fn a_wake_up_during_a_lease_is_not_lost(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let row = claimed(&store, id, at(0)).await;
    store.wake_domain(id, at(1)).await.unwrap();
    assert!(store.claim_domains(node(), at(2), 60_000, 10).await.unwrap().is_empty(), "it is leased");
    store.save_domain(save(&row, Next::Release(Some(at(1000)))), at(3)).await.unwrap();
    let row = claimed(&store, id, at(3)).await;
    store.save_domain(save(&row, Next::Release(Some(at(1000)))), at(4)).await.unwrap();
    assert!(store.claim_domains(node(), at(5), 60_000, 10).await.unwrap().is_empty(), "the wake-up was used up");
    store.wake_domain(id, at(6)).await.unwrap();
    let row = claimed(&store, id, at(6)).await;
    // Intent that changes during a lease survives the save of the state, and is looked at again.
    let change = DomainChange { issuers: Some(vec!["acme".into()]), renew_requested_at: Some(at(7)), ..Default::default() };
    store.change_domain(id, change, None, &who(), at(7)).await.unwrap();
    store.save_domain(save(&row, Next::Release(None)), at(8)).await.unwrap();
    let again = claimed(&store, id, at(8)).await;
    assert_eq!((again.domain.intent.issuers, again.domain.intent.renew_requested_at), (vec!["acme".into()], Some(at(7))));
    let gone = certwright_model::ids::DomainId(uuid());
    assert_eq!(store.wake_domain(gone, at(9)).await, Err(StoreError::NotFound { what: "domain" }));
}

async fn the_leases_of_one_node_are_released_at_once(place: &Place) {
    let store = place.open().await;
    let (mine, theirs) = (node(), certwright_model::ids::NodeId(uuid::Uuid::from_u128(78)));
    let (site, default) = stored_site(&store, "shop").await;
    let held = claimed(&store, default.intent.id, at(0)).await;
    let held_site = store.claim_sites(mine, at(0), 60_000, 10).await.unwrap().remove(0);
    stored_domain(&store, "b.example.com").await;
    let other = store.claim_domains(theirs, at(0), 60_000, 10).await.unwrap().remove(0);
    let free = stored_domain(&store, "c.example.com").await.intent.id;
    store.wake_domain(default.intent.id, at(1)).await.unwrap();
    let mut wakes = store.wakes();
    assert_eq!(store.release_leases(mine, at(2), at(120)).await.unwrap(), 2);
    wakes.notified().await;
    assert_eq!(store.save_domain(save(&held, Next::KeepLease), at(2)).await, Err(StoreError::LostLease));
    assert_eq!(store.extend_site_lease(site.intent.id, &held_site.lease, at(9)).await, Err(StoreError::LostLease));
    assert!(store.extend_lease(other.domain.intent.id, &other.lease, at(60)).await.is_ok(), "another node's lease stays");
    let again = store.claim_domains(mine, at(2), 60_000, 10).await.unwrap();
    let mut ids: Vec<_> = again.iter().map(|row| row.domain.intent.id).collect();
    ids.sort();
    assert_eq!(ids, [default.intent.id, free]);
    let again = again.iter().find(|row| row.domain.intent.id == default.intent.id).unwrap();
    assert!(again.lease.token > held.lease.token + 1, "the release counts, and so does the claim");
    store.save_domain(save(again, Next::Release(None)), at(3)).await.unwrap();
    assert!(store.claim_domains(mine, at(3), 60_000, 10).await.unwrap().is_empty(), "a wake-up of the former life is used up");
    assert_eq!(store.claim_sites(mine, at(2), 60_000, 10).await.unwrap().len(), 1);
    assert_eq!(store.release_leases(certwright_model::ids::NodeId(uuid::Uuid::nil()), at(4), at(120)).await.unwrap(), 0);
}

async fn the_next_thing_to_do_may_be_the_end_of_a_lease(place: &Place) {
    let store = place.open().await;
    let mut ids = Vec::new();
    for name in ["a.example.com", "b.example.com"] {
        ids.push(stored_domain(&store, name).await.intent.id);
    }
    let rows = store.claim_domains(node(), at(0), 60_000, 10).await.unwrap();
    assert_eq!((soonest(&store).await, store.stats(at(1)).await.unwrap().due_domains), (Some(at(60)), 0));
    store.save_domain(save(&rows[0], Next::Release(Some(at(90)))), at(1)).await.unwrap();
    assert_eq!(soonest(&store).await, Some(at(60)));
    store.extend_lease(rows[1].domain.intent.id, &rows[1].lease, at(100)).await.unwrap();
    assert_eq!(soonest(&store).await, Some(at(90)));
    let stats = store.stats(at(95)).await.unwrap();
    assert_eq!((stats.due_domains, stats.oldest_due), (1, Some(at(90))));
    assert_eq!(store.stats(at(100)).await.unwrap().due_domains, 2, "a lease that ran out counts");
}

async fn domains_are_claimed_in_the_order_they_were_due(place: &Place) {
    let store = place.open().await;
    let mut ids = Vec::new();
    for (name, due) in [("a.example.com", 30), ("b.example.com", 10), ("c.example.com", 20)] {
        let id = stored_domain(&store, name).await.intent.id;
        let row = claimed(&store, id, at(0)).await;
        store.save_domain(save(&row, Next::Release(Some(at(due)))), at(0)).await.unwrap();
        ids.push(id);
    }
    let order: Vec<_> = store.claim_domains(node(), at(40), 60_000, 2).await.unwrap().iter().map(|row| row.domain.intent.id).collect();
    assert_eq!(order, [ids[1], ids[2]]);
    assert_eq!(store.claim_domains(node(), at(40), 60_000, 9).await.unwrap().len(), 1);
}

async fn a_deleted_domain_takes_its_rows_along_and_wakes_its_site(place: &Place) {
    let store = place.open().await;
    let (site, default) = stored_site(&store, "shop").await;
    let id = default.intent.id;
    let claim = store.claim_sites(node(), at(0), 60_000, 10).await.unwrap().remove(0);
    let rest = SiteSave {
        id: site.intent.id,
        lease: claim.lease,
        state: claim.site.state,
        job_steps: vec![],
        close_jobs: None,
        next: SiteNext::Release(None),
    };
    store.save_site(rest, at(0)).await.unwrap();
    assert_eq!(store.mark_domains_absent(site.intent.id, Which::NotActive, at(1)).await.unwrap(), 1);
    assert_eq!(store.mark_domains_absent(site.intent.id, Which::All, at(1)).await.unwrap(), 0, "once is enough");
    let row = claimed(&store, id, at(1)).await;
    let (order, certificate) = (order(id), certificate(1));
    let certificate_id = certificate.id;
    store.open_order(&row.lease, order.clone()).await.unwrap();
    store.order_issued(&row.lease, order.id, certificate, at(2)).await.unwrap();
    store.save_domain(save(&row, Next::Delete), at(3)).await.unwrap();
    assert_eq!(store.domain_by_id(id).await.unwrap(), None);
    assert!(store.serving_certificate(certificate_id).await.unwrap().is_none());
    assert!(store.orphans(at(3)).await.unwrap().is_empty());
    assert_eq!(store.claim_sites(node(), at(3), 60_000, 10).await.unwrap().len(), 1);
}

async fn a_commit_that_makes_something_due_is_heard(place: &Place) {
    let store = place.open().await;
    let mut wakes = store.wakes();
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    wakes.notified().await;
    let row = claimed(&store, id, at(0)).await;
    store.save_domain(save(&row, Next::Release(Some(at(50)))), at(1)).await.unwrap();
    let silent = tokio::time::timeout(std::time::Duration::from_millis(50), wakes.notified()).await;
    assert!(silent.is_err(), "nothing became due");
    store.wake_domain(id, at(2)).await.unwrap();
    wakes.clone().notified().await;
}

async fn soonest(store: &Store) -> Option<jiff::Timestamp> {
    let next = [store.next_due_domain().await.unwrap(), store.next_due_site().await.unwrap()];
    next.into_iter().flatten().min()
}

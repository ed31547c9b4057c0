//! Certificate events: accepted once, applied once and in order, tried again, given up, replayed.

use crate::fixture::*;
use crate::on_both;
use certwright_model::event::{Effect, EventStatus, Identity, Limits, Report};
use certwright_model::ids::{DomainId, EventId};
use certwright_model::record::{Domain, EventType};
use certwright_store::*;
use std::collections::HashSet;
use std::sync::Arc;

on_both!(
    an_event_is_accepted_once_and_another_under_its_name_is_refused,
    the_same_event_twice_in_one_batch_is_one,
    events_are_applied_in_the_order_of_their_domain,
    a_domain_in_somebodys_hands_is_left_to_them,
    an_unknown_name_is_tried_again_and_given_up_after_the_last_try,
    dead_letters_are_replayed_by_name_and_by_filter,
    two_nodes_apply_each_event_once,
    refusals_and_deliveries_are_counted_by_source,
);

fn lego() -> Identity {
    Identity::new("lego", "eu-1").unwrap()
}

fn event(source_event_id: &str, name: &str, seconds: i64) -> NewEvent {
    NewEvent {
        id: EventId(uuid()),
        identity: lego(),
        source_event_id: source_event_id.into(),
        subject: Subject::Name(host(name)),
        event_type: EventType::RenewalSucceeded,
        at: at(seconds),
        digest: format!("{source_event_id}{seconds}"),
        verified: true,
        report: Report { reason: Some("NUL \0 and \u{1f}".into()), ..Report::default() },
    }
}

/// Notes the order in the row: each event appends its name.
fn appending() -> Fold {
    Arc::new(|domain: &mut Domain, events: &[EventRow]| {
        let log = domain.state.tls_last_error.get_or_insert_default();
        events.iter().for_each(|event| log.push_str(&event.source_event_id));
        events.iter().map(|_| Effect::Asks).collect()
    })
}

async fn apply(store: &Store, seconds: i64) -> AppliedBatch {
    store.apply_events(&appending(), Limits::default(), 100, at(seconds)).await.unwrap()
}

async fn log_of(store: &Store, id: DomainId) -> String {
    store.domain_by_id(id).await.unwrap().unwrap().state.tls_last_error.unwrap_or_default()
}

async fn an_event_is_accepted_once_and_another_under_its_name_is_refused(place: &Place) {
    let store = place.open().await;
    let domain = stored_domain(&store, "a.example.com").await;
    let first = event("e1", "a.example.com", 1);
    let retried = NewEvent { id: EventId(uuid()), ..first.clone() };
    let other = NewEvent { id: EventId(uuid()), digest: "another".into(), ..first.clone() };
    let elsewhere = NewEvent { id: EventId(uuid()), identity: Identity::new("lego", "eu-2").unwrap(), ..first.clone() };
    let by_id = NewEvent { subject: Subject::Id(domain.intent.id), ..event("e2", "x.example.com", 1) };
    let nobody = NewEvent { subject: Subject::Id(DomainId(uuid())), ..event("e3", "x.example.com", 1) };
    let accept = |events: Vec<NewEvent>| {
        let store = store.clone();
        async move { store.accept_events(events, at(2)).await.unwrap() }
    };
    assert_eq!(accept(vec![first.clone()]).await, [Accepted::New]);
    let again = Accepted::Duplicate { id: first.id, status: EventStatus::Pending };
    let outcomes = accept(vec![retried, other, elsewhere, by_id.clone(), nobody]).await;
    assert_eq!(outcomes, [again, Accepted::Conflict, Accepted::New, Accepted::New, Accepted::UnknownDomain]);
    let row = store.event(by_id.id).await.unwrap().unwrap();
    assert_eq!((row.hostname.as_str(), row.status, row.verified), ("a.example.com", EventStatus::Pending, true));
    assert_eq!((row.received_at, row.due_at, row.at), (at(2), Some(at(2)), at(1)));
    assert_eq!(row.report.reason.as_deref(), Some("NUL \0 and \u{1f}"), "what JSON escapes stays what it was");
    assert_eq!(accept(vec![]).await, []);
}

async fn the_same_event_twice_in_one_batch_is_one(place: &Place) {
    let store = place.open().await;
    let first = event("e1", "a.example.com", 1);
    let second = NewEvent { id: EventId(uuid()), ..first.clone() };
    let third = NewEvent { id: EventId(uuid()), digest: "another".into(), ..first.clone() };
    let outcomes = store.accept_events(vec![first.clone(), second, third], at(2)).await.unwrap();
    assert_eq!(outcomes, [Accepted::New, Accepted::Duplicate { id: first.id, status: EventStatus::Pending }, Accepted::Conflict]);
    assert_eq!(store.events_page(&EventFilter::default(), None, 10).await.unwrap().items.len(), 1);
}

async fn events_are_applied_in_the_order_of_their_domain(place: &Place) {
    let store = place.open().await;
    let a = stored_domain(&store, "a.example.com").await.intent.id;
    let b = stored_domain(&store, "b.example.com").await.intent.id;
    let events = vec![
        event("3", "a.example.com", 30),
        event("1", "a.example.com", 10),
        event("9", "b.example.com", 5),
        event("2", "a.example.com", 20),
    ];
    store.accept_events(events, at(40)).await.unwrap();
    assert_eq!(store.next_due_event().await.unwrap(), Some(at(40)));
    assert!(apply(&store, 39).await.is_empty(), "not before they are due");
    let batch = apply(&store, 40).await;
    assert_eq!((batch.applied, batch.changed.len()), (4, 2));
    assert_eq!((log_of(&store, a).await.as_str(), log_of(&store, b).await.as_str()), ("123", "9"));
    assert!(apply(&store, 41).await.is_empty());
    assert_eq!(store.next_due_event().await.unwrap(), None);
    let page = store.events_page(&EventFilter { status: Some(EventStatus::Applied), ..EventFilter::default() }, None, 10).await.unwrap();
    assert!(page.items.iter().all(|event| event.tries == 1 && event.settled_at == Some(at(40))));
    let due = store.claim_domains(node(), at(40), 60_000, 10).await.unwrap();
    assert_eq!(due.len(), 2, "the wire is asked about what changed");
}

async fn a_domain_in_somebodys_hands_is_left_to_them(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    stored_domain(&store, "b.example.com").await;
    let held = claimed(&store, id, at(1)).await;
    // The claim took both; this one is given back.
    store.accept_events(vec![event("1", "a.example.com", 1)], at(2)).await.unwrap();
    let batch = apply(&store, 2).await;
    assert_eq!((batch.held, batch.applied), (1, 0));
    store.save_domain(save(&held, Next::Release(None)), at(2)).await.unwrap();
    assert_eq!(apply(&store, 3).await.applied, 1);
    assert_eq!(log_of(&store, id).await, "1");
    let row = store.events_page(&EventFilter::default(), None, 1).await.unwrap().items.remove(0);
    assert_eq!(row.tries, 1, "waiting is no try");
}

async fn an_unknown_name_is_tried_again_and_given_up_after_the_last_try(place: &Place) {
    let store = place.open().await;
    let lost = event("1", "nobody.example.com", 1);
    store.accept_events(vec![lost.clone()], at(0)).await.unwrap();
    let mut now = 0;
    for pause in [45, 90, 180, 360, 720] {
        let batch = apply(&store, now).await;
        assert_eq!((batch.retried, batch.failed), (1, 0));
        assert!(apply(&store, now + pause - 1).await.is_empty());
        now += pause;
    }
    assert_eq!(apply(&store, now).await.failed, 1);
    let row = store.event(lost.id).await.unwrap().unwrap();
    assert_eq!((row.status, row.tries, row.due_at), (EventStatus::Failed, 6, None));
    assert!(row.error.unwrap().contains("no domain"));
    assert!(apply(&store, now * 10).await.is_empty());
}

async fn dead_letters_are_replayed_by_name_and_by_filter(place: &Place) {
    let store = place.open().await;
    let lost: Vec<NewEvent> = (0..3).map(|n| event(&n.to_string(), "late.example.com", n)).collect();
    store.accept_events(lost.clone(), at(0)).await.unwrap();
    let once = Limits { max_tries: 1, ..Limits::default() };
    assert_eq!(store.apply_events(&appending(), once, 100, at(1)).await.unwrap().failed, 3);
    let failed = EventFilter { status: Some(EventStatus::Failed), source: Some("lego".into()), ..EventFilter::default() };
    assert_eq!(store.events_page(&failed, None, 2).await.unwrap().items.len(), 2);
    let id = stored_domain(&store, "late.example.com").await.intent.id;
    let elsewhere = EventFilter { cluster_id: Some("eu-9".into()), ..failed.clone() };
    assert_eq!(store.replay_events(&elsewhere, 10, false, &who(), at(2)).await.unwrap(), 0);
    assert_eq!(store.replay_events(&failed, 10, true, &who(), at(2)).await.unwrap(), 3, "a dry run counts");
    assert!(apply(&store, 3).await.is_empty(), "and changes nothing");
    store.replay_event(lost[2].id, &who(), at(4)).await.unwrap();
    assert_eq!(store.replay_events(&failed, 1, false, &who(), at(4)).await.unwrap(), 1, "the oldest first");
    assert_eq!(apply(&store, 4).await.applied, 2);
    assert_eq!(log_of(&store, id).await, "02");
    let row = store.event(lost[2].id).await.unwrap().unwrap();
    assert_eq!((row.status, row.replays, row.tries), (EventStatus::Applied, 1, 1));
    let note = EventNote { at: at(4), actor: "alice".into(), action: "replay".into() };
    assert_eq!(store.event_notes(lost[2].id).await.unwrap(), [note]);
    let replays = store.audit(None, 10).await.unwrap().items.into_iter().filter(|entry| entry.action == "event.replay").count();
    assert_eq!(replays, 2, "who did it is in the audit log; a dry run and a replay of nothing are not");
    assert!(matches!(store.replay_event(lost[2].id, &who(), at(5)).await, Err(StoreError::Conflict { what: "event", .. })));
    assert!(matches!(store.replay_event(EventId(uuid()), &who(), at(5)).await, Err(StoreError::NotFound { what: "event" })));
}

async fn two_nodes_apply_each_event_once(place: &Place) {
    let (one, two) = (place.open().await, place.open().await);
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(stored_domain(&one, &format!("d{n}.example.com")).await.intent.id);
    }
    let events = (0..400).map(|n| event(&format!("<{n:03}>"), &format!("d{}.example.com", n % 20), n)).collect();
    one.accept_events(events, at(500)).await.unwrap();
    let drain = |store: Store| async move {
        let mut applied = 0;
        // What the other node holds at one moment comes back a little later.
        for second in 600.. {
            assert!(second < 10_000, "{applied} were applied, and it does not end");
            applied += store.apply_events(&appending(), Limits::default(), 50, at(second)).await.unwrap().applied;
            if store.next_due_event().await.unwrap().is_none() {
                break;
            }
        }
        applied
    };
    let (a, b) = tokio::join!(tokio::spawn(drain(one.clone())), tokio::spawn(drain(two)));
    assert_eq!(a.unwrap() + b.unwrap(), 400);
    for (n, id) in ids.into_iter().enumerate() {
        let log = log_of(&one, id).await;
        let seen: Vec<&str> = log.split_inclusive('>').collect();
        assert_eq!(seen.len(), 20, "d{n}: {log}");
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 20, "d{n}: {log}");
        assert!(seen.is_sorted(), "d{n}: {log}");
    }
}

async fn refusals_and_deliveries_are_counted_by_source(place: &Place) {
    let store = place.open().await;
    let other = Identity::new("caddy", "eu-2").unwrap();
    let refused = |identity: &Identity, rejected, signature_failures| SourceCount {
        rejected,
        signature_failures,
        ..SourceCount::none(identity.clone())
    };
    let taken = SourceCount { accepted: 2, duplicates: 1, ..SourceCount::none(lego()) };
    store.count_reports(vec![taken], at(1)).await.unwrap();
    store.count_reports(vec![refused(&lego(), 2, 1), refused(&other, 5, 5)], at(3)).await.unwrap();
    store.count_reports(vec![refused(&other, 1, 0)], at(4)).await.unwrap();
    let rows = store.sources().await.unwrap();
    let seen: Vec<_> =
        rows.iter().map(|r| (r.identity.source.as_str(), r.accepted, r.duplicates, r.rejected, r.signature_failures)).collect();
    assert_eq!(seen, [("caddy", 0, 0, 6, 5), ("lego", 2, 1, 2, 1)]);
    assert_eq!((rows[1].first_seen_at, rows[1].last_seen_at), (at(1), at(3)));
}

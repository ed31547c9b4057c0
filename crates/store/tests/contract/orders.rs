//! Orders, certificates, challenges, accounts, CA keys.

use crate::fixture::*;
use crate::on_both;
use certwright_model::record::OrderStage;
use certwright_store::*;

on_both!(
    an_order_survives_in_every_stage_and_becomes_a_certificate,
    a_domain_has_one_open_order,
    a_failed_order_makes_room_for_the_next,
    challenges_are_found_by_token_or_by_host,
    the_first_account_and_ca_key_win,
    orphans_are_found_and_repaired,
);

async fn an_order_survives_in_every_stage_and_becomes_a_certificate(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let row = claimed(&store, id, at(0)).await;
    let mut order = order(id);
    store.open_order(&row.lease, order.clone()).await.unwrap();
    let row = claimed(&store, id, at(60)).await;
    assert_eq!(row.order, Some(order.clone()), "with its key");
    store.order_placed(&row.lease, order.id, "https://ca.example/1").await.unwrap();
    store.order_finalizing(&row.lease, order.id).await.unwrap();
    let row = claimed(&store, id, at(120)).await;
    order.stage = OrderStage::Finalizing;
    order.order_url = Some("https://ca.example/1".into());
    assert_eq!(row.order, Some(order.clone()));
    let new = certificate(7);
    store.order_issued(&row.lease, order.id, new.clone(), at(121)).await.unwrap();
    let row = claimed(&store, id, at(180)).await;
    assert_eq!((row.order, row.staged, row.current), (None, Some(new.facts.clone()), None));
    assert_eq!(row.domain.state.staged_certificate_id, Some(new.id));
    let serving = store.serving_certificate(new.id).await.unwrap().unwrap();
    assert_eq!((serving.chain_der, serving.key_pkcs8_der), (vec![vec![1, 2, 3], vec![4, 5]], order.key_pkcs8_der));
    let rows = store.certificates_of(id).await.unwrap();
    assert_eq!((rows.len(), rows[0].status, rows[0].created_at), (1, CertificateStatus::Staged, at(121)));
    assert_eq!(store.order_failed(&row.lease, order.id, "late", at(181)).await, Err(StoreError::LostLease), "the order is closed");
}

async fn a_domain_has_one_open_order(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let row = claimed(&store, id, at(0)).await;
    store.open_order(&row.lease, order(id)).await.unwrap();
    assert!(matches!(store.open_order(&row.lease, order(id)).await, Err(StoreError::Conflict { what: "order", .. })));
}

async fn a_failed_order_makes_room_for_the_next(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let row = claimed(&store, id, at(0)).await;
    let (first, second) = (order(id), order(id));
    store.open_order(&row.lease, first.clone()).await.unwrap();
    store.order_failed(&row.lease, first.id, "rejected", at(1)).await.unwrap();
    store.open_order(&row.lease, second.clone()).await.unwrap();
    let broken = NewCertificate { chain_pem: "nothing".into(), ..certificate(1) };
    assert!(matches!(store.order_issued(&row.lease, second.id, broken, at(2)).await, Err(StoreError::Corrupt(_))));
    store.order_issued(&row.lease, second.id, certificate(1), at(2)).await.unwrap();
    // The next need: the certificate before it is retired once both are replaced.
    let third = order(id);
    store.open_order(&row.lease, third.clone()).await.unwrap();
    let newer = certificate(2);
    store.order_issued(&row.lease, third.id, newer.clone(), at(3)).await.unwrap();
    let statuses: Vec<_> = store.certificates_of(id).await.unwrap().iter().map(|row| (row.id, row.status)).collect();
    assert_eq!((statuses[0], statuses[1].1), ((newer.id, CertificateStatus::Staged), CertificateStatus::Retired));
}

async fn challenges_are_found_by_token_or_by_host(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let row = claimed(&store, id, at(0)).await;
    let order = order(id);
    store.open_order(&row.lease, order.clone()).await.unwrap();
    let challenge = |kind, token: &str, answer: &str| Challenge {
        kind,
        host: host("a.example.com"),
        token: token.into(),
        key_authorization: answer.into(),
    };
    let both = vec![challenge(ChallengeKind::Http01, "t1", "t1.k"), challenge(ChallengeKind::TlsAlpn01, "t2", "t2.k")];
    store.put_challenges(order.id, both.clone(), at(100)).await.unwrap();
    store.put_challenges(order.id, both, at(100)).await.unwrap();
    let look = |kind, token: Option<&'static str>| {
        let store = store.clone();
        async move { store.challenge(kind, &host("a.example.com"), token).await.unwrap() }
    };
    assert_eq!(look(ChallengeKind::Http01, Some("t1")).await.as_deref(), Some("t1.k"));
    assert_eq!(look(ChallengeKind::Http01, Some("t2")).await, None);
    assert_eq!(look(ChallengeKind::TlsAlpn01, None).await.as_deref(), Some("t2.k"));
    store.order_failed(&row.lease, order.id, "x", at(1)).await.unwrap();
    assert_eq!(look(ChallengeKind::TlsAlpn01, None).await, None, "they go with their order");
}

async fn the_first_account_and_ca_key_win(place: &Place) {
    let store = place.open().await;
    let account = |n: u8| AccountRow { url: format!("https://ca.example/acct/{n}"), credentials_json: format!("{{\"key\":{n}}}") };
    let put = |n| store.put_acme_account("le", "https://ca.example/dir", account(n), at(0));
    assert_eq!(store.acme_account("le", "https://ca.example/dir").await.unwrap(), None);
    assert_eq!(put(1).await.unwrap(), account(1));
    assert_eq!(put(2).await.unwrap(), account(1));
    let key = |n: u8| CaKeyRow { cert_pem: n.to_string(), key_pkcs8_der: vec![n; 40] };
    let (a, b) =
        tokio::join!(store.put_ca_key_if_absent(CaRole::Root, key(1), at(0)), store.put_ca_key_if_absent(CaRole::Root, key(2), at(0)));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(store.ca_key(CaRole::Intermediate).await.unwrap(), None);
}

async fn orphans_are_found_and_repaired(place: &Place) {
    let store = place.open().await;
    let id = stored_domain(&store, "a.example.com").await.intent.id;
    let row = claimed(&store, id, at(0)).await;
    let order = order(id);
    store.open_order(&row.lease, order.clone()).await.unwrap();
    let challenge =
        Challenge { kind: ChallengeKind::Http01, host: host("a.example.com"), token: "t".into(), key_authorization: "k".into() };
    store.put_challenges(order.id, vec![challenge], at(100)).await.unwrap();
    assert!(store.orphans(at(99)).await.unwrap().is_empty());
    let week = 8 * 86_400;
    let kinds: Vec<_> = store.orphans(at(week)).await.unwrap().iter().map(|orphan| orphan.kind).collect();
    assert_eq!(kinds, [OrphanKind::StaleOrder, OrphanKind::ExpiredChallenge]);
    assert_eq!(store.repair_orphans(&who(), at(week)).await.unwrap(), 2);
    assert!(store.orphans(at(week)).await.unwrap().is_empty());
}

//! What was asked for of domains.

use crate::fixture::*;
use crate::on_both;
use certwright_model::domain::{Desired, Route, TlsStatus};
use certwright_model::ids::SiteId;
use certwright_model::job::JobKind;
use certwright_store::*;

on_both!(a_bulk_of_ten_thousand_gets_an_outcome_for_each, a_change_is_stored_audited_and_due, domains_are_filtered_and_paged,);

async fn a_bulk_of_ten_thousand_gets_an_outcome_for_each(place: &Place) {
    let store = place.open().await;
    stored_domain(&store, "d5.example.com").await;
    let (going, _) = stored_site(&store, "going").await;
    let absent = SiteChange { desired: Some(Desired::Absent), kind: None };
    store.set_site_intent(going.intent.id, absent, None, &who(), at(1)).await.unwrap();
    let mut domains: Vec<_> = (0..10_000).map(|n| domain(&format!("d{n}.example.com"), None)).collect();
    domains[6] = domain("d4.example.com", None);
    domains[7] = domain("d7.example.com", Some(SiteId(uuid())));
    domains[8] = domain("d8.example.com", Some(going.intent.id));
    let outcome = store.attach_domains(domains.clone(), &who(), at(2)).await;
    assert_eq!(outcome.len(), 10_000);
    let refused: Vec<usize> = (0..10_000).filter(|n| outcome[*n].is_err()).collect();
    assert_eq!(refused, [5, 6, 7, 8]);
    assert!(matches!(outcome[5], Err(StoreError::Conflict { what: "hostname", .. })), "stored before");
    assert!(matches!(outcome[6], Err(StoreError::Conflict { what: "hostname", .. })), "twice in the same bulk");
    assert!(matches!(outcome[7], Err(StoreError::NotFound { what: "site" })));
    assert!(matches!(outcome[8], Err(StoreError::Conflict { what: "site", .. })));
    assert_eq!(store.domain_by_id(domains[9_999].intent.id).await.unwrap(), Some(domains[9_999].clone()));
    assert_eq!(store.stats(at(2)).await.unwrap().due_domains, 9_998);
    assert!(store.attach_domains(vec![], &who(), at(3)).await.is_empty());
}

async fn a_change_is_stored_audited_and_due(place: &Place) {
    let store = place.open().await;
    let (site, _) = stored_site(&store, "shop").await;
    let mut custom = domain("www.example.com", Some(site.intent.id));
    custom.intent.route = None;
    store.attach_domain(custom.clone(), None, &who(), at(0)).await.unwrap();
    let id = custom.intent.id;
    let row = claimed(&store, id, at(0)).await;
    store.save_domain(save(&row, Next::Release(None)), at(0)).await.unwrap();
    let route = Route::Tunnel { tunnel: "t".into(), target: Some("x".into()), region: Some("us".into()) };
    let change = DomainChange { desired: Some(Desired::Absent), route: Some(Some(route.clone())), ..Default::default() };
    let blocked = job(JobKind::CertRetry, Some(site.intent.id), Some(id));
    let refused = store.change_domain(id, change.clone(), Some(blocked), &who(), at(1)).await;
    assert!(matches!(refused, Err(StoreError::Conflict { what: "job", .. })));
    assert_eq!(store.domain_by_id(id).await.unwrap().unwrap().intent, custom.intent, "nothing was changed");
    let changed = store.change_domain(id, change, None, &who(), at(1)).await.unwrap();
    assert_eq!((changed.intent.desired, changed.intent.route.clone(), changed.intent.changed_at), (Desired::Absent, Some(route), at(1)));
    assert_eq!(store.domain_by_hostname(&custom.intent.hostname).await.unwrap(), Some(changed));
    assert_eq!(claimed(&store, id, at(1)).await.domain.intent.desired, Desired::Absent);
    let entry = store.audit(None, 1).await.unwrap().items.remove(0);
    assert_eq!(entry.before.unwrap()["desired"], "present");
    assert_eq!(entry.after.unwrap()["route"]["tunnel"], "t");
    let own = stored_domain(&store, "own.example.com").await.intent.id;
    let nowhere = DomainChange { route: Some(Some(Route::Site)), ..Default::default() };
    assert!(matches!(store.change_domain(own, nowhere, None, &who(), at(2)).await, Err(StoreError::Conflict { what: "domain", .. })));
}

async fn domains_are_filtered_and_paged(place: &Place) {
    let store = place.open().await;
    let (site, _) = stored_site(&store, "shop").await;
    for name in ["b.example.com", "a.example.com", "a-b.example.com", "*.example.com"] {
        stored_domain(&store, name).await;
    }
    let names =
        |page: &Page<certwright_model::record::Domain>| page.items.iter().map(|d| d.intent.hostname.to_string()).collect::<Vec<_>>();
    let first = store.domains(DomainFilter::default(), None, 3).await.unwrap();
    assert_eq!(names(&first), ["*.example.com", "a-b.example.com", "a.example.com"], "bytewise on both engines");
    let second = store.domains(DomainFilter::default(), first.next, 3).await.unwrap();
    assert_eq!((names(&second), second.next), (vec!["b.example.com".to_owned(), "shop.sites.example.net".into()], None));
    let region = DomainFilter { region: Some("eu".into()), q: Some("A".into()), tls_status: Some(TlsStatus::PendingRoute), site_id: None };
    assert_eq!(store.domains(region, None, 10).await.unwrap().items.len(), 4);
    let of_site = DomainFilter { site_id: Some(site.intent.id), ..Default::default() };
    assert_eq!(names(&store.domains(of_site, None, 10).await.unwrap()), ["shop.sites.example.net"]);
}

//! What the edge is told.

use crate::fixture::*;
use crate::on_both;
use certwright_model::domain::Route;
use certwright_model::edge::{EdgeChange, EdgeEntry, EdgeRoute};
use certwright_model::site::SiteKind;
use certwright_store::*;

on_both!(the_index_follows_routes_and_certificates, every_change_is_told_once_and_in_order);

async fn the_index_follows_routes_and_certificates(place: &Place) {
    let store = place.open().await;
    let (site, default) = stored_site(&store, "shop").await;
    let upstream = stored_domain(&store, "b.example.com").await;
    let mut tunnel = domain("a.example.com", None);
    tunnel.intent.route = Some(Route::Tunnel { tunnel: "t".into(), target: None, region: None });
    store.attach_domain(tunnel, None, &who(), at(0)).await.unwrap();
    stored_domain(&store, "hidden.example.com").await;
    assert!(store.edge_entries(None, 10).await.unwrap().is_empty());
    for row in store.claim_domains(node(), at(1), 60_000, 10).await.unwrap() {
        let mut save = save(&row, Next::KeepLease);
        save.state.published = row.domain.intent.hostname.as_str() != "hidden.example.com";
        store.save_domain(save, at(1)).await.unwrap();
        if row.domain.intent.id == upstream.intent.id {
            let order = order(upstream.intent.id);
            store.open_order(&row.lease, order.clone()).await.unwrap();
            store.order_issued(&row.lease, order.id, certificate(1), at(2)).await.unwrap();
        }
    }
    let staged = store.domain_by_id(upstream.intent.id).await.unwrap().unwrap().state.staged_certificate_id;
    let entry = |name: &str, route, certificate| EdgeEntry { host: host(name), route, certificate };
    let files = |content: &str| EdgeRoute::Files { site: "shop".into(), content: content.into() };
    let proxy = EdgeRoute::Proxy { upstream: "http://127.0.0.1:3000".into() };
    let all = [
        entry("a.example.com", EdgeRoute::Nothing, None),
        entry("b.example.com", proxy, staged),
        entry(default.intent.hostname.as_str(), files("v1"), None),
    ];
    assert!(staged.is_some());
    assert_eq!(store.edge_entries(None, 2).await.unwrap(), all[..2]);
    assert_eq!(store.edge_entries(Some(&all[1].host), 2).await.unwrap(), all[2..]);
    assert_eq!(store.edge_entry(&all[1].host).await.unwrap().as_ref(), Some(&all[1]));
    assert_eq!(store.edge_entry(&host("hidden.example.com")).await.unwrap(), None);
    let v2 = SiteChange { desired: None, kind: Some(SiteKind::Static { content: "v2".into() }) };
    store.set_site_intent(site.intent.id, v2, None, &who(), at(3)).await.unwrap();
    let changes = store.edge_changes(at(2).as_millisecond(), 10).await.unwrap();
    let now = entry(default.intent.hostname.as_str(), files("v2"), None);
    assert_eq!(changes, [(at(3).as_millisecond(), EdgeChange::Set(now))]);
}

async fn every_change_is_told_once_and_in_order(place: &Place) {
    let store = place.open().await;
    for name in ["a.example.com", "b.example.com", "c.example.com"] {
        stored_domain(&store, name).await;
    }
    assert!(store.edge_changes(0, 10).await.unwrap().is_empty(), "nothing was ever published");
    let rows = store.claim_domains(node(), at(1), 600_000, 10).await.unwrap();
    let publish = |index: usize, published: bool, next: Next| {
        let mut save = save(&rows[index], next);
        save.state.published = published;
        save
    };
    let names = |changes: Vec<(i64, EdgeChange)>| -> Vec<String> {
        let name = |change: EdgeChange| match change {
            EdgeChange::Set(entry) => format!("+{}", entry.host.as_str().split('.').next().unwrap()),
            EdgeChange::Remove(host) => format!("-{}", host.as_str().split('.').next().unwrap()),
        };
        changes.into_iter().map(|(_, change)| name(change)).collect()
    };
    let mut hosts: Vec<_> = rows.iter().map(|row| row.domain.intent.hostname.as_str().chars().next().unwrap()).collect();
    for index in 0..3 {
        store.save_domain(publish(index, true, Next::KeepLease), at(2)).await.unwrap();
    }
    assert_eq!(store.edge_changes(0, 1).await.unwrap().len(), 3, "one millisecond is not split");
    // The same state again is no change.
    store.save_domain(publish(0, true, Next::KeepLease), at(3)).await.unwrap();
    assert!(store.edge_changes(at(2).as_millisecond(), 10).await.unwrap().is_empty());
    store.save_domain(publish(1, false, Next::KeepLease), at(4)).await.unwrap();
    store.save_domain(publish(2, false, Next::Delete), at(5)).await.unwrap();
    let told = names(store.edge_changes(at(2).as_millisecond(), 10).await.unwrap());
    assert_eq!(told, [format!("-{}", hosts[1]), format!("-{}", hosts[2])]);
    let gone = rows[2].domain.intent.hostname.clone();
    stored_domain(&store, gone.as_str()).await;
    let back = store.claim_domains(node(), at(6), 600_000, 10).await.unwrap().remove(0);
    let mut again = save(&back, Next::Release(None));
    again.state.published = true;
    store.save_domain(again, at(6)).await.unwrap();
    let told = names(store.edge_changes(at(4).as_millisecond(), 10).await.unwrap());
    let name = hosts.remove(2);
    assert_eq!(told, [format!("-{name}"), format!("+{name}")], "the new owner comes after the removal");
}

//! Lists: paged by cursor without gaps or repetitions, filtered, bounded.

use crate::support::{Server, idle};
use serde_json::{Value, json};

async fn all_pages(server: &Server, path: &str, limit: u32) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let page = server.call("GET", &format!("{path}{sign}limit={limit}{cursor}"), None).await.is(200);
        let more = page["items"].as_array().unwrap().clone();
        assert!(more.len() <= limit as usize);
        items.extend(more);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[tokio::test]
async fn every_list_is_walked_by_cursor_without_gaps_or_repetitions() {
    let server = idle().await;
    for n in 0..7 {
        let body = json!({ "site": format!("s{n}"), "upstream": "http://127.0.0.1:3000" });
        server.call("POST", "/api/provision", Some(body)).await.is(202);
    }
    let lists = [("/api/sites", "name", 7), ("/v1/domains", "domain", 7), ("/api/jobs", "id", 7), ("/v1/admin/audit", "id", 8)];
    for (path, key, count) in lists {
        for limit in [1, 2, 3, 7, 100] {
            let items = all_pages(&server, path, limit).await;
            let mut keys: Vec<String> = items.iter().map(|item| item[key].to_string()).collect();
            keys.sort();
            keys.dedup();
            assert_eq!((items.len(), keys.len()), (count, count), "{path} by {limit}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_by_what_the_document_names() {
    let server = idle().await;
    server.active_site("shop").await;
    for (host, region) in [("a.example.com", "eu-1"), ("b.example.com", "us-1"), ("under_score", "us-1")] {
        let body = json!({ "domain": host, "route": { "upstream": "http://127.0.0.1:3000", "region": region } });
        let _ = server.call("POST", "/v1/domains", Some(body)).await;
    }
    let cases = [
        ("/v1/domains?q=EXAMPLE", 2),
        ("/v1/domains?q=%25", 0),
        ("/v1/domains?q=b.example.com&region=us-1", 1),
        ("/v1/domains?region=eu-1", 1),
        ("/v1/domains?site=shop", 1),
        ("/v1/domains?tls_status=issued", 0),
        ("/v1/domains?tls_status=pending_route", 3),
        ("/api/sites?q=ho", 1),
        ("/api/sites?q=zzz", 0),
        ("/api/sites?lifecycle=ACTIVE", 1),
        ("/api/sites?lifecycle=FAILED", 0),
        ("/api/jobs?site=shop", 1),
    ];
    for (path, count) in cases {
        let items = server.call("GET", path, None).await.is(200)["items"].as_array().unwrap().len();
        assert_eq!(items, count, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_list_that_is_asked_for_wrongly_says_so() {
    let server = idle().await;
    let cases = [
        ("/api/sites?limit=0", 400, Some("limit")),
        ("/api/sites?limit=1001", 400, Some("limit")),
        ("/api/sites?limit=-1", 400, None),
        ("/api/sites?limit=ten", 400, None),
        ("/api/sites?page=2", 400, None),
        ("/api/sites?lifecycle=active", 400, Some("lifecycle")),
        ("/v1/domains?tls_status=green", 400, Some("tls_status")),
        ("/v1/domains?q=%00", 400, Some("q")),
        ("/v1/domains?site=nobody", 404, None),
        ("/v1/domains?cursor=%0a", 400, Some("cursor")),
        ("/v1/admin/audit?cursor=x", 400, Some("cursor")),
    ];
    for (path, status, field) in cases {
        server.call("GET", path, None).await.refuses(status, field, "");
    }
    server.stop().await;
}

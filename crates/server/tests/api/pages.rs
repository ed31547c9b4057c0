//! What is not the API proper: dashboard, metrics, health, the root certificate.

use crate::support::{header, idle};
use serde_json::json;

#[tokio::test]
async fn the_dashboard_comes_whole_from_the_server_and_runs_nothing_inline() {
    let server = idle().await;
    let page = server.request("GET", "/").send().await.unwrap();
    let policy = header(&page, "content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");
    let html = page.text().await.unwrap();
    assert!(!html.contains("<style") && !html.contains("style=") && !html.contains("onclick"), "something is inline");
    assert!(!html.contains("<script>") && !html.contains("http://") && !html.contains("https://"), "something is from elsewhere");
    for (path, kind) in [("/assets/app.js", "text/javascript"), ("/assets/app.css", "text/css")] {
        assert!(html.contains(path), "the page does not load {path}");
        let asset = server.request("GET", path).send().await.unwrap();
        assert_eq!(asset.status(), 200);
        assert!(header(&asset, "content-type").starts_with(kind));
        let text = asset.text().await.unwrap();
        assert!(text.len() > 500 && !text.contains("innerHTML") && !text.contains("https://"), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_metrics_page_counts_domains_by_status_and_names_none() {
    let server = idle().await;
    server.active_site("secret-shop").await;
    let response = reqwest::get(format!("http://{}/metrics", server.metrics)).await.unwrap();
    assert!(header(&response, "content-type").starts_with("application/openmetrics-text"));
    let text = response.text().await.unwrap();
    for line in [
        "# TYPE fdt_cert_domains_total gauge",
        "fdt_cert_domains_total{status=\"pending_route\"} 1",
        "fdt_cert_domains_total{status=\"issued\"} 0",
        "certwright_store_up 1",
        "certwright_due{kind=\"domain\"} 1",
        "certwright_sites{lifecycle=\"ACTIVE\"} 1",
        "certwright_edge_handshakes_total 0",
        "certwright_edge_handshake_failures_total{reason=\"unknown_name\"} 0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is missing in:\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && !text.contains("secret-shop"));
    server.stop().await;
}

#[tokio::test]
async fn health_is_public_and_says_down_when_the_database_is_gone() {
    let server = idle().await;
    let health = server.call_as(None, "GET", "/api/health", None).await.is(200);
    assert_eq!((&health["ok"], &health["status"], &health["store"]["backend"]), (&json!(true), &json!("starting"), &json!("sqlite")));
    server.engine.store().close().await;
    let health = server.call_as(None, "GET", "/api/health", None).await.is(503);
    assert_eq!((&health["ok"], &health["status"], &health["store"]["ok"]), (&json!(false), &json!("down"), &json!(false)));
    server.call("GET", "/api/sites", None).await.refuses(503, None, "database");
    let metrics = reqwest::get(format!("http://{}/metrics", server.metrics)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("certwright_store_up 0"));
    server.stop().await;
}

#[tokio::test]
async fn the_root_certificate_is_public_and_the_status_page_is_not() {
    let server = idle().await;
    let root = server.call_as(None, "GET", "/v1/ca/root.pem", None).await;
    assert!(root.text.starts_with("-----BEGIN CERTIFICATE-----") && !root.text.contains("PRIVATE"), "{}", root.text);
    let status = server.call("GET", "/v1/admin/status", None).await.is(200);
    assert_eq!((&status["issuers"][0]["name"], &status["issuers"][0]["ok"]), (&json!("internal"), &json!(true)));
    assert_eq!((&status["orphans"], &status["base_domain"]), (&json!([]), &json!("sites.localhost")));
    server.call("POST", "/v1/admin/repair", None).await.is(200);
    server.stop().await;
}

#[tokio::test]
async fn a_request_id_is_kept_when_it_is_harmless() {
    let server = idle().await;
    let long = "x".repeat(65);
    for (given, kept) in [("trace-1.a_b", true), ("a b", false), ("\"", false), (long.as_str(), false)] {
        let response = server.request("GET", "/api/health").header("x-request-id", given).send().await.unwrap();
        assert_eq!(header(&response, "x-request-id") == given, kept, "{given}");
    }
    server.stop().await;
}

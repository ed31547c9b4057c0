//! The main job over HTTP, for real: loops, internal CA and built-in edge run, and the wire is looked at.

use crate::support::{page, working};
use serde_json::json;

#[tokio::test]
async fn a_static_site_is_provisioned_given_a_domain_and_proven_within_one_wait_each() {
    let server = working().await;
    let site = server.upload("/api/static/provision?wait=60s", "hello", page()).await.is(202);
    assert_eq!((&site["job"]["status"], &site["status"], &site["cert_status"]), (&json!("succeeded"), &json!("ACTIVE"), &json!("issued")));

    let body = json!({ "domain": "shop.localhost" });
    let set = server.call("POST", "/api/sites/hello/domain?wait=60s", Some(body)).await.is(202);
    assert_eq!(
        (&set["job"]["status"], &set["status"], &set["cert_status"]),
        (&json!("succeeded"), &json!("DOMAIN_ACTIVE"), &json!("issued"))
    );

    let domain = server.call("GET", "/v1/domains/shop.localhost", None).await.is(200);
    assert_eq!((&domain["tls_status"], &domain["proven"]), (&json!("issued"), &json!(true)));
    for answer in ["ownership", "routing", "tls"] {
        assert_eq!(domain["checklist"][answer]["ok"], true, "{}", domain["checklist"]);
    }
    let path = format!("/v1/domains/{}/certificates", domain["id"].as_str().unwrap());
    let certificates = server.call("GET", &path, None).await;
    assert!(!certificates.text.contains("PRIVATE"));
    let current = certificates.is(200)["items"][0].clone();
    assert_eq!((&current["status"], &current["certificate_ref"]), (&json!("current"), &domain["certificate_ref"]));
    assert!(current["chain_pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));

    let removed = server.call("DELETE", "/api/sites/hello/domain?wait=60s", None).await.is(202);
    assert_eq!((&removed["job"]["status"], &removed["site"]["custom_domain"]), (&json!("succeeded"), &json!(null)));
    let destroyed = server.call("POST", "/api/destroy?wait=60s", Some(json!({ "site": "hello" }))).await.is(202);
    assert_eq!((&destroyed["job"]["status"], &destroyed["status"]), (&json!("succeeded"), &json!("DESTROYED")));
    server.call("DELETE", "/api/sites/hello", None).await.is(200);
    server.call("GET", "/api/sites/hello", None).await.refuses(404, None, "no site");

    let health = server.call("GET", "/api/health", None).await.is(200);
    assert_eq!(health["status"], "ok", "{health}");
    server.stop().await;
}

//! Requests that are taken: what they answer, and that asking again is harmless. No loop runs, so intent stays intent.

use crate::support::{idle, page};
use certwright_model::job::JobStatus;
use certwright_model::site::SiteLifecycle;
use serde_json::json;

#[tokio::test]
async fn a_proxy_site_is_taken_with_its_job_and_its_default_domain() {
    let server = idle().await;
    let body = json!({ "site": "shop", "upstream": "http://127.0.0.1:3000" });
    let taken = server.call("POST", "/api/provision", Some(body.clone())).await.is(202);
    assert_eq!((&taken["ok"], &taken["status"], &taken["cert_status"]), (&json!(true), &json!("CREATED"), &json!("pending")));
    assert_eq!((&taken["job"]["kind"], &taken["job"]["status"]), (&json!("provision"), &json!("queued")));
    let site = &taken["site"];
    assert_eq!((&site["name"], &site["kind"], &site["upstream"]), (&json!("shop"), &json!("proxy"), &body["upstream"]));
    assert_eq!((&site["default_domain"], &site["custom_domain"]), (&json!("shop.sites.localhost"), &json!(null)));
    server.call("POST", "/api/provision", Some(body)).await.refuses(409, None, "exists already");
    let shown = server.call("GET", "/api/sites/shop", None).await.is(200);
    assert_eq!(shown["id"], site["id"]);
    let job = server.call("GET", &format!("/api/jobs/{}", taken["job"]["id"].as_str().unwrap()), None).await.is(200);
    assert_eq!((&job["subject"], &job["steps"]), (&json!("shop"), &json!([])));
    server.stop().await;
}

#[tokio::test]
async fn a_static_site_is_taken_and_its_upload_is_gone_afterwards() {
    let server = idle().await;
    let taken = server.upload("/api/static/provision", "docs", page()).await.is(202);
    assert_eq!((&taken["site"]["kind"], &taken["job"]["kind"]), (&json!("static"), &json!("provision")));
    server.assert_no_leftovers();
    server.upload("/api/static/provision", "docs", page()).await.refuses(409, None, "exists already");
    server.assert_no_leftovers();
    server.stop().await;
}

#[tokio::test]
async fn a_domain_is_set_and_setting_it_again_says_that_nothing_changed() {
    let server = idle().await;
    server.active_site("shop").await;
    let body = json!({ "domain": "Bücher.Example" });
    let set = server.call("POST", "/api/sites/shop/domain", Some(body.clone())).await.is(202);
    assert_eq!((&set["job"]["kind"], &set["status"]), (&json!("domain_set"), &json!("DOMAIN_PENDING")));
    assert_eq!(set["site"]["custom_domain"], "xn--bcher-kva.example");
    let again = server.call("POST", "/api/sites/shop/domain", Some(body)).await.is(200);
    assert!(again["message"].as_str().unwrap().contains("nothing changed") && again["job"].is_null(), "{again}");

    let status = server.call("GET", "/api/sites/shop/domain/status", None).await.is(200);
    let checklist = &status["custom_domain"]["checklist"];
    assert_eq!(checklist["ownership"]["records"][0]["name"], "_certwright.xn--bcher-kva.example");
    assert_eq!((&checklist["routing"]["ok"], &checklist["tls"]["ok"]), (&json!(false), &json!(false)));
    for answer in ["ownership", "routing", "tls"] {
        let answer = &checklist[answer];
        assert!(answer["code"].is_string() && answer["actor"].is_string() && answer["message"].is_string(), "{answer}");
    }
    assert_eq!(status["default_domain"]["domain"], "shop.sites.localhost");
    server.stop().await;
}

#[tokio::test]
async fn a_domain_of_another_site_or_below_the_base_domain_is_not_taken() {
    let server = idle().await;
    server.active_site("first").await;
    server.active_site("second").await;
    let body = |domain: &str| Some(json!({ "domain": domain }));
    server.call("POST", "/api/sites/first/domain", body("shop.example.com")).await.is(202);
    server.call("POST", "/api/sites/second/domain", body("shop.example.com")).await.refuses(409, Some("domain"), "another claim");
    server.call("POST", "/v1/domains", body("SHOP.example.com.")).await.refuses(409, Some("domain"), "another claim");
    server.call("POST", "/api/sites/second/domain", body("x.sites.localhost")).await.refuses(400, Some("domain"), "default domains");
    server.call("POST", "/api/sites/first/domain", body("other.example.com")).await.refuses(409, None, "remove it first");
    let second = server.call("GET", "/api/sites/second", None).await.is(200);
    assert_eq!(second["custom_domains"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_site_with_an_active_job_takes_no_second_one() {
    let server = idle().await;
    server.active_site("busy").await;
    server.call("POST", "/api/sites/busy/domain", Some(json!({ "domain": "busy.example.com" }))).await.is(202);
    server.call("POST", "/api/destroy", Some(json!({ "site": "busy" }))).await.refuses(409, None, "active job");
    server.stop().await;
}

#[tokio::test]
async fn a_site_is_destroyed_before_it_is_deleted() {
    let server = idle().await;
    server.active_site("old").await;
    server.call("DELETE", "/api/sites/old", None).await.refuses(409, None, "DESTROYED");
    let taken = server.call("POST", "/api/destroy?wait=50ms", Some(json!({ "site": "old" }))).await.is(202);
    assert_eq!(taken["job"]["kind"], "destroy");
    server.advance(&["clear"], SiteLifecycle::Destroyed, Some(JobStatus::Succeeded)).await;
    let again = server.call("POST", "/api/destroy", Some(json!({ "site": "old" }))).await.is(200);
    assert!(again["job"].is_null(), "{again}");
    // Its default domain is still on its way out: no loop runs here.
    server.call("DELETE", "/api/sites/old", None).await.refuses(409, None, "domains");
    server.stop().await;
}

#[tokio::test]
async fn a_domain_without_a_site_is_added_changed_verified_and_removed() {
    let server = idle().await;
    let body = json!({ "domain": "relay.example.com", "route": { "tunnel": "t-1", "target": "app", "region": "eu-1" }, "failure_policy": "strict" });
    let added = server.call("POST", "/v1/domains", Some(body.clone())).await.is(201);
    let (id, domain) = (added["domain"]["id"].as_str().unwrap().to_owned(), &added["domain"]);
    assert_eq!((&domain["route"], &domain["region"], &domain["cert_failure_policy"]), (&body["route"], &json!("eu-1"), &json!("strict")));
    let columns = [
        "tls_status",
        "tls_mode",
        "certificate_ref",
        "tls_not_after",
        "tls_last_error",
        "tls_last_checked_at",
        "cert_failure_policy",
        "cert_failure_count",
        "cert_retry_backoff_seconds",
        "cert_next_retry_at",
        "cert_last_event_type",
        "cert_last_event_at",
        "cert_renewal_due_at",
    ];
    for column in columns {
        assert!(domain.as_object().unwrap().contains_key(column), "{column} is missing");
    }
    let again = server.call("POST", "/v1/domains", Some(body)).await.is(200);
    assert_eq!(again["domain"]["id"], id.as_str());

    let path = format!("/v1/domains/{id}");
    let change =
        json!({ "route": { "upstream": "http://127.0.0.1:9", "region": "us-2" }, "issuers": ["internal"], "key_type": "rsa-2048" });
    let changed = server.call("PATCH", &path, Some(change.clone())).await.is(200);
    assert_eq!((&changed["route"], &changed["key_type"], &changed["region"]), (&change["route"], &json!("rsa-2048"), &json!("us-2")));
    assert_eq!(server.call("PATCH", &path, Some(json!({ "route": null }))).await.is(200)["route"], json!(null));
    for bad in
        [json!({}), json!({ "key_type": "other" }), json!({ "issuer": "nobody" }), json!({ "route": {} }), json!({ "domain": "x.example" })]
    {
        assert_eq!(server.call("PATCH", &path, Some(bad.clone())).await.status, 400, "{bad}");
    }

    assert_eq!(server.call("GET", "/v1/domains/relay.example.com", None).await.is(200)["id"], id.as_str());
    server.call("POST", &format!("{path}/verify"), None).await.is(200);
    // Nothing is issued for a domain whose TLS does not end here.
    server.call("POST", &format!("{path}/cert-retry"), None).await.is(409);
    server.call("PATCH", &path, Some(json!({ "route": { "upstream": "http://127.0.0.1:9" } }))).await.is(200);
    assert_eq!(server.call("POST", &format!("{path}/cert-retry"), None).await.is(202)["job"]["kind"], "cert_retry");
    assert_eq!(server.call("GET", &format!("{path}/certificates"), None).await.is(200)["items"], json!([]));
    assert!(server.call("GET", &format!("{path}/cert-events"), None).await.is(200)["items"].is_array());
    assert_eq!(server.call("DELETE", &path, None).await.is(202)["job"]["kind"], "domain_remove");
    assert!(server.call("DELETE", &path, None).await.is(200)["job"].is_null());
    server.stop().await;
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_under_the_tokens_name() {
    let server = idle().await;
    let operator = server.token("ops@team", "operator").await;
    let body = json!({ "site": "shop", "upstream": "http://127.0.0.1:3000" });
    server.call_as(Some(&operator), "POST", "/api/provision", Some(body)).await.is(202);
    let audit = server.call("GET", "/v1/admin/audit?limit=1", None).await.is(200);
    let row = &audit["items"][0];
    assert_eq!((&row["actor"], &row["action"], &row["subject"]), (&json!("ops@team"), &json!("site.create"), &json!("shop")));
    assert!(row["before"].is_null() && row["after"]["name"] == "shop", "{row}");
    server.stop().await;
}

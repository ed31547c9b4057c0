//! Tokens: shown once, expiring, revoked; the first one, and what happens when its file is lost.

use crate::support::idle;
use certwright_server::{AdminToken, AdminTokenError, ensure_admin_token, replace_admin_token};
use jiff::SignedDuration;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_secret_is_shown_once_and_stored_as_its_hash() {
    let server = idle().await;
    let secret = server.token("deploy", "operator").await;
    assert!(secret.starts_with("cw_") && secret.len() == 46, "{secret}");
    let listed = server.call("GET", "/v1/admin/tokens", None).await;
    let audit = server.call("GET", "/v1/admin/audit", None).await;
    for text in [&listed.text, &audit.text] {
        assert!(text.contains("deploy") && !text.contains(&secret) && !text.contains("sha256\""), "{text}");
    }
    for file in std::fs::read_dir(server.dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        let holds = |bytes: Vec<u8>| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!file.is_file() || !holds(std::fs::read(&file).unwrap()), "{} holds the secret", file.display());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_or_expired_token_is_refused_at_once() {
    let server = idle().await;
    let gone = server.token("gone", "viewer").await;
    server.call_as(Some(&gone), "GET", "/api/sites", None).await.is(200);
    let listed = server.call("GET", "/v1/admin/tokens", None).await.is(200);
    let row = listed["items"].as_array().unwrap().iter().find(|row| row["name"] == "gone").unwrap().clone();
    server.call("DELETE", &format!("/v1/admin/tokens/{}", row["id"].as_str().unwrap()), None).await.is(200);
    server.call_as(Some(&gone), "GET", "/api/sites", None).await.refuses(401, None, "not known");

    let end = server.engine.clock().now() + SignedDuration::from_hours(1);
    let short =
        server.call("POST", "/v1/admin/tokens", Some(json!({ "name": "short", "role": "viewer", "expires_at": end }))).await.is(201);
    let short = short["secret"].as_str().unwrap();
    server.call_as(Some(short), "GET", "/api/sites", None).await.is(200);
    server.engine.clock().shift(SignedDuration::from_hours(2));
    server.call_as(Some(short), "GET", "/api/sites", None).await.refuses(401, None, "expired");
    server.stop().await;
}

#[tokio::test]
async fn token_requests_that_make_no_sense_are_refused() {
    let server = idle().await;
    server.token("twice", "viewer").await;
    let cases = [
        (json!({ "name": "twice", "role": "viewer" }), 409, None),
        (json!({ "name": "", "role": "viewer" }), 400, Some("name")),
        (json!({ "name": "a b", "role": "viewer" }), 400, Some("name")),
        (json!({ "name": "system", "role": "viewer" }), 400, Some("name")),
        (json!({ "name": "x", "role": "root" }), 400, None),
        (json!({ "name": "x" }), 400, Some("role")),
        (json!({ "name": "x", "role": "viewer", "expires_at": "2001-01-01T00:00:00Z" }), 400, Some("expires_at")),
        (json!({ "name": "x", "role": "viewer", "expires_at": "tomorrow" }), 400, None),
    ];
    for (body, status, field) in cases {
        server.call("POST", "/v1/admin/tokens", Some(body)).await.refuses(status, field, "");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_last_administrator_is_not_revoked() {
    let server = idle().await;
    let listed = server.call("GET", "/v1/admin/tokens", None).await.is(200);
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    server.call("DELETE", &format!("/v1/admin/tokens/{id}"), None).await.refuses(409, None, "last administrator");
    server.token("second", "admin").await;
    server.call("DELETE", &format!("/v1/admin/tokens/{id}"), None).await.is(200);
    server.stop().await;
}

#[tokio::test]
async fn the_first_token_is_made_once_and_a_lost_file_is_not_replaced_in_silence() {
    let server = idle().await;
    let path = server.dir.path().join("admin.token");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ensure_admin_token(&server.engine, &path).await.unwrap(), AdminToken::Kept);

    std::fs::remove_file(&path).unwrap();
    assert!(matches!(ensure_admin_token(&server.engine, &path).await, Err(AdminTokenError::Lost(_))));
    assert!(!path.exists());

    std::fs::write(&path, "cw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n").unwrap();
    assert!(matches!(ensure_admin_token(&server.engine, &path).await, Err(AdminTokenError::Stale(_))));

    replace_admin_token(&server.engine, &path).await.unwrap();
    let fresh = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    server.call_as(Some(&fresh), "GET", "/v1/admin/tokens", None).await.is(200);
    server.call("GET", "/v1/admin/tokens", None).await.refuses(401, None, "not known");
    server.stop().await;
}

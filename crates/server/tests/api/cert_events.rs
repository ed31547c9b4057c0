//! Certificate events as their senders meet the API, from the header to the domain.

use crate::support::{Answer, Server};
use certwright_model::event::Identity;
use certwright_server::EventConfig;
use certwright_server::provenance::{SourceKeys, sign};
use serde_json::{Value, json};

const TOKEN: &str = "an-ingest-token-of-some-length";
const SECRET: &str = "the-secret-of-lego-eu-1";
const PATH: &str = "/v1/domains/cert-events";

async fn open() -> Server {
    Server::start(false, |config| config.events = EventConfig::default().with_token(TOKEN)).await
}

async fn signed() -> Server {
    let keys = format!("lego:eu-1=the-old-secret-of-lego,lego:eu-1={SECRET},caddy:eu-2=the-secret-of-caddy-eu-2");
    let source_keys = SourceKeys::parse(&keys).unwrap();
    Server::start(false, |config| config.events = EventConfig { source_keys, ..EventConfig::default().with_token(TOKEN) }).await
}

fn event(id: &str) -> Value {
    json!({ "source": "lego", "cluster_id": "eu-1", "source_event_id": id, "domain": "www.example.com",
        "event_type": "renewal_failed", "reason": "DNS problem" })
}

async fn send(server: &Server, token: &str, headers: &[(&str, String)], body: Vec<u8>) -> Answer {
    let mut request = server.request("POST", PATH).header("x-cert-event-token", token).body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    server.answer("POST", PATH, request).await
}

async fn post(server: &Server, body: &Value) -> Answer {
    send(server, TOKEN, &[], body.to_string().into_bytes()).await
}

fn provenance(source: &str, cluster: &str, secret: &str, timestamp: &str, body: &[u8]) -> Vec<(&'static str, String)> {
    vec![
        ("x-cert-source", source.to_owned()),
        ("x-cert-cluster", cluster.to_owned()),
        ("x-cert-timestamp", timestamp.to_owned()),
        ("x-cert-signature", sign(secret.as_bytes(), timestamp, body)),
    ]
}

async fn tunnel(server: &Server, domain: &str) -> String {
    let body = json!({ "domain": domain, "route": { "tunnel": "t-1", "region": "eu-1" } });
    server.call("POST", "/v1/domains", Some(body)).await.is(201)["domain"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_event_is_accepted_applied_and_shown_in_the_story_of_its_domain() {
    let server = open().await;
    let id = tunnel(&server, "www.example.com").await;
    let accepted = post(&server, &event("e1")).await.is(202);
    let event_id = accepted["event_id"].as_str().unwrap().to_owned();
    let expected = json!({ "ok": true, "event_id": event_id, "status": "pending", "source": "lego", "cluster_id": "eu-1",
        "provenance_verified": false, "provenance_subject": null, "duplicate": false });
    assert_eq!(accepted, expected);
    let again = post(&server, &event("e1")).await.is(202);
    assert_eq!((&again["event_id"], &again["duplicate"]), (&json!(event_id), &json!(true)));

    assert_eq!(server.engine.apply_due_events(100).await.unwrap(), 1);
    assert_eq!(post(&server, &event("e1")).await.is(202)["status"], "applied");
    let domain = server.call("GET", &format!("/v1/domains/{id}"), None).await.is(200);
    assert_eq!((&domain["cert_last_event_type"], &domain["cert_failure_count"]), (&json!("renewal_failed"), &json!(1)));
    assert!(domain["tls_last_error"].as_str().unwrap().contains("DNS problem"), "{domain}");
    assert_eq!(domain["issuers"], json!(["external"]));
    let story = server.call("GET", &format!("/v1/domains/{id}/cert-events"), None).await.is(200);
    assert_eq!((&story["items"][0]["id"], &story["items"][0]["status"]), (&json!(event_id), &json!("applied")));
    let shown = server.call("GET", &format!("/v1/admin/cert-events/{event_id}"), None).await.is(200);
    assert_eq!((&shown["event"]["reason"], &shown["history"]), (&json!("DNS problem"), &json!([])));
    let sources = server.call("GET", "/v1/admin/cert-sources", None).await.is(200);
    let source = &sources["items"][0];
    assert_eq!((&source["accepted"], &source["duplicates"], &source["has_key"]), (&json!(1), &json!(2), &json!(false)));
    server.stop().await;
}

#[tokio::test]
async fn every_spelling_that_senders_use_is_understood() {
    let server = open().await;
    let id = tunnel(&server, "www.example.com").await;
    let camel = json!({ "source": "cm", "clusterId": "k8s", "sourceEventId": "1", "domainId": id, "callbackClass": "renewal",
        "callbackAction": "succeeded", "callbackAttempt": 2, "callbackReceivedAt": "2026-11-20T00:00:00Z", "occurredAt": "2026-11-20T00:00:00Z",
        "certificateRef": format!("sha256:{}", "ab".repeat(32)), "notAfter": "2027-02-01T00:00:00Z", "renewalDueAt": "2027-01-10T00:00:00Z",
        "payload": { "deep": [1, 2, 3] } });
    post(&server, &camel).await.is(202);
    let mut retried = camel.clone();
    retried["callbackAttempt"] = json!(3);
    assert_eq!(post(&server, &retried).await.is(202)["duplicate"], true, "counting its attempts makes no other event");
    retried["notAfter"] = json!("2027-02-02T00:00:00Z");
    post(&server, &retried).await.refuses(409, None, "another event");
    server.engine.apply_due_events(100).await.unwrap();
    let domain = server.call("GET", &format!("/v1/domains/{id}"), None).await.is(200);
    assert_eq!(
        (&domain["cert_last_event_type"], &domain["cert_last_event_at"]),
        (&json!("renewal_succeeded"), &json!("2026-11-20T00:00:00Z"))
    );
    assert_eq!(
        (&domain["tls_not_after"], &domain["cert_renewal_due_at"]),
        (&json!("2027-02-01T00:00:00Z"), &json!("2027-01-10T00:00:00Z"))
    );
    assert_eq!(domain["proven"], false, "a word is no proof");
    server.stop().await;
}

#[tokio::test]
async fn bad_events_are_refused_with_the_field_that_is_wrong_and_change_nothing() {
    let server = open().await;
    let with = |changes: Value| {
        let mut body = event("x");
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    };
    let unknown = "0193e9a2-7d1c-7c3a-9f64-2f8e6a1b5c0d";
    #[rustfmt::skip]
    let table = [
        (with(json!({ "domain_id": unknown })),                                     400, "domain"),
        (with(json!({ "domain": null })),                                           400, "domain"),
        (with(json!({ "domain": "-bad-.example.com" })),                            400, "domain"),
        (with(json!({ "domain": null, "domain_id": "7" })),                         400, "domain_id"),
        (with(json!({ "event_type": null })),                                       400, "event_type"),
        (with(json!({ "callback_class": "renewal" })),                              400, "callback_class"),
        (with(json!({ "callback_class": "renewal", "callback_action": "succeeded" })), 400, "event_type"),
        (with(json!({ "event_type": null, "callback_class": "expiry", "callback_action": "failed" })), 400, "callback_action"),
        (with(json!({ "source": "" })),                                             400, "source"),
        (with(json!({ "source": "certwright" })),                                   400, "source"),
        (with(json!({ "cluster_id": "a b" })),                                      400, "cluster_id"),
        (with(json!({ "source_event_id": "" })),                                    400, "source_event_id"),
        (with(json!({ "occurred_at": "2126-01-01T00:00:00Z" })),                    400, "occurred_at"),
        (with(json!({ "occurred_at": "1969-01-01T00:00:00Z" })),                    400, "occurred_at"),
        (with(json!({ "not_after": "9999-12-30T00:00:00Z" })),                      400, "not_after"),
        (with(json!({ "reason": "x".repeat(5000) })),                               400, "reason"),
        (with(json!({ "surprise": 1 })),                                            400, "surprise"),
    ];
    for (body, status, field) in table {
        post(&server, &body).await.refuses(status, Some(field), "");
    }
    for body in [
        with(json!({ "not_after": "soon" })),
        with(json!({ "certificate_ref": "sha1:ab" })),
        with(json!({ "callback_attempt": -1 })),
        json!([]),
        json!("x"),
    ] {
        assert_eq!(post(&server, &body).await.status, 400, "{body}");
    }
    post(&server, &with(json!({ "domain": null, "domain_id": unknown }))).await.refuses(404, None, "domain_id");
    let deep = format!(r#"{{"payload":{}{}}}"#, "[".repeat(3000), "]".repeat(3000));
    for (raw, status) in [
        (Vec::new(), 400),
        (b"{".to_vec(), 400),
        (b"{\"source\":\"\xff\"}".to_vec(), 400),
        (deep.into_bytes(), 400),
        (vec![b' '; 5 << 20], 413),
    ] {
        let size = raw.len();
        assert_eq!(send(&server, TOKEN, &[], raw).await.status.as_u16(), status, "{size} bytes");
    }
    assert_eq!(server.call("GET", "/v1/admin/cert-events", None).await.is(200)["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_token_and_a_wrong_signature_get_the_same_answer() {
    let server = signed().await;
    let body = event("e1").to_string().into_bytes();
    let spaced = [&body[..], b" "].concat();
    let now = server.engine.clock().now().as_second();
    let t = now.to_string();
    let (stale, future) = ((now - 301).to_string(), (now + 302).to_string());
    let good = provenance("lego", "eu-1", SECRET, &t, &body);
    let other_body = event("e1").to_string().replace("lego", "caddy").into_bytes();
    let mut repeated = good.clone();
    repeated.push(("x-cert-signature", "00".repeat(32)));
    #[rustfmt::skip]
    type Case<'a> = (&'a str, &'a str, Vec<(&'a str, String)>, &'a [u8]);
    let table: Vec<Case<'_>> = vec![
        ("no token", "", good.clone(), &body),
        ("a wrong token", "wrong", good.clone(), &body),
        ("no provenance", TOKEN, vec![], &body),
        ("no signature", TOKEN, good[..3].to_vec(), &body),
        ("two signatures", TOKEN, repeated, &body),
        ("a wrong secret", TOKEN, provenance("lego", "eu-1", "wrong", &t, &body), &body),
        ("another's secret", TOKEN, provenance("lego", "eu-1", "the-secret-of-caddy-eu-2", &t, &body), &body),
        ("an unknown source", TOKEN, provenance("acme.sh", "eu-1", SECRET, &t, &body), &body),
        ("one byte of white space", TOKEN, good.clone(), &spaced),
        ("too old", TOKEN, provenance("lego", "eu-1", SECRET, &stale, &body), &body),
        ("from the future", TOKEN, provenance("lego", "eu-1", SECRET, &future, &body), &body),
        ("another name in the body", TOKEN, provenance("lego", "eu-1", SECRET, &t, &other_body), &other_body),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for (what, token, headers, body) in table {
        let answer = send(&server, token, &headers, body.to_vec()).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        answers.insert((answer.body["type"].to_string(), answer.body["title"].to_string(), answer.body["detail"].to_string()));
    }
    assert_eq!(answers.len(), 1, "a forger learns nothing: {answers:?}");
    let accepted = send(&server, TOKEN, &good, body.clone()).await.is(202);
    assert_eq!((&accepted["provenance_verified"], &accepted["provenance_subject"]), (&json!(true), &json!("lego:eu-1")));
    let rotated = event("e2").to_string().into_bytes();
    send(&server, TOKEN, &provenance("lego", "eu-1", "the-old-secret-of-lego", &t, &rotated), rotated).await.is(202);
    // The same bytes and headers once more are the same event.
    assert_eq!(send(&server, TOKEN, &good, body).await.is(202)["duplicate"], true);
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_counted_under_the_identity_that_they_claimed() {
    let server = Server::start(true, |config| {
        let source_keys = SourceKeys::parse(&format!("lego:eu-1={SECRET}")).unwrap();
        config.events = EventConfig { source_keys, ..EventConfig::default().with_token(TOKEN) };
    })
    .await;
    let body = event("e1").to_string().into_bytes();
    let t = server.engine.clock().now().as_second().to_string();
    send(&server, TOKEN, &provenance("lego", "eu-1", "wrong", &t, &body), body.clone()).await.is(401);
    send(&server, TOKEN, &provenance("stranger", "eu-1", "wrong", &t, &body), body).await.is(401);
    let broken = b"{}".to_vec();
    send(&server, TOKEN, &provenance("lego", "eu-1", SECRET, &t, &broken), broken).await.is(400);
    for _ in 0..100 {
        let sources = server.call("GET", "/v1/admin/cert-sources", None).await.is(200);
        let items = sources["items"].as_array().unwrap();
        if items.first().is_some_and(|one| one["rejected"] == 2) {
            assert_eq!((items.len(), &items[0]["signature_failures"]), (1, &json!(1)), "a stranger makes no row: {items:?}");
            return server.stop().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the refusals were not counted");
}

#[tokio::test]
async fn tokens_of_the_role_ingest_may_report_and_without_any_there_is_nobody_to_believe() {
    let server = crate::support::idle().await;
    let body = event("e1").to_string().into_bytes();
    let refused = send(&server, "whatever", &[], body.clone()).await;
    assert!(refused.text.contains("CERT_EVENT_INGEST_TOKEN"), "{}", refused.text);
    assert_eq!(refused.status, 503);
    let ingest = server.token("hook", "ingest").await;
    let viewer = server.token("eyes", "viewer").await;
    send(&server, &viewer, &[], body.clone()).await.is(401);
    send(&server, "whatever", &[], body.clone()).await.is(401);
    send(&server, &ingest, &[], body).await.is(202);
    server.stop().await;
}

#[tokio::test]
async fn a_storm_from_one_source_is_slowed_and_does_not_slow_the_others() {
    let server = Server::start(false, |config| config.events = EventConfig::default().with_token(TOKEN)).await;
    let storm = Identity::new("storm", "x").unwrap();
    let admitted = (0..200_000).take_while(|_| server.engine.admit(&storm).is_ok()).count();
    assert!((10_000..200_000).contains(&admitted), "{admitted}");
    let mut body = event("e1");
    body["source"] = json!("storm");
    body["cluster_id"] = json!("x");
    // A token a millisecond trickles back, so it may take more than one try to meet an empty bucket.
    for attempt in 0.. {
        assert!(attempt < 100, "the storm was never slowed");
        while server.engine.admit(&storm).is_ok() {}
        let refused = server.request("POST", PATH).header("x-cert-event-token", TOKEN).body(body.to_string()).send().await.unwrap();
        if refused.status() == 429 {
            assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
            break;
        }
    }
    post(&server, &event("e2")).await.is(202);
    server.stop().await;
}

#[tokio::test]
async fn dead_letters_are_listed_and_replayed() {
    let server = open().await;
    post(&server, &event("e1")).await.is(202);
    let mut other = event("e2");
    other["source"] = json!("caddy");
    post(&server, &other).await.is(202);
    for _ in 0..6 {
        server.engine.apply_due_events(100).await.unwrap();
        server.engine.clock().shift(jiff::SignedDuration::from_hours(2));
    }
    let failed = server.call("GET", "/v1/admin/cert-events?status=failed", None).await.is(200);
    assert_eq!(failed["items"].as_array().unwrap().len(), 2, "{failed}");
    assert_eq!((&failed["items"][0]["tries"], &failed["items"][0]["next_try_at"]), (&json!(6), &json!(null)));
    let id = failed["items"][0]["id"].as_str().unwrap().to_owned();
    let replay = |body: Value| server.call("POST", "/v1/admin/cert-events/replay", Some(body));
    assert_eq!(replay(json!({ "dry_run": true })).await.is(200)["replayed"], 2);
    assert_eq!(replay(json!({ "source": "caddy", "dry_run": true })).await.is(200)["replayed"], 1);
    replay(json!({ "status": "applied" })).await.refuses(400, Some("status"), "settled");
    replay(json!({ "limit": 0 })).await.refuses(400, Some("limit"), "");
    tunnel(&server, "www.example.com").await;
    let shown = server.call("POST", &format!("/v1/admin/cert-events/{id}/replay"), None).await.is(202);
    assert_eq!((&shown["event"]["status"], &shown["history"][0]["action"]), (&json!("pending"), &json!("replay")));
    assert_eq!(replay(json!({ "source": "lego" })).await.is(200)["replayed"], 1);
    server.engine.apply_due_events(100).await.unwrap();
    assert_eq!(server.call("GET", "/v1/admin/cert-events?status=applied", None).await.is(200)["items"].as_array().unwrap().len(), 2);
    server.call("POST", &format!("/v1/admin/cert-events/{id}/replay"), None).await.refuses(409, None, "applied");
    server.call("GET", "/v1/admin/cert-events?status=lost", None).await.refuses(400, Some("status"), "pending");
    server.stop().await;
}

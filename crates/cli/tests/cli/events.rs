//! Certificate events through the binary: the sender's command, and a process that is killed while it takes them in.

use crate::support::{FREE_PORTS, Ground, Server};
use certwright_testkit::postgres::Database;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TOKEN: &str = "an-ingest-token-of-some-length";
const SECRET: &str = "the-secret-of-certbot-web-1";
const NOBODY: [&str; 4] = ["--set", "resolvers=127.0.0.1:9", "--set", "resolver_timeout=300ms"];

#[test]
fn an_event_is_sent_signed_listed_and_replayed_by_hand() {
    let ground = Ground::new();
    let keys = format!("certbot:web-1={SECRET}");
    let server = ground.serve_with(&NOBODY, &[("CERT_EVENT_INGEST_TOKEN", TOKEN), ("CERT_EVENT_SOURCE_KEYS", &keys)]);
    let url = server.url();
    let send = |secret: &str, more: &[&str]| {
        let base = ["event", "send", "--source", "certbot", "--cluster", "web-1", "--type", "renewal_failed", "--retry-for", "1s"];
        let mut command = ground.command(&[&base[..], &["--domain", "www.example.com", "--reason", "DNS problem"], more].concat());
        command.env("CERTWRIGHT_URL", &url).env("CERT_EVENT_INGEST_TOKEN", TOKEN).env("CERT_EVENT_SIGNING_SECRET", secret);
        command.output().unwrap()
    };
    let refused = send("another-secret-0123456789", &[]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.contains("CERT_EVENT_SIGNING_SECRET") && !told.contains("another-secret"), "{told}");
    let dry = send(SECRET, &["--dry-run"]);
    let printed: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!((&printed[0]["domain"], &printed[0]["event_type"]), (&json!("www.example.com"), &json!("renewal_failed")));

    let sent = send(SECRET, &["--event-id", "once", "--occurred-at", "2026-11-20T00:00:00Z", "--output", "json"]);
    let accepted: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!((&accepted[0]["provenance_verified"], &accepted[0]["duplicate"]), (&json!(true), &json!(false)), "{accepted}");
    let again = send(SECRET, &["--event-id", "once", "--occurred-at", "2026-11-20T00:00:00Z"]);
    assert!(String::from_utf8(again.stdout).unwrap().contains("known already"));
    let id = accepted[0]["event_id"].as_str().unwrap().to_owned();

    let listed = ground.run(&["event", "list", "--source", "certbot", "--output", "json"]).json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["status"]), (1, &json!("pending")), "no domain has this name yet");
    assert!(ground.run(&["event", "show", &id]).good().contains("DNS problem"));
    assert!(ground.run(&["source", "list"]).good().contains("certbot"));
    ground.run(&["domain", "add", "www.example.com", "--tunnel", "t-1", "--no-wait"]).good();
    assert!(ground.run(&["event", "replay", "--status", "pending", "--dry-run"]).good().contains("1 events would be"));
    assert!(ground.run(&["event", "replay", &id]).good().contains("replay by"));
    let applied = || ground.run(&["event", "show", &id, "--output", "json"]).json()["event"]["status"] == "applied";
    assert!((0..100).any(|_| applied() || {
        std::thread::sleep(Duration::from_millis(50));
        false
    }));
    assert!(ground.run(&["domain", "history", "www.example.com"]).good().contains("renewal_failed"));
    assert!(ground.run(&["event", "list", "--status", "lost"]).bad(1).contains("`failed`"));
    assert!(server.stop().success());
}

#[test]
fn what_was_acknowledged_is_in_the_history_once_however_often_the_process_dies_on_sqlite() {
    survives(None);
}

#[test]
fn what_was_acknowledged_is_in_the_history_once_however_often_the_process_dies_on_postgres() {
    if let Some(database) = Database::from_environment("killed while it takes events in").unwrap() {
        survives(Some(database));
    }
}

/// Eight senders, three kills. A sender that gets no answer sends the same event again, as the documented senders do.
fn survives(database: Option<Database>) {
    const DOMAINS: u64 = 20;
    let ground = Arc::new(Ground::new());
    let url = database.as_ref().map(Database::url);
    let start = |api: &str| -> Server {
        let mut variables = vec![("CERT_EVENT_INGEST_TOKEN", TOKEN)];
        variables.extend(url.as_deref().map(|url| ("DATABASE_URL", url)));
        let mut command = ground.command(&[&["serve", "--api", api][..], &FREE_PORTS[2..], &NOBODY].concat());
        command.envs(variables);
        Server::start(command, &ground.path("certwright-data"), &ground.path("serve.out"))
    };
    let api = certwright_testkit::ports::free_address().to_string();
    let mut server = start(&api);
    for n in 0..DOMAINS {
        ground.run(&["domain", "add", &format!("d{n}.example.com"), "--tunnel", "t", "--tls-mode", "passthrough", "--no-wait"]).good();
    }
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let acknowledged: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (stop, next, acknowledged) = (stop.clone(), next.clone(), acknowledged.clone());
            let target = format!("http://{api}/v1/domains/cert-events");
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let body = json!({ "source": "load", "cluster_id": "c", "source_event_id": format!("e{n}"),
                            "domain": format!("d{}.example.com", n % DOMAINS), "event_type": "renewal_failed", "reason": format!("{n}") });
                        // Until it is taken: an answer that was lost is asked for again.
                        while !stop.load(Ordering::Relaxed) {
                            let request = client.post(&target).header("x-cert-event-token", TOKEN).json(&body);
                            match request.send().await {
                                Ok(response) if response.status() == 202 => {
                                    let answer: Value = match response.json().await {
                                        Ok(answer) => answer,
                                        Err(_) => continue,
                                    };
                                    let id = answer["event_id"].as_str().unwrap().to_owned();
                                    acknowledged.lock().unwrap().insert(format!("e{n}"), id);
                                    break;
                                }
                                Ok(response) => assert!(response.status().is_server_error(), "{}", response.status()),
                                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                            }
                        }
                    }
                });
            })
        })
        .collect();
    for round in 1..=3u64 {
        let before = acknowledged.lock().unwrap().len();
        let deadline = Instant::now() + Duration::from_secs(60);
        while acknowledged.lock().unwrap().len() < before + 150 {
            assert!(Instant::now() < deadline, "round {round}: nothing is acknowledged: {}", server.log());
            std::thread::sleep(Duration::from_millis(5 + round));
        }
        server.signal("KILL");
        server.wait();
        server = start(&api);
    }
    stop.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let pending = || ground.run(&["event", "list", "--status", "pending", "--limit", "1", "--output", "json"]).json();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !pending().as_array().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "events stay pending: {}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let history = ground.run(&["event", "list", "--source", "load", "--limit", "100000", "--output", "json"]).json();
    let mut ids = BTreeMap::new();
    for event in history.as_array().unwrap() {
        let name = event["source_event_id"].as_str().unwrap().to_owned();
        assert!(["applied", "superseded"].contains(&event["status"].as_str().unwrap()), "{event}");
        assert_eq!(event["tries"], 1, "applied twice: {event}");
        assert!(ids.insert(name, event["id"].as_str().unwrap().to_owned()).is_none(), "twice in the history: {event}");
    }
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() >= 450);
    let lost: BTreeSet<&String> = acknowledged.keys().filter(|name| ids.get(*name) != acknowledged.get(*name)).collect();
    assert!(lost.is_empty(), "acknowledged, and not in the history under this id: {lost:?}");
    // Each event that was applied counted one failure: none was folded twice, none was left out.
    let domains = ground.run(&["domain", "list", "--output", "json"]).json();
    let folded: u64 = domains.as_array().unwrap().iter().map(|domain| domain["cert_failure_count"].as_u64().unwrap()).sum();
    let applied = history.as_array().unwrap().iter().filter(|event| event["status"] == "applied").count() as u64;
    assert_eq!(folded, applied, "{} of {} were superseded", ids.len() as u64 - applied, ids.len());
    assert!(server.stop().success());
}

//! A job followed by server-sent events, and `?wait=`.

use crate::support::{Server, idle};
use certwright_model::job::JobKind;
use certwright_model::job::JobStatus;
use certwright_model::site::SiteLifecycle;
use certwright_model::{Reason, ReasonCode};
use certwright_store::{ClaimedDomain, CloseJobs, DomainSave, Next};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Id, name and data of each event.
type Events = Vec<(String, String, Value)>;

async fn provision(server: &Server) -> String {
    let body = json!({ "site": "shop", "upstream": "http://127.0.0.1:3000" });
    let taken = server.call("POST", "/api/provision", Some(body)).await.is(202);
    taken["job"]["id"].as_str().unwrap().to_owned()
}

fn follow(server: &Server, job: &str, last: Option<&str>) -> impl Future<Output = Events> + Send + 'static {
    let mut request = server.request("GET", &format!("/api/jobs/{job}/events")).bearer_auth(&server.admin);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    async move {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = response.bytes_stream();
        let mut text = String::new();
        while let Some(chunk) = timeout(Duration::from_secs(30), stream.next()).await.expect("the stream goes on or ends") {
            text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
        text.split("\n\n").filter(|block| block.contains("event:")).map(read).collect()
    }
}

fn read(block: &str) -> (String, String, Value) {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    (field("id:"), field("event:"), serde_json::from_str(&field("data:")).unwrap())
}

#[tokio::test]
async fn each_step_is_sent_once_in_order_and_the_end_ends_the_stream() {
    let server = idle().await;
    let job = provision(&server).await;
    let live = tokio::spawn(follow(&server, &job, None));
    server.advance(&["prepare", "publish"], SiteLifecycle::Provisioning, None).await;
    server.advance(&["probe"], SiteLifecycle::Active, Some(JobStatus::Succeeded)).await;
    let late = follow(&server, &job, None).await;
    let seen = |events: &Events| events.iter().map(|(id, name, _)| format!("{id} {name}")).collect::<Vec<_>>();
    for events in [live.await.unwrap(), late] {
        assert_eq!(seen(&events), ["1 step", "2 step", "3 step", "3 end"]);
        assert_eq!((&events[0].2["step"], &events[2].2["step"]), (&json!("prepare"), &json!("probe")));
        assert_eq!((&events[3].2["status"], &events[3].2["id"]), (&json!("succeeded"), &json!(job)));
    }
    for (last, want) in [("0", 4), ("1", 3), ("2", 2), ("3", 1), ("99", 1)] {
        assert_eq!(follow(&server, &job, Some(last)).await.len(), want, "after {last}");
    }
    for bad in ["x", "-1", "1.5"] {
        let path = format!("/api/jobs/{job}/events");
        let request = server.request("GET", &path).bearer_auth(&server.admin).header("last-event-id", bad);
        server.answer("GET", &path, request).await.refuses(400, Some("Last-Event-ID"), "number");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let server = idle().await;
    let job = provision(&server).await;
    let response = server.request("GET", &format!("/api/jobs/{job}/events")).bearer_auth(&server.admin).send().await.unwrap();
    server.stop.cancel();
    let body = timeout(Duration::from_secs(9), response.text()).await.expect("the stream ends");
    assert!(!body.unwrap().contains("event: end"));
}

#[tokio::test]
async fn a_wait_ends_with_the_job_and_a_pending_one_is_no_error() {
    let server = idle().await;
    let body = json!({ "site": "slow", "upstream": "http://127.0.0.1:3000" });
    let pending = server.call("POST", "/api/provision?wait=100ms", Some(body)).await.is(202);
    assert_eq!((&pending["job"]["status"], &pending["cert_status"]), (&json!("queued"), &json!("pending")));

    server.advance(&[], SiteLifecycle::Active, Some(JobStatus::Succeeded)).await;
    let waiting = server.call("POST", "/api/destroy?wait=5m", Some(json!({ "site": "slow" })));
    let advancing = async {
        while server
            .engine
            .store()
            .active_job(server.engine.site(&"slow".to_owned().try_into().unwrap()).await.unwrap().intent.id)
            .await
            .unwrap()
            .is_none()
        {
            tokio::task::yield_now().await;
        }
        server.advance(&["clear"], SiteLifecycle::Destroyed, Some(JobStatus::Succeeded)).await;
    };
    let (answer, ()) = tokio::join!(waiting, advancing);
    let answer = answer.is(202);
    assert_eq!((&answer["job"]["status"], &answer["status"]), (&json!("succeeded"), &json!("DESTROYED")));
    server.stop().await;
}

/// What the loop over domains does when it has to wait for somebody.
async fn put_off(server: &Server, code: ReasonCode) {
    let (store, now) = (server.engine.store(), server.engine.clock().now());
    for ClaimedDomain { lease, mut domain, .. } in store.claim_domains(server.engine.config().node, now, 60_000, 64).await.unwrap() {
        domain.state.reason = Some(Reason::new(code, "waiting"));
        let close = CloseJobs { kinds: JobKind::ALL.to_vec(), status: JobStatus::Waiting, error: None, asked_until: now };
        let save = DomainSave {
            id: domain.intent.id,
            lease,
            state: domain.state,
            events: Vec::new(),
            job_steps: Vec::new(),
            close_jobs: Some(close),
            next: Next::Release(Some(now)),
        };
        store.save_domain(save, now).await.unwrap();
    }
}

#[tokio::test]
async fn a_wait_ends_early_only_when_the_customer_has_to_act() {
    let server = idle().await;
    for (host, code, wait) in
        [("a.example.com", ReasonCode::OwnershipMissing, "5m"), ("b.example.com", ReasonCode::CaUnavailable, "1500ms")]
    {
        let path = format!("/v1/domains?wait={wait}");
        let added = server.call("POST", &path, Some(json!({ "domain": host })));
        let (answer, ()) = tokio::join!(added, async {
            let name = certwright_model::Hostname::parse(host).unwrap();
            while server.engine.store().domain_by_hostname(&name).await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            put_off(&server, code).await;
        });
        let answer = answer.is(201);
        assert_eq!((&answer["job"]["status"], &answer["domain"]["reason"]["code"]), (&json!("waiting"), &json!(code.as_str())));
        assert_eq!((&answer["ok"], &answer["cert_status"]), (&json!(true), &json!("pending")));
    }
    server.stop().await;
}

//! Limits: size, number, patience. Whoever passes one is told, and nobody else notices.

use crate::support::{Server, idle, page};
use reqwest::multipart::{Form, Part};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn an_upload_over_the_limit_is_refused_and_leaves_nothing() {
    let server = Server::start(false, |config| config.max_upload_bytes = 1000).await;
    let big = Form::new().text("site", "big").part("zip", Part::bytes(vec![7; 8 << 20]).file_name("site.zip"));
    let request = server.request("POST", "/api/static/provision").bearer_auth(&server.admin).multipart(big);
    server.answer("POST", "/api/static/provision", request).await.refuses(413, None, "1000 bytes");
    server.assert_no_leftovers();
    server.upload("/api/static/provision", "small", page()).await.is(202);
    server.stop().await;
}

async fn answer_to(server: &Server, sent: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(sent.replace("TOKEN", &server.admin).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    read.expect("the server ends the connection").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_client_that_does_not_send_on_is_let_go() {
    let server = Server::start(false, |config| config.read_timeout = Duration::from_millis(300)).await;
    let head = answer_to(&server, "GET /api/sites HTTP/1.1\r\nHost: x\r\nX-Api-Key: TOK").await;
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    let head = "POST /api/destroy HTTP/1.1\r\nHost: x\r\nX-API-Key: TOKEN\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let body = answer_to(&server, &format!("{head}Content-Length: 50\r\n\r\n{{\"site\":")).await;
    assert!(body.starts_with("HTTP/1.1 408") && body.contains("problems/request-timeout"), "{body}");
    let head = "POST /api/static/provision HTTP/1.1\r\nHost: x\r\nX-API-Key: TOKEN\r\nConnection: close\r\n\
                Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000\r\n\r\n\
                --b\r\nContent-Disposition: form-data; name=\"zip\"\r\n\r\nPK";
    let upload = answer_to(&server, head).await;
    assert!(upload.starts_with("HTTP/1.1 408") && upload.contains("problems/request-timeout"), "{upload}");
    server.assert_no_leftovers();
    server.stop().await;
}

#[tokio::test]
async fn one_request_too_many_is_told_to_come_back() {
    let server = Server::start(false, |config| config.max_in_flight = 1).await;
    let head = "POST /api/destroy HTTP/1.1\r\nHost: x\r\nX-API-Key: TOKEN\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(head.replace("TOKEN", &server.admin).as_bytes()).await.unwrap();
    // The slow one is in the house as soon as somebody else is not let in.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let refused = loop {
        let response = server.request("GET", "/api/health").send().await.unwrap();
        if response.status() == 503 {
            break response;
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody was refused");
    };
    assert!(refused.headers().contains_key("retry-after"));
    drop(slow);
    loop {
        if server.request("GET", "/api/health").send().await.unwrap().status() == 200 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the slot did not come back");
    }
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_domains_in_one_call_get_an_outcome_each() {
    let server = idle().await;
    server.active_site("shop").await;
    let mut domains: Vec<_> =
        (0..9_995).map(|n| json!({ "domain": format!("d{n}.example.com"), "route": { "upstream": "http://127.0.0.1:3000" } })).collect();
    domains.push(json!({ "domain": "D7.example.com" }));
    domains.push(json!({ "domain": "not a name" }));
    domains.push(json!({ "domain": "x.sites.localhost" }));
    domains.push(json!({ "domain": "site.example.com", "route": { "site": "shop" } }));
    domains.push(json!({ "domain": "lost.example.com", "route": { "site": "nobody" } }));
    let body = json!({ "domains": domains });
    let answer = server.call("POST", "/v1/domains/bulk", Some(body.clone())).await.is(200);
    assert_eq!((&answer["created"], &answer["unchanged"], &answer["failed"]), (&json!(9_996), &json!(0), &json!(4)));
    let outcomes = answer["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 10_000);
    let last: Vec<u64> = outcomes[9_995..].iter().map(|outcome| outcome["status"].as_u64().unwrap()).collect();
    assert_eq!(last, [409, 400, 400, 201, 409]);
    assert_eq!(outcomes[9_996]["problem"]["field"], "domain");
    assert!(outcomes[..9_995].iter().all(|outcome| outcome["status"] == 201 && outcome["id"].is_string()));

    let again = server.call("POST", "/v1/domains/bulk", Some(body)).await.is(200);
    assert_eq!((&again["created"], &again["unchanged"], &again["failed"]), (&json!(0), &json!(9_996), &json!(4)));
    let too_many = json!({ "domains": vec![json!({ "domain": "a.example" }); 10_001] });
    server.call("POST", "/v1/domains/bulk", Some(too_many)).await.refuses(400, Some("domains"), "1 to 10000");
    server.call("POST", "/v1/domains/bulk", Some(json!({ "domains": [] }))).await.refuses(400, Some("domains"), "1 to 10000");
    server.stop().await;
}

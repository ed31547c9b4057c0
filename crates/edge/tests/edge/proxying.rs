//! The reverse proxy between a real client and a real upstream.

use crate::support::{TestEdge, client, collect, dial, header, http2};
use crate::upstream::{Upstream, ok};
use bytes::Bytes;
use certwright_model::edge::EdgeRoute;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

#[tokio::test]
async fn headers_are_passed_on_by_the_rules_and_connections_are_kept() {
    let edge = TestEdge::start(|_| {}).await;
    let upstream = Upstream::start(|asked| async move {
        let head = asked.head.replace("\r\n", "|");
        let reply = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nKeep-Alive: timeout=5\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n{head}",
            head.len()
        );
        asked.reply(reply).await
    })
    .await;
    edge.host("a.example.com", EdgeRoute::Proxy { upstream: format!("http://{}/base/", upstream.address) });
    let mut sender = http2(dial(edge.https, "a.example.com", &client(&["h2"])).await.unwrap()).await;
    let request = Request::get("https://a.example.com:8443/x/y?q=%20")
        .header("x-forwarded-for", "198.51.100.1")
        .header("x-forwarded-proto", "ftp")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::default())
        .unwrap();
    let response = collect(sender.send_request(request).await.unwrap()).await;
    let head = String::from_utf8(response.body().to_vec()).unwrap();
    let lines: Vec<&str> = head.split('|').collect();
    assert_eq!(lines[0], "GET /base/x/y?q=%20 HTTP/1.1");
    for line in [
        "host: a.example.com:8443",
        "x-forwarded-host: a.example.com:8443",
        "x-forwarded-proto: https",
        "x-forwarded-for: 198.51.100.1, 127.0.0.1",
        "cookie: a=1; b=2",
    ] {
        assert!(lines.contains(&line), "{line} in {head}");
    }
    assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
    assert_eq!((header(&response, "x-end"), header(&response, "x-hop"), header(&response, "keep-alive")), ("2", "", ""));
    for _ in 0..5 {
        edge.get("a.example.com", "/").await;
    }
    assert_eq!((upstream.requests.load(SeqCst), upstream.connections.load(SeqCst)), (6, 1));
}

#[tokio::test]
async fn bodies_stream_in_both_directions_before_either_ends() {
    let edge = TestEdge::start(|_| {}).await;
    let upstream = Upstream::start(|mut asked| async move {
        // Answers at once, then sends each chunk back as it comes.
        asked.socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        let (mut read, mut write) = asked.socket.split();
        write.write_all(&asked.rest).await.unwrap();
        tokio::io::copy(&mut read, &mut write).await.ok();
        None
    })
    .await;
    edge.host("a.example.com", upstream.route());
    let mut stream = edge.dial("a.example.com").await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    for part in ["first", "later"] {
        stream.write_all(format!("5\r\n{part}\r\n").as_bytes()).await.unwrap();
        while !seen.contains(part) {
            let mut chunk = [0; 1024];
            let length = stream.read(&mut chunk).await.unwrap();
            assert!(length > 0, "{seen}");
            seen.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        }
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    while !seen.ends_with("0\r\n\r\n") {
        let mut chunk = [0; 1024];
        let length = stream.read(&mut chunk).await.unwrap();
        assert!(length > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
    }
}

#[tokio::test]
async fn large_bodies_pass_whole_and_head_and_bodiless_answers_stay_so() {
    let edge = TestEdge::start(|_| {}).await;
    let upstream = Upstream::start(|mut asked| async move {
        if asked.head.starts_with("POST") {
            assert!(asked.has("content-length: 5000000") && !asked.head.contains("expect"), "{}", asked.head);
            let body = asked.body(5_000_000).await;
            let mut reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            reply.extend(body);
            asked.reply(reply).await
        } else if asked.head.starts_with("HEAD") {
            asked.reply("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await
        } else if asked.head.starts_with("DELETE") {
            asked.reply("HTTP/1.1 204 No Content\r\n\r\n").await
        } else {
            asked.reply("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n").await
        }
    })
    .await;
    edge.host("a.example.com", upstream.route());
    let body: Vec<u8> = (0..5_000_000u32).map(|i| (i % 253) as u8).collect();
    let request = |method: Method, body: Vec<u8>| {
        Request::builder().method(method).uri("/").header("host", "a.example.com").body(Full::from(body)).unwrap()
    };
    let mut post = request(Method::POST, body.clone());
    post.headers_mut().insert("expect", "100-continue".parse().unwrap());
    assert!(edge.send("a.example.com", post).await.body() == &body);
    let head = edge.send("a.example.com", request(Method::HEAD, vec![])).await;
    assert_eq!((header(&head, "content-length"), head.body().len()), ("1234", 0));
    assert_eq!(edge.send("a.example.com", request(Method::DELETE, vec![])).await.status(), StatusCode::NO_CONTENT);
    let unchanged = edge.send("a.example.com", request(Method::GET, vec![])).await;
    assert_eq!((unchanged.status(), header(&unchanged, "etag")), (StatusCode::NOT_MODIFIED, "\"x\""));
}

#[tokio::test]
async fn a_websocket_is_tunnelled_until_one_side_ends() {
    let edge = TestEdge::start(|_| {}).await;
    let upstream = Upstream::start(|mut asked| async move {
        assert!(asked.has("connection: upgrade") && asked.has("upgrade: websocket") && asked.has("sec-websocket-key: k"), "{}", asked.head);
        let accept = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s\r\n\r\n";
        asked.socket.write_all(accept.as_bytes()).await.unwrap();
        let (mut read, mut write) = asked.socket.split();
        tokio::io::copy(&mut read, &mut write).await.ok();
        None
    })
    .await;
    edge.host("a.example.com", upstream.route());
    let mut stream = edge.dial("a.example.com").await.unwrap();
    let ask = "GET /chat HTTP/1.1\r\nHost: a.example.com\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("sec-websocket-accept: s") && head.contains("upgrade: websocket"), "{head}");
    for message in [&b"\x81\x85ping1"[..], b"\x81\x85ping2"] {
        stream.write_all(message).await.unwrap();
        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, message);
    }
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_missing_slow_or_broken_upstream_is_a_502_or_504() {
    let edge = TestEdge::start(|config| config.upstream_response_timeout = Duration::from_millis(300)).await;
    let silent = Upstream::start(|asked| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Some(asked.socket)
    })
    .await;
    let garbage = Upstream::start(|asked| asked.reply("nonsense\r\n\r\n")).await;
    let closing = Upstream::start(|_| async { None }).await;
    let switching =
        Upstream::start(|asked| asked.reply("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let to = |upstream: String| EdgeRoute::Proxy { upstream };
    edge.host("silent.example.com", silent.route());
    edge.host("garbage.example.com", garbage.route());
    edge.host("closing.example.com", closing.route());
    edge.host("switching.example.com", switching.route());
    edge.host("refused.example.com", to(format!("http://{free}")));
    edge.host("invalid.example.com", to("ftp://127.0.0.1/".into()));
    edge.host("nothing.example.com", EdgeRoute::Nothing);
    #[rustfmt::skip]
    let table = [
        ("silent.example.com",    StatusCode::GATEWAY_TIMEOUT),
        ("garbage.example.com",   StatusCode::BAD_GATEWAY),
        ("closing.example.com",   StatusCode::BAD_GATEWAY),
        ("switching.example.com", StatusCode::BAD_GATEWAY),
        ("refused.example.com",   StatusCode::BAD_GATEWAY),
        ("invalid.example.com",   StatusCode::BAD_GATEWAY),
        ("nothing.example.com",   StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (host, status) in table {
        assert_eq!(edge.get(host, "/").await.status(), status, "{host}");
    }
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated() {
    let edge = TestEdge::start(|_| {}).await;
    let closing = Upstream::start(|_| async { None }).await;
    edge.host("a.example.com", closing.route());
    for (method, expected) in [(Method::POST, 1), (Method::PUT, 1), (Method::DELETE, 1), (Method::GET, 2)] {
        closing.requests.store(0, SeqCst);
        let request = Request::builder().method(method.clone()).uri("/").header("host", "a.example.com").body(Full::from("x")).unwrap();
        let request = if method == Method::GET { request.map(|_| Full::default()) } else { request };
        assert_eq!(edge.send("a.example.com", request).await.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(closing.requests.load(SeqCst), expected, "{method}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_upstream_request_with_it() {
    let edge = TestEdge::start(|_| {}).await;
    let (arrived, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (has_arrived, has_gone) = (Arc::clone(&arrived), Arc::clone(&gone));
    let upstream = Upstream::start(move |mut asked| {
        let (has_arrived, has_gone) = (Arc::clone(&has_arrived), Arc::clone(&has_gone));
        async move {
            has_arrived.notify_one();
            let _ = asked.socket.read(&mut [0; 1]).await;
            has_gone.notify_one();
            None
        }
    })
    .await;
    edge.host("a.example.com", upstream.route());
    let mut stream = edge.dial("a.example.com").await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await.unwrap();
    arrived.notified().await;
    drop(stream);
    tokio::time::timeout(Duration::from_secs(10), gone.notified()).await.expect("the upstream's connection closes");
}

#[tokio::test]
async fn ambiguous_framing_reaches_the_upstream_as_one_request_or_not_at_all() {
    let edge = TestEdge::start(|_| {}).await;
    let upstream = Upstream::start(|asked| async move { asked.reply(ok("fine")).await }).await;
    edge.host("a.example.com", upstream.route());
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.example.com\r\n\r\n";
    #[rustfmt::skip]
    let table = [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Transfer-Encoding: identity, xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\n folded: 1\r\n",
    ];
    for headers in table {
        let mut stream = edge.dial("a.example.com").await.unwrap();
        stream.write_all(format!("POST / HTTP/1.1\r\nHost: a.example.com\r\n{headers}\r\n{smuggled}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{headers:?}: {answer}");
    }
    assert_eq!(upstream.requests.load(SeqCst), 0);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_passed_as_whole() {
    let edge = TestEdge::start(|_| {}).await;
    let upstream = Upstream::start(|asked| async move {
        asked.reply("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
        None
    })
    .await;
    edge.host("a.example.com", upstream.route());
    let mut sender = http2(dial(edge.https, "a.example.com", &client(&["h2"])).await.unwrap()).await;
    let request = Request::get("https://a.example.com/").body(Full::<Bytes>::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
}

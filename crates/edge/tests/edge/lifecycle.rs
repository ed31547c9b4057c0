//! How connections end: drain, limits, slow clients, and the access log.

use crate::support::{TestEdge, client, collect, dial, files, http2};
use crate::upstream::{Upstream, ok};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

#[tokio::test]
async fn a_drain_lets_live_requests_end_closes_idle_connections_and_accepts_no_more() {
    let mut edge = TestEdge::start(|_| {}).await;
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (has_arrived, may_go) = (Arc::clone(&arrived), Arc::clone(&go));
    let upstream = Upstream::start(move |asked| {
        let (has_arrived, may_go) = (Arc::clone(&has_arrived), Arc::clone(&may_go));
        async move {
            has_arrived.notify_one();
            may_go.notified().await;
            asked.reply(ok("done")).await
        }
    })
    .await;
    edge.host("a.example.com", upstream.route());
    let mut idle = edge.dial("a.example.com").await.unwrap();
    let mut live = Vec::new();
    for alpn in ["h2", "http/1.1"] {
        let stream = dial(edge.https, "a.example.com", &client(&[alpn])).await.unwrap();
        live.push(tokio::spawn(async move {
            if alpn == "h2" {
                let request = Request::get("https://a.example.com/").body(Full::<Bytes>::default()).unwrap();
                collect(http2(stream).await.send_request(request).await.unwrap()).await
            } else {
                let request = Request::get("/").header("host", "a.example.com").body(Full::default()).unwrap();
                crate::support::send_http1(stream, request).await
            }
        }));
        arrived.notified().await;
    }
    edge.shutdown.cancel();
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap_or(0), 0, "an idle connection is closed at once");
    assert!(!edge.served.is_finished());
    assert!(TcpStream::connect(edge.https).await.is_err(), "the listener is gone");
    go.notify_one();
    go.notify_one();
    let mut answers = Vec::new();
    for request in live {
        go.notify_one();
        answers.push(request.await.unwrap());
    }
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK && answer.body() == "done"));
    (&mut edge.served).await.unwrap();
    assert_eq!(edge.edge.stats().connections_now, 0);
}

#[tokio::test]
async fn what_does_not_end_within_the_drain_timeout_is_cut_off() {
    let mut edge = TestEdge::start(|config| config.drain_timeout = Duration::from_millis(100)).await;
    let arrived = Arc::new(Notify::new());
    let has_arrived = Arc::clone(&arrived);
    let upstream = Upstream::start(move |asked| {
        has_arrived.notify_one();
        async move {
            std::future::pending::<()>().await;
            Some(asked.socket)
        }
    })
    .await;
    edge.host("a.example.com", upstream.route());
    let mut stream = edge.dial("a.example.com").await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await.unwrap();
    arrived.notified().await;
    edge.shutdown.cancel();
    (&mut edge.served).await.unwrap();
    assert_eq!(edge.edge.stats().connections_now, 0);
}

#[tokio::test]
async fn half_a_header_silence_and_a_client_that_takes_nothing_are_closed() {
    let edge = TestEdge::start(|config| {
        config.header_timeout = Duration::from_millis(200);
        config.idle_timeout = Duration::from_millis(400);
    })
    .await;
    edge.host("a.example.com", files("s"));
    edge.write("s", "index.html", "hello");
    edge.write("s", "large.bin", vec![7; 40_000_000]);
    for opening in ["", "GET / HTTP/1.1\r\nHost: a.exam", "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n"] {
        let mut stream = edge.dial("a.example.com").await.unwrap();
        stream.write_all(opening.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer.ends_with(b"hello"), opening.ends_with("\r\n\r\n"), "{opening:?}");
    }
    let mut greedy = edge.dial("a.example.com").await.unwrap();
    greedy.write_all(b"GET /large.bin HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await.unwrap();
    for _ in 0..1000 {
        if edge.edge.stats().connections_now == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connection is still open");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_free_place() {
    let edge = TestEdge::start(|config| config.max_connections = 2).await;
    edge.host("a.example.com", files("s"));
    edge.write("s", "index.html", "hello");
    // Each accept loop holds one place ready, so with two listeners one HTTPS connection is served at a time.
    let first = edge.dial("a.example.com").await.unwrap();
    let config = client(&["http/1.1"]);
    let mut waiting = Box::pin(dial(edge.https, "a.example.com", &config));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    drop(first);
    waiting.await.unwrap();
}

/// Collects what the edge logs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "access"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn each_request_is_one_line_of_the_access_log_without_its_query() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let edge = TestEdge::start(|config| config.access_log = true).await;
    edge.host("a.example.com", files("s"));
    edge.write("s", "index.html", "hello");
    edge.get("a.example.com", "/?password=hunter2").await;
    edge.get("a.example.com", "/missing").await;
    let lines = lines.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for part in
        ["host=a.example.com", "method=GET", "path=/ ", "status=200", "bytes=5", "elapsed_ms=", "protocol=HTTP/1.1", "remote=127.0.0.1:"]
    {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
    assert!(lines[1].contains("status=404") && !lines[0].contains("hunter2"));
}

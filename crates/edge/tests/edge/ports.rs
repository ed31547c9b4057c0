//! Which host a connection may speak for, on both ports; redirects and HTTP-01.

use crate::support::{TestEdge, client, collect, dial, files, header, http2};
use certwright_model::edge::EdgeRoute;
use http::{Request, StatusCode};
use http_body_util::Full;
use std::sync::atomic::Ordering::SeqCst;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn the_http_port_redirects_known_hosts_and_keeps_path_and_query() {
    let edge = TestEdge::start(|config| config.https_port_for_redirect = 8443).await;
    edge.host("a.example.com", files("s"));
    edge.set("new.example.com", files("s"), None);
    #[rustfmt::skip]
    let table = [
        ("a.example.com",      "/x/%20y?q=1&r", StatusCode::PERMANENT_REDIRECT,  "https://a.example.com:8443/x/%20y?q=1&r"),
        ("A.Example.com.:80",  "/",             StatusCode::PERMANENT_REDIRECT,  "https://a.example.com:8443/"),
        ("a.example.com",      "//evil.com/",   StatusCode::PERMANENT_REDIRECT,  "https://a.example.com:8443//evil.com/"),
        ("new.example.com",    "/",             StatusCode::SERVICE_UNAVAILABLE, ""),
        ("unknown.example.com", "/",            StatusCode::NOT_FOUND,           ""),
        ("127.0.0.1",          "/",             StatusCode::NOT_FOUND,           ""),
    ];
    for (host, path, status, location) in table {
        let response = edge.plain(Request::get(path).header("host", host).body(Full::default()).unwrap()).await;
        assert_eq!((response.status(), header(&response, "location")), (status, location), "{host} {path}");
    }
}

#[tokio::test]
async fn a_challenge_is_answered_before_the_redirect_and_without_a_certificate() {
    let edge = TestEdge::start(|_| {}).await;
    edge.set("new.example.com", EdgeRoute::Nothing, None);
    edge.host("old.example.com", EdgeRoute::Nothing);
    for host in ["new.example.com", "old.example.com", "stranger.example.com"] {
        edge.source.http01.lock().unwrap().insert((host.into(), "tok-1_".into()), "tok-1_.thumb".into());
    }
    #[rustfmt::skip]
    let table = [
        ("new.example.com",      "/.well-known/acme-challenge/tok-1_",        StatusCode::OK,        "tok-1_.thumb"),
        ("old.example.com",      "/.well-known/acme-challenge/tok-1_",        StatusCode::OK,        "tok-1_.thumb"),
        ("new.example.com",      "/.well-known/acme-challenge/other",         StatusCode::NOT_FOUND, "No such challenge.\n"),
        ("new.example.com",      "/.well-known/acme-challenge/../tok-1_",     StatusCode::NOT_FOUND, "No such challenge.\n"),
        ("stranger.example.com", "/.well-known/acme-challenge/tok-1_",        StatusCode::NOT_FOUND, "This host is not served here.\n"),
    ];
    for (host, path, status, body) in table {
        let response = edge.plain(Request::get(path).header("host", host).body(Full::default()).unwrap()).await;
        assert_eq!((response.status(), response.body().as_ref()), (status, body.as_bytes()), "{host} {path}");
    }
    assert_eq!(edge.edge.stats().http01_answered, 2);
    edge.source.down.store(true, SeqCst);
    let request = Request::get("/.well-known/acme-challenge/tok-1_").header("host", "new.example.com").body(Full::default()).unwrap();
    assert_eq!(edge.plain(request).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_connection_speaks_only_for_the_names_of_its_certificate() {
    let edge = TestEdge::start(|_| {}).await;
    let both = edge.certificate(&["a.example.com", "b.example.com", "c.example.com"]);
    for (name, page) in [("a.example.com", "a"), ("b.example.com", "b")] {
        edge.set(name, files(page), Some(both));
        edge.write(page, "index.html", page);
    }
    edge.host("other.example.com", files("a"));
    let mut sender = http2(dial(edge.https, "a.example.com", &client(&["h2"])).await.unwrap()).await;
    #[rustfmt::skip]
    let table = [
        ("a.example.com",     StatusCode::OK,                  "a"),
        ("A.EXAMPLE.COM",     StatusCode::OK,                  "a"),
        ("a.example.com:443", StatusCode::OK,                  "a"),
        ("b.example.com",     StatusCode::OK,                  "b"),
        ("c.example.com",     StatusCode::MISDIRECTED_REQUEST, "This host is not served on this connection.\n"),
        ("other.example.com", StatusCode::MISDIRECTED_REQUEST, "This host is not served on this connection.\n"),
        ("127.0.0.1",         StatusCode::MISDIRECTED_REQUEST, "This host is not served on this connection.\n"),
    ];
    for (host, status, body) in table {
        let request = Request::get(format!("https://{host}/")).body(Full::default()).unwrap();
        let response = collect(sender.send_request(request).await.unwrap()).await;
        assert_eq!((response.status(), response.body().as_ref()), (status, body.as_bytes()), "{host}");
    }
}

#[tokio::test]
async fn a_request_that_names_no_host_or_two_is_refused() {
    let edge = TestEdge::start(|_| {}).await;
    edge.host("a.example.com", files("s"));
    #[rustfmt::skip]
    let table = [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a.example.com\r\nHost: a.example.com\r\n",
        "GET / HTTP/1.1\r\nHost: user@a.example.com\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n",
        "GET http://b.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n",
    ];
    for head in table {
        let mut stream = edge.dial("a.example.com").await.unwrap();
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
    }
    let mut plain = TcpStream::connect(edge.http).await.unwrap();
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
}

//! Versions, protocols, names, alerts, tickets, the certificate cache.

use crate::support::{AnyCertificate, NothingChecked, TestEdge, client, client_config, collect, dial, files, http2, provider};
use bytes::Bytes;
use certwright_model::edge::{EdgeChange, EdgeEntry, EdgeRoute};
use certwright_model::hostname::Hostname;
use http::{Request, StatusCode};
use http_body_util::Full;
use rustls::{HandshakeKind, ProtocolVersion};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn both_tls_versions_and_both_http_versions_are_spoken() {
    let edge = TestEdge::start(|_| {}).await;
    edge.host("a.example.com", files("s"));
    edge.write("s", "index.html", "hello");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for alpn in ["h2", "http/1.1"] {
            let config = Arc::new(client_config(&[alpn], &[version], Arc::new(AnyCertificate(provider()))));
            let stream = dial(edge.https, "a.example.com", &config).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
            let response = if alpn == "h2" {
                let request = Request::get("https://a.example.com/").body(Full::default()).unwrap();
                collect(http2(stream).await.send_request(request).await.unwrap()).await
            } else {
                let request = Request::get("/").header("host", "a.example.com").body(Full::default()).unwrap();
                crate::support::send_http1(stream, request).await
            };
            assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, &b"hello"[..]), "{alpn}");
        }
    }
    let stats = edge.edge.stats();
    assert_eq!((stats.handshakes_ok, stats.requests, stats.body_bytes), (4, 4, 20));
}

fn alert(error: &io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

#[tokio::test]
async fn refused_names_are_told_why_by_the_alert() {
    use rustls::AlertDescription::{InternalError, NoApplicationProtocol, UnrecognisedName};
    let edge = TestEdge::start(|_| {}).await;
    edge.set("bare.example.com", EdgeRoute::Nothing, None);
    let gone = edge.host("gone.example.com", EdgeRoute::Nothing);
    edge.source.certificates.lock().unwrap().remove(&gone);
    let bad = edge.host("bad.example.com", EdgeRoute::Nothing);
    edge.source.certificates.lock().unwrap().get_mut(&bad).unwrap().key_pkcs8_der.truncate(20);
    edge.host("good.example.com", EdgeRoute::Nothing);
    edge.host("cold.example.com", EdgeRoute::Nothing);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        #[rustfmt::skip]
        let table = [
            ("unknown.example.com", "h2",         UnrecognisedName),
            ("bare.example.com",    "h2",         UnrecognisedName),
            ("gone.example.com",    "h2",         UnrecognisedName),
            ("bad.example.com",     "h2",         InternalError),
            ("good.example.com",    "acme-tls/1", NoApplicationProtocol),
            ("good.example.com",    "spdy/3",     NoApplicationProtocol),
        ];
        for (name, alpn, expected) in table {
            let config = Arc::new(client_config(&[alpn], &[version], Arc::new(AnyCertificate(provider()))));
            let error = dial(edge.https, name, &config).await.unwrap_err();
            assert_eq!(alert(&error), Some(expected), "{name} {alpn} {error:?}");
        }
    }
    let mut no_sni = client_config(&["h2"], &[&rustls::version::TLS13], Arc::new(AnyCertificate(provider())));
    no_sni.enable_sni = false;
    let error = dial(edge.https, "good.example.com", &Arc::new(no_sni)).await.unwrap_err();
    assert_eq!(alert(&error), Some(UnrecognisedName));
    edge.source.down.store(true, SeqCst);
    assert_eq!(alert(&edge.dial("cold.example.com").await.unwrap_err()), Some(InternalError), "not loaded yet, and the source is down");
    let failed = edge.edge.stats().handshakes_failed;
    assert_eq!((failed.unknown_name, failed.source_down, failed.bad_certificate, failed.no_protocol), (7, 1, 2, 4));
}

#[tokio::test]
async fn octets_that_are_no_client_hello_and_silence_end_the_connection() {
    let edge = TestEdge::start(|config| config.handshake_timeout = Duration::from_millis(200)).await;
    let mut plain = TcpStream::connect(edge.https).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    let mut silent = TcpStream::connect(edge.https).await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    let failed = edge.edge.stats().handshakes_failed;
    assert_eq!((failed.not_tls, failed.timeout), (1, 1));
}

#[tokio::test]
async fn a_name_under_a_wildcard_gets_the_wildcards_certificate_unless_it_has_its_own() {
    let edge = TestEdge::start(|_| {}).await;
    let wildcard = edge.host("*.example.com", EdgeRoute::Nothing);
    let own = edge.host("own.example.com", EdgeRoute::Nothing);
    for (name, id) in [("any.example.com", wildcard), ("own.example.com", own)] {
        let stream = edge.dial(name).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0].as_ref(), edge.leaf(id), "{name}");
    }
    assert!(edge.dial("a.b.example.com").await.is_err());
}

#[tokio::test]
async fn the_source_is_asked_for_names_only_while_the_index_loads() {
    let edge = TestEdge::start(|_| {}).await;
    let id = edge.certificate(&["late.example.com"]);
    let host = Hostname::parse("late.example.com").unwrap();
    let entry = EdgeEntry { host: host.clone(), route: EdgeRoute::Nothing, certificate: Some(id) };
    edge.source.entries.lock().unwrap().insert(host.clone(), entry.clone());
    assert!(edge.dial("late.example.com").await.is_err(), "loaded: the index is the truth");
    assert_eq!(edge.source.lookups.load(SeqCst), 0);

    let loading = certwright_edge::Edge::new(certwright_edge::EdgeConfig::new(edge.sites.path()), edge.source.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let served = tokio::spawn(Arc::clone(&loading).serve(vec![listener], vec![], stop.clone()));
    dial(address, "late.example.com", &client(&[])).await.unwrap();
    assert_eq!(edge.source.lookups.load(SeqCst), 1);
    loading.apply([EdgeChange::Set(entry)]);
    loading.loaded();
    dial(address, "late.example.com", &client(&[])).await.unwrap();
    assert!(dial(address, "never.example.com", &client(&[])).await.is_err());
    assert_eq!(edge.source.lookups.load(SeqCst), 1);
    stop.cancel();
    served.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_under_load_fails_no_request_and_is_seen_by_the_next_handshake() {
    let edge = Arc::new(TestEdge::start(|_| {}).await);
    edge.host("a.example.com", files("s"));
    edge.write("s", "index.html", "hello");
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let stream = dial(edge.https, "a.example.com", &client(&["h2"])).await.unwrap();
        let (mut sender, stop, done) = (http2(stream).await, Arc::clone(&stop), Arc::clone(&done));
        clients.push(tokio::spawn(async move {
            while !stop.load(SeqCst) {
                let request = Request::get("https://a.example.com/").body(Full::<Bytes>::default()).unwrap();
                assert_eq!(collect(sender.send_request(request).await.unwrap()).await.status(), StatusCode::OK);
                done.fetch_add(1, SeqCst);
            }
        }));
    }
    for _ in 0..20 {
        let before = done.load(SeqCst);
        let id = edge.host("a.example.com", files("s"));
        let stream = edge.dial("a.example.com").await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0].as_ref(), edge.leaf(id));
        while done.load(SeqCst) < before + 8 {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn many_who_wait_for_a_cold_certificate_cause_one_load() {
    let edge = TestEdge::start(|_| {}).await;
    edge.host("cold.example.com", EdgeRoute::Nothing);
    *edge.source.load_takes.lock().unwrap() = Duration::from_millis(100);
    let config = client(&[]);
    let dials = (0..64).map(|_| dial(edge.https, "cold.example.com", &config));
    assert!(futures_util::future::join_all(dials).await.iter().all(Result::is_ok));
    assert_eq!(edge.source.loads.load(SeqCst), 1);
    assert_eq!(edge.edge.stats().certificate_misses, 1);
}

#[tokio::test]
async fn the_certificate_cache_stays_within_its_bound() {
    let edge = TestEdge::start(|config| config.certificate_cache = 10).await;
    for i in 0..60 {
        let name = format!("n{i}.example.com");
        edge.host(&name, EdgeRoute::Nothing);
        edge.dial(&name).await.unwrap();
    }
    // The cache tidies up as it is used, a little later than it is filled.
    let is_tidy = || {
        let stats = edge.edge.stats();
        stats.certificates_cached_now <= 10 && stats.certificate_evictions >= 50
    };
    for _ in 0..500 {
        if is_tidy() {
            break;
        }
        edge.dial("n59.example.com").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_tidy(), "{:?}", edge.edge.stats());
}

/// Dials and reads a little, so that a TLS 1.3 ticket arrives.
async fn session(edge: &TestEdge, name: &str, config: &Arc<rustls::ClientConfig>) -> Option<HandshakeKind> {
    let mut stream = dial(edge.https, name, config).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    stream.get_ref().1.handshake_kind()
}

/// A session store that offers whatever it has for every name: what an attacker, or a careless client, would do.
#[derive(Debug)]
struct OneStoreForAllNames(rustls::client::ClientSessionMemoryCache);

impl rustls::client::ClientSessionStore for OneStoreForAllNames {
    fn set_kx_hint(&self, _: rustls::pki_types::ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(any_name(), group);
    }
    fn kx_hint(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(&any_name())
    }
    fn set_tls12_session(&self, _: rustls::pki_types::ServerName<'static>, value: rustls::client::Tls12ClientSessionValue) {
        self.0.set_tls12_session(any_name(), value);
    }
    fn tls12_session(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.0.tls12_session(&any_name())
    }
    fn remove_tls12_session(&self, _: &rustls::pki_types::ServerName<'static>) {
        self.0.remove_tls12_session(&any_name());
    }
    fn insert_tls13_ticket(&self, _: rustls::pki_types::ServerName<'static>, value: rustls::client::Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(any_name(), value);
    }
    fn take_tls13_ticket(&self, _: &rustls::pki_types::ServerName<'static>) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&any_name())
    }
}

fn any_name() -> rustls::pki_types::ServerName<'static> {
    rustls::pki_types::ServerName::try_from("any").unwrap()
}

#[tokio::test]
async fn a_ticket_resumes_for_its_own_name_and_certificate_and_for_no_other() {
    let edge = TestEdge::start(|_| {}).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let shared = edge.certificate(&["a.example.com", "c.example.com"]);
        edge.set("a.example.com", EdgeRoute::Nothing, Some(shared));
        edge.set("c.example.com", EdgeRoute::Nothing, Some(shared));
        edge.host("b.example.com", EdgeRoute::Nothing);
        let mut config = client_config(&[], &[version], Arc::new(AnyCertificate(provider())));
        let store = OneStoreForAllNames(rustls::client::ClientSessionMemoryCache::new(32));
        config.resumption =
            rustls::client::Resumption::store(Arc::new(store)).tls12_resumption(rustls::client::Tls12Resumption::SessionIdOrTickets);
        let config = Arc::new(config);
        let is_resumed = |kind: Option<HandshakeKind>| kind == Some(HandshakeKind::Resumed);
        let label = version.version == ProtocolVersion::TLSv1_3;
        assert!(!is_resumed(session(&edge, "a.example.com", &config).await), "1.3: {label}");
        assert!(is_resumed(session(&edge, "a.example.com", &config).await), "its own name; 1.3: {label}");
        assert!(!is_resumed(session(&edge, "b.example.com", &config).await), "another certificate; 1.3: {label}");
        session(&edge, "a.example.com", &config).await;
        assert!(!is_resumed(session(&edge, "c.example.com", &config).await), "another name of the certificate; 1.3: {label}");
        session(&edge, "a.example.com", &config).await;
        edge.host("a.example.com", EdgeRoute::Nothing);
        assert!(!is_resumed(session(&edge, "a.example.com", &config).await), "the certificate was swapped; 1.3: {label}");
    }
}

#[tokio::test]
async fn an_acme_tls_validation_sees_the_certificate_that_rfc_8737_wants() {
    let edge = TestEdge::start(|_| {}).await;
    edge.set("new.example.com", EdgeRoute::Nothing, None);
    edge.source.tls_alpn01.lock().unwrap().insert("new.example.com".into(), "token.thumbprint".into());
    let config = client_config(&["acme-tls/1"], &[&rustls::version::TLS13, &rustls::version::TLS12], Arc::new(NothingChecked));
    let mut stream = dial(edge.https, "new.example.com", &Arc::new(config)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0, "closed after the handshake");
    // OID 1.3.6.1.5.5.7.1.31, critical, an octet string with the octet string of the digest (RFC 8737 section 3).
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"token.thumbprint");
    let extension = [&[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 1, 31, 0x01, 0x01, 0xff, 0x04, 0x22, 0x04, 0x20], digest.as_ref()].concat();
    assert!(leaf.windows(extension.len()).any(|window| window == extension));
    assert!(leaf.windows(15).any(|window| window == b"new.example.com"));
    assert_eq!(edge.edge.stats().tls_alpn01_answered, 1);
}

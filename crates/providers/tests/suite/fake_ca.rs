//! A fake CA, made by hand: it speaks ACME only as far as a misbehaving CA needs, verifies nothing, and never asks for a
//! challenge. For what Pebble cannot be made to do.

use rcgen::KeyPair;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What it answers at one path: a status line's end, more headers, a body.
#[derive(Clone)]
pub struct Reply {
    pub status: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// An answer that is never given.
#[derive(Clone)]
pub enum Fault {
    Reply(Reply),
    Silence,
}

pub struct FakeCa {
    address: SocketAddr,
    pub roots_pem: String,
    state: Arc<State>,
}

struct State {
    address: SocketAddr,
    /// By path, until taken away.
    faults: Mutex<Vec<(&'static str, Fault)>>,
    chain_pem: Mutex<String>,
    nonces: AtomicU32,
    requests: Mutex<Vec<String>>,
}

impl FakeCa {
    pub async fn start() -> FakeCa {
        let https = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(https.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![https.cert.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            address,
            faults: Mutex::default(),
            chain_pem: Mutex::default(),
            nonces: AtomicU32::new(0),
            requests: Mutex::default(),
        });
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), state.clone()));
        FakeCa { address, roots_pem: https.cert.pem(), state }
    }

    pub fn directory_url(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    pub fn set_chain(&self, pem: &str) {
        *self.state.chain_pem.lock().unwrap() = pem.to_owned();
    }

    pub fn fail(&self, path: &'static str, fault: Fault) {
        *self.state.faults.lock().unwrap() = vec![(path, fault)];
    }

    pub fn problem(&self, path: &'static str, status: &'static str, kind: &str, headers: Vec<(&'static str, String)>) {
        let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": format!("fake {kind}") }).to_string();
        self.fail(path, Fault::Reply(Reply { status, headers, body }));
    }

    pub fn heal(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    pub fn requests(&self, path: &str) -> usize {
        self.state.requests.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

/// A self-signed certificate for the key.
pub fn self_signed(key_pkcs8_der: &[u8], names: &[&str], years: (i32, i32)) -> String {
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key_pkcs8_der)).unwrap();
    let mut params = rcgen::CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    params.self_signed(&key).unwrap().pem()
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut pending = Vec::new();
            while let Some((method, path)) = read_request(&mut stream, &mut pending).await {
                state.requests.lock().unwrap().push(path.clone());
                let fault = state.faults.lock().unwrap().iter().find(|(at, _)| *at == path).map(|(_, fault)| fault.clone());
                let reply = match fault {
                    Some(Fault::Silence) => return std::future::pending().await,
                    Some(Fault::Reply(reply)) => reply,
                    None => state.usual(&path),
                };
                let nonce = state.nonces.fetch_add(1, Ordering::SeqCst);
                let mut text =
                    format!("HTTP/1.1 {}\r\nReplay-Nonce: nonce{nonce}\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
                for (name, value) in &reply.headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                text.push_str("\r\n");
                if method != "HEAD" {
                    text.push_str(&reply.body);
                }
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

impl State {
    fn usual(&self, path: &str) -> Reply {
        let url = |path: &str| format!("https://{}{path}", self.address);
        let order = |status: &str| {
            json!({
                "status": status, "identifiers": [], "authorizations": [],
                "finalize": url("/finalize"), "certificate": url("/certificate"),
            })
            .to_string()
        };
        let reply = |status, headers, body| Reply { status, headers, body };
        match path {
            "/dir" => {
                let directory = json!({ "newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/new-order") });
                reply("200 OK", vec![], directory.to_string())
            }
            "/account" => reply("201 Created", vec![("Location", url("/account/1"))], json!({ "status": "valid" }).to_string()),
            "/new-order" => reply("201 Created", vec![("Location", url("/order"))], order("ready")),
            "/order" => reply("200 OK", vec![], order("ready")),
            "/finalize" => reply("200 OK", vec![], order("valid")),
            "/certificate" => reply("200 OK", vec![], self.chain_pem.lock().unwrap().clone()),
            _ => reply("200 OK", vec![], String::new()),
        }
    }
}

async fn read_request(stream: &mut (impl AsyncReadExt + Unpin), pending: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        if let Some(end) = pending.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&pending[..end]).into_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.trim().parse::<usize>().unwrap());
            if pending.len() >= end + 4 + length {
                pending.drain(..end + 4 + length);
                let mut words = head.split(' ');
                return Some((words.next()?.to_owned(), words.next()?.to_owned()));
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => pending.extend_from_slice(&buffer[..count]),
        }
    }
}

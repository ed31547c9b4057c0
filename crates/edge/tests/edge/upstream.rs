//! A real HTTP/1.1 server behind the edge, speaking raw octets so that each test decides what goes over the wire.

use certwright_model::edge::EdgeRoute;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// Requests whose header arrived.
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) connections: Arc<AtomicUsize>,
}

/// One request as it arrived.
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) socket: TcpStream,
    /// What came after the header in the same read.
    pub(crate) rest: Vec<u8>,
}

impl Upstream {
    /// `answer` serves one request and gives the socket back to keep the connection, or drops it to close.
    pub(crate) async fn start<F, Fut>(answer: F) -> Self
    where
        F: Fn(Asked) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Option<TcpStream>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, opened) = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                opened.fetch_add(1, SeqCst);
                let (answer, seen) = (answer.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    while let Some(asked) = read_head(socket).await {
                        seen.fetch_add(1, SeqCst);
                        match answer(asked).await {
                            Some(kept) => socket = kept,
                            None => return,
                        }
                    }
                });
            }
        });
        Self { address, requests, connections }
    }

    pub(crate) fn route(&self) -> EdgeRoute {
        EdgeRoute::Proxy { upstream: format!("http://{}", self.address) }
    }
}

impl Asked {
    /// Reads a body of `length` octets.
    pub(crate) async fn body(&mut self, length: usize) -> Vec<u8> {
        let mut body = std::mem::take(&mut self.rest);
        let have = body.len();
        body.resize(length, 0);
        self.socket.read_exact(&mut body[have..]).await.unwrap();
        body
    }

    pub(crate) async fn reply(mut self, octets: impl AsRef<[u8]>) -> Option<TcpStream> {
        self.socket.write_all(octets.as_ref()).await.ok()?;
        Some(self.socket)
    }

    /// The header's lines in lower case.
    pub(crate) fn has(&self, line: &str) -> bool {
        self.head.lines().any(|own| own.eq_ignore_ascii_case(line))
    }
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn read_head(mut socket: TcpStream) -> Option<Asked> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return Some(Asked { head: String::from_utf8(read).ok()?, socket, rest });
        }
        let mut chunk = [0; 4096];
        let length = socket.read(&mut chunk).await.ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&chunk[..length]);
    }
}

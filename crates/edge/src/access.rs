//! One record for each request: counts it as in flight, adds up its octets, and writes the access log when it ends.
//!
//! The log never carries a query, a header or a body.

use crate::connection::Connection;
use crate::stats::bump;
use http::{Method, Request, StatusCode, Version};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;

/// What the log says of a request whose client went away before there was an answer.
const CLIENT_CLOSED_REQUEST: u16 = 499;

pub(crate) struct Record {
    connection: Arc<Connection>,
    status: u16,
    bytes: u64,
    line: Option<Box<Line>>,
}

/// What only the log needs.
struct Line {
    started: Instant,
    method: Method,
    host: String,
    path: String,
    protocol: Version,
}

impl Record {
    pub(crate) fn start<B>(connection: Arc<Connection>, request: &Request<B>, host: &str) -> Self {
        bump(&connection.edge.counters.requests);
        connection.activity.request_started();
        let line = connection.edge.config.access_log.then(|| {
            Box::new(Line {
                started: Instant::now(),
                method: request.method().clone(),
                host: host.to_owned(),
                path: request.uri().path().to_owned(),
                protocol: request.version(),
            })
        });
        Self { connection, status: CLIENT_CLOSED_REQUEST, bytes: 0, line }
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    pub(crate) fn sent(&mut self, octets: u64) {
        self.bytes += octets;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.connection.activity.request_finished();
        self.connection.edge.counters.body_bytes.fetch_add(self.bytes, Relaxed);
        if let Some(line) = &self.line {
            tracing::info!(
                target: "access",
                host = %line.host,
                method = %line.method,
                path = %line.path,
                status = self.status,
                bytes = self.bytes,
                elapsed_ms = line.started.elapsed().as_millis() as u64,
                protocol = ?line.protocol,
                remote = %self.connection.remote,
            );
        }
    }
}

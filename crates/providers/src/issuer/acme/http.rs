//! The HTTP client below `instant-acme`: a time limit for every request, reused connections, nonces shared between orders,
//! and answers of the CA as typed values where the library has strings.
//!
//! Invariants: a refusal keeps its status, problem type and `Retry-After`; "not sent" and "no answer" are told apart;
//! bodies are bounded. It does not retry: a signed request cannot be repeated, its nonce is spent.

use super::AcmeConfigError;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const NONCE: &str = "replay-nonce";
const BODY_LIMIT: usize = 1 << 20;
/// CAs forget old nonces; more than the orders at work would only be refused.
const NONCES_KEPT: usize = 64;

tokio::task_local! {
    /// `Retry-After` of the last answer that this task had. The library drops it where the answer is a success.
    static RETRY_AFTER: Cell<Option<RetryAfter>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryAfter {
    In(SignedDuration),
    At(Timestamp),
}

impl RetryAfter {
    pub(super) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::In(delay) => now.saturating_add(delay).unwrap_or(now),
            Self::At(at) => at,
        }
    }
}

/// Why a request brought no document.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection: the CA has heard nothing.
    #[error("cannot be reached: {0}")]
    NotSent(String),
    /// It may have been heard.
    #[error("gave no answer: {0}")]
    Lost(String),
    #[error("answered {}{}", .0.status, .0.detail.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The last part of `urn:ietf:params:acme:error:…`; empty without one.
    pub(super) kind: String,
    pub(super) detail: Option<String>,
    pub(super) retry_after: Option<RetryAfter>,
}

#[derive(Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    timeout: Duration,
    nonces: Arc<Mutex<Vec<String>>>,
}

impl Http {
    pub(super) fn new(issuer: &str, roots_pem: Option<&str>, timeout: Duration) -> Result<Self, AcmeConfigError> {
        let invalid = |problem: String| AcmeConfigError::Invalid { issuer: issuer.to_owned(), problem };
        let extra: Vec<CertificateDer<'static>> = match roots_pem {
            Some(pem) => {
                let chain = crate::x509::chain_from_pem(pem).map_err(|error| invalid(format!("the directory's roots: {error}")))?;
                chain.into_iter().map(CertificateDer::from).collect()
            }
            None => Vec::new(),
        };
        let tls = rustls::ClientConfig::builder_with_provider(crate::tls::crypto())
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?
            .with_root_certificates(crate::tls::roots(true, &extra))
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            .user_agent(concat!("certwright/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| invalid(chain_of(&error)))?;
        Ok(Self { client, timeout, nonces: Arc::default() })
    }

    /// A plain GET of a JSON document: the directory, renewal information.
    pub(super) async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<(T, Option<RetryAfter>), Failure> {
        let request = self.client.get(url).build().map_err(|error| Failure::NotSent(chain_of(&error)))?;
        let (parts, body) = self.send(request).await?;
        let document = serde_json::from_slice(&body).map_err(|error| Failure::Refused(not_understood(&parts, &error)))?;
        Ok((document, retry_after(&parts.headers)))
    }

    /// Runs a conversation whose calls can ask [`last_retry_after`].
    pub(super) async fn listening<F: Future>(conversation: F) -> F::Output {
        RETRY_AFTER.scope(Cell::new(None), conversation).await
    }

    async fn send(&self, request: reqwest::Request) -> Result<(http::response::Parts, Bytes), Failure> {
        let lost = |error: reqwest::Error| match error {
            error if error.is_connect() => Failure::NotSent(chain_of(&error)),
            error if error.is_timeout() => Failure::Lost(format!("nothing came within {} s", self.timeout.as_secs_f32())),
            error => Failure::Lost(chain_of(&error)),
        };
        let asked_for_nonce = *request.method() == Method::HEAD;
        let mut response = self.client.execute(request).await.map_err(lost)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(Failure::Lost(format!("the answer is larger than {BODY_LIMIT} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let mut parts = reply_head(&response).into_parts().0;
        // The nonce of `newNonce` is for who asked for it: on the shared pile another order could take it first.
        if !asked_for_nonce {
            self.keep_nonce(&mut parts.headers);
        }
        let after = retry_after(&parts.headers);
        let _ = RETRY_AFTER.try_with(|cell| cell.set(after));
        match refusal(&parts, &body) {
            Some(refusal) => Err(Failure::Refused(refusal)),
            None => Ok((parts, body.freeze())),
        }
    }

    /// Nonces are good for any request of the account. The newest is used first: after a restart of the CA the old ones
    /// are worthless.
    fn keep_nonce(&self, headers: &mut HeaderMap) {
        if let Some(nonce) = headers.remove(NONCE).and_then(|value| value.to_str().map(ToOwned::to_owned).ok()) {
            let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
            if nonces.len() == NONCES_KEPT {
                nonces.remove(0);
            }
            nonces.push(nonce);
        }
    }

    fn take_nonce(&self) -> Option<String> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn request(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        // HEAD is only ever `newNonce`; the library asks it before each request, because `send` keeps the nonces here.
        if request.method() == Method::HEAD
            && let Some(nonce) = self.take_nonce()
        {
            return nonce_reply(nonce);
        }
        let (mut parts, body) = request.into_parts();
        parts.headers.remove(http::header::USER_AGENT);
        let Ok(body) = body.collect().await;
        let mut outgoing = self.client.request(parts.method, parts.uri.to_string()).body(body.to_bytes()).build().map_err(other)?;
        outgoing.headers_mut().extend(parts.headers);
        let (parts, body) = self.send(outgoing).await.map_err(other)?;
        Ok(BytesResponse { parts, body: Box::new(body) })
    }
}

impl instant_acme::HttpClient for Http {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().request(request))
    }
}

/// `Retry-After` of the last answer within [`Http::listening`].
pub(super) fn last_retry_after() -> Option<RetryAfter> {
    RETRY_AFTER.try_with(Cell::get).ok().flatten()
}

/// What the library wrapped.
pub(super) fn failure_of(error: &Error) -> Option<&Failure> {
    match error {
        Error::Other(inner) => inner.downcast_ref(),
        _ => None,
    }
}

fn reply_head(response: &reqwest::Response) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = response.status();
    *head.headers_mut() = response.headers().clone();
    head
}

fn nonce_reply(nonce: String) -> Result<BytesResponse, Error> {
    let (parts, ()) = Response::builder().header(NONCE, nonce).body(())?.into_parts();
    Ok(BytesResponse { parts, body: Box::new(Bytes::new()) })
}

/// `badNonce` goes through: the library tries again by itself.
fn refusal(parts: &http::response::Parts, body: &[u8]) -> Option<Refusal> {
    #[derive(Default, Deserialize)]
    struct Problem {
        #[serde(default)]
        r#type: String,
        detail: Option<String>,
        #[serde(default)]
        subproblems: Vec<Problem>,
    }
    if parts.status.is_success() {
        return None;
    }
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let kind = |problem: &Problem| problem.r#type.strip_prefix("urn:ietf:params:acme:error:").unwrap_or_default().to_owned();
    if parts.status == StatusCode::BAD_REQUEST && kind(&problem) == "badNonce" {
        return None;
    }
    // RFC 8555 section 6.7.1: the parts say what the whole only sums up.
    let single = match problem.subproblems.as_slice() {
        [only] => kind(only),
        _ => String::new(),
    };
    let kind = if single.is_empty() { kind(&problem) } else { single };
    let details: Vec<String> = std::iter::once(problem.detail).chain(problem.subproblems.into_iter().map(|p| p.detail)).flatten().collect();
    let detail = (!details.is_empty()).then(|| details.join("; ").chars().take(600).collect());
    Some(Refusal { status: parts.status, kind, detail, retry_after: retry_after(&parts.headers) })
}

fn not_understood(parts: &http::response::Parts, error: &serde_json::Error) -> Refusal {
    let detail = Some(format!("what it sent cannot be understood ({error})"));
    Refusal { status: parts.status, kind: String::new(), detail, retry_after: None }
}

/// RFC 9110 section 10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u32>() {
        Ok(seconds) => Some(RetryAfter::In(SignedDuration::from_secs(i64::from(seconds)))),
        Err(_) => jiff::fmt::rfc2822::parse(text).ok().map(|zoned| RetryAfter::At(zoned.timestamp())),
    }
}

/// The causes are where the useful words are.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(parse("120"), Some(RetryAfter::In(SignedDuration::from_secs(120))));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(RetryAfter::At("1994-11-06T08:49:37Z".parse().unwrap())));
        assert_eq!(parse("soon"), None);
    }
}

//! Response bodies: nothing, octets at hand, a file, or an upstream's stream; and the short answers of the edge itself.
//!
//! A body carries the record of its request, so that the request counts as in flight until the last octet was taken.

use crate::access::Record;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::Take;
use tokio_util::io::ReaderStream;

pub(crate) type Response = http::Response<Body>;
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Body {
    content: Content,
    record: Option<Record>,
}

pub(crate) enum Content {
    Bytes(Bytes),
    /// `remaining` octets of a file, in bounded chunks.
    File {
        stream: ReaderStream<Take<tokio::fs::File>>,
        remaining: u64,
    },
    Upstream(Incoming),
}

impl Body {
    pub(crate) fn attach(&mut self, record: Record) {
        self.record = Some(record);
    }
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        Self { content, record: None }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.content {
            Content::Bytes(bytes) if bytes.is_empty() => None,
            Content::Bytes(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Content::File { stream, remaining } => match ready!(Pin::new(stream).poll_next(cx)) {
                Some(Ok(chunk)) => {
                    *remaining = remaining.saturating_sub(chunk.len() as u64);
                    Some(Ok(Frame::data(chunk)))
                }
                Some(Err(error)) => Some(Err(error.into())),
                None if *remaining > 0 => Some(Err("the file became shorter while it was sent".into())),
                None => None,
            },
            Content::Upstream(incoming) => ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| frame.map_err(Into::into)),
        };
        if let (Some(record), Some(Ok(frame))) = (&mut self.record, &frame) {
            record.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Bytes(bytes) => bytes.is_empty(),
            Content::File { remaining, .. } => *remaining == 0,
            Content::Upstream(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::File { remaining, .. } => SizeHint::with_exact(*remaining),
            Content::Upstream(incoming) => incoming.size_hint(),
        }
    }
}

pub(crate) fn respond(status: StatusCode, headers: HeaderMap, content: Content) -> Response {
    let mut response = http::Response::new(Body::from(content));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

pub(crate) fn empty(status: StatusCode, headers: HeaderMap) -> Response {
    respond(status, headers, Content::Bytes(Bytes::new()))
}

/// A short answer of the edge's own.
pub(crate) fn text(status: StatusCode, message: &'static str) -> Response {
    let mut response = plain(status, message);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

pub(crate) fn plain(status: StatusCode, message: impl Into<Bytes>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    respond(status, headers, Content::Bytes(message.into()))
}

pub(crate) fn not_allowed(allow: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed here.\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

//! A client's body on its way to the upstream, with a limit on how long it may stand still.

use crate::body::BodyError;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

pub(super) enum RequestBody {
    Empty,
    Streaming { incoming: Incoming, progress: Arc<Progress>, patience: Pin<Box<Sleep>> },
}

/// How far the body is, as its sender sees it.
pub(super) struct Progress {
    start: Instant,
    limit: Duration,
    last_ms: AtomicU64,
    stalled: AtomicBool,
    failed: AtomicBool,
}

impl Progress {
    pub(super) fn new(limit: Duration) -> Arc<Self> {
        let start = Instant::now();
        Arc::new(Self { start, limit, last_ms: AtomicU64::new(0), stalled: AtomicBool::new(false), failed: AtomicBool::new(false) })
    }

    /// When the body last moved; when it began, if it has not.
    pub(super) fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_ms.load(Relaxed))
    }

    /// The client sent nothing for longer than the limit.
    pub(super) fn has_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    /// The client's body broke off.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    fn moved(&self) {
        self.last_ms.store(self.start.elapsed().as_millis() as u64, Relaxed);
    }
}

impl RequestBody {
    pub(super) fn streaming(incoming: Incoming, progress: Arc<Progress>) -> Self {
        let patience = Box::pin(tokio::time::sleep(progress.limit));
        Self::Streaming { incoming, progress, patience }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Streaming { incoming, progress, patience } = self.get_mut() else { return Poll::Ready(None) };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                progress.moved();
                if matches!(frame, Some(Err(_))) {
                    progress.failed.store(true, Relaxed);
                }
                patience.as_mut().reset(Instant::now() + progress.limit);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => match patience.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    progress.stalled.store(true, Relaxed);
                    Poll::Ready(Some(Err("the request's body stood still for too long".into())))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming { incoming, .. } => incoming.size_hint(),
        }
    }
}

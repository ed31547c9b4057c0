//! Protocol switches (WebSocket and the like, HTTP/1.1 only): once both sides agree, octets are copied until one ends.

use super::headers;
use crate::body::{self, Response};
use crate::connection::Connection;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;

/// The protocol that a request wants to switch to.
pub(super) fn asked_for<B>(request: &Request<B>) -> Option<HeaderValue> {
    let says_upgrade = request
        .headers()
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade")));
    let protocol = request.headers().get(UPGRADE)?;
    // HTTP/2 without TLS is no protocol of the site: it would let a client speak past every rule of this proxy.
    let is_h2c = protocol.as_bytes().to_ascii_lowercase().starts_with(b"h2c");
    (request.version() == Version::HTTP_11 && says_upgrade && !is_h2c).then(|| protocol.clone())
}

/// Passes the 101 on and starts to copy. The tunnel counts as a live connection until it ends or the drain is over.
pub(super) fn tunnel(
    connection: &Arc<Connection>,
    client_side: OnUpgrade,
    mut response: http::Response<Incoming>,
    asked: &HeaderValue,
) -> Response {
    let protocol = response.headers().get(UPGRADE).unwrap_or(asked).clone();
    let upstream_side = hyper::upgrade::on(&mut response);
    let held = Arc::clone(connection);
    connection.tasks.spawn(async move {
        let copying = async {
            let (client, upstream) = tokio::try_join!(client_side, upstream_side)?;
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        };
        tokio::select! {
            () = held.abort.cancelled() => {}
            outcome = copying => if let Err(error) = outcome {
                tracing::debug!(%error, "a tunnel ended early");
            }
        }
    });
    let mut headers = std::mem::take(response.headers_mut());
    headers::to_client(&mut headers);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
    body::empty(StatusCode::SWITCHING_PROTOCOLS, headers)
}

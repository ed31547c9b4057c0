//! Fatal TLS alerts written before a session exists.
//!
//! rustls can only send the alert that its own state machine comes to; a server that finds no certificate says
//! `access_denied`. RFC 6066 section 3 wants `unrecognized_name`, so the seven octets are written here. Before the
//! server's first flight every TLS version takes an alert in the clear.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Alert {
    InternalError = 80,
    UnrecognizedName = 112,
    NoApplicationProtocol = 120,
}

/// Sends the alert and closes. Failures do not matter: the peer is being refused anyway. The caller bounds the time.
pub(crate) async fn refuse(mut io: impl AsyncRead + AsyncWrite + Unpin, alert: Alert) {
    const ALERT_RECORD: u8 = 21;
    const FATAL: u8 = 2;
    // The record version is 1.2 on the wire for TLS 1.3, too (RFC 8446 section 5.1).
    let record = [ALERT_RECORD, 3, 3, 0, 2, FATAL, alert as u8];
    if io.write_all(&record).await.is_ok() && io.shutdown().await.is_ok() {
        // Closing with unread octets would send a reset, which may overtake the alert.
        let mut rest = [0u8; 512];
        for _ in 0..16 {
            match io.read(&mut rest).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

//! The one place that reads the clock and makes identifiers and randomness. Everything below takes them as parameters.
//!
//! A clock can be shifted: tests move it by days, and nothing else in the house has to know.

use certwright_model::ids::NodeId;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use uuid::Uuid;

#[derive(Clone, Debug, Default)]
pub struct Clock {
    shift_ms: Arc<AtomicI64>,
}

impl Clock {
    pub fn system() -> Self {
        Self::default()
    }

    /// Now, to the millisecond: what the database keeps, so that a stored time compares equal to itself.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Timestamp {
        let ms = Timestamp::now().as_millisecond() + self.shift_ms.load(Ordering::Relaxed);
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
    }

    /// Moves this clock, and every clone of it.
    pub fn shift(&self, by: SignedDuration) {
        self.shift_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }

    /// A new UUID version 7 for this moment.
    pub fn id(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
    }

    pub fn node(&self) -> NodeId {
        NodeId(self.id())
    }

    /// 256 random bits.
    pub fn secret(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // The generator of the TLS library; without it no handshake could be made either.
        aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
        bytes
    }

    /// Uniform in `[0, 1)`.
    pub fn entropy(&self) -> f64 {
        let bytes = self.secret();
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[..8]);
        (u64::from_le_bytes(word) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 256 random bits as lower-case hex.
    pub fn secret_hex(&self) -> String {
        self.secret().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

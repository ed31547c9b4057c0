//! What was seen of the world. A lost reply is not "absent": it is `Unknown`, and is resolved by looking again.

use serde::{Deserialize, Serialize};

/// An observation with three values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed<T> {
    /// Nobody has looked, or the look gave no answer.
    #[default]
    Unknown,
    /// Somebody looked, and it is not there.
    Absent,
    /// Somebody looked, and this is what is there.
    Known(T),
}

impl<T> Observed<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown | Self::Absent => None,
        }
    }
}

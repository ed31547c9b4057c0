//! What Certwright knows and decides, as plain values and pure functions.
//!
//! Everything here is deterministic: the time and the entropy come in as parameters. There is no I/O, no clock, no
//! randomness, no SQL and no HTTP in this crate; a decision that needs one of them is split into a question (asked
//! elsewhere) and an answer (judged here).

pub mod answers;
pub mod authority;
pub mod backoff;
pub mod budget;
pub mod certificate;
pub mod domain;
pub mod edge;
pub mod event;
pub mod fold;
pub mod hostname;
pub mod ids;
pub mod job;
pub mod observed;
pub mod planner;
pub mod reason;
pub mod record;
pub mod renewal;
pub mod site;
pub mod site_planner;
pub mod view;
pub mod wire;

pub use hostname::Hostname;
pub use observed::Observed;
pub use reason::{Actor, Reason, ReasonCode};

//! Real peers for tests: started on free ports of 127.0.0.1, given a folder of their own, and gone when the guard is.
//!
//! Invariants: nothing here listens on another address; nothing outlives the test process, not even a killed one (see
//! `reaper`); a peer that cannot be had is named by `missing`, never skipped in silence. Without the `acme` feature the crate
//! needs std and `anyhow` alone, because `xtask` starts the same peers and is compiled before everything else.
//! It does not fake anything that can be installed.

pub mod caddy;
#[cfg(feature = "acme")]
pub mod dns;
pub mod missing;
pub mod nginx;
#[cfg(feature = "acme")]
pub mod pebble;
pub mod ports;
pub mod postgres;
pub mod process;
mod reaper;
pub mod scratch;

pub use missing::not_run;

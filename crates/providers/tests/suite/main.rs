//! Providers against the real systems. A peer that is not there is named by `not run: …`.

#![allow(clippy::unwrap_used, missing_debug_implementations, unreachable_pub)]

mod dns;
mod fake_ca;
mod issuer_conformance;
mod issuer_faults;
mod issuer_new_pebble;
mod issuer_pebble;
mod journal;
mod probe;
mod responder;
mod servers;
mod stores;

//! The real binary: demo, server and client commands against each other, configuration errors, help and the manual.

#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

mod acme;
mod demo;
mod events;
mod manual;
mod nodes;
mod probe;
mod refusals;
mod round_trip;
mod support;
mod survival;

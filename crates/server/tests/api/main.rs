//! The API as a client meets it: a real server on a loopback port over a real SQLite database.

#![allow(clippy::unwrap_used, reason = "in a test a thing that is not there is a failure; helpers are no #[test] functions")]

mod access;
mod bad_input;
mod cert_events;
mod document;
mod events;
mod limits;
mod lists;
mod pages;
mod support;
mod taken;
mod tokens;
mod whole;

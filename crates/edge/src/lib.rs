//! The built-in TLS edge: SNI, ACME challenges, static files, reverse proxy.
//!
//! Invariants: the index holds names, never keys; keys and chains are loaded on first use into a bounded cache; a change
//! of the index is seen by the next handshake or request and never touches a live connection. What the edge serves is
//! told to it ([`Edge::apply`]) or asked of its [`EdgeSource`]; it decides nothing about certificates, writes nothing and
//! keeps nothing that a restart may not lose.

mod access;
mod acme;
mod alert;
mod body;
mod config;
mod connection;
mod edge;
mod files;
mod handler;
mod index;
mod keys;
mod listen;
mod proxy;
mod source;
mod stats;
mod tls;

pub use config::EdgeConfig;
pub use edge::Edge;
pub use source::{EdgeSource, SourceError};
pub use stats::{EdgeStats, HandshakeFailure, HandshakeFailures};

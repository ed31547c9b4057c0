//! The edge over real sockets: handshakes, challenges, files, proxying, drain. Nothing is mocked but the source of names.

// `allow-unwrap-in-tests` does not see the helpers of an integration test.
#![allow(clippy::unwrap_used)]

mod files;
mod handshakes;
mod lifecycle;
mod ports;
mod proxying;
mod support;
mod upstream;

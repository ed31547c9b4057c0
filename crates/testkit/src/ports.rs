//! Free ports of 127.0.0.1 for programs that must be told their port before they start.
//!
//! The kernel picks; a port handed out once is not handed out again by this process, so two peers of one test never get the
//! same. Another process can still take a port between the answer and the start: a starter sees the peer exit and says so.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;

static HANDED_OUT: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A port that nothing listens on, for TCP.
///
/// # Panics
/// When the machine has no free port left on 127.0.0.1: no test can go on then.
pub fn free_port() -> u16 {
    let mut guard = HANDED_OUT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let handed_out = guard.get_or_insert_default();
    // Keeping refused listeners open makes the kernel offer another port each time.
    let mut refused = Vec::new();
    for _ in 0..1000 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        if handed_out.insert(port) {
            return port;
        }
        refused.push(listener);
    }
    panic!("no free port on 127.0.0.1 that was not handed out before");
}

/// The same as an address.
pub fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice_and_one_just_handed_out_can_be_bound() {
        let ports: Vec<u16> = (0..200).map(|_| free_port()).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        TcpListener::bind(free_address()).unwrap();
    }
}

//! A client load of full TLS 1.3 handshakes, for any server.
//!
//! `--target ADDR --names N --pattern 'n{}.bench.test' --connections 64 --seconds 10 --threads 1`, one JSON line at the end.

#![allow(unreachable_pub, dead_code, missing_debug_implementations)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use support::{AnyError, argument, client, handshake, percentile, runtime};
use tokio::time::Instant;

fn main() -> Result<(), AnyError> {
    let target: SocketAddr = argument("--target", SocketAddr::from(([127, 0, 0, 1], 8443)))?;
    let names: u64 = argument("--names", 10_000)?;
    let pattern: String = argument("--pattern", "n{}.bench.test".to_owned())?;
    let connections: usize = argument("--connections", 64)?;
    let seconds: u64 = argument("--seconds", 10)?;
    let config = client()?;
    let next = Arc::new(AtomicU64::new(0));
    runtime(argument("--threads", 1)?)?.block_on(async move {
        let started = Instant::now();
        let end = started + Duration::from_secs(seconds);
        let workers: Vec<_> = (0..connections)
            .map(|_| {
                let (config, next, pattern) = (Arc::clone(&config), Arc::clone(&next), pattern.clone());
                tokio::spawn(async move {
                    let (mut times, mut errors) = (Vec::new(), Vec::new());
                    while Instant::now() < end {
                        let name = pattern.replace("{}", &(next.fetch_add(1, Relaxed) % names.max(1)).to_string());
                        match handshake(target, name, &config).await {
                            Ok(time) => times.push(time),
                            Err(error) => errors.push(error.to_string()),
                        }
                    }
                    (times, errors)
                })
            })
            .collect();
        let (mut times, mut errors) = (Vec::new(), Vec::new());
        for worker in workers {
            let (own_times, own_errors) = worker.await?;
            times.extend(own_times);
            errors.extend(own_errors);
        }
        let elapsed = started.elapsed().as_secs_f64();
        let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
        let first_error = errors.first().map_or_else(|| "null".to_owned(), |error| format!("{error:?}"));
        println!(
            r#"{{"handshakes":{},"seconds":{elapsed:.2},"per_second":{:.0},"p50_ms":{p50:.2},"p99_ms":{p99:.2},"errors":{},"first_error":{first_error}}}"#,
            times.len(),
            times.len() as f64 / elapsed,
            errors.len(),
        );
        Ok(())
    })
}

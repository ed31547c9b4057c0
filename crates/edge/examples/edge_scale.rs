//! How the edge grows with its names: start-up until the first handshake, memory, latency of a cold name.
//!
//! `--names 1000000 --cache 20000 --names-per-site 1 --cold 1000`, one JSON line at the end. Certificates come from a pool
//! of real P-256 ones, so that a cold load costs what it costs: a copy, a parse of chain and key, a check of both.
//! `start_ms` covers making and parsing the names, the index, the listener and the first handshake.

#![allow(unreachable_pub, dead_code, missing_debug_implementations)]

mod support;

use async_trait::async_trait;
use certwright_edge::{Edge, EdgeConfig, EdgeSource, SourceError};
use certwright_model::edge::{EdgeChange, EdgeEntry, EdgeRoute, ServingCertificate};
use certwright_model::hostname::Hostname;
use certwright_model::ids::CertificateId;
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use support::{AnyError, argument, client, handshake, percentile, runtime};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const POOL: usize = 256;

struct Pool(Vec<ServingCertificate>);

impl Pool {
    fn new() -> Result<Self, AnyError> {
        let one = |_| {
            let made = rcgen::generate_simple_self_signed(vec!["*.bench.test".to_owned()])?;
            // Twice the leaf: the size of a chain with an intermediate.
            let chain_der = vec![made.cert.der().to_vec(), made.cert.der().to_vec()];
            Ok(ServingCertificate { chain_der, key_pkcs8_der: made.signing_key.serialize_der() })
        };
        (0..POOL).map(one).collect::<Result<Vec<_>, rcgen::Error>>().map(Self).map_err(Into::into)
    }
}

#[async_trait]
impl EdgeSource for Pool {
    async fn certificate(&self, id: CertificateId) -> Result<Option<ServingCertificate>, SourceError> {
        Ok(self.0.get(id.0.as_u128() as usize % POOL).cloned())
    }

    async fn lookup(&self, _host: &Hostname) -> Result<Option<EdgeEntry>, SourceError> {
        Ok(None)
    }

    async fn http01(&self, _host: &Hostname, _token: &str) -> Result<Option<String>, SourceError> {
        Ok(None)
    }

    async fn tls_alpn01(&self, _host: &Hostname) -> Result<Option<String>, SourceError> {
        Ok(None)
    }
}

fn main() -> Result<(), AnyError> {
    let names: u64 = argument("--names", 1_000_000)?;
    let cache: u64 = argument("--cache", 20_000)?;
    let names_per_site: u64 = argument("--names-per-site", 1)?;
    let cold: u64 = argument("--cold", 1_000)?;
    let pool = Arc::new(Pool::new()?);
    runtime(2)?.block_on(async move {
        let making_names = Instant::now();
        let made = (0..names).filter_map(|i| Hostname::parse(&format!("n{i}.bench.test")).ok()).count();
        let names_ms = making_names.elapsed().as_secs_f64() * 1000.0;
        let before_kib = resident_kib()?;
        let cpu_before = cpu_ms()?;
        let started = Instant::now();
        let mut config = EdgeConfig::new("/nonexistent");
        config.certificate_cache = cache;
        let edge = Edge::new(config, pool);
        let entry = |i: u64| {
            let host = Hostname::parse(&format!("n{i}.bench.test")).ok()?;
            let route = EdgeRoute::Files { site: format!("site-{}", i / names_per_site.max(1)), content: "0123456789abcdef".into() };
            Some(EdgeChange::Set(EdgeEntry { host, route, certificate: Some(CertificateId(Uuid::from_u128(u128::from(i) + 1))) }))
        };
        edge.apply((0..names).filter_map(entry));
        edge.loaded();
        let index_cpu_ms = cpu_ms()? - cpu_before;
        let index_ms = started.elapsed().as_secs_f64() * 1000.0;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = listener.local_addr()?;
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(Arc::clone(&edge).serve(vec![listener], vec![], shutdown.clone()));
        let tls = client()?;
        let dial = |i: u64| handshake(target, format!("n{i}.bench.test"), &tls);
        dial(names - 1).await?;
        let start_ms = started.elapsed().as_secs_f64() * 1000.0;
        let cold_kib = resident_kib()?;

        let mut times = Vec::new();
        for i in 0..cold.min(names - 1) {
            // Spread over the whole index, each name once.
            times.push(dial(i * (names / cold.max(1)).max(1) % (names - 1)).await?);
        }
        let (median, max) = (percentile(&mut times, 50), percentile(&mut times, 100));
        let fill = cache.min(names);
        let failed = stream::iter(0..fill).map(dial).buffer_unordered(32).filter(|result| std::future::ready(result.is_err())).count().await;
        let full_kib = resident_kib()?;
        let stats = edge.stats();
        shutdown.cancel();
        served.await?;
        println!(
            r#"{{"names":{made},"start_ms":{start_ms:.0},"index_ms":{index_ms:.0},"index_cpu_ms":{index_cpu_ms},"of_it_parsing_names_ms":{names_ms:.0},"rss_before_mib":{},"rss_cold_mib":{},"bytes_per_name":{},"rss_full_cache_mib":{},"cached":{},"cold_median_ms":{median:.2},"cold_max_ms":{max:.2},"failed":{failed}}}"#,
            before_kib / 1024,
            cold_kib / 1024,
            cold_kib.saturating_sub(before_kib) * 1024 / names,
            full_kib / 1024,
            stats.certificates_cached_now,
        );
        Ok(())
    })
}

/// Of the whole process, in KiB.
fn resident_kib() -> Result<u64, AnyError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// User and system time of the process so far, in milliseconds: what a busy machine does not blur.
fn cpu_ms() -> Result<u64, AnyError> {
    const MS_PER_TICK: u64 = 10;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no process name")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks * MS_PER_TICK)
}

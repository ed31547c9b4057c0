//! The `ingest` bench: pre-signed certificate events over HTTP, acknowledged when they are on disk.
//!
//! The server is the release binary as it is started by anybody, its loops at work; the load is this process, one thread,
//! keep-alive connections, one event at a time on each. Domains are verified against a real DNS server first. Probing is
//! off: what is measured is taking events in, and beside it how far applying them lags behind. Prints one line of JSON.

use certwright_server::provenance::sign;
use certwright_testkit::dns::DnsServer;
use certwright_testkit::ports::free_address;
use certwright_testkit::postgres::Database;
use certwright_testkit::process::Process;
use certwright_testkit::scratch::Scratch;
use serde_json::{Value, json};
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const TOKEN: &str = "an-ingest-token-of-some-length";
const SOURCES: usize = 64;

fn secret(source: usize) -> String {
    format!("the-secret-of-source-{source:02}")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned();
    let number = |name: &str, otherwise: usize| value(name).map_or(Ok(otherwise), |text| text.parse());
    let (events, domains) = (number("--events", 200_000)?, number("--domains", 10_000)?);
    let connections = number("--connections", 64)?;
    let program = value("--server").map(PathBuf::from).ok_or("name the release binary with --server PATH")?;
    let database =
        if arguments.iter().any(|a| a == "--postgres") { Database::from_environment("ingest").map_err(|e| e.to_string())? } else { None };
    let backend = if database.is_some() { "postgres" } else { "sqlite" };
    let Some(dns) = DnsServer::start_or_say("ingest").map_err(|e| e.to_string())? else { return Ok(()) };
    let scratch = Scratch::new("ingest").map_err(|e| e.to_string())?;
    let api = free_address();
    let mut server = serve(&program, &scratch, api, &dns, database.as_ref())?;
    let url = format!("http://{api}");
    let admin = std::fs::read_to_string(scratch.path().join("data/admin.token"))?;
    let client = Api { http: reqwest::Client::builder().no_proxy().build()?, url, token: admin.trim().to_owned() };
    add_domains(&client, domains).await?;

    // A tenth first: files and caches as they are in a server that has run for a while.
    drive(api, requests(0, events / 10, domains)?, connections).await?;
    let measured = requests(events / 10, events, domains)?;
    let started = Instant::now();
    let mut micros = drive(api, measured, connections).await?;
    let seconds = started.elapsed().as_secs_f64();
    while client.count("/v1/admin/cert-events?status=pending&limit=1").await? > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lag = started.elapsed().as_secs_f64() - seconds;
    let sources: Value = client.get("/v1/admin/cert-sources").await?;
    let accepted: u64 = sources["items"].as_array().into_iter().flatten().filter_map(|one| one["accepted"].as_u64()).sum();
    assert_eq!(accepted as usize, events / 10 + events, "not every event was counted");
    micros.sort_unstable();
    let at = |share: f64| f64::from(micros[((micros.len() - 1) as f64 * share) as usize]) / 1000.0;
    println!(
        "{}",
        json!({
            "bench": "ingest", "backend": backend, "events": events, "connections": connections, "domains": domains,
            "seconds": seconds, "per_second": events as f64 / seconds, "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0),
            "applied_after_s": lag, "peak_mib": peak_mib(server.id())?,
        })
    );
    server.stop(certwright_testkit::process::Signal::Terminate, Duration::from_secs(30)).map_err(|e| e.to_string())?;
    Ok(())
}

fn serve(program: &PathBuf, scratch: &Scratch, api: SocketAddr, dns: &DnsServer, database: Option<&Database>) -> Result<Process> {
    let mut command = Command::new(program);
    command.arg("serve").args(["--api", &api.to_string(), "--data-dir"]).arg(scratch.path().join("data"));
    for free in ["--http", "--https", "--metrics"] {
        command.args([free, "127.0.0.1:0"]);
    }
    for set in [format!("resolvers={}", dns.address()), "probing=false".into(), "cert_event_rate=1000000".into()] {
        command.args(["--set", &set]);
    }
    let keys: Vec<String> = (0..SOURCES).map(|n| format!("bench:c{n}={}", secret(n))).collect();
    command.env("CERT_EVENT_INGEST_TOKEN", TOKEN).env("CERT_EVENT_SOURCE_KEYS", keys.join(",")).current_dir(scratch.path());
    if let Some(database) = database {
        command.env("DATABASE_URL", database.url());
    }
    let mut server = Process::start(command, &scratch.path().join("log")).map_err(|e| e.to_string())?;
    // Written when everything else is ready.
    let ready = scratch.path().join("data/server.json");
    server.wait_until("wrote where it listens", Duration::from_secs(60), || ready.is_file()).map_err(|e| e.to_string())?;
    Ok(server)
}

struct Api {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    async fn get(&self, path: &str) -> Result<Value> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    async fn count(&self, path: &str) -> Result<usize> {
        Ok(self.get(path).await?["items"].as_array().map_or(0, Vec::len))
    }
}

/// Added, verified and routed: then the server has nothing else to do.
async fn add_domains(client: &Api, domains: usize) -> Result<()> {
    let all: Vec<Value> = (0..domains).map(|n| json!({ "domain": name(n), "route": { "tunnel": "t-1", "region": "eu-1" } })).collect();
    let request = client.http.post(format!("{}/v1/domains/bulk", client.url)).bearer_auth(&client.token);
    request.json(&json!({ "domains": all })).send().await?.error_for_status()?;
    let deadline = Instant::now() + Duration::from_secs(300);
    while client.count("/v1/domains?tls_status=pending_route&limit=1").await? > 0 {
        assert!(Instant::now() < deadline, "the domains were not verified");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

fn name(n: usize) -> String {
    format!("d{n}.customers.example")
}

/// Each a whole HTTP request, signed.
fn requests(first: usize, count: usize, domains: usize) -> Result<Vec<Vec<u8>>> {
    // The load is no part of the house: it has its own clock.
    #[allow(clippy::disallowed_methods)]
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().to_string();
    let kinds = ["renewal_succeeded", "renewal_failed", "renewal_succeeded", "certificate_expiring"];
    let one = |n: usize| {
        let source = n % SOURCES;
        let body = json!({
            "source": "bench", "cluster_id": format!("c{source}"), "source_event_id": format!("event-{n}"),
            "domain": name(n % domains), "event_type": kinds[n / domains % kinds.len()],
            "certificate_ref": format!("sha256:{:064x}", n % domains), "not_after": "2027-02-19T12:00:00Z",
            "reason": "the CA could not reach the challenge", "payload": { "attempt": n % 7, "host": "web-1.eu-1.example.net" },
        })
        .to_string();
        let signature = sign(secret(source).as_bytes(), &timestamp, body.as_bytes());
        format!(
            "POST /v1/domains/cert-events HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             x-cert-event-token: {TOKEN}\r\nx-cert-source: bench\r\nx-cert-cluster: c{source}\r\nx-cert-timestamp: {timestamp}\r\n\
             x-cert-signature: {signature}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    Ok((first..first + count).map(one).collect())
}

/// Sends them all; the time of each in µs.
async fn drive(api: SocketAddr, requests: Vec<Vec<u8>>, connections: usize) -> Result<Vec<u32>> {
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            let mut tasks = Vec::new();
            for _ in 0..connections {
                tasks.push(tokio::task::spawn_local(one_connection(api, requests.clone(), next.clone())));
            }
            let mut micros = Vec::with_capacity(requests.len());
            for task in tasks {
                micros.extend(task.await??);
            }
            Ok(micros)
        })
        .await
}

async fn one_connection(api: SocketAddr, requests: Arc<Vec<Vec<u8>>>, next: Arc<AtomicUsize>) -> Result<Vec<u32>> {
    let mut stream = TcpStream::connect(api).await?;
    stream.set_nodelay(true)?;
    let (mut micros, mut buffer) = (Vec::new(), Vec::with_capacity(4096));
    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
        let started = Instant::now();
        stream.write_all(request).await?;
        buffer.clear();
        loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err("the server closed a connection".into());
            }
            if let Some(length) = whole(&buffer)
                && buffer.len() >= length
            {
                break;
            }
        }
        micros.push(started.elapsed().as_micros() as u32);
        if !buffer.starts_with(b"HTTP/1.1 202 ") {
            return Err(format!("refused: {}", String::from_utf8_lossy(&buffer)).into());
        }
    }
    Ok(micros)
}

/// The length of the answer, once its head is there.
fn whole(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    Some(head + length.trim().parse::<usize>().ok()?)
}

fn peak_mib(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}

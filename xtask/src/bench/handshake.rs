//! `handshake`: the built-in edge, nginx and Caddy with the same 10,000 certificates, each on core 0, the load on core 1.
//!
//! All three stay up and take turns, so that a slow minute of the machine hits each of them. The load generator may run out
//! of its core before a server does; so besides the rate there is what the server itself spent: handshakes a CPU second.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use certwright_testkit::caddy::Caddy;
use certwright_testkit::nginx::Nginx;
use certwright_testkit::ports::free_address;
use certwright_testkit::process::Process;
use certwright_testkit::scratch::Scratch;
use serde_json::{Value, json};

use super::examples::{figure, json_lines};
use super::{Effort, Table, release_example};
use crate::repo;

const NAMES: usize = 10_000;
const PATTERN: &str = "n{}.bench.test";
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const START_WITHIN: Duration = Duration::from_secs(120);

/// A server that is up, with the group of processes whose time counts.
struct Contender {
    name: String,
    address: SocketAddr,
    group: u32,
    rounds: Vec<Round>,
    _guard: Guard,
}

/// Keeps the server running; only its drop is of interest.
enum Guard {
    Edge { _process: Process, _scratch: Scratch },
    Nginx { _nginx: Nginx },
    Caddy { _caddy: Caddy },
}

#[derive(Debug, Clone, Copy)]
struct Round {
    per_second: f64,
    per_cpu_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(super) fn run(effort: Effort) -> Result<Table> {
    ensure!(std::thread::available_parallelism().map_or(1, usize::from) >= 2, "it needs two cores: one for the server, one for the load");
    let (rounds, seconds) = if effort == Effort::Quick { (1, 2) } else { (3, 10) };
    let load = release_example("handshake_load")?;
    let certificates = certificates()?;
    let mut notes = vec![
        "nginx: one worker, a server block for each name. Caddy: GOMAXPROCS=1, certificates from files. All: TLS 1.3, X25519, no tickets, chains of two.".to_owned(),
        format!("Median of {rounds} rounds of {seconds} s in turn, after one round that loads every certificate; 64 connections."),
    ];
    let mut contenders = vec![start_edge(&certificates)?];
    if Nginx::is_installed() {
        contenders.push(start_nginx(&certificates)?);
    } else {
        notes.push("Not run: nginx (it is not installed).".to_owned());
    }
    if Caddy::is_installed() {
        contenders.push(start_caddy(&certificates)?);
    } else {
        notes.push("Not run: Caddy (it is not installed).".to_owned());
    }
    for contender in &contenders {
        // After it has answered: nginx listens before it has its worker.
        round(&load, contender, 5)?;
        pin(contender.group)?;
    }
    for number in 1..=rounds {
        for contender in &mut contenders {
            let result = round(&load, contender, seconds)?;
            eprintln!("    round {number}, {}: {} a second", contender.name, figure(result.per_second));
            contender.rounds.push(result);
        }
    }
    Ok(table(&contenders, notes))
}

fn table(contenders: &[Contender], notes: Vec<String>) -> Table {
    let columns = ["server", "handshakes/s", "handshakes/CPU s of the server", "p50 ms", "p99 ms"].map(str::to_owned).to_vec();
    let median = |contender: &Contender, of: fn(&Round) -> f64| {
        let mut values: Vec<f64> = contender.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        figure(values[values.len() / 2])
    };
    let rows = contenders
        .iter()
        .map(|contender| {
            let figures: [fn(&Round) -> f64; 4] = [|r| r.per_second, |r| r.per_cpu_second, |r| r.p50_ms, |r| r.p99_ms];
            std::iter::once(contender.name.clone()).chain(figures.map(|of| median(contender, of))).collect()
        })
        .collect();
    Table { columns, rows, notes }
}

fn round(load: &Path, contender: &Contender, seconds: u32) -> Result<Round> {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CORE]).arg(load);
    command.args(["--target", &contender.address.to_string(), "--names", &NAMES.to_string(), "--pattern", PATTERN]);
    command.args(["--connections", "64", "--seconds", &seconds.to_string()]);
    let before = cpu_seconds(contender.group)?;
    let result = json_lines(command)?.pop().context("the load printed no result")?;
    let spent = cpu_seconds(contender.group)? - before;
    let errors = number(&result, "errors")?;
    ensure!(errors == 0.0, "{errors} handshakes with {} failed", contender.name);
    Ok(Round {
        per_second: number(&result, "per_second")?,
        per_cpu_second: number(&result, "handshakes")? / spent.max(0.01),
        p50_ms: number(&result, "p50_ms")?,
        p99_ms: number(&result, "p99_ms")?,
    })
}

fn number(result: &Value, key: &str) -> Result<f64> {
    result[key].as_f64().with_context(|| format!("the load says nothing about `{key}`: {result}"))
}

fn start_edge(certificates: &Path) -> Result<Contender> {
    let example = release_example("edge_server")?;
    let scratch = Scratch::new("edge")?;
    let address = free_address();
    let mut command = Command::new(example);
    command.arg("--certs").arg(certificates);
    command.args(["--names", &NAMES.to_string(), "--threads", "1", "--listen", &address.to_string()]);
    let mut process = Process::start(command, &scratch.path().join("log"))?;
    process.wait_listening(address, START_WITHIN)?;
    let group = process.id();
    Ok(Contender {
        name: "Certwright".into(),
        address,
        group,
        rounds: Vec::new(),
        _guard: Guard::Edge { _process: process, _scratch: scratch },
    })
}

fn start_nginx(certificates: &Path) -> Result<Contender> {
    let address = free_address();
    let folder = certificates.display();
    let mut http = String::from(
        "ssl_protocols TLSv1.3;\nssl_ecdh_curve X25519;\nssl_session_tickets off;\nssl_session_cache off;\n\
         ssl_conf_command NumTickets 0;\n\
         server_names_hash_max_size 65536;\nserver_names_hash_bucket_size 128;\n",
    );
    for index in 0..NAMES {
        let name = PATTERN.replace("{}", &index.to_string());
        http.push_str(&format!(
            "server {{ listen {address} ssl; server_name {name}; ssl_certificate {folder}/{index}.crt; ssl_certificate_key {folder}/{index}.key; return 204; }}\n"
        ));
    }
    let mut nginx = Nginx::start(&http, address)?;
    let group = nginx.process().id();
    Ok(Contender { name: "nginx".into(), address, group, rounds: Vec::new(), _guard: Guard::Nginx { _nginx: nginx } })
}

fn start_caddy(certificates: &Path) -> Result<Contender> {
    let address = free_address();
    let file = |index: usize, ending: &str| certificates.join(format!("{index}.{ending}"));
    let pairs: Vec<Value> = (0..NAMES).map(|index| json!({"certificate": file(index, "crt"), "key": file(index, "key")})).collect();
    let apps = json!({
        "tls": {"certificates": {"load_files": pairs}, "session_tickets": {"disabled": true}, "cache": {"capacity": 2 * NAMES}},
        "http": {"servers": {"bench": {
            "listen": [address.to_string()],
            "automatic_https": {"disable": true},
            "tls_connection_policies": [{"protocol_min": "tls1.3", "curves": ["x25519"]}],
            "routes": [{"handle": [{"handler": "static_response", "status_code": 204}]}],
        }}},
    });
    let mut caddy = Caddy::start_json(&apps.to_string(), address, Some(1))?;
    let group = caddy.process().id();
    Ok(Contender { name: "Caddy".into(), address, group, rounds: Vec::new(), _guard: Guard::Caddy { _caddy: caddy } })
}

/// The certificates, made once and kept outside the tree.
fn certificates() -> Result<PathBuf> {
    let folder = repo::cache()?.join(format!("bench-certificates-{NAMES}"));
    if folder.join("complete").is_file() {
        return Ok(folder);
    }
    eprintln!("    making {NAMES} certificates, once");
    let maker = release_example("make_certificates")?;
    let mut command = Command::new(maker);
    command.arg(&folder).args([&NAMES.to_string(), PATTERN]);
    crate::step::passing_through(command)?;
    std::fs::write(folder.join("complete"), "")?;
    Ok(folder)
}

/// Every process of the group with every thread of it, to the server's core.
fn pin(group: u32) -> Result<()> {
    for process in members(group)? {
        let output = Command::new("taskset")
            .args(["-acp", SERVER_CORE, &process.id.to_string()])
            .output()
            .context("cannot run taskset (Debian: util-linux)")?;
        ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn cpu_seconds(group: u32) -> Result<f64> {
    // The kernel counts in USER_HZ, which is 100 for every program on Linux.
    Ok(members(group)?.iter().map(|process| process.ticks as f64 / 100.0).sum())
}

struct Member {
    id: u32,
    ticks: u64,
}

/// The processes of a group, from /proc (proc_pid_stat(5): field 5 is the group, 14 and 15 the time).
fn members(group: u32) -> Result<Vec<Member>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ended in between has no time to count.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((of, ticks)) = group_and_ticks(&stat)
            && of == group
        {
            found.push(Member { id, ticks });
        }
    }
    ensure!(!found.is_empty(), "the server with process group {group} is gone");
    Ok(found)
}

fn group_and_ticks(stat: &str) -> Option<(u32, u64)> {
    // The name in field 2 may hold spaces and brackets; everything after its last bracket is numbers.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let time = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((fields.get(5 - 3)?.parse().ok()?, time(14)? + time(15)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_group_are_read_past_a_strange_name() {
        let stat = "12 (a) b) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(group_and_ticks(stat), Some((77, 300)));
    }

    #[test]
    fn our_own_group_has_at_least_us() {
        let (group, _) = group_and_ticks(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(members(group).unwrap().iter().any(|member| member.id == std::process::id()));
    }
}

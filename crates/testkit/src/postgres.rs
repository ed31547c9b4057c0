//! PostgreSQL: a fresh database on the server that the environment names, or a whole cluster of one's own to stop and restart.
//!
//! A cluster sorts text by the rules of a language (English, which skips dots and dashes) and not by bytes, as most
//! installations do: an order that only holds for bytes then shows here. It trusts everybody on 127.0.0.1 and is gone with its guard.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::missing::{not_run, program};
use crate::ports::free_port;
use crate::process::{Process, Signal, we_are_root};
use crate::scratch::Scratch;

/// Names the server for tests: an administrator's URL such as `postgres://postgres@127.0.0.1:5432/postgres`.
pub const ENVIRONMENT: &str = "CERTWRIGHT_TEST_POSTGRES";

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A database of one test, dropped with its guard.
#[derive(Debug)]
pub struct Database {
    admin_url: String,
    name: String,
}

impl Database {
    /// A fresh database on the server of CERTWRIGHT_TEST_POSTGRES; without that, says what does not run and gives `None`.
    ///
    /// # Errors
    /// When the server is named and does not give one.
    pub fn from_environment(what: &str) -> Result<Option<Database>> {
        match std::env::var(ENVIRONMENT) {
            Ok(url) => Database::create(&url).map(Some),
            Err(_) => {
                not_run(what, &format!("{ENVIRONMENT} is not set"));
                Ok(None)
            }
        }
    }

    /// # Errors
    /// When `psql` is not there or the server refuses.
    pub fn create(admin_url: &str) -> Result<Database> {
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("certwright_{}_{serial}", std::process::id());
        // A test process with our number that was killed may have left one.
        psql(admin_url, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        psql(admin_url, &format!("CREATE DATABASE {name}"))?;
        Ok(Database { admin_url: admin_url.to_owned(), name })
    }

    pub fn url(&self) -> String {
        with_database(&self.admin_url, &self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server may be gone on purpose; its databases are then gone or somebody else's matter.
        let _ = psql(&self.admin_url, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// No fsync: for tests, which lose nothing that they miss.
    Off,
    /// As installed: for figures.
    On,
}

/// A PostgreSQL server of one's own.
#[derive(Debug)]
pub struct Cluster {
    scratch: Scratch,
    port: u16,
    durability: Durability,
    process: Option<Process>,
}

impl Cluster {
    /// True when the server's programs are installed.
    pub fn is_installed() -> bool {
        server_program("initdb").is_some() && server_program("postgres").is_some()
    }

    /// Makes and starts one. As root it runs as the user `postgres`, which the Debian package makes.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the error carries the end of its log.
    pub fn start(durability: Durability) -> Result<Cluster> {
        let scratch = Scratch::new("pg")?;
        if we_are_root() {
            scratch.give_to("postgres")?;
        }
        let output = server_command("initdb")?
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--locale-provider=icu", "--icu-locale=en-US-u-ka-shifted", "--no-instructions"])
            .arg(scratch.path().join("data"))
            .current_dir(scratch.path())
            .output()
            .context("cannot run initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr).trim());
        let mut cluster = Cluster { scratch, port: free_port(), durability, process: None };
        cluster.start_again()?;
        Ok(cluster)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The administrator's URL.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub fn version(&self) -> Result<String> {
        psql(&self.url(), "SHOW server_version")
    }

    /// Stops it as an administrator would (`fast`: connections are closed, nothing is lost).
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::Interrupt, STOP_WITHIN)?;
        }
        Ok(())
    }

    /// Starts it again on the same port with the same data; nothing when it runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = server_command("postgres")?;
        command.arg("-D").arg(self.scratch.path().join("data")).current_dir(self.scratch.path());
        let port = format!("port={}", self.port);
        let mut settings = vec!["listen_addresses=127.0.0.1", &port, "unix_socket_directories=", "max_connections=300"];
        if self.durability == Durability::Off {
            settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
        }
        for setting in settings {
            command.args(["-c", setting]);
        }
        let mut process = Process::start(command, &self.scratch.path().join("log"))?;
        let url = self.url();
        process.wait_until("answers a query", START_WITHIN, || psql(&url, "SELECT 1").is_ok())?;
        self.process = Some(process);
        Ok(())
    }

    /// # Errors
    /// As `stop` and `start_again`.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // In order while the folder still is there; what does not follow is killed by the process guard.
        let _ = self.stop();
    }
}

/// Runs one statement and gives what it printed.
fn psql(url: &str, statement: &str) -> Result<String> {
    let program = server_program("psql").context("the program `psql` is not there (Debian: postgresql-client)")?;
    let output = Command::new(program)
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement])
        .env("PGCONNECT_TIMEOUT", "5")
        .output()
        .context("cannot run psql")?;
    ensure!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A server program, as the user who may run it.
fn server_command(name: &str) -> Result<Command> {
    let Some(program) = server_program(name) else {
        bail!("the program `{name}` is not there (Debian: postgresql)");
    };
    if !we_are_root() {
        return Ok(Command::new(program));
    }
    // Not runuser, which stays in between as a parent: a signal must reach the server itself.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
    Ok(command)
}

/// Debian keeps the server's programs off PATH, in a folder for each major version; the newest wins.
fn server_program(name: &str) -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name)))
        })
        .filter(|(_, path)| path.is_file())
        .collect();
    versions.sort();
    versions.pop().map(|(_, path)| path).or_else(|| program(name))
}

/// The same server, another database: the path of the URL is replaced, a query stays.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority_end = base.find("://").map_or(0, |at| at + 3);
    let path = base[authority_end..].find('/').map_or(base.len(), |at| authority_end + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &base[..path])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::is_closed;

    #[test]
    fn the_database_of_a_url_is_replaced_and_the_rest_stays() {
        assert_eq!(with_database("postgres://a@127.0.0.1:5/postgres", "x"), "postgres://a@127.0.0.1:5/x");
        assert_eq!(with_database("postgres://a@127.0.0.1:5", "x"), "postgres://a@127.0.0.1:5/x");
        assert_eq!(with_database("postgres://h/p?sslmode=disable", "x"), "postgres://h/x?sslmode=disable");
    }

    #[test]
    fn a_cluster_keeps_its_data_and_port_over_a_restart_and_is_gone_with_its_guard() {
        if !Cluster::is_installed() {
            return not_run("a PostgreSQL cluster of our own", "initdb is not there");
        }
        let mut cluster = Cluster::start(Durability::Off).unwrap();
        let database = Database::create(&cluster.url()).unwrap();
        psql(&database.url(), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").unwrap();
        cluster.stop().unwrap();
        assert!(is_closed(cluster.address()));
        assert!(psql(&database.url(), "SELECT 1").is_err());
        cluster.start_again().unwrap();
        assert_eq!(psql(&database.url(), "SELECT n FROM kept").unwrap(), "7");
        assert_eq!(psql(&database.url(), "SELECT 'a-b' < 'aa'").unwrap(), "f", "text sorts by language, not by bytes");
        let address = cluster.address();
        drop(database);
        let left = psql(&cluster.url(), "SELECT count(*) FROM pg_database WHERE datname LIKE 'certwright%'").unwrap();
        assert_eq!(left, "0");
        drop(cluster);
        assert!(is_closed(address));
    }
}

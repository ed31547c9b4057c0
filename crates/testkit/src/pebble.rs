//! A real Pebble: the ACME test CA of Let's Encrypt, with the faults that it can make switched on or off.
//!
//! Debian's is 2.4, which knows neither ARI nor profiles; the newest is built with Go by `cargo xtask test`. Both run from the
//! same configuration. Its HTTPS certificate is made here and trusted by nobody else. It keeps everything in memory: a
//! restart loses accounts and orders and makes another root.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::missing::{not_run, program};
use crate::ports::free_address;
use crate::process::Process;
use crate::scratch::Scratch;

const START_WITHIN: Duration = Duration::from_secs(20);
/// The external account of [`PebbleOptions::eab`]: the key identifier and the key as a CA hands it out.
pub const EAB_KID: &str = "kid-1";
pub const EAB_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
/// A profile that the newest Pebble offers beside `default`.
pub const SHORT_PROFILE: &str = "shortlived";
/// In seconds.
pub const SHORT_PROFILE_VALIDITY: u64 = 518_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PebbleBinary {
    /// The distribution's.
    Old,
    /// With ARI and profiles: CERTWRIGHT_TEST_PEBBLE_NEW, CERTWRIGHT_TEST_BIN_DIR, or the user's cache.
    New,
}

#[derive(Debug, Clone)]
pub struct PebbleOptions {
    /// Good nonces that are refused, in percent.
    pub nonce_reject_percent: u8,
    /// Sleeps up to 15 seconds before each validation, as Pebble does by itself.
    pub va_sleep: bool,
    /// The longest of those sleeps, in seconds.
    pub va_sleep_seconds: u8,
    /// Every challenge is valid without a look.
    pub always_valid: bool,
    /// Valid authorizations that are used again, in percent.
    pub authz_reuse_percent: u8,
    /// Where HTTP-01 dials.
    pub http_port: u16,
    /// Where TLS-ALPN-01 dials.
    pub tls_port: u16,
    pub dns_server: Option<SocketAddr>,
    /// Accounts need the external account above.
    pub eab: bool,
    pub binary: PebbleBinary,
    /// Of the certificates; Pebble's own default without it.
    pub validity_seconds: Option<u64>,
    /// `Retry-After` of orders and authorizations that are not done, in seconds; none with 0 (the newest Pebble only).
    pub retry_after_seconds: u32,
    /// Names that are refused.
    pub blocked: Vec<String>,
}

impl Default for PebbleOptions {
    /// Without faults: validation at once, every nonce accepted, nothing reused, Debian's Pebble.
    fn default() -> Self {
        Self {
            nonce_reject_percent: 0,
            va_sleep: false,
            va_sleep_seconds: 3,
            always_valid: false,
            authz_reuse_percent: 0,
            http_port: 5002,
            tls_port: 5001,
            dns_server: None,
            eab: false,
            binary: PebbleBinary::Old,
            validity_seconds: None,
            retry_after_seconds: 0,
            blocked: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub struct Pebble {
    options: PebbleOptions,
    program: PathBuf,
    scratch: Scratch,
    listen: SocketAddr,
    management: SocketAddr,
    https_pem: String,
    process: Process,
}

impl Pebble {
    /// The program, or `None` after saying that `what` did not run.
    pub fn program_or_say(binary: PebbleBinary, what: &str) -> Option<PathBuf> {
        let found = find(binary);
        if found.is_none() {
            match binary {
                PebbleBinary::Old => not_run(what, "the program `pebble` is not there"),
                PebbleBinary::New => not_run("ARI and profiles", "newest Pebble is not there"),
            }
        }
        found
    }

    /// # Errors
    /// When the program is not there or does not come up.
    pub fn start(options: PebbleOptions) -> Result<Pebble> {
        let program = find(options.binary).context("the program `pebble` is not there (Debian: pebble)")?;
        let scratch = Scratch::new("pebble")?;
        let (listen, management) = (free_address(), free_address());
        let https = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let https_pem = https.cert.pem();
        let certificate = scratch.write("https.pem", &https_pem)?;
        let key = scratch.write("https.key", https.signing_key.serialize_pem())?;
        let validity = options.validity_seconds.unwrap_or(7_776_000);
        let mut pebble = json!({
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": options.http_port,
            "tlsPort": options.tls_port,
            "ocspResponderURL": "",
            "domainBlocklist": options.blocked,
            "externalAccountBindingRequired": options.eab,
            "retryAfter": { "authz": options.retry_after_seconds, "order": options.retry_after_seconds },
            "keyAlgorithm": "ecdsa",
            "certificateValidityPeriod": validity,
            "profiles": {
                "default": { "description": "the usual", "validityPeriod": validity },
                SHORT_PROFILE: { "description": "short", "validityPeriod": SHORT_PROFILE_VALIDITY },
            },
        });
        if options.eab {
            pebble["externalAccountMACKeys"] = json!({ EAB_KID: EAB_KEY });
        }
        scratch.write("config.json", json!({ "pebble": pebble }).to_string())?;
        let process = run(&program, &scratch, &options, listen, management)?;
        Ok(Pebble { options, program, scratch, listen, management, https_pem, process })
    }

    pub fn directory_url(&self) -> String {
        format!("https://{}/dir", self.listen)
    }

    /// What a client has to trust to talk to it. Not what signs.
    pub fn https_root_pem(&self) -> &str {
        &self.https_pem
    }

    /// The root that its certificates lead to.
    ///
    /// # Errors
    /// When the management interface does not answer.
    pub async fn root_pem(&self) -> Result<String> {
        self.managed("roots/0").await
    }

    /// The intermediate that signs.
    ///
    /// # Errors
    /// When the management interface does not answer.
    pub async fn intermediate_pem(&self) -> Result<String> {
        self.managed("intermediates/0").await
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(|_| ())
    }

    /// Keeps its sockets and answers nothing.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    /// # Errors
    /// When the signal cannot be sent.
    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    /// Kills it and starts it on the same ports: it has forgotten everything.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = run(&self.program, &self.scratch, &self.options, self.listen, self.management)?;
        Ok(())
    }

    async fn managed(&self, path: &str) -> Result<String> {
        let trusted = reqwest::Certificate::from_pem(self.https_pem.as_bytes())?;
        let client = reqwest::Client::builder().tls_certs_only([trusted]).no_proxy().timeout(Duration::from_secs(10)).build()?;
        let url = format!("https://{}/{path}", self.management);
        Ok(client.get(url).send().await?.error_for_status()?.text().await?)
    }
}

fn find(binary: PebbleBinary) -> Option<PathBuf> {
    if binary == PebbleBinary::Old {
        return program("pebble");
    }
    let named = std::env::var_os("CERTWRIGHT_TEST_PEBBLE_NEW").map(PathBuf::from);
    let built = std::env::var_os("CERTWRIGHT_TEST_BIN_DIR").map(|folder| PathBuf::from(folder).join("pebble-newest"));
    let cached = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/certwright/bin/pebble-newest"));
    [named, built, cached].into_iter().flatten().find(|candidate| candidate.is_file())
}

fn run(program: &PathBuf, scratch: &Scratch, options: &PebbleOptions, listen: SocketAddr, management: SocketAddr) -> Result<Process> {
    let mut command = Command::new(program);
    command.current_dir(scratch.path()).arg("-config").arg("config.json");
    if let Some(server) = options.dns_server {
        command.arg("-dnsserver").arg(server.to_string());
    }
    command.env("PEBBLE_WFE_NONCEREJECT", options.nonce_reject_percent.to_string());
    command.env("PEBBLE_AUTHZREUSE", options.authz_reuse_percent.to_string());
    if options.va_sleep {
        command.env("PEBBLE_VA_SLEEPTIME", options.va_sleep_seconds.to_string());
    } else {
        command.env("PEBBLE_VA_NOSLEEP", "1");
    }
    if options.always_valid {
        command.env("PEBBLE_VA_ALWAYS_VALID", "1");
    }
    let mut process = Process::start(command, &scratch.path().join("log"))?;
    process.wait_listening(listen, START_WITHIN)?;
    process.wait_listening(management, START_WITHIN)?;
    Ok(process)
}

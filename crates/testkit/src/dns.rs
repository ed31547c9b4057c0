//! A real DNS server for tests: `pebble-challtestsrv`, told its answers over its management interface.
//!
//! It answers every name that nobody set with 127.0.0.1 and no IPv6 address. It cannot say NXDOMAIN.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::missing::program_or_say;
use crate::ports::free_address;
use crate::process::Process;
use crate::scratch::Scratch;

const PROGRAM: &str = "pebble-challtestsrv";
const START_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    management: SocketAddr,
    client: reqwest::Client,
    process: Process,
    _scratch: Scratch,
}

impl DnsServer {
    /// `None` after saying that `what` did not run, where the program is not there.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_or_say(what: &str) -> Result<Option<DnsServer>> {
        let Some(program) = program_or_say(PROGRAM, what) else { return Ok(None) };
        let scratch = Scratch::new("dns")?;
        let (address, management) = (free_address(), free_address());
        let mut command = Command::new(program);
        command.args(["-dns01", &address.to_string(), "-management", &management.to_string()]);
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        let mut process = Process::start(command, &scratch.path().join("log"))?;
        process.wait_listening(management, START_WITHIN)?;
        // The same port serves UDP and TCP.
        process.wait_listening(address, START_WITHIN)?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Some(DnsServer { address, management, client, process, _scratch: scratch }))
    }

    /// UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For pausing and killing it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The addresses of a host, of both families, instead of those it had. Without an IPv4 one it falls back to 127.0.0.1.
    ///
    /// # Errors
    /// When the management interface does not answer.
    pub async fn set_addresses(&self, host: &str, addresses: &[IpAddr]) -> Result<()> {
        let of = |wanted: fn(&IpAddr) -> bool| addresses.iter().filter(|a| wanted(a)).map(ToString::to_string).collect::<Vec<_>>();
        for (family, listed) in [("a", of(IpAddr::is_ipv4)), ("aaaa", of(IpAddr::is_ipv6))] {
            self.tell(&format!("clear-{family}"), json!({ "host": dotted(host) })).await?;
            if !listed.is_empty() {
                self.tell(&format!("add-{family}"), json!({ "host": dotted(host), "addresses": listed })).await?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// When the management interface does not answer.
    pub async fn set_cname(&self, host: &str, target: &str) -> Result<()> {
        self.tell("set-cname", json!({ "host": dotted(host), "target": dotted(target) })).await
    }

    /// Adds one string to those at `name` (all labels of it, such as `_certwright.shop.example.com`).
    ///
    /// # Errors
    /// When the management interface does not answer.
    pub async fn add_txt(&self, name: &str, value: &str) -> Result<()> {
        self.tell("set-txt", json!({ "host": dotted(name), "value": value })).await
    }

    /// # Errors
    /// When the management interface does not answer.
    pub async fn clear_txt(&self, name: &str) -> Result<()> {
        self.tell("clear-txt", json!({ "host": dotted(name) })).await
    }

    /// Every question about it is answered with SERVFAIL, until [`DnsServer::clear_servfail`].
    ///
    /// # Errors
    /// When the management interface does not answer.
    pub async fn set_servfail(&self, host: &str) -> Result<()> {
        self.tell("set-servfail", json!({ "host": dotted(host) })).await
    }

    /// # Errors
    /// When the management interface does not answer.
    pub async fn clear_servfail(&self, host: &str) -> Result<()> {
        self.tell("clear-servfail", json!({ "host": dotted(host) })).await
    }

    async fn tell(&self, what: &str, body: Value) -> Result<()> {
        let url = format!("http://{}/{what}", self.management);
        self.client.post(url).body(body.to_string()).send().await?.error_for_status()?;
        Ok(())
    }
}

fn dotted(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

//! A real Caddy with a given Caddyfile, in a folder of its own, optionally with certificates from an ACME directory.
//!
//! Its certificates and account live in its folder, so each start is a first start. It never touches the system's trust
//! store. Debian has 2.6.2, and the options here are those that it knows.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::missing::program;
use crate::ports::free_address;
use crate::process::Process;
use crate::scratch::Scratch;

const START_WITHIN: Duration = Duration::from_secs(60);

/// Where Caddy listens, and where its certificates come from when they do not come from files.
#[derive(Debug, Clone)]
pub struct CaddyOptions {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub acme: Option<AcmeSource>,
    /// `GOMAXPROCS`: how many cores it computes on; `None` leaves it to Go.
    pub cores: Option<u32>,
}

#[derive(Debug, Clone)]
pub struct AcmeSource {
    pub directory_url: String,
    /// PEM of the root that signed the directory's own HTTPS certificate.
    pub roots_pem: String,
}

#[derive(Debug)]
pub struct Caddy {
    scratch: Scratch,
    process: Process,
    admin: SocketAddr,
}

impl Caddy {
    pub fn is_installed() -> bool {
        program("caddy").is_some()
    }

    /// Starts it with `sites` (site blocks of a Caddyfile) and waits for its HTTPS port.
    ///
    /// # Errors
    /// When Caddy is not installed, finds the Caddyfile wrong, or does not come up.
    pub fn start(options: &CaddyOptions, sites: &str) -> Result<Caddy> {
        let scratch = Scratch::new("caddy")?;
        let admin = free_address();
        let file = scratch.write("Caddyfile", format!("{}{sites}\n", global_block(options, admin, &scratch)?))?;
        Caddy::start_in(scratch, admin, &["--adapter", "caddyfile", "--config"], &file, options.https, options.cores)
    }

    /// Starts it with the `apps` of a JSON configuration, which is quicker than a Caddyfile for thousands of names.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_json(apps: &str, listen: SocketAddr, cores: Option<u32>) -> Result<Caddy> {
        let scratch = Scratch::new("caddy")?;
        let admin = free_address();
        let file = scratch.write("caddy.json", format!(r#"{{"admin": {{"listen": "{admin}"}}, "apps": {apps}}}"#))?;
        Caddy::start_in(scratch, admin, &["--config"], &file, listen, cores)
    }

    fn start_in(
        scratch: Scratch,
        admin: SocketAddr,
        options: &[&str],
        file: &Path,
        listen: SocketAddr,
        cores: Option<u32>,
    ) -> Result<Caddy> {
        let program = program("caddy").context("the program `caddy` is not there (Debian: caddy)")?;
        let mut command = Command::new(program);
        command.arg("run").args(options).arg(file);
        command.current_dir(scratch.path());
        for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, scratch.path());
        }
        if let Some(cores) = cores {
            command.env("GOMAXPROCS", cores.to_string());
        }
        let mut process = Process::start(command, &scratch.path().join("log"))?;
        process.wait_listening(listen, START_WITHIN)?;
        Ok(Caddy { scratch, process, admin })
    }

    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Its administration API.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn global_block(options: &CaddyOptions, admin: SocketAddr, scratch: &Scratch) -> Result<String> {
    let (http, https) = (options.http.port(), options.https.port());
    let bind = options.https.ip();
    let acme = match &options.acme {
        None => String::new(),
        Some(source) => {
            let roots = scratch.write("acme-roots.pem", &source.roots_pem)?;
            format!("  acme_ca {}\n  acme_ca_root {}\n  email test@example.test\n", source.directory_url, roots.display())
        }
    };
    Ok(format!("{{\n  admin {admin}\n  http_port {http}\n  https_port {https}\n  default_bind {bind}\n  skip_install_trust\n{acme}}}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::missing::not_run;
    use crate::process::is_closed;

    #[test]
    fn starts_with_its_own_certificates_in_its_own_folder_and_is_gone_with_its_guard() {
        if !Caddy::is_installed() {
            return not_run("Caddy", "the program `caddy` is not there");
        }
        let options = CaddyOptions { http: free_address(), https: free_address(), acme: None, cores: Some(1) };
        let mut caddy = Caddy::start(&options, "caddy.test {\n  tls internal\n  respond ok\n}").unwrap();
        let own = caddy.folder().join("caddy/certificates/local/caddy.test/caddy.test.crt");
        caddy.process().wait_until("made its certificate", Duration::from_secs(20), || own.is_file()).unwrap();
        drop(caddy);
        assert!(is_closed(options.https));
    }
}

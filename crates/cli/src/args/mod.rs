//! The command line: what there is, and an example for each of it. It does nothing.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

mod client;
mod events;

pub(crate) use client::*;
pub(crate) use events::*;

#[derive(Debug, Parser)]
#[command(
    name = "certwright",
    version,
    about = "Sites, domains and certificates: from a request to a handshake that proves the right certificate is served",
    disable_help_subcommand = true,
    after_help = "Examples:\n  certwright demo\n  certwright serve --data-dir /var/lib/certwright\n  certwright site add-static hello ./public"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show everything at work on this machine; needs nothing installed
    #[command(after_help = "Examples:\n  certwright demo\n  certwright demo --once --output json")]
    Demo(DemoArgs),
    /// Run the server: edge, loops, API, dashboard and metrics
    #[command(
        after_help = "Examples:\n  certwright serve\n  certwright serve --config /etc/certwright.toml --set base_domain=sites.example.net\n\nEvery setting: docs/configuration.md"
    )]
    Serve(ServeArgs),
    /// Make, show and remove sites, and set their domain
    #[command(after_help = "Example:\n  certwright site list")]
    Site(SiteArgs),
    /// Add, show and remove domains, with or without a site
    #[command(after_help = "Example:\n  certwright domain list --tls-status tls_error")]
    Domain(DomainArgs),
    /// Look at certificates, and order new ones
    #[command(after_help = "Example:\n  certwright cert show shop.example.com")]
    Cert(CertArgs),
    /// The internal certificate authority
    #[command(after_help = "Example:\n  certwright ca root --out root.pem")]
    Ca(CaArgs),
    /// Look at what was asked for, and how far it is
    #[command(after_help = "Example:\n  certwright job list")]
    Job(JobArgs),
    /// Report certificate events, look at them, and try them again
    #[command(after_help = "Example:\n  certwright event list --status failed")]
    Event(EventArgs),
    /// Who reports certificate events, and how it went
    #[command(after_help = "Example:\n  certwright source list")]
    Source(SourceArgs),
    /// Make and revoke access tokens
    #[command(after_help = "Example:\n  certwright token create deploy --role operator")]
    Token(TokenArgs),
    /// Who changed what
    #[command(after_help = "Example:\n  certwright audit list --limit 20")]
    Audit(AuditArgs),
    /// Say what is wrong, why, and whose move it is; exit code 1 if anything is
    #[command(after_help = "Examples:\n  certwright doctor\n  certwright doctor --repair")]
    Doctor(DoctorArgs),
    /// Dial names as a customer would, and judge the certificates that are served; needs no server
    #[command(
        after_help = "Examples:\n  certwright probe example.com\n  certwright probe shop.localhost --address 127.0.0.1:8443 --root certwright-data/root.pem\n  certwright probe --output json < names.txt"
    )]
    Probe(ProbeArgs),
    /// The keys that seal the database
    #[command(after_help = "Example:\n  certwright secrets rotate-key --to-file /etc/certwright/kek-2")]
    Secrets(SecretsArgs),
    /// Write a completion script for a shell
    #[command(after_help = "Example:\n  certwright completions bash > /etc/bash_completion.d/certwright")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write a page of the manual
    #[command(hide = true, after_help = "Example:\n  certwright docs configuration > docs/configuration.md")]
    Docs {
        /// Which page
        page: Page,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Page {
    Configuration,
    Cli,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Exit after the proof: 0 if everything was proven, 1 if not
    #[arg(long)]
    pub(crate) once: bool,
    /// How the proof is printed
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Format,
    /// Keep the data here instead of in a temporary folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Do not remove the temporary folder at the end
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Where settings come from. Flags are over variables, and those over the file.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Settings file; `certwright.toml` in the working folder by default
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder for the database, content, keys and the administrator's token
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// `sqlite:PATH` or `postgres://…`; DATABASE_URL keeps a password off the process list
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Any setting by its name
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// API and dashboard
    #[arg(long, value_name = "ADDR")]
    pub(crate) api: Option<String>,
    /// The edge's HTTP listener
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// The edge's HTTPS listener
    #[arg(long, value_name = "ADDR")]
    pub(crate) https: Option<String>,
    /// Prometheus metrics
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has the form NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

impl SettingsArgs {
    pub(crate) fn given(&self) -> crate::settings::Given {
        let mut values = self.set.clone();
        if let Some(dir) = &self.data_dir {
            values.push(("data_dir".into(), dir.display().to_string()));
        }
        if let Some(url) = &self.database_url {
            values.push(("database_url".into(), url.clone()));
        }
        crate::settings::Given { config: self.config.clone(), values }
    }
}

impl ServeArgs {
    pub(crate) fn given(&self) -> crate::settings::Given {
        let mut given = self.settings.given();
        let flags = [("api", &self.api), ("http", &self.http), ("https", &self.https), ("metrics", &self.metrics)];
        given.values.extend(flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
        given
    }
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Names to look at; from standard input, one a line, where there is none (or `-`)
    pub(crate) hosts: Vec<String>,
    /// Dial this address instead of those that DNS gives; the port may be left out
    #[arg(long, value_name = "ADDR")]
    pub(crate) address: Option<Target>,
    /// The port to dial
    #[arg(long, default_value_t = 443)]
    pub(crate) port: u16,
    /// PEM file with roots to trust beside the operating system's
    #[arg(long, value_name = "FILE")]
    pub(crate) root: Vec<PathBuf>,
    /// The certificate that has to be served, as `sha256:` and 64 hex digits
    #[arg(long, value_name = "REF")]
    pub(crate) expect: Option<String>,
    /// DNS server to ask instead of the operating system's
    #[arg(long, value_name = "ADDR")]
    pub(crate) resolver: Vec<String>,
    /// Dials at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: u16,
    /// For one dial
    #[arg(long, default_value = "8s", value_parser = patience)]
    pub(crate) timeout: Duration,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

/// An address, with or without a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) ip: std::net::IpAddr,
    pub(crate) port: Option<u16>,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.parse().map(|ip| Self { ip, port: None });
        let whole = || text.parse::<SocketAddr>().map(|address| Self { ip: address.ip(), port: Some(address.port()) });
        bare.or_else(|_| whole()).map_err(|_| "an IP address is expected, such as 192.0.2.10 or 192.0.2.10:8443".into())
    }
}

#[derive(Debug, Args)]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    pub(crate) command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Seal the data keys with another key-encryption key; works on the database itself
    #[command(
        after_help = "Examples:\n  certwright secrets rotate-key --to-file /etc/certwright/kek-2\n  certwright secrets rotate-key --to-command pass show certwright/kek\n\nThen set kek_file or kek_command to the new one. A server that runs goes on with the old setting until it is started again."
    )]
    RotateKey(RotateArgs),
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("to").required(true).args(["to_file", "to_command"])))]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// File with the new key; made when it is absent
    #[arg(long, value_name = "FILE")]
    pub(crate) to_file: Option<PathBuf>,
    /// Command that prints the new key, with its arguments
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    pub(crate) to_command: Option<Vec<String>>,
}

/// A duration on the command line.
pub(crate) fn patience(text: &str) -> Result<Duration, String> {
    let duration = crate::settings::duration(text)?;
    Duration::try_from(duration).map_err(|error| error.to_string())
}

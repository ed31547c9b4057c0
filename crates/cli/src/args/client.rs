//! The commands that call a server.

use super::{Format, SettingsArgs, patience};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Which server, and how its answers are shown. The token comes from CERTWRIGHT_TOKEN or from the data folder.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArgs {
    /// The server; found through the data folder by default
    #[arg(long, global = true, env = "CERTWRIGHT_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The server's data folder
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// How answers are printed
    #[arg(long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

/// How long a change is waited for.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct WaitArgs {
    /// Stay this long for the outcome and show the steps; that it is still pending then is no error
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = patience)]
    wait: Duration,
    /// Do not wait
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

impl WaitArgs {
    pub(crate) fn patience(self) -> Duration {
        if self.no_wait { Duration::ZERO } else { self.wait }
    }
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LimitArgs {
    /// At most this many
    #[arg(long, default_value_t = 1000)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct SiteArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: SiteCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// List the sites
    #[command(after_help = "Example:\n  certwright site list --output json")]
    List {
        /// Part of the name
        #[arg(long)]
        q: Option<String>,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// Show a site
    #[command(after_help = "Example:\n  certwright site show hello")]
    Show { name: String },
    /// Make a site of files, from a folder or a ZIP archive
    #[command(after_help = "Examples:\n  certwright site add-static hello ./public\n  certwright site add-static hello site.zip --no-wait")]
    AddStatic {
        name: String,
        /// A folder or a ZIP archive
        #[arg(value_name = "DIR|ZIP")]
        content: PathBuf,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Make a site before a server that runs already
    #[command(after_help = "Example:\n  certwright site add-proxy app http://127.0.0.1:3000")]
    AddProxy {
        name: String,
        /// `http://host:port`
        #[arg(value_name = "URL")]
        upstream: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Destroy a site with its domains and its content
    #[command(after_help = "Example:\n  certwright site destroy hello")]
    Destroy {
        name: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Forget a destroyed site, so that its name is free
    #[command(after_help = "Example:\n  certwright site delete hello")]
    Delete { name: String },
    /// The custom domain of a site
    #[command(after_help = "Example:\n  certwright site domain set hello shop.example.com")]
    Domain {
        #[command(subcommand)]
        command: SiteDomainCommand,
    },
    /// Order a new certificate for the site's domain, now
    #[command(after_help = "Example:\n  certwright site cert-retry hello")]
    CertRetry {
        name: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SiteDomainCommand {
    /// Attach a custom domain to a site
    #[command(after_help = "Example:\n  certwright site domain set hello shop.example.com --wait 2m")]
    Set {
        site: String,
        domain: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Take the custom domain off a site
    #[command(after_help = "Example:\n  certwright site domain remove hello")]
    Remove {
        site: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// The checklist: what is missing, whose move it is, the record to add
    #[command(after_help = "Example:\n  certwright site domain status hello")]
    Status { site: String },
}

#[derive(Debug, Args)]
pub(crate) struct DomainArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: DomainCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DomainCommand {
    /// List the domains
    #[command(after_help = "Example:\n  certwright domain list --tls-status pending_issue --output json")]
    List {
        /// `pending_route`, `pending_issue`, `issued`, `expiring`, `tls_error` or `passthrough_unverified`
        #[arg(long)]
        tls_status: Option<String>,
        /// Part of the hostname
        #[arg(long)]
        q: Option<String>,
        /// Region of the route
        #[arg(long)]
        region: Option<String>,
        /// Name of the site
        #[arg(long)]
        site: Option<String>,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// Show a domain with its checklist
    #[command(after_help = "Example:\n  certwright domain show shop.example.com")]
    Show { domain: String },
    /// Add a domain
    #[command(
        after_help = "Examples:\n  certwright domain add shop.example.com --site hello\n  certwright domain add api.example.com --upstream http://127.0.0.1:3000 --issuer letsencrypt"
    )]
    Add {
        domain: String,
        #[command(flatten)]
        wishes: DomainWishes,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Add many domains with the same wishes, from a file with one name a line (`-`: standard input)
    #[command(after_help = "Example:\n  certwright domain add-many names.txt --site hello")]
    AddMany {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        wishes: DomainWishes,
    },
    /// Change what is wanted of a domain
    #[command(
        after_help = "Examples:\n  certwright domain set shop.example.com --failure-policy strict\n  certwright domain set shop.example.com --no-route"
    )]
    Set {
        domain: String,
        #[command(flatten)]
        wishes: DomainWishes,
        /// Take the route away
        #[arg(long, conflicts_with_all = ["site", "upstream", "tunnel"])]
        no_route: bool,
    },
    /// Remove a domain; it stops renewing
    #[command(after_help = "Example:\n  certwright domain remove shop.example.com")]
    Remove {
        domain: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Look again now, whatever the backoff says
    #[command(after_help = "Example:\n  certwright domain verify shop.example.com")]
    Verify { domain: String },
    /// The checklist: what is missing, whose move it is, the record to add
    #[command(after_help = "Example:\n  certwright domain status shop.example.com")]
    Status { domain: String },
    /// What happened to a domain, newest first
    #[command(after_help = "Example:\n  certwright domain history shop.example.com --limit 20")]
    History {
        domain: String,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// The certificates of a domain, newest first
    #[command(after_help = "Example:\n  certwright domain certificates shop.example.com")]
    Certificates { domain: String },
}

#[derive(Clone, Debug, Default, Args)]
#[command(group(clap::ArgGroup::new("route").args(["site", "upstream", "tunnel"])))]
pub(crate) struct DomainWishes {
    /// Serve this site
    #[arg(long)]
    pub(crate) site: Option<String>,
    /// Proxy to `http://host:port`
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
    /// Traffic goes through this tunnel, which others run
    #[arg(long)]
    pub(crate) tunnel: Option<String>,
    /// Where the tunnel leads
    #[arg(long, requires = "tunnel")]
    pub(crate) target: Option<String>,
    /// Region of the route
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// `termination` or `passthrough`
    #[arg(long, value_name = "MODE")]
    pub(crate) tls_mode: Option<String>,
    /// `standard`, `strict` or `hold`
    #[arg(long, value_name = "POLICY")]
    pub(crate) failure_policy: Option<String>,
    /// Issuers to ask, in order; the server's own order by default
    #[arg(long = "issuer", value_name = "NAME", value_delimiter = ',')]
    pub(crate) issuers: Vec<String>,
    /// `ecdsa-p256`, `ecdsa-p384`, `rsa-2048` or `rsa-4096`
    #[arg(long, value_name = "TYPE")]
    pub(crate) key_type: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CertArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: CertCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// What every domain serves, and until when
    #[command(after_help = "Example:\n  certwright cert list")]
    List {
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// The current certificate of a domain
    #[command(after_help = "Examples:\n  certwright cert show shop.example.com\n  certwright cert show shop.example.com --pem > chain.pem")]
    Show {
        domain: String,
        /// Print the chain instead
        #[arg(long)]
        pem: bool,
    },
    /// Order a new certificate for a domain, now
    #[command(after_help = "Example:\n  certwright cert retry shop.example.com")]
    Retry {
        domain: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: CaCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Export the root certificate that clients have to trust
    #[command(after_help = "Examples:\n  certwright ca root\n  certwright ca root --out root.pem")]
    Root {
        /// Write it to this file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: JobCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List the jobs, newest first
    #[command(after_help = "Example:\n  certwright job list --site hello --limit 10")]
    List {
        /// Name of the site
        #[arg(long)]
        site: Option<String>,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// Show a job with its steps
    #[command(after_help = "Example:\n  certwright job show 01935b0e-7d5c-7b8e-9c1f-2f4c5d6e7f80")]
    Show { id: String },
    /// Follow a job until it is over; exit code 1 if it failed
    #[command(after_help = "Example:\n  certwright job follow 01935b0e-7d5c-7b8e-9c1f-2f4c5d6e7f80")]
    Follow { id: String },
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is shown once
    #[command(after_help = "Example:\n  certwright token create deploy --role operator --expires 90d")]
    Create {
        name: String,
        /// `admin`, `operator`, `viewer`, `ingest` or `edge`
        #[arg(long)]
        role: String,
        /// It ends after this long
        #[arg(long, value_name = "TIME", value_parser = patience)]
        expires: Option<Duration>,
    },
    /// List the tokens, without their secrets
    #[command(after_help = "Example:\n  certwright token list")]
    List,
    /// Revoke a token
    #[command(after_help = "Example:\n  certwright token revoke deploy")]
    Revoke {
        /// Its name or its id
        token: String,
    },
    /// Replace a lost administrator's token; works on the database itself
    #[command(after_help = "Example:\n  certwright token reset --config /etc/certwright.toml")]
    Reset(ResetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// Settings file of the server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting by its name
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::pair)]
    set: Vec<(String, String)>,
}

impl ResetArgs {
    pub(crate) fn settings(&self, client: &ClientArgs) -> SettingsArgs {
        SettingsArgs { config: self.config.clone(), data_dir: client.data_dir.clone(), database_url: None, set: self.set.clone() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List the changes, newest first
    #[command(after_help = "Example:\n  certwright audit list --limit 20")]
    List {
        #[command(flatten)]
        limit: LimitArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Remove what nothing looks at any more
    #[arg(long)]
    pub(crate) repair: bool,
}

//! The commands about certificate events and who reports them.

use super::{ClientArgs, LimitArgs, patience};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: EventCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Report what happened to a certificate: for the hooks of other certificate managers
    #[command(
        after_help = "The token comes from CERT_EVENT_INGEST_TOKEN, else CERTWRIGHT_TOKEN, else the data folder. With a signing secret the event is signed.\n\nExamples:\n  certwright event send --source certbot --type renewal_succeeded --certificate /etc/letsencrypt/live/example.com/fullchain.pem\n  certwright event send --source lego --cluster web-1 --type renewal_failed --domain example.com --reason 'DNS problem'"
    )]
    Send(Box<SendArgs>),
    /// List events, newest first
    #[command(
        after_help = "Examples:\n  certwright event list --status failed\n  certwright event list --domain shop.example.com --output json"
    )]
    List {
        #[command(flatten)]
        which: WhichEvents,
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// Show an event, and what was done about it
    #[command(after_help = "Example:\n  certwright event show 01935b0e-7d5c-7b8e-9c1f-2f4c5d6e7f80")]
    Show { id: String },
    /// Try events again now: one by its id, or all that match
    #[command(
        after_help = "Examples:\n  certwright event replay 01935b0e-7d5c-7b8e-9c1f-2f4c5d6e7f80\n  certwright event replay --source lego --dry-run"
    )]
    Replay {
        /// One event
        #[arg(conflicts_with_all = ["status", "source", "cluster", "domain", "dry_run", "max"])]
        id: Option<String>,
        #[command(flatten)]
        which: WhichEvents,
        /// At most this many, oldest first
        #[arg(long, default_value_t = 1000)]
        max: u32,
        /// Say how many there are, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WhichEvents {
    /// `pending`, `applied`, `superseded` or `failed`
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
    /// Of this source
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// Of this cluster
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// About this domain
    #[arg(long)]
    pub(crate) domain: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// Which manager reports
    #[arg(long)]
    pub(crate) source: String,
    /// Which one of the managers of this kind; the name of this machine by default
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// `issuance_succeeded`, `issuance_failed`, `renewal_succeeded`, `renewal_failed` or `certificate_expiring`
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: String,
    /// About this domain; may come several times. Without it, all names of the certificate
    #[arg(long = "domain", value_name = "NAME", required_unless_present = "certificate")]
    pub(crate) domains: Vec<String>,
    /// PEM file with the chain: its leaf gives the reference, the end and the names
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Why it failed
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// When it has to be renewed at the latest
    #[arg(long, value_name = "TIME")]
    pub(crate) renewal_due_at: Option<jiff::Timestamp>,
    /// When it happened; now by default
    #[arg(long, value_name = "TIME")]
    pub(crate) occurred_at: Option<jiff::Timestamp>,
    /// Unique for the source and cluster, so that a hook that runs twice reports once. Made from the type, the domain and the
    /// certificate, or for an event without one from the time
    #[arg(long, value_name = "ID")]
    pub(crate) event_id: Option<String>,
    /// File with the secret that signs; CERT_EVENT_SIGNING_SECRET by default
    #[arg(long, value_name = "FILE")]
    pub(crate) signing_secret_file: Option<PathBuf>,
    /// How long to go on trying while the server does not take it
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = patience)]
    pub(crate) retry_for: Duration,
    /// Print the event, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: SourceCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Who reports: last seen, accepted, refused, wrong signatures
    #[command(after_help = "Example:\n  certwright source list")]
    List,
}

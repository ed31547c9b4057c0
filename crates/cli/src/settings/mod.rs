//! Every setting, once: the table here is what the command line, the environment, `certwright.toml` and
//! `docs/configuration.md` are read and written from.
//!
//! Invariants: command line over environment over file; an unknown key is an error; no value of a setting that can hold a
//! secret is ever part of an error.

pub(crate) mod issuer;
mod layers;
mod reference;
mod value;

pub(crate) use issuer::IssuerSettings;
pub(crate) use layers::{ConfigError, Fallback};
pub(crate) use reference::reference;
pub(crate) use value::{Argv, BaseDomain, EventKeys, LogFormat, NameServer, Network, Raw, Secret, Value};

use certwright_model::Hostname;
use jiff::SignedDuration;
use layers::{Layer, from_toml, nearest, variable};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

const PREFIX: &str = "CERTWRIGHT_";
pub(crate) const DEFAULT_FILE: &str = "certwright.toml";
/// Variables that are no settings of the server.
const OTHERS: &[&str] = &["CERTWRIGHT_URL", "CERTWRIGHT_TOKEN", "CERTWRIGHT_CONFIG", crate::abort_hook::VARIABLE];

/// A table of settings, and the struct that holds their values.
macro_rules! settings {
    ($(#[$doc:meta])* struct $name:ident { $($group:literal { $($field:ident: $type:ty = $fallback:expr $(, also $also:literal)? => $help:literal;)+ })+ }) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub(crate) struct $name { $($(pub(crate) $field: $type,)+)+ }

        impl $name {
            pub(crate) const TABLE: &'static [$crate::settings::layers::Setting] = &[$($($crate::settings::layers::Setting {
                name: stringify!($field),
                group: $group,
                kind: <$type as $crate::settings::value::Value>::KIND,
                fallback: $fallback,
                also: &[$($also)?],
                help: $help,
            },)+)+];

            fn read(layers: &[$crate::settings::layers::Layer]) -> Result<Self, $crate::settings::layers::ConfigError> {
                Ok(Self { $($($field: $crate::settings::layers::read(layers, Self::TABLE, stringify!($field))?,)+)+ })
            }
        }
    };
}
pub(crate) use settings;

use Fallback::{Derived, Is};

settings! {
    /// The settings of `serve`, as given: what follows from others is worked out in `compose`.
    struct Table {
        "Where it listens and keeps its data" {
            data_dir: PathBuf = Is("certwright-data") => "Folder for the database, the content of sites, the key file and the administrator's token. Created with mode 0700.";
            api: SocketAddr = Is("127.0.0.1:9440") => "HTTP API and dashboard. They speak plain HTTP: put TLS in front of them before they listen on anything but loopback.";
            http: SocketAddr = Is("127.0.0.1:8080") => "The edge's HTTP listener: redirects to HTTPS, and answers HTTP-01 challenges.";
            https: SocketAddr = Is("127.0.0.1:8443") => "The edge's HTTPS listener.";
            metrics: SocketAddr = Is("127.0.0.1:9465"), also "CERT_METRICS_PORT" => "Prometheus metrics at `/metrics`.";
            database_url: Option<String> = Derived("SQLite in `data_dir`"), also "DATABASE_URL" => "`sqlite:PATH`, or `postgres://…` for several nodes that share the work.";
            database_connections: u32 = Is("16") => "Connections to the database at once.";
        }
        "Secrets" {
            kek_file: Option<PathBuf> = Derived("`kek` in `data_dir`") => "File with the key-encryption key: 64 hex digits, mode 0600. Made on the first start. Back it up apart from the database.";
            kek_command: Option<Argv> = Derived("none") => "Command that prints the key-encryption key instead of a file; a list of arguments, no shell.";
        }
        "Names, and where the edge is" {
            base_domain: BaseDomain = Is("localhost") => "Every site gets the default domain `<site>.<base_domain>`.";
            edge_addresses: Vec<IpAddr> = Is("") => "The edge's public addresses: what customers' A and AAAA records have to show. Empty means loopback when the edge listens there; otherwise DNS is not judged, so set it on a public server.";
            edge_cname: Option<Hostname> = Derived("none") => "The name that customers point a CNAME at.";
            proxy_networks: Vec<Network> = Is("") => "Networks of a proxy in front, such as a CDN's published ranges; only a handshake proves what lies behind them.";
            public_https_port: Option<u16> = Derived("the port of `https` when that is on loopback or `base_domain` is below `localhost`, else 443") => "The port that customers dial.";
            strict_ownership: bool = Is("false") => "Ask for the TXT record `_certwright.<domain>` even where DNS points here already.";
        }
        "Looking: DNS and the wire" {
            resolvers: Vec<NameServer> = Is("") => "DNS servers to ask. Empty means the operating system's.";
            resolver_timeout: SignedDuration = Is("5s") => "For one look at DNS.";
            dns_max_age: SignedDuration = Is("10m") => "How old a look at DNS may be when a certificate is ordered on it.";
            probing: bool = Is("true"), also "CERT_PROBE_FALLBACK_ENABLED" => "Dial every domain before it is called `issued`. Without it nothing is `proven`.";
            probe_timeout: SignedDuration = Is("8s"), also "TLS_PROBE_TIMEOUT_SECONDS" => "For one dial, from connecting until the handshake is done.";
            probe_every: SignedDuration = Is("1h") => "How often a healthy domain is dialled.";
            probe_allow_private: Option<bool> = Derived("true when `https` is on loopback") => "Whether private addresses that DNS gives may be dialled.";
            probe_roots: Vec<PathBuf> = Is("") => "PEM files with roots that the prober trusts beside the operating system's and the internal CA's.";
            probe_system_roots: bool = Is("true") => "Whether the operating system's roots are trusted.";
            expiry_warn_days: u32 = Is("30"), also "CERT_EXPIRY_WARN_DAYS" => "A certificate is `expiring` this long before its end, or for the last third of its life, whichever is shorter.";
        }
        "Certificate authorities" {
            issuers: Vec<String> = Is("internal") => "The issuers to ask, in order, for domains that name none. `internal`, `letsencrypt`, `letsencrypt-staging` and names of `[[issuer]]` tables.";
            issuer_in_flight: usize = Is("16") => "Orders under way at one CA at once.";
            issue_deadline: SignedDuration = Is("60s") => "How long one look at an order may take before it is put aside; shorter than `lease`.";
        }
        "Certificate events" {
            cert_event_ingest_token: Option<Secret> = Derived("none: only API tokens of the role `ingest` are taken"), also "CERT_EVENT_INGEST_TOKEN" => "What senders put into `x-cert-event-token`.";
            cert_event_source_keys: Option<EventKeys> = Derived("none: events need no signature"), also "CERT_EVENT_SOURCE_KEYS" => "`source:cluster=secret`, comma-separated; several for one identity while its secret is being rotated. With one of them, every event has to be signed.";
            cert_event_max_age_seconds: u32 = Is("300"), also "CERT_EVENT_MAX_AGE_SECONDS" => "How old, or how far ahead, a signature's timestamp may be.";
            cert_event_max_retries: u32 = Is("6"), also "CERT_EVENT_MAX_RETRIES" => "How often an event is tried before it is a dead letter.";
            cert_event_base_backoff_seconds: u32 = Is("45"), also "CERT_EVENT_BASE_BACKOFF_SECONDS" => "The pause after its first try; it doubles, up to an hour.";
            cert_event_rate: u32 = Is("1000") => "Events a second that one source and cluster may report; ten seconds' worth at once.";
        }
        "The edge" {
            certificate_cache: u64 = Is("20000") => "How many certificates with their keys are kept ready.";
            max_connections: usize = Is("20000") => "Connections served at once; more wait in the listener's backlog.";
            upstream_response_timeout: SignedDuration = Is("60s") => "From the end of a request until an upstream's first answer.";
            hsts: bool = Is("false") => "Send `Strict-Transport-Security` for one year with every HTTPS answer.";
            access_log: bool = Is("false") => "Log every request of the edge (target `access`), without query, headers or body.";
            drain_timeout: SignedDuration = Is("30s") => "How long live requests may go on after a stop was asked for.";
        }
        "Work and logs" {
            in_flight: usize = Is("256") => "Domains worked on at once.";
            lease: SignedDuration = Is("2m") => "The work of a node that crashed comes back after this long.";
            scan_every: SignedDuration = Is("1s") => "The periodic scan for work whose wake-up was lost or came from another node.";
            max_upload_bytes: u64 = Is("268435456") => "The longest upload of a static site.";
            log_format: LogFormat = Is("text") => "How log lines are written, on standard error.";
            log_level: String = Is("info") => "`error`, `warn`, `info`, `debug` or `trace`, also for single parts: `info,certwright_edge=debug`.";
        }
    }
}

/// All settings of an instance.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) table: Table,
    pub(crate) issuers: Vec<IssuerSettings>,
    /// Variables that look like settings and are none.
    pub(crate) suspicious: Vec<String>,
}

/// What the command line said.
#[derive(Clone, Default)]
pub(crate) struct Given {
    pub(crate) config: Option<PathBuf>,
    /// Setting and value.
    pub(crate) values: Vec<(String, String)>,
}

impl Settings {
    /// Of this process: its variables, and the file that is named or lies in the working folder.
    pub(crate) fn load(given: &Given) -> Result<Self, ConfigError> {
        let variables: BTreeMap<String, String> =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
        let named = given.config.clone().or_else(|| variables.get("CERTWRIGHT_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => String::new(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        Self::from_parts(given, &variables, &path, &text)
    }

    /// Of nothing but these values: the surroundings are not asked.
    pub(crate) fn only(values: Vec<(String, String)>) -> Result<Self, ConfigError> {
        Self::from_parts(&Given { config: None, values }, &BTreeMap::new(), Path::new(DEFAULT_FILE), "")
    }

    fn from_parts(given: &Given, variables: &BTreeMap<String, String>, path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut file: toml::Table =
            text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax { path: path.to_owned(), problem: error.to_string() })?;
        let issuers = issuer::tables(file.remove("issuer"), variables, path)?;
        let flags = given.values.iter().map(|(key, value)| (key.clone(), Raw::Text(value.clone())));
        let layers = [
            Layer::new(Table::TABLE, "the command line", flags)?,
            Layer::environment(Table::TABLE, PREFIX, variables),
            Layer::new(Table::TABLE, &path.display().to_string(), from_toml(file, path)?)?,
        ];
        let table = Table::read(&layers)?;
        check(&table)?;
        let issuers = issuer::complete(issuers, &table.issuers)?;
        Ok(Self { suspicious: suspicious(variables, &issuers), table, issuers })
    }
}

fn check(table: &Table) -> Result<(), ConfigError> {
    let refuse = |message: &str| Err(ConfigError::Together(message.to_owned()));
    if table.kek_file.is_some() && table.kek_command.is_some() {
        return refuse("`kek_file` and `kek_command` are both set; the key comes from one of them");
    }
    if table.issue_deadline >= table.lease {
        return refuse("`issue_deadline` has to be shorter than `lease`, or another node takes the work while it is being done");
    }
    for (name, count) in [
        ("in_flight", table.in_flight),
        ("issuer_in_flight", table.issuer_in_flight),
        ("max_connections", table.max_connections),
        ("cert_event_max_retries", table.cert_event_max_retries as usize),
        ("cert_event_rate", table.cert_event_rate as usize),
    ] {
        if count == 0 {
            return refuse(&format!("`{name}` has to be at least 1"));
        }
    }
    Ok(())
}

fn suspicious(variables: &BTreeMap<String, String>, issuers: &[IssuerSettings]) -> Vec<String> {
    let known: Vec<String> = Table::TABLE.iter().map(|setting| variable(PREFIX, setting.name)).collect();
    let issuer_prefixes: Vec<String> = issuers.iter().map(|issuer| issuer::prefix(&issuer.name)).collect();
    let unknown = variables.keys().filter(|name| {
        let name = name.as_str();
        name.starts_with(PREFIX)
            && !name.starts_with("CERTWRIGHT_TEST_")
            && !OTHERS.contains(&name)
            && !known.iter().any(|known| known == name)
            && !issuer_prefixes.iter().any(|prefix| name.starts_with(prefix))
    });
    let described = unknown.map(|name| match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("{name} is no setting; did you mean {near}?"),
        None => format!("{name} is no setting"),
    });
    described.collect()
}

/// The data folder for commands that are no server: a flag, the variable, the file in the working folder, the default.
pub(crate) fn data_dir(flag: Option<&Path>) -> PathBuf {
    let from_file = || {
        let table: toml::Table = std::fs::read_to_string(DEFAULT_FILE).ok()?.parse().ok()?;
        table.get("data_dir")?.as_str().map(PathBuf::from)
    };
    let from_variable = || std::env::var_os("CERTWRIGHT_DATA_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    flag.map(Path::to_owned).or_else(from_variable).or_else(from_file).unwrap_or_else(|| "certwright-data".into())
}

/// A duration as it is written on the command line.
pub(crate) fn duration(text: &str) -> Result<SignedDuration, String> {
    SignedDuration::read(&Raw::Text(text.to_owned()))
}

#[cfg(test)]
mod tests;

//! DNS as a customer's resolver sees it: one look a host, typed, without judging it.
//!
//! Invariants: a look ends within its time limit; every look asks the servers anew, because it happens when something is
//! expected to have changed; `*.localhost` is loopback (RFC 6761) and nobody is asked.

use certwright_model::Hostname;
use certwright_model::answers::{DnsSight, LookupStatus};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as WireError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use jiff::Timestamp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The label that stands for "any" below a wildcard: a name that nobody sets by itself.
pub(crate) const WILDCARD_LABEL: &str = "certwright-probe";

#[derive(Clone, Debug)]
pub struct ResolverConfig {
    /// Empty means the operating system's.
    pub servers: Vec<SocketAddr>,
    /// For one whole look.
    pub timeout: Duration,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Duration::from_secs(5) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    #[error("the system's DNS settings cannot be used: {0}")]
    Settings(String),
    #[error("{0} does not exist in DNS")]
    NoName(Hostname),
    #[error("{0} has no address")]
    NoAddress(Hostname),
    #[error("the DNS servers did not answer for {0} in time")]
    Timeout(Hostname),
    #[error("the DNS servers answered with an error for {0}")]
    Failed(Hostname),
}

#[derive(Clone)]
pub struct Resolver {
    inner: TokioResolver,
    timeout: Duration,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resolver({:?})", self.timeout)
    }
}

/// What one question brought.
#[derive(Debug, Default)]
struct Answer {
    cnames: Vec<String>,
    addresses: Vec<IpAddr>,
    texts: Vec<String>,
}

impl Resolver {
    /// Connections are made on first use, within a Tokio runtime.
    pub fn new(config: ResolverConfig) -> Result<Self, DnsError> {
        let unusable = |error: NetError| DnsError::Settings(error.to_string());
        let mut builder: ResolverBuilder<TokioRuntimeProvider> = if config.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(unusable)?
        } else {
            let servers = config.servers.iter().map(|server| name_server(*server)).collect();
            let own = hickory_resolver::config::ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(own, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.preserve_intermediates = true;
        options.use_hosts_file = ResolveHosts::Never;
        // Two tries fit within the limit of the whole look.
        options.timeout = config.timeout.mul_f32(0.45);
        options.attempts = 1;
        Ok(Self { inner: builder.build().map_err(unusable)?, timeout: config.timeout })
    }

    /// Addresses, the CNAME chain and the ownership record, asked for at once.
    pub async fn look(&self, host: &Hostname, now: Timestamp) -> DnsSight {
        if host.is_localhost() {
            let addresses = LOOPBACK.to_vec();
            return DnsSight { at: now, status: LookupStatus::Found, cnames: Vec::new(), addresses, ownership_txt: Some(Vec::new()) };
        }
        let asked = dialled_name(host);
        let ownership = format!("_certwright.{}", host.as_str().strip_prefix("*.").unwrap_or(host.as_str()));
        let (v4, v6, texts) =
            tokio::join!(self.ask(&asked, RecordType::A), self.ask(&asked, RecordType::AAAA), self.ask(&ownership, RecordType::TXT));
        let ownership_txt = match texts {
            Ok(answer) => Some(answer.texts),
            Err(LookupStatus::NoName | LookupStatus::NoAddress) => Some(Vec::new()),
            Err(_) => None,
        };
        let (status, answer) = combine(v4, v6);
        DnsSight { at: now, status, cnames: answer.cnames, addresses: answer.addresses, ownership_txt }
    }

    /// The addresses alone, IPv4 first.
    pub async fn addresses(&self, host: &Hostname) -> Result<Vec<IpAddr>, DnsError> {
        if host.is_localhost() {
            return Ok(LOOPBACK.to_vec());
        }
        let asked = dialled_name(host);
        let (v4, v6) = tokio::join!(self.ask(&asked, RecordType::A), self.ask(&asked, RecordType::AAAA));
        match combine(v4, v6) {
            (LookupStatus::Found, answer) => Ok(answer.addresses),
            (LookupStatus::NoName, _) => Err(DnsError::NoName(host.clone())),
            (LookupStatus::NoAddress, _) => Err(DnsError::NoAddress(host.clone())),
            (LookupStatus::Timeout, _) => Err(DnsError::Timeout(host.clone())),
            (LookupStatus::Failed, _) => Err(DnsError::Failed(host.clone())),
        }
    }

    /// The error is never `Found`.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Answer, LookupStatus> {
        // A dot at the end keeps the system's search domains out of it.
        let name = Name::from_ascii(format!("{name}.")).map_err(|_| LookupStatus::Failed)?;
        let looked = tokio::time::timeout(self.timeout, self.inner.lookup(name, kind)).await;
        let lookup = match looked {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(error)) => return Err(status_of(&error)),
            Err(_) => return Err(LookupStatus::Timeout),
        };
        let mut answer = Answer::default();
        for record in lookup.answers() {
            match &record.data {
                RData::A(address) => answer.addresses.push(IpAddr::V4(address.0)),
                RData::AAAA(address) => answer.addresses.push(IpAddr::V6(address.0)),
                RData::CNAME(target) => answer.cnames.push(target.0.to_lowercase().to_ascii().trim_end_matches('.').to_owned()),
                RData::TXT(text) => {
                    let joined: Vec<u8> = text.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
                    answer.texts.push(String::from_utf8_lossy(&joined).into_owned());
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

const LOOPBACK: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

/// The name that is asked for and sent as SNI: the host, or for a wildcard a label below it.
pub(crate) fn dialled_name(host: &Hostname) -> String {
    match host.as_str().strip_prefix("*.") {
        Some(base) => format!("{WILDCARD_LABEL}.{base}"),
        None => host.to_string(),
    }
}

/// A family that could not be asked makes the look as bad as that, even where the other one answered: judging half the
/// addresses would call a split name healthy.
fn combine(v4: Result<Answer, LookupStatus>, v6: Result<Answer, LookupStatus>) -> (LookupStatus, Answer) {
    let mut whole = Answer::default();
    let mut worst = None;
    for part in [v4, v6] {
        match part {
            Ok(mut answer) => {
                whole.addresses.append(&mut answer.addresses);
                if whole.cnames.is_empty() {
                    whole.cnames = answer.cnames;
                }
            }
            Err(status) => worst = Some(worst.map_or(status, |other| worse(other, status))),
        }
    }
    let status = match worst {
        Some(LookupStatus::Timeout | LookupStatus::Failed) => worst.unwrap_or(LookupStatus::Failed),
        _ if !whole.addresses.is_empty() => LookupStatus::Found,
        Some(LookupStatus::NoName) if whole.cnames.is_empty() => LookupStatus::NoName,
        _ => LookupStatus::NoAddress,
    };
    (status, whole)
}

fn worse(one: LookupStatus, other: LookupStatus) -> LookupStatus {
    let rank = |status: &LookupStatus| match status {
        LookupStatus::Timeout => 4,
        LookupStatus::Failed => 3,
        LookupStatus::NoName => 2,
        LookupStatus::NoAddress => 1,
        LookupStatus::Found => 0,
    };
    if rank(&one) >= rank(&other) { one } else { other }
}

fn status_of(error: &NetError) -> LookupStatus {
    match error {
        NetError::Timeout | NetError::NoConnections | NetError::Io(_) => LookupStatus::Timeout,
        NetError::Dns(WireError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => LookupStatus::NoName,
            ResponseCode::NoError => LookupStatus::NoAddress,
            _ => LookupStatus::Failed,
        },
        _ => LookupStatus::Failed,
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str]) -> Result<Answer, LookupStatus> {
        Ok(Answer { addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(), ..Answer::default() })
    }

    #[test]
    fn two_families_make_one_status() {
        use LookupStatus::*;
        #[rustfmt::skip]
        let table = [
            ("both",                found(&["192.0.2.1"]), found(&["2001:db8::1"]), Found),
            ("one",                 found(&["192.0.2.1"]), Err(NoAddress),          Found),
            ("one is not known",    found(&["192.0.2.1"]), Err(Timeout),            Timeout),
            ("one is broken",       found(&["192.0.2.1"]), Err(Failed),             Failed),
            ("none",                Err(NoAddress),        Err(NoAddress),          NoAddress),
            ("no such name",        Err(NoName),           Err(NoName),             NoName),
            ("answered, but empty", found(&[]),            found(&[]),              NoAddress),
        ];
        for (name, v4, v6, expected) in table {
            assert_eq!(combine(v4, v6).0, expected, "{name}");
        }
    }

    #[test]
    fn a_wildcard_is_looked_up_a_label_below() {
        let name = |text: &str| dialled_name(&Hostname::parse(text).unwrap());
        assert_eq!(name("*.example.com"), "certwright-probe.example.com");
        assert_eq!(name("a.example.com"), "a.example.com");
    }

    #[tokio::test]
    async fn localhost_names_are_loopback_without_asking() {
        let nobody = ResolverConfig { servers: vec!["127.0.0.1:1".parse().unwrap()], timeout: Duration::from_millis(200) };
        let sight = Resolver::new(nobody).unwrap().look(&Hostname::parse("a.localhost").unwrap(), Timestamp::UNIX_EPOCH).await;
        assert_eq!(sight.status, LookupStatus::Found);
        assert!(sight.addresses.iter().all(IpAddr::is_loopback));
    }
}

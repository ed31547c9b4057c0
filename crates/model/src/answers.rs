//! The three independent answers of a domain: ownership, routing, TLS. Each with its own reason, whose move it is, the
//! exact DNS record to add, and when it is looked at next (SPEC section 4).

use crate::domain::DomainKind;
use crate::hostname::Hostname;
use crate::reason::{Actor, Reason, ReasonCode};
use crate::site::word_enum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

word_enum! {
    /// How the address lookup ended.
    pub enum LookupStatus {
        Found = "found",
        /// NXDOMAIN.
        NoName = "no_name",
        /// The name exists without an address.
        NoAddress = "no_address",
        Timeout = "timeout",
        /// SERVFAIL, REFUSED or garbage.
        Failed = "failed",
    }
}

/// One look at DNS, as a customer's resolver sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSight {
    pub at: Timestamp,
    pub status: LookupStatus,
    /// The targets of the CNAME chain, in order.
    pub cnames: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// The TXT strings at `_certwright.<domain>`; `None` when that lookup failed.
    pub ownership_txt: Option<Vec<String>>,
}

/// Where our edge can be reached from outside. Empty `addresses` and no `cname` mean that nobody said: DNS cannot be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeLocation {
    pub addresses: Vec<IpAddr>,
    /// The name that customers point a CNAME at.
    pub cname: Option<Hostname>,
    /// Networks of a proxy in front (address, prefix length): only a handshake can prove what lies behind.
    pub proxy_networks: Vec<(IpAddr, u8)>,
}

/// A record for the customer's zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    pub name: String,
    /// `TXT`, `A`, `AAAA` or `CNAME`.
    pub kind: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    Points,
    /// It points at a proxy network; the handshake decides.
    Proxied,
    /// Nobody said where the edge is: it points somewhere, and only the handshake tells.
    Unjudged,
}

pub fn ownership_record(host: &Hostname, token: &str) -> DnsRecord {
    let name = host.as_str().strip_prefix("*.").unwrap_or(host.as_str());
    DnsRecord { name: format!("_certwright.{name}"), kind: "TXT".into(), value: ownership_value(token) }
}

fn ownership_value(token: &str) -> String {
    format!("certwright-verify={token}")
}

/// The records that would route the domain here: a CNAME where we have a name, else the addresses.
pub fn routing_records(host: &Hostname, edge: &EdgeLocation) -> Vec<DnsRecord> {
    let record = |kind: &str, value: String| DnsRecord { name: host.to_string(), kind: kind.into(), value };
    match &edge.cname {
        Some(target) => vec![record("CNAME", target.to_string())],
        None => edge.addresses.iter().map(|a| record(if a.is_ipv4() { "A" } else { "AAAA" }, a.to_string())).collect(),
    }
}

/// Does DNS lead to our edge?
pub fn judge_routing(sight: &DnsSight, edge: &EdgeLocation, host: &Hostname) -> Result<Routing, Reason> {
    let fail = |code, message: String| Err(Reason::new(code, message));
    match sight.status {
        LookupStatus::Found => {}
        LookupStatus::NoName => return fail(ReasonCode::DnsMissing, format!("{host} does not exist in DNS")),
        LookupStatus::NoAddress => return fail(ReasonCode::DnsMissing, format!("{host} has no A or AAAA record")),
        LookupStatus::Timeout => return fail(ReasonCode::DnsUnanswered, format!("the DNS servers for {host} did not answer in time")),
        LookupStatus::Failed => return fail(ReasonCode::DnsUnanswered, format!("the DNS servers for {host} answered with an error")),
    }
    if edge.addresses.is_empty() && edge.cname.is_none() {
        return Ok(Routing::Unjudged);
    }
    let is_ours = |address: &IpAddr| edge.addresses.contains(address);
    let is_proxy = |address: &IpAddr| edge.proxy_networks.iter().any(|network| contains(*network, *address));
    let ours = sight.addresses.iter().filter(|a| is_ours(a)).count();
    let proxied = sight.addresses.iter().filter(|a| is_proxy(a)).count();
    let by_name = edge.cname.as_ref().is_some_and(|target| sight.cnames.iter().any(|name| name == target.as_str()));
    let listed = || sight.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let total = sight.addresses.len();
    if ours == total || (by_name && edge.addresses.is_empty()) {
        Ok(Routing::Points)
    } else if ours + proxied == total {
        Ok(Routing::Proxied)
    } else if ours > 0 {
        fail(ReasonCode::DnsSplit, format!("{host} points here and elsewhere: {}; remove the addresses that are not the edge's", listed()))
    } else {
        fail(ReasonCode::DnsElsewhere, format!("{host} points at {}, not at the edge", listed()))
    }
}

/// Did the owner of the zone agree? Names below the operator's own zone need nobody's word.
pub fn judge_ownership(
    sight: &DnsSight,
    kind: DomainKind,
    host: &Hostname,
    token: &str,
    strict: bool,
    routing: &Result<Routing, Reason>,
) -> Result<(), Reason> {
    if kind == DomainKind::Default || host.is_localhost() {
        return Ok(());
    }
    let expected = ownership_value(token);
    let record = ownership_record(host, token);
    let code = match &sight.ownership_txt {
        Some(values) if values.iter().any(|value| value.trim() == expected) => return Ok(()),
        // Pointing a name at our edge is itself a statement by whoever owns the zone; a proxy's shared address is not, and
        // neither is an address that nobody can tell from ours.
        _ if !strict && matches!(routing, Ok(Routing::Points)) => return Ok(()),
        None => ReasonCode::DnsUnanswered,
        Some(values) if values.iter().any(|value| value.starts_with("certwright-verify=")) => ReasonCode::OwnershipMismatch,
        Some(_) => ReasonCode::OwnershipMissing,
    };
    Err(Reason::new(code, format!("add the TXT record {} with the value \"{}\"", record.name, record.value)))
}

/// Whose move it is when DNS is wrong: the operator's below their own zone, the customer's otherwise.
pub fn owner_of_dns(kind: DomainKind, reason: Reason) -> Reason {
    if kind == DomainKind::Default && reason.actor == Actor::Customer { reason.by(Actor::Operator) } else { reason }
}

fn contains((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    fn bits(address: IpAddr) -> (u128, u32) {
        match address {
            IpAddr::V4(a) => (u128::from(u32::from(a)), 32),
            IpAddr::V6(a) => (u128::from(a), 128),
        }
    }
    let ((network, width), (address, other_width)) = (bits(network), bits(address));
    let host_bits = width.saturating_sub(u32::from(prefix));
    width == other_width && (host_bits >= 128 || network >> host_bits == address >> host_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(status: LookupStatus, addresses: &[&str], cnames: &[&str], txt: Option<&[&str]>) -> DnsSight {
        DnsSight {
            at: Timestamp::UNIX_EPOCH,
            status,
            cnames: cnames.iter().map(ToString::to_string).collect(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ownership_txt: txt.map(|values| values.iter().map(ToString::to_string).collect()),
        }
    }

    fn edge() -> EdgeLocation {
        EdgeLocation {
            addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
            cname: Some(Hostname::parse("edge.example.net").unwrap()),
            proxy_networks: vec![("198.51.100.0".parse().unwrap(), 24)],
        }
    }

    #[test]
    fn routing_is_judged_by_every_address() {
        use LookupStatus::*;
        use ReasonCode::*;
        let host = Hostname::parse("shop.example.com").unwrap();
        #[rustfmt::skip]
        let table: &[(&str, DnsSight, Result<Routing, ReasonCode>)] = &[
            ("A record",             sight(Found, &["192.0.2.10"], &[], None),                       Ok(Routing::Points)),
            ("both families",        sight(Found, &["192.0.2.10", "2001:db8::10"], &[], None),       Ok(Routing::Points)),
            ("CNAME, ours behind",   sight(Found, &["192.0.2.10"], &["edge.example.net"], None),     Ok(Routing::Points)),
            ("CNAME, other behind",  sight(Found, &["203.0.113.1"], &["edge.example.net"], None),    Err(DnsElsewhere)),
            ("a proxy",              sight(Found, &["198.51.100.7"], &[], None),                     Ok(Routing::Proxied)),
            ("elsewhere",            sight(Found, &["203.0.113.1"], &[], None),                      Err(DnsElsewhere)),
            ("here and elsewhere",   sight(Found, &["192.0.2.10", "203.0.113.1"], &[], None),        Err(DnsSplit)),
            ("stale AAAA",           sight(Found, &["192.0.2.10", "2001:db8::99"], &[], None),       Err(DnsSplit)),
            ("NXDOMAIN",             sight(NoName, &[], &[], None),                                  Err(DnsMissing)),
            ("no address",           sight(NoAddress, &[], &[], None),                               Err(DnsMissing)),
            ("timeout",              sight(Timeout, &[], &[], None),                                 Err(DnsUnanswered)),
            ("SERVFAIL",             sight(Failed, &[], &[], None),                                  Err(DnsUnanswered)),
        ];
        for (name, sight, expected) in table {
            assert_eq!(judge_routing(sight, &edge(), &host).map_err(|r| r.code), *expected, "{name}");
        }
        let anywhere = sight(Found, &["203.0.113.1"], &[], None);
        assert_eq!(judge_routing(&anywhere, &EdgeLocation::default(), &host), Ok(Routing::Unjudged), "nobody said where the edge is");
    }

    #[test]
    fn ownership_is_the_txt_record_or_unless_strict_the_routing_record() {
        use DomainKind::*;
        use ReasonCode::*;
        let host = Hostname::parse("shop.example.com").unwrap();
        let points: Result<Routing, Reason> = Ok(Routing::Points);
        let proxied: Result<Routing, Reason> = Ok(Routing::Proxied);
        let anywhere: Result<Routing, Reason> = Ok(Routing::Unjudged);
        let away: Result<Routing, Reason> = Err(Reason::new(DnsElsewhere, ""));
        let good: Option<&[&str]> = Some(&["certwright-verify=tok"]);
        let stale: Option<&[&str]> = Some(&["certwright-verify=old", "v=spf1"]);
        #[rustfmt::skip]
        type Row<'a> = (&'a str, DomainKind, Option<&'a [&'a str]>, bool, &'a Result<Routing, Reason>, Option<ReasonCode>);
        let table: &[Row<'_>] = &[
            ("TXT", Custom, good, true, &away, None),
            ("routing alone", Custom, Some(&[]), false, &points, None),
            ("routing alone, strict", Custom, Some(&[]), true, &points, Some(OwnershipMissing)),
            ("a proxy proves nothing", Custom, Some(&[]), false, &proxied, Some(OwnershipMissing)),
            ("anywhere proves nothing", Custom, Some(&[]), false, &anywhere, Some(OwnershipMissing)),
            ("an old token", Custom, stale, true, &points, Some(OwnershipMismatch)),
            ("TXT lookup failed", Custom, None, true, &points, Some(DnsUnanswered)),
            ("below the operator's zone", Default, Some(&[]), true, &away, None),
        ];
        for (name, kind, txt, strict, routing, expected) in table {
            let sight = sight(LookupStatus::Found, &["192.0.2.10"], &[], *txt);
            let got = judge_ownership(&sight, *kind, &host, "tok", *strict, routing);
            assert_eq!(got.err().map(|r| r.code), *expected, "{name}");
        }
    }
}

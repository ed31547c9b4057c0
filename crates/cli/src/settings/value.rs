//! How one setting is read from text or from a list, whatever file, variable or flag it came from.

use certwright_model::Hostname;
use certwright_model::certificate::KeyType;
use certwright_providers::issuer::ChallengeKind;
use certwright_server::provenance::SourceKeys;
use jiff::SignedDuration;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// A value before it has a type.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Raw {
    Text(String),
    List(Vec<String>),
}

impl Raw {
    fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text.trim()),
            Self::List(_) => Err("one value is expected here, not a list".into()),
        }
    }
}

pub(crate) trait Value: Sized {
    /// For the reference.
    const KIND: &'static str;

    /// The error says what is expected.
    fn read(raw: &Raw) -> Result<Self, String>;

    /// The value where nobody set one and the default follows from something else.
    fn unset() -> Option<Self> {
        None
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;

    fn read(raw: &Raw) -> Result<Self, String> {
        T::read(raw).map(Some)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

/// In text, separated by commas.
impl<T: Value> Value for Vec<T> {
    const KIND: &'static str = "list";

    fn read(raw: &Raw) -> Result<Self, String> {
        let parts: Vec<&str> = match raw {
            Raw::Text(text) => text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
            Raw::List(parts) => parts.iter().map(String::as_str).collect(),
        };
        parts.into_iter().map(|part| T::read(&Raw::Text(part.to_owned()))).collect()
    }
}

macro_rules! parsed {
    ($($type:ty, $kind:literal, $expected:literal;)+) => {$(
        impl Value for $type {
            const KIND: &'static str = $kind;

            fn read(raw: &Raw) -> Result<Self, String> {
                let text = raw.text()?;
                text.parse().map_err(|_| format!("`{text}` is not {}", $expected))
            }
        }
    )+};
}

parsed! {
    u16, "number", "a port number from 0 to 65535";
    u32, "number", "a whole number";
    u64, "number", "a whole number";
    usize, "number", "a whole number";
    IpAddr, "address", "an IP address such as 192.0.2.10";
}

impl Value for String {
    const KIND: &'static str = "text";

    fn read(raw: &Raw) -> Result<Self, String> {
        Ok(raw.text()?.to_owned())
    }
}

/// Never shown, not even to say that it is wrong.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl Value for Secret {
    const KIND: &'static str = "secret";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text().map_err(|_| "one secret is expected here, not a list")?;
        if text.len() < 16 { Err("a secret has at least 16 characters".into()) } else { Ok(Self(text.to_owned())) }
    }
}

/// Secrets as well.
#[derive(Clone)]
pub(crate) struct EventKeys(pub(crate) SourceKeys);

impl Value for EventKeys {
    const KIND: &'static str = "secrets";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = match raw {
            Raw::Text(text) => text.clone(),
            Raw::List(parts) => parts.join(","),
        };
        SourceKeys::parse(&text).map(Self).map_err(|error| error.to_string())
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";

    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "" => Err("a path is expected".into()),
            text => Ok(Self::from(text)),
        }
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";

    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(format!("`{other}` is neither `true` nor `false`")),
        }
    }
}

/// A port alone is a port on the loopback address.
impl Value for SocketAddr {
    const KIND: &'static str = "address:port";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let port = text.parse::<u16>().map(|port| Self::from((Ipv4Addr::LOCALHOST, port)));
        port.or_else(|_| text.parse()).map_err(|_| format!("`{text}` is not an address with a port, such as 127.0.0.1:8443"))
    }
}

/// A DNS server; port 53 unless another is given.
#[derive(Clone, Copy)]
pub(crate) struct NameServer(pub(crate) SocketAddr);

impl Value for NameServer {
    const KIND: &'static str = "address";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        bare.or_else(|_| text.parse()).map(Self).map_err(|_| format!("`{text}` is not the address of a DNS server, such as 192.0.2.53"))
    }
}

/// An address and the length of its prefix.
#[derive(Clone, Copy)]
pub(crate) struct Network(pub(crate) IpAddr, pub(crate) u8);

impl Value for Network {
    const KIND: &'static str = "network";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let parts = text.split_once('/').and_then(|(ip, length)| Some((ip.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?)));
        match parts {
            Some((ip, length)) if length <= if ip.is_ipv4() { 32 } else { 128 } => Ok(Self(ip, length)),
            _ => Err(format!("`{text}` is not a network such as 198.51.100.0/24")),
        }
    }
}

impl Value for Hostname {
    const KIND: &'static str = "hostname";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        Self::parse(text).map_err(|error| format!("`{text}` is not a hostname: {error}"))
    }
}

/// What sites' names are put before. One label is enough: `localhost`.
#[derive(Clone)]
pub(crate) struct BaseDomain(String);

impl BaseDomain {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_localhost(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

impl Value for BaseDomain {
    const KIND: &'static str = "hostname";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let site = Hostname::parse(&format!("site.{text}")).map_err(|error| format!("`{text}` is not a domain: {error}"))?;
        Ok(Self(site.as_str().strip_prefix("site.").unwrap_or_default().to_owned()))
    }
}

/// `500ms`, `30s`, `10m`, `6h`, `90d`; a number alone counts seconds.
impl Value for SignedDuration {
    const KIND: &'static str = "duration";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(unit_at);
        let unit_ms = match unit {
            "ms" => 1,
            "s" | "" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => 0,
        };
        let ms = digits.parse::<i64>().ok().and_then(|number| number.checked_mul(unit_ms)).filter(|ms| *ms > 0);
        ms.map(Self::from_millis).ok_or_else(|| format!("`{text}` is not a duration such as 500ms, 30s, 10m, 6h or 90d"))
    }
}

/// The arguments of a command. In text: a JSON array, or words without quotes.
#[derive(Clone)]
pub(crate) struct Argv(pub(crate) Vec<String>);

impl Value for Argv {
    const KIND: &'static str = "list of arguments";

    fn read(raw: &Raw) -> Result<Self, String> {
        let words = match raw {
            Raw::List(words) => words.clone(),
            Raw::Text(text) if text.trim_start().starts_with('[') => {
                serde_json::from_str(text).map_err(|error| format!("not a JSON array of texts: {error}"))?
            }
            Raw::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
        };
        if words.is_empty() { Err("a command needs at least its program".into()) } else { Ok(Self(words)) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Value for LogFormat {
    const KIND: &'static str = "`text` or `json`";

    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("`{other}` is neither `text` nor `json`")),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IssuerKind {
    Acme,
    Internal,
}

impl Value for IssuerKind {
    const KIND: &'static str = "`acme` or `internal`";

    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "acme" => Ok(Self::Acme),
            "internal" => Ok(Self::Internal),
            other => Err(format!("`{other}` is neither `acme` nor `internal`")),
        }
    }
}

impl Value for ChallengeKind {
    const KIND: &'static str = "challenge";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        Self::parse(text).ok_or_else(|| format!("`{text}` is not a challenge; there is `http-01` and `tls-alpn-01`"))
    }
}

impl Value for KeyType {
    const KIND: &'static str = "key type";

    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let known = Self::ALL.iter().filter(|kind| **kind != Self::Other);
        Self::parse(text).filter(|kind| *kind != Self::Other).ok_or_else(|| {
            format!("`{text}` is not a key type; there is {}", known.map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Value>(text: &str) -> Result<T, String> {
        T::read(&Raw::Text(text.to_owned()))
    }

    #[test]
    fn durations_carry_their_unit() {
        for (text, ms) in [("500ms", 500), ("8", 8_000), ("30s", 30_000), ("10m", 600_000), ("6h", 21_600_000), ("90d", 7_776_000_000)] {
            assert_eq!(read::<SignedDuration>(text), Ok(SignedDuration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "-1s", "1.5h", "10 m", "1w", "0s", "99999999999999999999d"] {
            assert!(read::<SignedDuration>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_come_as_arrays_or_with_commas() {
        assert_eq!(read::<Vec<String>>("a, b,,c").unwrap(), ["a", "b", "c"]);
        assert_eq!(read::<Vec<String>>("").unwrap(), Vec::<String>::new());
        assert_eq!(Vec::<String>::read(&Raw::List(vec!["a,b".into()])).unwrap(), ["a,b"]);
        assert!(String::read(&Raw::List(vec![])).is_err());
    }

    #[test]
    fn a_port_alone_is_on_loopback_and_a_name_server_has_port_53() {
        assert_eq!(read::<SocketAddr>("9465").unwrap().to_string(), "127.0.0.1:9465");
        assert_eq!(read::<SocketAddr>("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(read::<NameServer>("::1").unwrap().0.to_string(), "[::1]:53");
        assert_eq!(read::<NameServer>("192.0.2.1:5353").unwrap().0.to_string(), "192.0.2.1:5353");
        assert!(read::<SocketAddr>("localhost:80").is_err());
    }

    #[test]
    fn a_base_domain_may_have_one_label_and_no_wildcard() {
        for (text, expected) in
            [("localhost", "localhost"), ("Sites.Example.NET.", "sites.example.net"), ("bücher.example", "xn--bcher-kva.example")]
        {
            assert_eq!(read::<BaseDomain>(text).map(|base| base.0).as_deref(), Ok(expected));
        }
        for bad in ["", "*.example.com", "a..b", "-a.example"] {
            assert!(read::<BaseDomain>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_fit_their_family() {
        assert!(read::<Network>("198.51.100.0/24").is_ok() && read::<Network>("2001:db8::/128").is_ok());
        for bad in ["198.51.100.0", "198.51.100.0/33", "x/8", "2001:db8::/129"] {
            assert!(read::<Network>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_command_is_words_or_a_json_array() {
        assert_eq!(read::<Argv>("pass show kek").unwrap().0, ["pass", "show", "kek"]);
        assert_eq!(read::<Argv>(r#"["a b", "c"]"#).unwrap().0, ["a b", "c"]);
        assert!(read::<Argv>(" ").is_err() && read::<Argv>("[1]").is_err());
    }
}

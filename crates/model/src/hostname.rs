//! Hostnames as they stand in a database, a certificate and a ClientHello: lower-case A-labels, never an address.
//!
//! Input may be Unicode; it is mapped by UTS #46 and checked against RFC 1123 (letters, digits, hyphens), RFC 1035
//! (63 octets a label, 253 a name) and RFC 5891 (hyphens). A wildcard is allowed as the whole first label (RFC 6125).
//! It does not ask whether a name exists or who owns it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A valid DNS hostname in its canonical spelling, with at least two labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(Box<str>);

/// Why a text is not a hostname. Each message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    #[error("the hostname is empty")]
    Empty,
    #[error("the hostname has {0} octets; at most 253 are allowed")]
    TooLong(usize),
    #[error("the label `{0}` has more than 63 octets")]
    LabelTooLong(String),
    #[error("the hostname has an empty label (two dots in a row, or one at the start)")]
    EmptyLabel,
    #[error("`{0}` has one label only; give the full name, such as `{0}.example.com`")]
    SingleLabel(String),
    #[error("`{0}` is an IP address; a domain must be a name")]
    IpAddress(String),
    #[error("`*` may only be the whole first label, as in `*.example.com`")]
    Wildcard,
    #[error("the label `{0}` starts or ends with a hyphen, or has hyphens in places that IDNA reserves")]
    Hyphen(String),
    #[error("`{0}` is not a valid internationalised name (UTS #46): a character is forbidden, invisible or misplaced")]
    Idna(String),
    #[error("the last label `{0}` must not be all digits")]
    NumericTld(String),
}

impl Hostname {
    /// Parses and canonicalises. A single trailing dot (the DNS root) is accepted and dropped.
    pub fn parse(input: &str) -> Result<Self, HostnameError> {
        let text = input.strip_suffix('.').unwrap_or(input);
        if text.is_empty() {
            return Err(HostnameError::Empty);
        }
        // A bound before the mapping, so that a huge body costs nothing: A-labels are never shorter than a quarter of it.
        if text.len() > 1024 {
            return Err(HostnameError::TooLong(text.len()));
        }
        if text.parse::<std::net::IpAddr>().is_ok() || text.starts_with('[') {
            return Err(HostnameError::IpAddress(text.to_owned()));
        }
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            return Err(HostnameError::Wildcard);
        }
        let ascii = if is_plain(rest) { rest.to_owned() } else { to_ascii(rest)? };
        let labels: Vec<&str> = ascii.split('.').collect();
        for label in &labels {
            check_label(label)?;
        }
        let last = labels.last().copied().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(HostnameError::NumericTld(last.to_owned()));
        }
        if labels.len() < 2 {
            return Err(HostnameError::SingleLabel(ascii));
        }
        let name = if wildcard { format!("*.{ascii}") } else { ascii };
        if name.len() > 253 {
            return Err(HostnameError::TooLong(name.len()));
        }
        Ok(Self(name.into_boxed_str()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The name without its first label, where at least two labels remain.
    pub fn parent(&self) -> Option<Hostname> {
        let (_, rest) = self.0.split_once('.')?;
        rest.contains('.').then(|| Self(rest.into()))
    }

    /// The wildcard that covers this name (`a.example.com` → `*.example.com`).
    pub fn covering_wildcard(&self) -> Option<Hostname> {
        let (_, rest) = self.0.split_once('.')?;
        (!self.is_wildcard() && rest.contains('.')).then(|| Self(format!("*.{rest}").into_boxed_str()))
    }

    /// Whether `self` is `base` or lies below it.
    pub fn is_within(&self, base: &str) -> bool {
        let own = self.0.strip_prefix("*.").unwrap_or(&self.0);
        own == base || own.strip_suffix(base).is_some_and(|head| head.ends_with('.'))
    }

    /// Whether a certificate name (exact, or a wildcard for one label, RFC 6125 section 6.4.3) covers this name.
    pub fn is_covered_by(&self, certificate_name: &str) -> bool {
        if self.as_str().eq_ignore_ascii_case(certificate_name) {
            return true;
        }
        match (certificate_name.strip_prefix("*."), self.0.split_once('.')) {
            (Some(base), Some((_, rest))) => !self.is_wildcard() && rest.eq_ignore_ascii_case(base),
            _ => false,
        }
    }

    /// Names that RFC 6761 says resolve to loopback without asking any server.
    pub fn is_localhost(&self) -> bool {
        self.is_within("localhost")
    }

    /// The name as a person reads it, with U-labels.
    pub fn to_unicode(&self) -> String {
        let (text, result) = idna::domain_to_unicode(&self.0);
        if result.is_ok() { text } else { self.0.to_string() }
    }
}

/// Lower-case letters, digits, single hyphens and dots: UTS #46 maps such a name to itself. Most names are, and a million
/// of them are read at a start.
fn is_plain(text: &str) -> bool {
    let mut last = b'.';
    for byte in text.bytes() {
        let fits = match byte {
            b'a'..=b'z' | b'0'..=b'9' => true,
            b'-' => last != b'-' && last != b'.',
            b'.' => last != b'.' && last != b'-',
            _ => false,
        };
        if !fits {
            return false;
        }
        last = byte;
    }
    last != b'.' && last != b'-'
}

fn to_ascii(text: &str) -> Result<String, HostnameError> {
    if text.split('.').any(str::is_empty) {
        return Err(HostnameError::EmptyLabel);
    }
    let ascii = idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::STD3)
        .map_err(|_| HostnameError::Idna(printable(text)))?
        .into_owned();
    // UTS #46 maps some characters to dots or to nothing; what remains must still have no empty label.
    if ascii.split('.').any(str::is_empty) {
        return Err(HostnameError::EmptyLabel);
    }
    // A name that claims to be Punycode must survive the way back, or two spellings would name one host.
    let (unicode, round) = idna::domain_to_unicode(&ascii);
    if round.is_err() || idna::domain_to_ascii(&unicode).ok().as_deref() != Some(ascii.as_str()) {
        return Err(HostnameError::Idna(printable(text)));
    }
    Ok(ascii)
}

fn check_label(label: &str) -> Result<(), HostnameError> {
    if label.len() > 63 {
        return Err(HostnameError::LabelTooLong(label.chars().take(80).collect()));
    }
    let reserved = label.len() >= 4 && &label[2..4] == "--" && !label.starts_with("xn--");
    if label.starts_with('-') || label.ends_with('-') || reserved {
        return Err(HostnameError::Hyphen(label.to_owned()));
    }
    Ok(())
}

/// Control characters and invisible ones must not reach a terminal through an error message.
fn printable(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hostname({})", self.0)
    }
}

impl FromStr for Hostname {
    type Err = HostnameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Hostname {
    type Error = HostnameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> Self {
        name.0.into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonicalised_or_refused_with_the_reason() {
        let long_label = "a".repeat(64);
        let long_name = format!("{}.example.com", vec!["abcdefgh"; 30].join("."));
        #[rustfmt::skip]
        let table: &[(&str, Result<&str, &str>)] = &[
            ("example.com",                 Ok("example.com")),
            ("WWW.Example.COM.",            Ok("www.example.com")),
            ("a.localhost",                 Ok("a.localhost")),
            ("*.example.com",               Ok("*.example.com")),
            ("bücher.example",              Ok("xn--bcher-kva.example")),
            ("xn--bcher-kva.example",       Ok("xn--bcher-kva.example")),
            ("ＷＷＷ.example.com",           Ok("www.example.com")),
            ("www。example.com",             Ok("www.example.com")),
            ("",                            Err("is empty")),
            (".",                           Err("is empty")),
            ("localhost",                   Err("one label only")),
            ("a..example.com",              Err("empty label")),
            (".example.com",                Err("empty label")),
            ("-a.example.com",              Err("hyphen")),
            ("a-.example.com",              Err("hyphen")),
            ("ab--cd.example.com",          Err("hyphen")),
            ("a_b.example.com",             Err("not a valid internationalised name")),
            ("a b.example.com",             Err("not a valid internationalised name")),
            ("a/b.example.com",             Err("not a valid internationalised name")),
            ("xn--a.example.com",           Err("not a valid internationalised name")),
            ("xn--www-.example.com",        Err("")),
            ("a\u{202e}b.example.com",      Err("not a valid internationalised name")),
            ("exa\u{0}mple.com",            Err("not a valid internationalised name")),
            ("192.168.0.1",                 Err("IP address")),
            ("::1",                         Err("IP address")),
            ("[::1]",                       Err("IP address")),
            ("1.2.3.example.99",            Err("all digits")),
            ("a.*.example.com",             Err("whole first label")),
            ("*a.example.com",              Err("whole first label")),
            ("*.com",                       Err("one label only")),
            (&format!("{long_label}.example.com"), Err("")),
            (&long_name,                    Err("253")),
        ];
        for (input, expected) in table {
            let got = Hostname::parse(input);
            match (expected, &got) {
                (Ok(name), Ok(host)) => assert_eq!(host.as_str(), *name, "{input}"),
                (Err(part), Err(error)) => assert!(error.to_string().contains(part), "{input}: {error}"),
                _ => panic!("{input}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_wildcard_covers_exactly_one_label() {
        let host = Hostname::parse("a.example.com").unwrap();
        assert!(host.is_covered_by("*.example.com"));
        assert!(host.is_covered_by("A.example.com"));
        assert!(!host.is_covered_by("*.com"));
        assert!(!Hostname::parse("a.b.example.com").unwrap().is_covered_by("*.example.com"));
        assert!(host.is_within("example.com") && !host.is_within("ample.com"));
    }

    proptest::proptest! {
        #[test]
        fn a_plain_name_is_what_the_mapping_makes_of_it(text in "[a-z0-9.-]{1,40}") {
            if is_plain(&text) {
                proptest::prop_assert_eq!(to_ascii(&text), Ok(text.clone()));
            }
        }

        #[test]
        fn parsing_is_idempotent_and_bounded(text in "\\PC{0,60}(\\.[a-zA-Z0-9ü-]{1,20}){0,4}") {
            if let Ok(host) = Hostname::parse(&text) {
                proptest::prop_assert_eq!(Hostname::parse(host.as_str()), Ok(host.clone()));
                proptest::prop_assert!(host.as_str().len() <= 253 && host.as_str().is_ascii());
            }
        }
    }
}

//! Whose event it is: the token, and the signature over the raw body (SPEC section 6).
//!
//! Invariants: comparisons take the same time for every wrong value; what exactly was wrong is for the log and the source's
//! counters, never for the caller.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use certwright_model::event::Identity;
use http::HeaderMap;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// `CERT_EVENT_SOURCE_KEYS`: the secrets of each identity; several while they are being rotated.
#[derive(Clone, Default)]
pub struct SourceKeys(BTreeMap<Identity, Vec<hmac::Key>>);

impl std::fmt::Debug for SourceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CERT_EVENT_SOURCE_KEYS, entry {entry}: {problem}; it is `source:cluster=secret`, comma-separated")]
pub struct SourceKeysError {
    /// Counted from 1. Nothing of the entry itself is repeated: it may be a secret.
    pub entry: usize,
    pub problem: &'static str,
}

/// Shorter secrets can be guessed.
const SHORTEST_SECRET: usize = 16;

impl SourceKeys {
    /// `source:cluster=secret`, comma-separated; the same identity may come several times.
    ///
    /// # Errors
    /// When an entry has another shape, or its secret is too short.
    pub fn parse(text: &str) -> Result<Self, SourceKeysError> {
        let mut keys: BTreeMap<Identity, Vec<hmac::Key>> = BTreeMap::new();
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        for (index, entry) in entries.enumerate() {
            let error = |problem| SourceKeysError { entry: index + 1, problem };
            let (identity, secret) = entry.split_once('=').ok_or(error("there is no `=`"))?;
            let (source, cluster) = identity.split_once(':').ok_or(error("there is no `:` before the `=`"))?;
            let identity = Identity::new(source, cluster).map_err(|_| error("the source or cluster has a wrong character"))?;
            if secret.len() < SHORTEST_SECRET {
                return Err(error("the secret has fewer than 16 characters"));
            }
            keys.entry(identity).or_default().push(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        }
        Ok(Self(keys))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn knows(&self, identity: &Identity) -> bool {
        self.0.contains_key(identity)
    }
}

/// Why an event's provenance was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    MissingHeader,
    BadTimestamp,
    Stale,
    UnknownIdentity,
    BadSignature,
}

impl Refusal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingHeader => "missing_header",
            Self::BadTimestamp => "bad_timestamp",
            Self::Stale => "stale",
            Self::UnknownIdentity => "unknown_identity",
            Self::BadSignature => "bad_signature",
        }
    }
}

/// What the headers claim, before anything is believed.
pub fn claimed(headers: &HeaderMap) -> Option<Identity> {
    Identity::new(text(headers, "x-cert-source")?, text(headers, "x-cert-cluster")?).ok()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let one = values.next()?.to_str().ok()?;
    // Twice the same header means that somebody reads one and somebody else the other.
    values.next().is_none().then_some(one)
}

/// The identity whose signature is right and fresh.
///
/// # Errors
/// The refusal.
pub fn verify(keys: &SourceKeys, headers: &HeaderMap, body: &[u8], now: Timestamp, max_age_seconds: i64) -> Result<Identity, Refusal> {
    let (Some(timestamp), Some(signature)) = (text(headers, "x-cert-timestamp"), text(headers, "x-cert-signature")) else {
        return Err(Refusal::MissingHeader);
    };
    let identity = claimed(headers).ok_or(Refusal::MissingHeader)?;
    let plain = !timestamp.is_empty() && timestamp.bytes().all(|b| b.is_ascii_digit());
    let at: i64 = timestamp.parse().ok().filter(|_| plain).ok_or(Refusal::BadTimestamp)?;
    if at.abs_diff(now.as_second()) > max_age_seconds.unsigned_abs() {
        return Err(Refusal::Stale);
    }
    let secrets = keys.0.get(&identity).ok_or(Refusal::UnknownIdentity)?;
    // Every secret is tried, so that the time does not tell which one is live.
    let right = secrets.iter().fold(false, |right, key| signature_is(key, timestamp, body, signature) | right);
    if right { Ok(identity) } else { Err(Refusal::BadSignature) }
}

fn signature_is(key: &hmac::Key, timestamp: &str, body: &[u8], given: &str) -> bool {
    verify_slices_are_equal(sign_with(key, timestamp, body).as_bytes(), given.as_bytes()).is_ok()
}

/// Lower-case hex HMAC-SHA256 of `<timestamp>.<raw body>`.
pub fn sign(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    sign_with(&hmac::Key::new(hmac::HMAC_SHA256, secret), timestamp, body)
}

fn sign_with(key: &hmac::Key, timestamp: &str, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    hex(context.sign().as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old-secret-0123456789";
    const NEW: &str = "new=secret-0123456789";

    fn keys() -> SourceKeys {
        SourceKeys::parse(&format!("lego:eu-1={OLD}, lego:eu-1={NEW},caddy:eu-2=another-secret-012345")).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn headers(source: &str, cluster: &str, timestamp: &str, signature: &str) -> HeaderMap {
        let pairs =
            [("x-cert-source", source), ("x-cert-cluster", cluster), ("x-cert-timestamp", timestamp), ("x-cert-signature", signature)];
        pairs.into_iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_signature_is_the_documented_one() {
        // printf '1800000000.{}' | openssl dgst -sha256 -hmac key
        assert_eq!(sign(b"key", "1800000000", b"{}"), "7321475872b03ff21bdc2dfd86ea2d99ec29c479fbe4a77aa6acf4509505493f");
    }

    #[test]
    fn who_is_believed() {
        let body = br#"{"a": 1}"#;
        let spaced = br#"{"a":  1}"#;
        let t = "1800000000";
        let good = sign(OLD.as_bytes(), t, body);
        let shouted = good.to_uppercase();
        let early = sign(OLD.as_bytes(), "1799999699", body);
        let late = sign(OLD.as_bytes(), "1800000301", body);
        let edge = sign(OLD.as_bytes(), "1799999700", body);
        let plus = sign(OLD.as_bytes(), "+1800000000", body);
        let rotated = sign(NEW.as_bytes(), t, body);
        let other = sign(b"another-secret-012345", t, body);
        #[rustfmt::skip]
        type Case<'a> = (&'a str, HeaderMap, &'a [u8], Result<(), Refusal>);
        let table: &[Case<'_>] = &[
            ("right", headers("lego", "eu-1", t, &good), body, Ok(())),
            ("the second secret", headers("lego", "eu-1", t, &rotated), body, Ok(())),
            ("just fresh enough", headers("lego", "eu-1", "1799999700", &edge), body, Ok(())),
            ("too old", headers("lego", "eu-1", "1799999699", &early), body, Err(Refusal::Stale)),
            ("from the future", headers("lego", "eu-1", "1800000301", &late), body, Err(Refusal::Stale)),
            ("another time than signed", headers("lego", "eu-1", "1800000001", &good), body, Err(Refusal::BadSignature)),
            ("one byte of white space", headers("lego", "eu-1", t, &good), spaced, Err(Refusal::BadSignature)),
            ("upper case", headers("lego", "eu-1", t, &shouted), body, Err(Refusal::BadSignature)),
            ("another's secret", headers("lego", "eu-1", t, &other), body, Err(Refusal::BadSignature)),
            ("another cluster", headers("lego", "eu-9", t, &good), body, Err(Refusal::UnknownIdentity)),
            ("a sign before the time", headers("lego", "eu-1", "+1800000000", &plus), body, Err(Refusal::BadTimestamp)),
            ("no time", headers("lego", "eu-1", "", &good), body, Err(Refusal::BadTimestamp)),
            ("no source", headers("", "eu-1", t, &good), body, Err(Refusal::MissingHeader)),
            ("nothing", HeaderMap::new(), body, Err(Refusal::MissingHeader)),
        ];
        for (what, headers, body, expected) in table {
            assert_eq!(verify(&keys(), headers, body, now(), 300).map(drop), *expected, "{what}");
        }
        let mut twice = headers("lego", "eu-1", t, &good);
        twice.append("x-cert-source", "caddy".parse().unwrap());
        assert_eq!(verify(&keys(), &twice, body, now(), 300), Err(Refusal::MissingHeader));
    }

    #[test]
    fn keys_that_cannot_be_read_are_named_by_number_and_never_repeated() {
        let error = SourceKeys::parse("a:b=0123456789abcdef,lego=hunter2-hunter2-hunter2").unwrap_err();
        assert_eq!(error.entry, 2);
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(SourceKeys::parse("a:b=short").is_err());
        assert!(SourceKeys::parse("").unwrap().is_empty());
        assert!(!format!("{:?}", keys()).contains("secret"));
    }
}

//! Certificates by their facts: the reference that the database names, the lifetime, the key type, the expiring window.
//!
//! Facts are read from DER elsewhere (`providers::x509`); here they are compared.

use crate::hostname::Hostname;
use crate::site::word_enum;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// `sha256:<64 lower-case hex digits of the leaf's DER>`
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateRef(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate reference is `sha256:` and 64 lower-case hex digits")]
pub struct CertificateRefError;

impl CertificateRef {
    pub fn parse(text: &str) -> Result<Self, CertificateRefError> {
        let hex = text.strip_prefix("sha256:").ok_or(CertificateRefError)?;
        if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(CertificateRefError)
        }
    }

    pub fn from_digest(digest: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in digest {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for tables.
    pub fn short(&self) -> &str {
        &self.0[..19]
    }
}

impl fmt::Display for CertificateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CertificateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CertificateRef {
    type Error = CertificateRefError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<CertificateRef> for String {
    fn from(value: CertificateRef) -> Self {
        value.0
    }
}

word_enum! {
    /// `EcdsaP256` unless somebody asks for another.
    pub enum KeyType {
        EcdsaP256 = "ecdsa-p256",
        EcdsaP384 = "ecdsa-p384",
        Rsa2048 = "rsa-2048",
        Rsa4096 = "rsa-4096",
        /// A key that Certwright did not make.
        Other = "other",
    }
}

/// What a leaf says of itself, and who Certwright had it from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    pub certificate_ref: CertificateRef,
    /// DNS names of the SAN extension, as they stand.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub key_type: KeyType,
    /// The configured issuer that gave it (`internal`, `letsencrypt`, …).
    pub issuer: String,
    /// The certificate's own issuer name (RFC 4514), for people.
    pub issuer_dn: String,
    /// Serial number in lower-case hex.
    pub serial: String,
    /// RFC 9773 identifier: base64url(AKI) "." base64url(serial); `None` without an authority key identifier.
    pub ari_id: Option<String>,
}

impl CertificateFacts {
    pub fn covers(&self, host: &Hostname) -> bool {
        self.names.iter().any(|name| host.is_covered_by(name))
    }

    pub fn lifetime(&self) -> SignedDuration {
        self.not_after.duration_since(self.not_before)
    }

    pub fn is_current(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Whether at most the expiring window remains.
    pub fn is_expiring(&self, now: Timestamp, warn: SignedDuration) -> bool {
        self.not_after.duration_since(now) <= expiring_window(self.lifetime(), warn)
    }
}

/// The smaller of `warn` (30 days unless configured) and one third of the lifetime.
pub fn expiring_window(lifetime: SignedDuration, warn: SignedDuration) -> SignedDuration {
    warn.min(lifetime / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiring_window_is_thirty_days_or_a_third_of_the_lifetime() {
        let days = |n: i64| SignedDuration::from_hours(24 * n);
        for (lifetime, window) in [(90, days(30)), (45, days(15)), (398, days(30)), (6, days(2))] {
            assert_eq!(expiring_window(days(lifetime), days(30)), window, "{lifetime} days");
        }
    }

    #[test]
    fn a_reference_is_the_sha256_of_the_leaf_in_lower_case_hex() {
        let reference = CertificateRef::from_digest(&[0xab; 32]);
        assert_eq!(reference.as_str(), format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(CertificateRef::parse(reference.as_str()), Ok(reference));
        for bad in ["", "sha256:", &format!("sha256:{}", "AB".repeat(32)), &format!("sha1:{}", "ab".repeat(32))] {
            assert!(CertificateRef::parse(bad).is_err(), "{bad}");
        }
    }
}

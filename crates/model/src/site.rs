//! Sites: what is served, and the lifecycle of it.
//!
//! `CREATED → PROVISIONING → ACTIVE → DESTROYING → DESTROYED`, with `FAILED` beside it. The documented eleven-state
//! view over a site and its custom domain is in [`crate::view`].

use serde::{Deserialize, Serialize};
use std::fmt;

/// `^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteName(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a site name has 1 to 40 characters out of a-z, 0-9 and hyphens, and starts and ends with a letter or digit, such as `shop-1`")]
pub struct SiteNameError;

impl SiteName {
    pub fn parse(text: &str) -> Result<Self, SiteNameError> {
        let bytes = text.as_bytes();
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        // `ab--cd` would make a default hostname that IDNA reserves (RFC 5891 section 4.2.3.1).
        let reserved = bytes.len() >= 4 && &bytes[2..4] == b"--";
        if bytes.len() <= 40 && inner && edge(bytes.first()) && edge(bytes.last()) && !reserved {
            Ok(Self(text.to_owned()))
        } else {
            Err(SiteNameError)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SiteName {
    type Error = SiteNameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<SiteName> for String {
    fn from(name: SiteName) -> Self {
        name.0
    }
}

/// What a site is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SiteKind {
    /// Files below the data directory, one folder a version (`content` is its name).
    Static { content: String },
    /// An upstream that already runs: `http://host:port`.
    Proxy { upstream: String },
}

impl SiteKind {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Static { .. } => "static",
            Self::Proxy { .. } => "proxy",
        }
    }
}

/// Generates an enum that is stored and served as one upper- or lower-case word.
macro_rules! word_enum {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        $vis enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$(Self::$variant),+];
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
            pub fn parse(text: &str) -> Option<Self> { match text { $($text => Some(Self::$variant),)+ _ => None } }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
}
pub(crate) use word_enum;

word_enum! {
    /// The lifecycle of a site by itself, without its domains.
    pub enum SiteLifecycle {
        Created = "CREATED",
        Provisioning = "PROVISIONING",
        Active = "ACTIVE",
        Destroying = "DESTROYING",
        Destroyed = "DESTROYED",
        Failed = "FAILED",
    }
}

/// An illegal change: a typed error that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} that is {from} cannot become {to}")]
pub struct IllegalTransition {
    pub what: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

impl SiteLifecycle {
    pub fn can_become(self, to: Self) -> bool {
        use SiteLifecycle::*;
        matches!(
            (self, to),
            (Created, Provisioning)
                | (Provisioning, Active | Failed)
                // ACTIVE → FAILED is the domain-removal failure of the documented view (DOMAIN_REMOVING → FAILED).
                | (Active, Destroying | Failed)
                | (Destroying, Destroyed | Failed)
                | (Failed, Provisioning | Destroying)
        )
    }

    pub fn become_(self, to: Self) -> Result<Self, IllegalTransition> {
        if self.can_become(to) { Ok(to) } else { Err(IllegalTransition { what: "site", from: self.as_str(), to: to.as_str() }) }
    }

    /// Whether a custom domain may be set: the documented view enters `DOMAIN_PENDING` from `ACTIVE` alone.
    pub fn takes_domains(self) -> bool {
        self == Self::Active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn site_names_follow_the_documented_pattern() {
        let forty = "a".repeat(40);
        for good in ["a", "7", "shop-1", "a-b", forty.as_str()] {
            assert!(SiteName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(41);
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ü", "../x", "xn--a", long.as_str()] {
            assert!(SiteName::parse(bad).is_err(), "{bad}");
        }
    }
}

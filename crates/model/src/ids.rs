//! Identifiers: one newtype a kind of row, so that a domain's id cannot be passed where a site's is meant.
//!
//! All are UUID version 7 (RFC 9562), made by the engine's clock and entropy; nothing here makes one.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }
    )+};
}

id! {
    /// A row of `sites`.
    SiteId,
    /// A row of `custom_domains`.
    DomainId,
    /// A row of `certificates`.
    CertificateId,
    /// A row of `orders`: one attempt to get one certificate.
    OrderId,
    /// A row of `cert_events`.
    EventId,
    /// A row of `jobs`.
    JobId,
    /// A row of `tokens`.
    TokenId,
    /// One running process that shares the database with others.
    NodeId,
}

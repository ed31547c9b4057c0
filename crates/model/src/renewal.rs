//! When a certificate is to be renewed: an ordered chain of pure checks, the first finding wins.
//!
//! The schedule follows SPEC section 5: ARI (RFC 9773) where the CA offers it, otherwise two thirds of the lifetime (half
//! of it below 10 days), spread so that certificates made together do not renew together.

use crate::certificate::{CertificateFacts, KeyType};
use crate::hostname::Hostname;
use crate::site::word_enum;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A CA's answer to "when should this be renewed?", with the random moment that was drawn from it once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AriWindow {
    pub start: Timestamp,
    pub end: Timestamp,
    /// Drawn uniformly from the window when it was first seen (RFC 9773 section 4.2).
    pub selected: Timestamp,
    /// When the CA wants to be asked again (`Retry-After`).
    pub poll_at: Timestamp,
}

impl AriWindow {
    /// `entropy` in `[0, 1)`. A window that has passed selects `now`.
    pub fn select(start: Timestamp, end: Timestamp, poll_at: Timestamp, entropy: f64) -> Self {
        let width = end.duration_since(start).max(SignedDuration::ZERO);
        Self { start, end, selected: start + width.mul_f64(entropy.clamp(0.0, 1.0)), poll_at }
    }
}

word_enum! {
    /// Why a certificate is wanted.
    pub enum Cause {
        Missing = "missing",
        NamesDiffer = "names_differ",
        IssuerDiffers = "issuer_differs",
        KeyTypeDiffers = "key_type_differs",
        Requested = "requested",
        Expired = "expired",
        AriWindow = "ari_window",
        Schedule = "schedule",
    }
}

/// What the checks look at.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    pub host: &'a Hostname,
    pub current: Option<&'a CertificateFacts>,
    /// Acceptable issuers, in order of preference. A current certificate of any of them stands.
    pub issuers: &'a [String],
    pub key_type: KeyType,
    pub ari: Option<&'a AriWindow>,
    /// A person asked for a new one.
    pub requested: bool,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Due { cause: Cause, message: String },
    NotBefore(Timestamp),
}

type Check = fn(&Need<'_>, &CertificateFacts) -> Option<(Cause, String)>;

/// The order is the policy: what makes a certificate wrong comes before what makes it old.
const CHAIN: &[Check] = &[names_differ, issuer_differs, key_type_differs, requested, expired, ari_window, schedule];

pub fn decide(need: &Need<'_>) -> Decision {
    let Some(current) = need.current else {
        return Decision::Due { cause: Cause::Missing, message: "there is no certificate yet".into() };
    };
    match CHAIN.iter().find_map(|check| check(need, current)) {
        Some((cause, message)) => Decision::Due { cause, message },
        None => Decision::NotBefore(match need.ari {
            Some(window) => window.selected,
            None => scheduled_at(current),
        }),
    }
}

fn names_differ(need: &Need<'_>, current: &CertificateFacts) -> Option<(Cause, String)> {
    (!current.covers(need.host))
        .then(|| (Cause::NamesDiffer, format!("the certificate is for {}, not {}", current.names.join(", "), need.host)))
}

fn issuer_differs(need: &Need<'_>, current: &CertificateFacts) -> Option<(Cause, String)> {
    (!need.issuers.contains(&current.issuer))
        .then(|| (Cause::IssuerDiffers, format!("the certificate is from `{}`; wanted is {}", current.issuer, need.issuers.join(" or "))))
}

fn key_type_differs(need: &Need<'_>, current: &CertificateFacts) -> Option<(Cause, String)> {
    (current.key_type != need.key_type)
        .then(|| (Cause::KeyTypeDiffers, format!("the key is {}; wanted is {}", current.key_type, need.key_type)))
}

fn requested(need: &Need<'_>, _: &CertificateFacts) -> Option<(Cause, String)> {
    need.requested.then(|| (Cause::Requested, "a new certificate was asked for".into()))
}

fn expired(need: &Need<'_>, current: &CertificateFacts) -> Option<(Cause, String)> {
    (current.not_after <= need.now).then(|| (Cause::Expired, format!("the certificate expired at {}", current.not_after)))
}

fn ari_window(need: &Need<'_>, _: &CertificateFacts) -> Option<(Cause, String)> {
    let window = need.ari?;
    (window.selected <= need.now)
        .then(|| (Cause::AriWindow, format!("the CA suggests renewal between {} and {}", window.start, window.end)))
}

fn schedule(need: &Need<'_>, current: &CertificateFacts) -> Option<(Cause, String)> {
    (need.ari.is_none() && scheduled_at(current) <= need.now)
        .then(|| (Cause::Schedule, format!("the scheduled renewal at {} has come", scheduled_at(current))))
}

/// Two thirds of the lifetime (half of it below 10 days), and up to a twentieth later, drawn from the leaf's own digest:
/// the same certificate always renews at the same moment, two certificates almost never do.
pub fn scheduled_at(current: &CertificateFacts) -> Timestamp {
    let lifetime = current.lifetime();
    let fraction = if lifetime < SignedDuration::from_hours(240) { 0.5 } else { 2.0 / 3.0 };
    let digest = &current.certificate_ref.as_str()[7..15];
    let spread = u32::from_str_radix(digest, 16).unwrap_or(0);
    current.not_before + lifetime.mul_f64(fraction + 0.05 * f64::from(spread) / f64::from(u32::MAX))
}

/// The SLA: renewed by then, or somebody hears of it. The end of the ARI window, or when a quarter of the lifetime remains.
pub fn sla_due_at(current: &CertificateFacts, ari: Option<&AriWindow>) -> Timestamp {
    match ari {
        Some(window) => window.end,
        None => current.not_after - current.lifetime() / 4,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::certificate::CertificateRef;

    pub(crate) fn ts(days: f64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + (days * 86_400.0) as i64).unwrap()
    }

    /// A certificate for `a.example.com` that began on day 0.
    pub(crate) fn facts(lifetime_days: f64) -> CertificateFacts {
        CertificateFacts {
            certificate_ref: CertificateRef::from_digest(&[0; 32]),
            names: vec!["a.example.com".into()],
            not_before: ts(0.0),
            not_after: ts(lifetime_days),
            key_type: KeyType::EcdsaP256,
            issuer: "internal".into(),
            issuer_dn: "CN=test".into(),
            serial: "01".into(),
            ari_id: None,
        }
    }

    #[test]
    fn the_first_finding_of_the_chain_decides() {
        let host = Hostname::parse("a.example.com").unwrap();
        let internal = vec!["internal".to_owned(), "spare".to_owned()];
        let other = vec!["letsencrypt".to_owned()];
        let window = AriWindow { start: ts(40.0), end: ts(42.0), selected: ts(41.0), poll_at: ts(40.0) };
        struct Case<'a>(&'a str, f64, &'a [String], KeyType, Option<&'a AriWindow>, bool, Result<Cause, f64>);
        use KeyType::*;
        #[rustfmt::skip]
        let table = [
            Case("fresh",                  1.0, &internal, EcdsaP256, None,          false, Err(60.0)),
            Case("at two thirds",         60.0, &internal, EcdsaP256, None,          false, Ok(Cause::Schedule)),
            Case("ARI puts it earlier",   41.0, &internal, EcdsaP256, Some(&window), false, Ok(Cause::AriWindow)),
            Case("ARI has not come",      40.5, &internal, EcdsaP256, Some(&window), false, Err(41.0)),
            Case("another issuer",         1.0, &other,    EcdsaP256, None,          false, Ok(Cause::IssuerDiffers)),
            Case("another key type",       1.0, &internal, Rsa2048,   None,          false, Ok(Cause::KeyTypeDiffers)),
            Case("asked for",              1.0, &internal, EcdsaP256, None,          true,  Ok(Cause::Requested)),
            Case("expired",               91.0, &internal, EcdsaP256, None,          false, Ok(Cause::Expired)),
            Case("wrong before old",      91.0, &other,    EcdsaP256, None,          false, Ok(Cause::IssuerDiffers)),
        ];
        let current = facts(90.0);
        for Case(name, day, issuers, key_type, ari, requested, expected) in table {
            let need = Need { host: &host, current: Some(&current), issuers, key_type, ari, requested, now: ts(day) };
            match (decide(&need), expected) {
                (Decision::Due { cause, .. }, Ok(wanted)) => assert_eq!(cause, wanted, "{name}"),
                (Decision::NotBefore(at), Err(day)) => assert_eq!(at, ts(day), "{name}"),
                (got, wanted) => panic!("{name}: {got:?}, expected {wanted:?}"),
            }
        }
        let need = Need { host: &host, current: None, issuers: &internal, key_type: EcdsaP256, ari: None, requested: false, now: ts(0.0) };
        assert!(matches!(decide(&need), Decision::Due { cause: Cause::Missing, .. }));
    }

    #[test]
    fn a_certificate_that_renews_on_schedule_is_never_late() {
        for days in [0.1, 1.0, 6.0, 9.9, 10.0, 45.0, 90.0, 398.0] {
            for byte in [0u8, 127, 255] {
                let current = CertificateFacts { certificate_ref: CertificateRef::from_digest(&[byte; 32]), ..facts(days) };
                assert!(scheduled_at(&current) < sla_due_at(&current, None), "{days} days");
            }
        }
    }
}

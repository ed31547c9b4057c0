//! What the wire showed: one dial of one address, and the judgement of it against what the database names.
//!
//! Only `providers::probe` makes these; only [`judge`] turns them into green or a reason.

use crate::certificate::{CertificateRef, KeyType};
use crate::hostname::Hostname;
use crate::reason::{Reason, ReasonCode};
use crate::site::word_enum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

word_enum! {
    /// How the address was found.
    pub enum Path {
        /// The edge's own listener, dialled directly.
        Edge = "edge",
        /// The addresses that DNS gives a customer.
        Dns = "dns",
    }
}

word_enum! {
    /// Why a dial showed no certificate.
    pub enum DialFailure {
        NoAddress = "no_address",
        NotAllowed = "not_allowed",
        Refused = "refused",
        Unreachable = "unreachable",
        Timeout = "timeout",
        Reset = "reset",
        NotTls = "not_tls",
        /// The peer answered with the alert `unrecognized_name` (RFC 6066).
        UnknownName = "unknown_name",
        Handshake = "handshake",
    }
}

/// A leaf as it was served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    pub certificate_ref: CertificateRef,
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub issuer_dn: String,
    pub key_type: KeyType,
    /// `None` when the chain verifies against the trusted roots; otherwise what is wrong with it.
    pub chain_problem: Option<String>,
    /// `TLSv1.3` or `TLSv1.2`.
    pub tls_version: String,
    /// The protocol that ALPN agreed on.
    pub alpn: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub failure: DialFailure,
    pub detail: String,
}

/// One dial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    pub path: Path,
    /// `address:port`, or the name where no address was found.
    pub dialled: String,
    pub at: Timestamp,
    pub elapsed_ms: u32,
    pub seen: Result<Served, Failed>,
}

/// `Ok` when every dial shows the expected leaf, valid for the host now. The reason names the dial that disagrees.
pub fn judge(sights: &[Sight], host: &Hostname, expected: Option<&CertificateRef>, now: Timestamp) -> Result<(), Reason> {
    if sights.is_empty() {
        return Err(Reason::new(ReasonCode::AwaitingProof, "nobody has dialled it yet"));
    }
    let verdicts: Vec<(Path, Result<(), Reason>)> =
        sights.iter().map(|sight| (sight.path, judge_one(sight, host, expected, now))).collect();
    let edge_agrees = verdicts.iter().any(|(path, verdict)| *path == Path::Edge && verdict.is_ok());
    for (path, verdict) in verdicts {
        if let Err(reason) = verdict {
            return Err(if path == Path::Dns && edge_agrees {
                let message = format!("the edge serves the right certificate, but the address that DNS gives does not: {}", reason.message);
                Reason::new(ReasonCode::WireDnsPath, message)
            } else {
                reason
            });
        }
    }
    Ok(())
}

fn judge_one(sight: &Sight, host: &Hostname, expected: Option<&CertificateRef>, now: Timestamp) -> Result<(), Reason> {
    let dialled = &sight.dialled;
    let served = match &sight.seen {
        Ok(served) => served,
        Err(failed) => {
            let code = match failed.failure {
                DialFailure::Handshake | DialFailure::NotTls | DialFailure::UnknownName => ReasonCode::WireHandshake,
                _ => ReasonCode::WireUnreachable,
            };
            return Err(Reason::new(code, format!("{dialled}: {}", failed.detail)));
        }
    };
    if let Some(expected) = expected.filter(|expected| **expected != served.certificate_ref) {
        let message = format!("{dialled} serves {}, the database names {}", served.certificate_ref, expected);
        return Err(Reason::new(ReasonCode::WireOtherCertificate, message));
    }
    let invalid = |message: String| Err(Reason::new(ReasonCode::WireInvalid, format!("{dialled}: {message}")));
    if !served.names.iter().any(|name| host.is_covered_by(name)) {
        return invalid(format!("the certificate is for {}, not {host}", served.names.join(", ")));
    }
    if now < served.not_before {
        return invalid(format!("the certificate is not valid before {}", served.not_before));
    }
    if served.not_after <= now {
        return invalid(format!("the certificate expired at {}", served.not_after));
    }
    match &served.chain_problem {
        Some(problem) => invalid(format!("the chain does not verify: {problem}")),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::certificate::CertificateFacts;

    pub(crate) fn sight_of(facts: &CertificateFacts, path: Path, at: Timestamp) -> Sight {
        Sight {
            path,
            dialled: "127.0.0.1:8443".into(),
            at,
            elapsed_ms: 1,
            seen: Ok(Served {
                certificate_ref: facts.certificate_ref.clone(),
                names: facts.names.clone(),
                not_before: facts.not_before,
                not_after: facts.not_after,
                issuer_dn: facts.issuer_dn.clone(),
                key_type: facts.key_type,
                chain_problem: None,
                tls_version: "TLSv1.3".into(),
                alpn: None,
            }),
        }
    }

    fn broken(path: Path, failure: DialFailure) -> Sight {
        let at = crate::renewal::tests::ts(1.0);
        Sight { path, dialled: "192.0.2.1:443".into(), at, elapsed_ms: 1, seen: Err(Failed { failure, detail: failure.to_string() }) }
    }

    #[test]
    fn green_needs_every_dial_to_show_the_named_leaf() {
        let facts = crate::renewal::tests::facts(90.0);
        let host = Hostname::parse("a.example.com").unwrap();
        let now = crate::renewal::tests::ts(1.0);
        let good = |path| sight_of(&facts, path, now);
        let edit = |change: fn(&mut Served)| {
            let mut sight = good(Path::Edge);
            change(sight.seen.as_mut().unwrap());
            sight
        };
        use ReasonCode::*;
        let table: Vec<(&str, Vec<Sight>, Option<ReasonCode>)> = vec![
            ("nothing", vec![], Some(AwaitingProof)),
            ("edge", vec![good(Path::Edge)], None),
            ("edge and DNS", vec![good(Path::Edge), good(Path::Dns)], None),
            ("DNS elsewhere", vec![good(Path::Edge), broken(Path::Dns, DialFailure::Refused)], Some(WireDnsPath)),
            ("both down", vec![broken(Path::Edge, DialFailure::Timeout), broken(Path::Dns, DialFailure::Timeout)], Some(WireUnreachable)),
            ("unknown name", vec![broken(Path::Edge, DialFailure::UnknownName)], Some(WireHandshake)),
            ("plain HTTP", vec![broken(Path::Edge, DialFailure::NotTls)], Some(WireHandshake)),
            ("other leaf", vec![edit(|s| s.certificate_ref = CertificateRef::from_digest(&[9; 32]))], Some(WireOtherCertificate)),
            ("other name", vec![edit(|s| s.names = vec!["b.example.com".into()])], Some(WireInvalid)),
            ("expired", vec![edit(|s| s.not_after = s.not_before)], Some(WireInvalid)),
            ("not yet", vec![edit(|s| s.not_before = s.not_after)], Some(WireInvalid)),
            ("untrusted", vec![edit(|s| s.chain_problem = Some("unknown issuer".into()))], Some(WireInvalid)),
        ];
        for (name, sights, expected) in table {
            let got = judge(&sights, &host, Some(&facts.certificate_ref), now);
            assert_eq!(got.err().map(|reason| reason.code), expected, "{name}");
        }
    }
}

//! Certwright's own CA: a root (10 years) and an intermediate (5 years, no CA below it) that signs leaves.
//!
//! Invariants: keys are made once and come from the [`CaStore`] ever after; a leaf never outlives the intermediate. It
//! asks for no proof of control: whoever may set a domain may have it signed here.

use super::{IssueProgress, IssueRequest, Issued, Issuer, JournalError, OrderJournal};
use crate::x509::{self, X509Error};
use crate::{Outcome, Rejection};
use async_trait::async_trait;
use aws_lc_rs::rand::SecureRandom;
use certwright_model::budget::Limit;
use certwright_model::certificate::{CertificateFacts, KeyType};
use certwright_model::renewal::AriWindow;
use certwright_model::{Reason, ReasonCode};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Clients with clocks behind ours accept the certificate at once.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

#[derive(Clone, Debug)]
pub struct InternalConfig {
    pub name: String,
    /// Of a leaf, counted from the moment of signing; 90 days unless configured.
    pub lifetime: SignedDuration,
    /// In the subjects of the root and the intermediate.
    pub organization: String,
    /// Of the root and the intermediate, when they are made.
    pub ca_key_type: KeyType,
}

impl Default for InternalConfig {
    fn default() -> Self {
        Self { name: "internal".into(), lifetime: DAY * 90, organization: "Certwright".into(), ca_key_type: KeyType::EcdsaP256 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CaRole {
    Root,
    Intermediate,
}

impl CaRole {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
        }
    }
}

/// A CA certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct CaMaterial {
    pub certificate_der: Vec<u8>,
    /// Seal it.
    pub key_pkcs8_der: Vec<u8>,
}

impl std::fmt::Debug for CaMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CaMaterial({})", x509::reference_of(&self.certificate_der).short())
    }
}

#[async_trait]
pub trait CaStore: Send + Sync {
    async fn load(&self, role: CaRole) -> Result<Option<CaMaterial>, JournalError>;
    /// Stores unless there is one already; returns the one that is stored now.
    async fn put_if_absent(&self, role: CaRole, material: CaMaterial) -> Result<CaMaterial, JournalError>;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InternalError {
    #[error("the CA's keys cannot be read or stored: {0}")]
    Store(#[from] JournalError),
    #[error("the CA's stored material cannot be used: {0}")]
    Material(String),
}

pub struct InternalIssuer {
    config: InternalConfig,
    root_der: Vec<u8>,
    intermediate_der: Vec<u8>,
    intermediate_not_after: Timestamp,
    signer: rcgen::Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for InternalIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InternalIssuer({} {})", self.config.name, x509::reference_of(&self.root_der).short())
    }
}

impl InternalIssuer {
    /// Loads the CA, or makes it where the store has none. Several nodes may do so at once: the first stored wins.
    pub async fn open(config: InternalConfig, store: &dyn CaStore, now: Timestamp) -> Result<Self, InternalError> {
        let root = match store.load(CaRole::Root).await? {
            Some(root) => root,
            None => store.put_if_absent(CaRole::Root, make_root(&config, now).map_err(unusable)?).await?,
        };
        let intermediate = match store.load(CaRole::Intermediate).await? {
            Some(intermediate) => intermediate,
            None => {
                let made = make_intermediate(&config, &root, now).map_err(unusable)?;
                store.put_if_absent(CaRole::Intermediate, made).await?
            }
        };
        let not_after = x509::facts_of(std::slice::from_ref(&intermediate.certificate_der), &config.name).map_err(unusable)?.not_after;
        let signer = signer_of(&intermediate).map_err(unusable)?;
        Ok(Self {
            config,
            root_der: root.certificate_der,
            intermediate_der: intermediate.certificate_der,
            intermediate_not_after: not_after,
            signer,
        })
    }

    /// What clients have to trust.
    pub fn root_pem(&self) -> String {
        x509::chain_to_pem(std::slice::from_ref(&self.root_der))
    }

    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    fn sign(&self, request: &IssueRequest, now: Timestamp) -> Result<Issued, X509Error> {
        let lifetime = request.lifetime_hint.unwrap_or(self.config.lifetime);
        let names: Vec<String> = request.names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        // A tenth at most, so that a certificate of minutes is not mostly past when it is made.
        set_validity(&mut params, now - BACKDATE.min(lifetime / 10), (now + lifetime).min(self.intermediate_not_after));
        params.serial_number = Some(serial()?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let key = x509::load_key(&request.order.key_pkcs8_der)?;
        let leaf = params.signed_by(&key, &self.signer).map_err(failed)?;
        let chain_der = vec![leaf.der().to_vec(), self.intermediate_der.clone()];
        let facts = x509::accept(&chain_der, &request.order.key_pkcs8_der, &request.names, &self.config.name, now)?;
        Ok(Issued { chain_pem: x509::chain_to_pem(&chain_der), chain_der, facts })
    }
}

#[async_trait]
impl Issuer for InternalIssuer {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn kind(&self) -> &'static str {
        "internal"
    }

    fn budget(&self) -> Option<Limit> {
        None
    }

    async fn issue(&self, request: &IssueRequest, journal: &dyn OrderJournal, now: Timestamp, _: Instant) -> Outcome<IssueProgress> {
        if let Err(error) = journal.finalizing().await {
            return Outcome::Unknown(error.to_string());
        }
        match self.sign(request, now) {
            Ok(issued) => Outcome::Applied(IssueProgress::Issued(issued)),
            Err(error @ X509Error::Expired(_)) => {
                Outcome::Rejected(Rejection { reason: self.reason(&error), retry_after: None, permanent: true })
            }
            Err(error) => Outcome::Rejected(Rejection { reason: self.reason(&error), retry_after: None, permanent: false }),
        }
    }

    /// The CA of one's own has no opinion: the schedule decides.
    async fn renewal_info(&self, _: &CertificateFacts, _: Timestamp, _: f64) -> Outcome<Option<AriWindow>> {
        Outcome::Applied(None)
    }

    async fn check(&self) -> Result<(), Reason> {
        Ok(())
    }
}

impl InternalIssuer {
    fn reason(&self, error: &X509Error) -> Reason {
        let code = match error {
            X509Error::Key(_) => ReasonCode::Internal,
            _ => ReasonCode::CaBadCertificate,
        };
        Reason::new(code, format!("the internal CA could not sign: {error}"))
    }
}

fn make_root(config: &InternalConfig, now: Timestamp) -> Result<CaMaterial, X509Error> {
    let (params, key) = ca_params(config, "Root CA", BasicConstraints::Unconstrained, now, DAY * 3652)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(CaMaterial { certificate_der: certificate.der().to_vec(), key_pkcs8_der: key.serialize_der() })
}

fn make_intermediate(config: &InternalConfig, root: &CaMaterial, now: Timestamp) -> Result<CaMaterial, X509Error> {
    let (mut params, key) = ca_params(config, "Intermediate CA", BasicConstraints::Constrained(0), now, DAY * 1826)?;
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &signer_of(root)?).map_err(failed)?;
    Ok(CaMaterial { certificate_der: certificate.der().to_vec(), key_pkcs8_der: key.serialize_der() })
}

fn ca_params(
    config: &InternalConfig,
    title: &str,
    constraints: BasicConstraints,
    now: Timestamp,
    lifetime: SignedDuration,
) -> Result<(CertificateParams, KeyPair), X509Error> {
    let key = x509::load_key(&x509::key_pair(config.ca_key_type)?)?;
    let serial = serial()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, config.organization.as_str());
    // The serial's first bytes keep the names of two installations apart in one trust store.
    let tag: String = serial.to_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("{} {title} {tag}", config.organization));
    params.serial_number = Some(serial);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now - BACKDATE, now + lifetime);
    Ok((params, key))
}

fn signer_of(material: &CaMaterial) -> Result<rcgen::Issuer<'static, KeyPair>, X509Error> {
    let key = x509::load_key(&material.key_pkcs8_der)?;
    rcgen::Issuer::from_ca_cert_der(&CertificateDer::from(material.certificate_der.as_slice()), key).map_err(failed)
}

/// 128 random bits, positive (RFC 5280 section 4.1.2.2).
fn serial() -> Result<SerialNumber, X509Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| X509Error::Key("the system has no randomness".into()))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Whole seconds, as certificates carry them. Built from rcgen's epoch, so that its time library stays its own.
fn set_validity(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |at: Timestamp| std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    params.not_before = epoch + since(from);
    params.not_after = epoch + since(to);
}

fn failed(error: rcgen::Error) -> X509Error {
    X509Error::Key(error.to_string())
}

fn unusable(error: X509Error) -> InternalError {
    InternalError::Material(error.to_string())
}

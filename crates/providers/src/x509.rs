//! Certificates and keys as bytes: facts read from DER, keys and CSRs made, chains checked before anybody stores them.
//!
//! It trusts nobody's chain: whether roots vouch for it is the prober's question.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certwright_model::Hostname;
use certwright_model::certificate::{CertificateFacts, CertificateRef, KeyType};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, RsaKeySize};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum X509Error {
    #[error("the chain is empty")]
    Empty,
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    #[error("the certificate is for another key")]
    OtherKey,
    #[error("the certificate is for {found}, not {wanted}")]
    OtherName { wanted: Hostname, found: String },
    #[error("the certificate expired at {0}")]
    Expired(Timestamp),
    #[error("the key cannot be used: {0}")]
    Key(String),
}

/// What the leaf (the first of the chain) says of itself. `issuer` is the configured issuer's name.
pub fn facts_of(chain_der: &[Vec<u8>], issuer: &str) -> Result<CertificateFacts, X509Error> {
    let leaf_der = chain_der.first().ok_or(X509Error::Empty)?;
    let leaf = parse(leaf_der)?;
    Ok(CertificateFacts {
        certificate_ref: reference_of(leaf_der),
        names: names_of(&leaf),
        not_before: timestamp(leaf.validity().not_before.timestamp())?,
        not_after: timestamp(leaf.validity().not_after.timestamp())?,
        key_type: key_type_of(&leaf),
        issuer: issuer.to_owned(),
        issuer_dn: distinguished_name(leaf.issuer()),
        serial: hex(leaf.tbs_certificate.raw_serial()),
        ari_id: ari_id(&leaf),
    })
}

/// The facts of a chain that may be deployed: readable, for this key, covering every name, not expired.
pub fn accept(
    chain_der: &[Vec<u8>],
    key_pkcs8_der: &[u8],
    names: &[Hostname],
    issuer: &str,
    now: Timestamp,
) -> Result<CertificateFacts, X509Error> {
    let facts = facts_of(chain_der, issuer)?;
    for above in &chain_der[1..] {
        parse(above)?;
    }
    if !public_key_matches(&chain_der[0], key_pkcs8_der) {
        return Err(X509Error::OtherKey);
    }
    if let Some(wanted) = names.iter().find(|name| !facts.covers(name)) {
        return Err(X509Error::OtherName { wanted: wanted.clone(), found: facts.names.join(", ") });
    }
    if facts.not_after <= now {
        return Err(X509Error::Expired(facts.not_after));
    }
    Ok(facts)
}

/// `sha256:` and the digest of the leaf.
pub fn reference_of(leaf_der: &[u8]) -> CertificateRef {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, leaf_der).as_ref());
    CertificateRef::from_digest(&bytes)
}

/// Whether the leaf certifies the public half of this key. Unreadable input does not match.
pub fn public_key_matches(leaf_der: &[u8], key_pkcs8_der: &[u8]) -> bool {
    match (parse(leaf_der), load_key(key_pkcs8_der)) {
        (Ok(leaf), Ok(key)) => leaf.public_key().subject_public_key.data.as_ref() == key.der_bytes(),
        _ => false,
    }
}

/// A new key as PKCS#8 DER. RSA takes up to seconds: call it where blocking is allowed.
pub fn key_pair(key_type: KeyType) -> Result<Vec<u8>, X509Error> {
    let made = match key_type {
        KeyType::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
        KeyType::Other => return Err(X509Error::Key("nobody said which kind of key to make".into())),
    };
    made.map(|key| key.serialize_der()).map_err(|error| X509Error::Key(error.to_string()))
}

/// A certificate signing request (PKCS#10 DER) with the names as SAN and an empty subject.
pub fn csr(names: &[Hostname], key_pkcs8_der: &[u8]) -> Result<Vec<u8>, X509Error> {
    let key = load_key(key_pkcs8_der)?;
    let failed = |error: rcgen::Error| X509Error::Key(error.to_string());
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(&key).map(|csr| csr.der().to_vec()).map_err(failed)
}

/// Every certificate of a PEM text, in order. Other blocks are an error only when no certificate is left.
pub fn chain_from_pem(pem: &str) -> Result<Vec<Vec<u8>>, X509Error> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| X509Error::Unreadable(error.to_string()))?;
    if chain.is_empty() { Err(X509Error::Empty) } else { Ok(chain) }
}

/// RFC 7468, 64 columns, a newline at the end.
pub fn chain_to_pem(chain_der: &[Vec<u8>]) -> String {
    let mut pem = String::new();
    for certificate in chain_der {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = base64::engine::general_purpose::STANDARD.encode(certificate);
        for start in (0..text.len()).step_by(64) {
            pem.push_str(&text[start..text.len().min(start + 64)]);
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

pub(crate) fn load_key(key_pkcs8_der: &[u8]) -> Result<KeyPair, X509Error> {
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(key_pkcs8_der)).map_err(|error| X509Error::Key(error.to_string()))
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, X509Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| X509Error::Unreadable(error.to_string()))?;
    Ok(certificate)
}

fn names_of(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(san)) = leaf.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    san.value.general_names.iter().filter_map(dns).collect()
}

fn key_type_of(leaf: &X509Certificate<'_>) -> KeyType {
    let key = leaf.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
    match (key.parsed(), curve.as_deref()) {
        (Ok(PublicKey::EC(_)), Some("1.2.840.10045.3.1.7")) => KeyType::EcdsaP256,
        (Ok(PublicKey::EC(_)), Some("1.3.132.0.34")) => KeyType::EcdsaP384,
        (Ok(PublicKey::RSA(rsa)), _) if rsa.key_size() == 2048 => KeyType::Rsa2048,
        (Ok(PublicKey::RSA(rsa)), _) if rsa.key_size() == 4096 => KeyType::Rsa4096,
        _ => KeyType::Other,
    }
}

/// RFC 9773 section 4.1.
fn ari_id(leaf: &X509Certificate<'_>) -> Option<String> {
    let authority = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref(),
        _ => None,
    })?;
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Some(format!("{}.{}", encode(authority.0), encode(leaf.tbs_certificate.raw_serial())))
}

/// RFC 4514: the most specific part first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_attributes()
        .map(|attribute| {
            let oid = attribute.attr_type();
            let key = x509_parser::objects::oid2abbrev(oid, x509_parser::objects::oid_registry())
                .map_or_else(|_| oid.to_id_string(), ToOwned::to_owned);
            let mut part = format!("{key}=");
            for character in attribute.as_str().unwrap_or_default().chars() {
                if matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
                    part.push('\\');
                }
                part.push(character);
            }
            part
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn timestamp(seconds: i64) -> Result<Timestamp, X509Error> {
    Timestamp::from_second(seconds).map_err(|error| X509Error::Unreadable(error.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Makes certificates for benches: `make_certificates FOLDER NAMES PATTERN` writes `i.crt` (a chain of two) and `i.key` for
//! each i below NAMES, for the name that PATTERN gives with `{}` replaced by i. P-256 throughout, one authority for all.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("usage: make_certificates FOLDER NAMES PATTERN (no {what})"));
    let folder = PathBuf::from(next("folder")?);
    let names: usize = next("number of names")?.parse().context("NAMES is a number")?;
    let pattern = next("pattern")?;
    std::fs::create_dir_all(&folder)?;

    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Certwright bench authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    for index in 0..names {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new(vec![pattern.replace("{}", &index.to_string())])?;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = leaf.signed_by(&key, &authority)?;
        std::fs::write(folder.join(format!("{index}.crt")), certificate.pem() + &authority.pem())?;
        std::fs::write(folder.join(format!("{index}.key")), key.serialize_pem())?;
    }
    Ok(())
}

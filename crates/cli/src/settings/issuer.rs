//! Certificate authorities: `[[issuer]]` tables, and the names that need none.

use super::layers::{ConfigError, Fallback, Layer, from_toml, nearest, variable};
use super::settings;
use super::value::IssuerKind;
use certwright_model::budget::Limit;
use certwright_model::certificate::KeyType;
use certwright_providers::issuer::ChallengeKind;
use certwright_providers::issuer::acme::{AcmeConfig, ExternalAccount};
use certwright_providers::issuer::internal::InternalConfig;
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use Fallback::{Derived, Required};

/// Public CAs by name: where their directory is, and their published limit.
const KNOWN: &[(&str, &str, Option<Limit>)] = &[
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory", Some(Limit::LETS_ENCRYPT_ORDERS)),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory", Some(Limit::LETS_ENCRYPT_ORDERS)),
    ("zerossl", "https://acme.zerossl.com/v2/DV90", None),
];
pub(crate) const INTERNAL: &str = "internal";

settings! {
    /// One issuer, as given.
    struct IssuerSettings {
        "Both kinds" {
            name: String = Required => "What `issuers`, domains and certificates call it: letters, digits, `-` and `_`.";
            kind: Option<IssuerKind> = Derived("`internal` for the name `internal`, else `acme`") => "A CA that speaks ACME (RFC 8555), or Certwright's own.";
        }
        "Only ACME" {
            directory: Option<String> = Derived("by the name, if that is one of the shorthands") => "The directory's URL, or `letsencrypt`, `letsencrypt-staging` or `zerossl`.";
            contacts: Option<Vec<String>> = Derived("none") => "Of the account, such as `mailto:ops@example.com`.";
            eab_kid: Option<String> = Derived("none") => "Key identifier of an external account (RFC 8555 section 7.3.4); with `eab_key_file`.";
            eab_key_file: Option<PathBuf> = Derived("none") => "File with the external account's MAC key in base64url, as the CA hands it out.";
            profile: Option<String> = Derived("the CA's own") => "Certificate profile, where the CA offers several.";
            challenges: Option<Vec<ChallengeKind>> = Derived("`http-01`, `tls-alpn-01`") => "In order of preference.";
            roots_file: Option<PathBuf> = Derived("none") => "PEM file with roots to trust for the directory, beside the operating system's.";
            budget_burst: Option<u32> = Derived("the published limit of Let's Encrypt (300), else none") => "New orders at once.";
            budget_refill_seconds: Option<u32> = Derived("36 for Let's Encrypt") => "One more order after each of these.";
        }
        "Only the internal CA" {
            lifetime: Option<SignedDuration> = Derived("`90d`") => "Of a certificate, such as `90d` or `10m`.";
            key_type: Option<KeyType> = Derived("`ecdsa-p256`") => "Of the root and the intermediate, when they are made.";
        }
    }
}

/// What an issuer is built from.
pub(crate) enum Spec {
    Internal(InternalConfig),
    Acme(Box<AcmeConfig>),
}

/// Variables of one issuer start with this: `CERTWRIGHT_ISSUER_<NAME>_`.
pub(crate) fn prefix(name: &str) -> String {
    format!("{}_", variable("CERTWRIGHT_ISSUER_", name))
}

/// The `[[issuer]]` tables of a file.
pub(crate) fn tables(
    value: Option<toml::Value>,
    variables: &BTreeMap<String, String>,
    path: &Path,
) -> Result<Vec<IssuerSettings>, ConfigError> {
    let shape = || ConfigError::Together(format!("{}: an issuer is written as a table, `[[issuer]]`", path.display()));
    let tables = match value {
        None => Vec::new(),
        Some(toml::Value::Array(tables)) => tables,
        Some(_) => return Err(shape()),
    };
    let mut issuers: Vec<IssuerSettings> = Vec::new();
    for table in tables {
        let toml::Value::Table(table) = table else { return Err(shape()) };
        let name = table.get("name").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
        let file = Layer::new(IssuerSettings::TABLE, &format!("{}, [[issuer]] `{name}`", path.display()), from_toml(table, path)?)?;
        let environment = Layer::environment(IssuerSettings::TABLE, &prefix(&name), variables);
        let issuer = IssuerSettings::read(&[environment, file])?;
        issuer.check()?;
        if issuers.iter().any(|other| other.name == issuer.name) {
            return Err(ConfigError::Together(format!("two issuers are named `{}`", issuer.name)));
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}

/// Adds those that need no table: the public CAs that `wanted` names, and always the internal one.
pub(crate) fn complete(mut issuers: Vec<IssuerSettings>, wanted: &[String]) -> Result<Vec<IssuerSettings>, ConfigError> {
    if wanted.is_empty() {
        return Err(ConfigError::Together("`issuers` names no issuer; without one nothing can be issued".into()));
    }
    let has = |issuers: &[IssuerSettings], name: &str| issuers.iter().any(|issuer| issuer.name == name);
    for name in wanted {
        if has(&issuers, name) || name == INTERNAL {
            continue;
        }
        if !KNOWN.iter().any(|(known, _, _)| known == name) {
            let all = issuers.iter().map(|issuer| issuer.name.as_str()).chain(KNOWN.iter().map(|known| known.0)).chain([INTERNAL]);
            let hint = nearest(name, all).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(ConfigError::Together(format!("`issuers`: no issuer `{name}` is configured{hint}")));
        }
        let issuer = IssuerSettings::named(name)?;
        issuer.check()?;
        issuers.push(issuer);
    }
    if !has(&issuers, INTERNAL) {
        issuers.push(IssuerSettings::named(INTERNAL)?);
    }
    Ok(issuers)
}

impl IssuerSettings {
    fn named(name: &str) -> Result<Self, ConfigError> {
        let layer = Layer::new(Self::TABLE, "`issuers`", [("name".to_owned(), super::Raw::Text(name.to_owned()))])?;
        Self::read(&[layer])
    }

    fn kind(&self) -> IssuerKind {
        self.kind.unwrap_or(if self.name == INTERNAL { IssuerKind::Internal } else { IssuerKind::Acme })
    }

    fn wrong(&self, key: &str, problem: &str) -> ConfigError {
        ConfigError::Value { key: key.to_owned(), origin: format!("issuer `{}`", self.name), problem: problem.to_owned() }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(good) {
            return Err(self.wrong("name", "an issuer's name has 1 to 64 letters, digits, `-` or `_`"));
        }
        let acme_only = [
            ("directory", self.directory.is_some()),
            ("contacts", self.contacts.is_some()),
            ("eab_kid", self.eab_kid.is_some()),
            ("eab_key_file", self.eab_key_file.is_some()),
            ("profile", self.profile.is_some()),
            ("challenges", self.challenges.is_some()),
            ("roots_file", self.roots_file.is_some()),
            ("budget_burst", self.budget_burst.is_some()),
            ("budget_refill_seconds", self.budget_refill_seconds.is_some()),
        ];
        let internal_only = [("lifetime", self.lifetime.is_some()), ("key_type", self.key_type.is_some())];
        match self.kind() {
            IssuerKind::Internal => {
                if let Some((key, _)) = acme_only.iter().find(|(_, set)| *set) {
                    return Err(self.wrong(key, "it means nothing for the internal CA"));
                }
                if self.name != INTERNAL {
                    return Err(self.wrong("name", "there is one internal CA, and its name is `internal`"));
                }
            }
            IssuerKind::Acme => {
                if let Some((key, _)) = internal_only.iter().find(|(_, set)| *set) {
                    return Err(self.wrong(key, "it means nothing for an ACME CA; a key's type is chosen for each domain"));
                }
                self.directory()?;
                self.limit()?;
                if self.eab_kid.is_some() != self.eab_key_file.is_some() {
                    return Err(self.wrong("eab_kid", "`eab_kid` and `eab_key_file` go together"));
                }
            }
        }
        Ok(())
    }

    fn directory(&self) -> Result<(&str, Option<Limit>), ConfigError> {
        let wanted = self.directory.as_deref().unwrap_or(&self.name);
        if let Some((_, url, limit)) = KNOWN.iter().find(|(name, _, _)| *name == wanted) {
            return Ok((url, *limit));
        }
        match &self.directory {
            Some(url) if url.starts_with("https://") => Ok((url, None)),
            Some(_) => {
                Err(self.wrong("directory", "it has to start with https://, or to be `letsencrypt`, `letsencrypt-staging` or `zerossl`"))
            }
            None => Err(self.wrong("directory", "an ACME CA needs the URL of its directory")),
        }
    }

    fn limit(&self) -> Result<Option<Limit>, ConfigError> {
        match (self.budget_burst, self.budget_refill_seconds) {
            (None, None) => Ok(self.directory()?.1),
            (Some(burst), Some(seconds)) if burst > 0 && seconds > 0 => Ok(Some(Limit { burst, refill_ms: i64::from(seconds) * 1000 })),
            _ => Err(self.wrong("budget_burst", "`budget_burst` and `budget_refill_seconds` go together, and are at least 1")),
        }
    }

    /// Reads the files that it names.
    pub(crate) fn spec(&self) -> Result<Spec, ConfigError> {
        if self.kind() == IssuerKind::Internal {
            let plain = InternalConfig::default();
            return Ok(Spec::Internal(InternalConfig {
                name: self.name.clone(),
                lifetime: self.lifetime.unwrap_or(plain.lifetime),
                ca_key_type: self.key_type.unwrap_or(plain.ca_key_type),
                ..plain
            }));
        }
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source });
        let mut config = AcmeConfig::new(&self.name, self.directory()?.0);
        config.contacts = self.contacts.clone().unwrap_or_default();
        config.profile = self.profile.clone();
        config.limit = self.limit()?;
        config.roots_pem = self.roots_file.as_ref().map(read).transpose()?;
        if let Some(challenges) = &self.challenges {
            config.challenges = challenges.clone();
        }
        if let (Some(kid), Some(path)) = (&self.eab_kid, &self.eab_key_file) {
            config.eab = Some(ExternalAccount { kid: kid.clone(), hmac_key_base64url: read(path)?.trim().to_owned() });
        }
        Ok(Spec::Acme(Box::new(config)))
    }
}

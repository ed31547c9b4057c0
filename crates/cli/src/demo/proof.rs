//! What the demo proved, from the stored looks at the wire and from a page fetched over it.

use crate::output;
use anyhow::{Context, bail};
use certwright_engine::Engine;
use certwright_model::record::Domain;
use certwright_model::site::SiteName;
use certwright_model::wire::judge;
use certwright_store::CertificateRow;
use jiff::Timestamp;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[derive(Serialize)]
pub(crate) struct Proof {
    proven: bool,
    site: String,
    domains: Vec<Proven>,
    /// Where the root certificate lies that a client has to trust.
    root: PathBuf,
    pub(crate) elapsed_ms: u64,
}

#[derive(Serialize)]
struct Proven {
    domain: String,
    /// `sha256:` of the leaf, as it was served.
    fingerprint: String,
    issuer: String,
    issuer_dn: String,
    not_after: Timestamp,
    dialled: Vec<String>,
    dialled_at: Option<Timestamp>,
    tls_version: String,
    /// The page as a browser would ask for it.
    url: String,
    status: u16,
}

impl Proof {
    /// From the database: what the prober saw last of every domain of the site.
    pub(crate) async fn collect(engine: &Engine, site: &SiteName, root: &Path, deadline: Instant) -> anyhow::Result<Self> {
        loop {
            match Self::try_collect(engine, site, root).await? {
                Ok(proof) => return Ok(proof),
                Err(why) if Instant::now() >= deadline => bail!("not proven: {why}"),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn try_collect(engine: &Engine, site: &SiteName, root: &Path) -> anyhow::Result<Result<Self, String>> {
        let view = engine.site_view(site).await?;
        let mut domains = Vec::new();
        for domain in view.default_domain.iter().chain(&view.custom_domains) {
            let certificates = engine.store().certificates_of(domain.intent.id).await?;
            match proven(domain, &certificates, engine.clock().now()) {
                Ok(proven) => domains.push(proven),
                Err(why) => return Ok(Err(format!("{}: {why}", domain.intent.hostname))),
            }
        }
        Ok(Ok(Self { proven: true, site: site.to_string(), domains, root: root.to_owned(), elapsed_ms: 0 }))
    }

    /// Asks for the page of every domain over HTTPS, trusting the exported root and nothing else.
    pub(crate) async fn fetch(&mut self, edge: SocketAddr, page: &[u8]) -> anyhow::Result<()> {
        let pem = std::fs::read(&self.root).context("the exported root")?;
        let root = reqwest::Certificate::from_pem(&pem)?;
        let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]).timeout(Duration::from_secs(10));
        for proven in &self.domains {
            builder = builder.resolve(&proven.domain, edge);
        }
        let client = builder.build()?;
        for proven in &mut self.domains {
            proven.url = format!("https://{}:{}/", proven.domain, edge.port());
            let response = client.get(&proven.url).send().await.with_context(|| format!("not proven: {}", proven.url))?;
            proven.status = response.status().as_u16();
            let body = response.bytes().await?;
            if proven.status != 200 || (self.site == super::SITE && body != page) {
                bail!("not proven: {} answered {} with another page", proven.url, proven.status);
            }
        }
        Ok(())
    }

    pub(crate) fn describe(&self) -> String {
        let mut text = format!("\nproven in {} ms: the site `{}` is served over HTTPS\n", self.elapsed_ms, self.site);
        for proven in &self.domains {
            let seen = format!("{} at {}, {}", proven.dialled.join(", "), output::maybe_time(proven.dialled_at), proven.tls_version);
            let facts = output::facts(&[
                ("domain", proven.domain.clone()),
                ("fingerprint", proven.fingerprint.clone()),
                ("issuer", format!("{} ({})", proven.issuer, proven.issuer_dn)),
                ("not after", output::time(proven.not_after)),
                ("dialled", seen),
                ("page", format!("{} {}", proven.status, proven.url)),
            ]);
            text.push_str(&format!("\n  {}\n", facts.replace('\n', "\n  ")));
        }
        text.trim_end().to_owned()
    }
}

fn proven(domain: &Domain, certificates: &[CertificateRow], now: Timestamp) -> Result<Proven, String> {
    let state = &domain.state;
    let reason = || state.reason.as_ref().map_or_else(|| "nobody has looked yet".into(), |reason| reason.message.clone());
    let leaf = state.certificate_ref.as_ref().filter(|_| state.proven).ok_or_else(reason)?;
    judge(&state.look.sights, &domain.intent.hostname, Some(leaf), now).map_err(|reason| reason.message)?;
    let facts = certificates.iter().map(|row| &row.facts).find(|facts| facts.certificate_ref == *leaf).ok_or_else(reason)?;
    let tls_version = state.look.sights.iter().find_map(|sight| sight.seen.as_ref().ok()).map(|served| served.tls_version.clone());
    Ok(Proven {
        domain: domain.intent.hostname.to_string(),
        fingerprint: leaf.to_string(),
        issuer: facts.issuer.clone(),
        issuer_dn: facts.issuer_dn.clone(),
        not_after: facts.not_after,
        dialled: state.look.sights.iter().map(|sight| sight.dialled.clone()).collect(),
        dialled_at: state.look.sights.first().map(|sight| sight.at),
        tls_version: tls_version.unwrap_or_default(),
        url: String::new(),
        status: 0,
    })
}

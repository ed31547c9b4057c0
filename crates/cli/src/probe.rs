//! `certwright probe`: names dialled as a customer would, and judged. It needs no server and changes nothing.

use crate::args::{Format, ProbeArgs};
use crate::compose::{install_crypto, read_roots};
use crate::output;
use crate::settings::{NameServer, Raw, Value};
use anyhow::{Context, anyhow, bail};
use certwright_engine::clock::Clock;
use certwright_model::Hostname;
use certwright_model::certificate::CertificateRef;
use certwright_model::wire::{Path, Sight, judge};
use certwright_providers::dns::{Resolver, ResolverConfig};
use certwright_providers::probe::{ProbeConfig, Prober};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::io::{BufRead, IsTerminal};
use std::net::SocketAddr;

#[derive(Serialize)]
struct Finding {
    host: String,
    ok: bool,
    /// Why not, in a word of the model and in a sentence.
    code: Option<String>,
    reason: Option<String>,
    sights: Vec<Sight>,
}

struct Looker {
    prober: Prober,
    resolver: Resolver,
    clock: Clock,
    address: Option<SocketAddr>,
    port: u16,
    expected: Option<CertificateRef>,
}

pub(crate) async fn run(args: ProbeArgs) -> anyhow::Result<()> {
    install_crypto();
    let names = names(&args.hosts)?;
    let looker = looker(&args)?;
    let looks = stream::iter(names.iter().map(|name| looker.look(name)));
    let findings: Vec<Finding> = looks.buffered(usize::from(args.concurrency)).collect().await;
    let bad = findings.iter().filter(|finding| !finding.ok).count();
    match args.output {
        Format::Json => output::json(&findings)?,
        Format::Table => {
            let head = ["host", "result", "dialled", "certificate", "until", "issuer", "ms"];
            output::line(&output::table(&head, findings.iter().flat_map(rows)));
            for finding in &findings {
                if let Some(reason) = &finding.reason {
                    output::line(&format!("{}: {reason}", finding.host));
                }
            }
        }
    }
    match bad {
        0 => Ok(()),
        _ => bail!("{bad} of {} names are not served as they should be", findings.len()),
    }
}

fn names(given: &[String]) -> anyhow::Result<Vec<String>> {
    if !given.is_empty() && given != ["-"] {
        return Ok(given.to_vec());
    }
    if given.is_empty() && std::io::stdin().is_terminal() {
        bail!("name a host, such as `certwright probe example.com`, or give a list on standard input");
    }
    let mut names = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read standard input")?;
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            names.push(line.to_owned());
        }
    }
    if names.is_empty() { bail!("standard input names no host") } else { Ok(names) }
}

fn looker(args: &ProbeArgs) -> anyhow::Result<Looker> {
    let mut roots_der = Vec::new();
    for path in &args.root {
        roots_der.extend(read_roots(path)?);
    }
    let server = |text: &String| {
        NameServer::read(&Raw::Text(text.clone())).map(|server| server.0).map_err(|problem| anyhow!("--resolver: {problem}"))
    };
    let servers = args.resolver.iter().map(server).collect::<anyhow::Result<Vec<_>>>()?;
    let expected = args.expect.as_deref().map(CertificateRef::parse).transpose().context("--expect")?;
    // Whoever runs this may dial where they like.
    let config = ProbeConfig { timeout: args.timeout, roots_der, system_roots: true, allow_private: true };
    Ok(Looker {
        prober: Prober::new(config)?,
        resolver: Resolver::new(ResolverConfig { servers, timeout: args.timeout }).context("name a DNS server with --resolver ADDR")?,
        clock: Clock::system(),
        address: args.address.map(|target| SocketAddr::new(target.ip, target.port.unwrap_or(args.port))),
        port: args.port,
        expected,
    })
}

impl Looker {
    async fn look(&self, name: &str) -> Finding {
        let host = match Hostname::parse(name) {
            Ok(host) => host,
            Err(error) => {
                let (code, reason) = (Some("bad_name".to_owned()), Some(error.to_string()));
                return Finding { host: name.to_owned(), ok: false, code, reason, sights: Vec::new() };
            }
        };
        let now = self.clock.now();
        let sights = match self.address {
            Some(address) => vec![self.prober.dial(&host, address, Path::Edge, now).await],
            None => self.prober.look(&host, None, Some((&self.resolver, self.port)), now).await,
        };
        let verdict = judge(&sights, &host, self.expected.as_ref(), self.clock.now()).err();
        Finding {
            host: host.to_string(),
            ok: verdict.is_none(),
            code: verdict.as_ref().map(|reason| reason.code.to_string()),
            reason: verdict.map(|reason| reason.message),
            sights,
        }
    }
}

fn rows(finding: &Finding) -> Vec<Vec<String>> {
    let word = if finding.ok { "ok" } else { "FAILED" };
    if finding.sights.is_empty() {
        return vec![vec![finding.host.clone(), word.into()]];
    }
    let row = |sight: &Sight| {
        let mut row = vec![finding.host.clone(), word.to_owned(), sight.dialled.clone()];
        match &sight.seen {
            Ok(served) => row.extend([
                served.certificate_ref.short().to_owned(),
                output::time(served.not_after),
                served.issuer_dn.clone(),
                sight.elapsed_ms.to_string(),
            ]),
            Err(failed) => row.extend([failed.failure.to_string(), String::new(), String::new(), sight.elapsed_ms.to_string()]),
        }
        row
    };
    finding.sights.iter().map(row).collect()
}

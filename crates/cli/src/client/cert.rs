//! `certwright cert …` and `certwright ca …`

use super::follow::About;
use super::{Api, CallError, domain, root_file, settle};
use crate::args::{CaArgs, CaCommand, CertArgs, CertCommand, Format};
use crate::{output, private_file};
use anyhow::anyhow;
use certwright_server::wire::Accepted;
use certwright_server::wire::domains::{CertificateList, CertificateView, DomainView};
use reqwest::Method;

pub(crate) async fn run(args: CertArgs) -> anyhow::Result<()> {
    let (client, api) = (&args.client, Api::find(&args.client)?);
    match args.command {
        CertCommand::List { limit } => {
            let domains: Vec<DomainView> = api.list("/v1/domains", &[], limit.limit).await?;
            let row = |domain: &DomainView| {
                vec![
                    domain.domain.clone(),
                    domain.tls_status.to_string(),
                    domain.certificate_ref.as_ref().map(|leaf| leaf.short().to_owned()).unwrap_or_default(),
                    output::maybe_time(domain.tls_not_after),
                    output::maybe_time(domain.cert_renewal_due_at),
                    if domain.proven { "yes".into() } else { "no".into() },
                ]
            };
            output::list(client.output, &domains, &["domain", "tls", "certificate", "until", "renewal due", "proven"], row, "no domains")
        }
        CertCommand::Show { domain, pem } => {
            let all: CertificateList = api.get(&format!("{}/certificates", domain::path(&domain))).await?;
            let current = all.items.iter().find(|row| row.status == "current").or(all.items.first());
            let current = current.ok_or_else(|| anyhow!("{domain} has no certificate yet; see `certwright domain status {domain}`"))?;
            show(current, pem, client.output)
        }
        CertCommand::Retry { domain, wait } => {
            let taken: Accepted = api.post_empty(&format!("{}/cert-retry", domain::path(&domain))).await?;
            settle(&api, client, taken, About::Domain(&domain), wait).await
        }
    }
}

fn show(row: &CertificateView, pem: bool, format: Format) -> anyhow::Result<()> {
    if pem {
        output::line(row.chain_pem.trim_end());
        return Ok(());
    }
    if format == Format::Json {
        return output::json(row);
    }
    output::line(&output::facts(&[
        ("certificate", row.certificate_ref.to_string()),
        ("status", row.status.clone()),
        ("names", row.names.join(", ")),
        ("from", output::time(row.not_before)),
        ("until", output::time(row.not_after)),
        ("issuer", format!("{} ({})", row.issuer, row.issuer_dn)),
        ("key", row.key_type.to_string()),
        ("serial", row.serial.clone()),
    ]));
    Ok(())
}

pub(crate) async fn ca(args: CaArgs) -> anyhow::Result<()> {
    let CaCommand::Root { out } = args.command;
    let pem = match root_from_server(&args.client).await {
        Ok(pem) => pem,
        // Also there while the server is down.
        Err(error @ CallError::NoServer(_)) => std::fs::read_to_string(root_file(&args.client)).map_err(|_| error)?,
        Err(error) => return Err(error.into()),
    };
    match out {
        None => output::line(pem.trim_end()),
        Some(path) => {
            private_file::write_public(&path, pem.as_bytes())?;
            output::line(&format!("the root certificate is in {}", path.display()));
        }
    }
    Ok(())
}

async fn root_from_server(client: &crate::args::ClientArgs) -> Result<String, CallError> {
    let api = Api::find(client)?;
    let response = api.send(api.request(Method::GET, "/v1/ca/root.pem")?.header("accept", "*/*")).await?;
    let status = response.status();
    response.text().await.map_err(|error| api.strange(status, &error))
}

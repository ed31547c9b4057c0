//! `certwright site …`

use super::follow::About;
use super::{Api, domain, segment, settle};
use crate::archive;
use crate::args::{ClientArgs, Format, SiteArgs, SiteCommand, SiteDomainCommand, WaitArgs};
use crate::output;
use anyhow::Context;
use certwright_server::wire::Accepted;
use certwright_server::wire::admin::Done;
use certwright_server::wire::domains::DomainStatus;
use certwright_server::wire::sites::{Provision, SetDomain, SiteNamed, SiteView};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use std::path::Path;

pub(crate) async fn run(args: SiteArgs) -> anyhow::Result<()> {
    let (client, api) = (&args.client, Api::find(&args.client)?);
    match args.command {
        SiteCommand::List { q, limit } => {
            let query: Vec<(&str, String)> = q.map(|q| ("q", q)).into_iter().collect();
            let sites: Vec<SiteView> = api.list("/api/sites", &query, limit.limit).await?;
            let empty = "no sites yet; make one with: certwright site add-static hello ./public";
            output::list(client.output, &sites, &["name", "status", "kind", "certificate", "until", "domain"], row, empty)
        }
        SiteCommand::Show { name } => show(&api.get(&site_path(&name)).await?, client.output),
        SiteCommand::AddStatic { name, content, wait } => {
            let taken = upload(&api, &name, &content).await?;
            settle(&api, client, taken, About::Site(&name), wait).await
        }
        SiteCommand::AddProxy { name, upstream, wait } => {
            let body = Provision { site: name.clone(), upstream: Some(upstream), kind: None };
            post(&api, client, "/api/provision", &body, &name, wait).await
        }
        SiteCommand::Destroy { name, wait } => post(&api, client, "/api/destroy", &SiteNamed { site: name.clone() }, &name, wait).await,
        SiteCommand::Delete { name } => {
            let done: Done = api.delete(&site_path(&name)).await?;
            super::admin::done(client.output, &done)
        }
        SiteCommand::Domain { command } => site_domain(&api, client, command).await,
        SiteCommand::CertRetry { name, wait } => {
            let taken: Accepted = api.post_empty(&format!("{}/cert-retry", site_path(&name))).await?;
            settle(&api, client, taken, About::Site(&name), wait).await
        }
    }
}

async fn site_domain(api: &Api, client: &ClientArgs, command: SiteDomainCommand) -> anyhow::Result<()> {
    match command {
        SiteDomainCommand::Set { site, domain, wait } => {
            let path = format!("{}/domain", site_path(&site));
            post(api, client, &path, &SetDomain { domain }, &site, wait).await
        }
        SiteDomainCommand::Remove { site, wait } => {
            let taken: Accepted = api.delete(&format!("{}/domain", site_path(&site))).await?;
            settle(api, client, taken, About::Site(&site), wait).await
        }
        SiteDomainCommand::Status { site } => {
            let status: DomainStatus = api.get(&format!("{}/domain/status", site_path(&site))).await?;
            if client.output == Format::Json {
                return output::json(&status);
            }
            output::line(&format!("{}: {}", status.site, status.status));
            for domain in status.custom_domains.iter().chain(&status.default_domain) {
                output::line(&format!("\n{}", domain::checklist(domain)));
            }
            Ok(())
        }
    }
}

async fn post<B: serde::Serialize>(api: &Api, client: &ClientArgs, path: &str, body: &B, site: &str, wait: WaitArgs) -> anyhow::Result<()> {
    let taken: Accepted = api.post(path, body).await?;
    settle(api, client, taken, About::Site(site), wait).await
}

fn site_path(name: &str) -> String {
    format!("/api/sites/{}", segment(name))
}

async fn upload(api: &Api, name: &str, content: &Path) -> anyhow::Result<Accepted> {
    let is_folder = std::fs::metadata(content).with_context(|| format!("cannot read {}", content.display()))?.is_dir();
    let folder = content.to_owned();
    let packed = match is_folder {
        true => Some(tokio::task::spawn_blocking(move || archive::of_folder(&folder)).await??),
        false => None,
    };
    let path = packed.as_ref().map_or(content, |packed| packed.path());
    let zip = Part::file(path).await.with_context(|| format!("cannot read {}", path.display()))?;
    let zip = zip.file_name("site.zip").mime_str("application/zip")?;
    let form = Form::new().text("site", name.to_owned()).part("zip", zip);
    Ok(api.ask(api.request(Method::POST, "/api/static/provision")?.multipart(form)).await?)
}

fn row(site: &SiteView) -> Vec<String> {
    let domain = site.custom_domain.clone().or_else(|| site.default_domain.clone()).unwrap_or_default();
    vec![
        site.name.clone(),
        site.status.to_string(),
        site.kind.clone(),
        site.cert_status.clone(),
        output::maybe_time(site.tls_not_after),
        domain,
    ]
}

fn show(site: &SiteView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(site);
    }
    let warnings: Vec<String> =
        site.warnings.iter().map(|warning| format!("{} (move: {})", warning.message, warning.actor.as_str())).collect();
    output::line(&output::facts(&[
        ("site", site.name.clone()),
        ("status", site.status.to_string()),
        ("kind", site.kind.clone()),
        ("upstream", site.upstream.clone().unwrap_or_default()),
        ("default domain", site.default_domain.clone().unwrap_or_default()),
        ("domains", site.custom_domains.join("\n")),
        ("certificate", site.cert_status.clone()),
        ("until", output::maybe_time(site.tls_not_after)),
        ("made", output::time(site.created_at)),
        ("warnings", warnings.join("\n")),
    ]));
    Ok(())
}

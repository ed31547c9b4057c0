//! `certwright domain …`

use super::follow::About;
use super::{Api, segment, settle, wishes};
use crate::args::{DomainArgs, DomainCommand, Format};
use crate::output;
use anyhow::{Context, bail};
use certwright_server::wire::Accepted;
use certwright_server::wire::cert_events::CertEventView;
use certwright_server::wire::domains::{
    AnswerView, BulkAnswer, BulkDomains, BulkOutcome, CertificateList, CertificateView, DomainView, NewDomain,
};
use std::io::Read;
use std::path::Path;

/// Domains in one bulk call.
const BULK: usize = 10_000;

pub(crate) async fn run(args: DomainArgs) -> anyhow::Result<()> {
    let (client, api) = (&args.client, Api::find(&args.client)?);
    match args.command {
        DomainCommand::List { tls_status, q, region, site, limit } => {
            let query = [("tls_status", tls_status), ("q", q), ("region", region), ("site", site)];
            let query: Vec<(&str, String)> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let domains: Vec<DomainView> = api.list("/v1/domains", &query, limit.limit).await?;
            let head = ["domain", "state", "tls", "until", "site", "move", "why not green"];
            output::list(client.output, &domains, &head, row, "no domains")
        }
        DomainCommand::Show { domain } => show(&api.get(&path(&domain)).await?, client.output),
        DomainCommand::Add { domain, wishes, wait } => {
            let taken: Accepted = api.post("/v1/domains", &wishes::new_domain(&domain, &wishes)?).await?;
            settle(&api, client, taken, About::Domain(&domain), wait).await
        }
        DomainCommand::AddMany { file, wishes } => {
            let names = read_names(&file)?;
            let bodies = names.iter().map(|name| wishes::new_domain(name, &wishes)).collect::<anyhow::Result<Vec<_>>>()?;
            add_many(&api, bodies, client.output).await
        }
        DomainCommand::Set { domain, wishes, no_route } => {
            let changed: DomainView = api.patch(&path(&domain), &wishes::change(&wishes, no_route)?).await?;
            show(&changed, client.output)
        }
        DomainCommand::Remove { domain, wait } => {
            let taken: Accepted = api.delete(&path(&domain)).await?;
            settle(&api, client, taken, About::Domain(&domain), wait).await
        }
        DomainCommand::Verify { domain } => {
            let looked: DomainView = api.post_empty(&format!("{}/verify", path(&domain))).await?;
            match client.output {
                Format::Json => output::json(&looked),
                Format::Table => {
                    output::line(&format!("{} is being looked at; see: certwright domain status {0}", looked.domain));
                    Ok(())
                }
            }
        }
        DomainCommand::Status { domain } => {
            let domain: DomainView = api.get(&path(&domain)).await?;
            match client.output {
                Format::Json => output::json(&domain.checklist),
                Format::Table => {
                    output::line(&checklist(&domain));
                    Ok(())
                }
            }
        }
        DomainCommand::History { domain, limit } => {
            let events: Vec<CertEventView> = api.list(&format!("{}/cert-events", path(&domain)), &[], limit.limit).await?;
            super::event::list(client.output, &events)
        }
        DomainCommand::Certificates { domain } => {
            let all: CertificateList = api.get(&format!("{}/certificates", path(&domain))).await?;
            let row = |row: &CertificateView| {
                vec![
                    row.status.clone(),
                    row.certificate_ref.short().to_owned(),
                    output::time(row.not_before),
                    output::time(row.not_after),
                    row.issuer.clone(),
                    row.key_type.to_string(),
                ]
            };
            let head = ["status", "certificate", "from", "until", "issuer", "key"];
            output::list(client.output, &all.items, &head, row, "no certificates yet")
        }
    }
}

pub(crate) fn path(domain: &str) -> String {
    format!("/v1/domains/{}", segment(domain))
}

fn row(domain: &DomainView) -> Vec<String> {
    vec![
        domain.domain.clone(),
        domain.lifecycle.to_string(),
        domain.tls_status.to_string(),
        output::maybe_time(domain.tls_not_after),
        domain.site.clone().unwrap_or_default(),
        if why(domain).is_empty() {
            String::new()
        } else {
            domain.reason.as_ref().map(|reason| reason.actor.as_str().to_owned()).unwrap_or_default()
        },
        why(domain),
    ]
}

/// Empty where all is well.
pub(crate) fn why(domain: &DomainView) -> String {
    let green = domain.tls_status == certwright_model::domain::TlsStatus::Issued;
    let reason = domain.reason.as_ref().filter(|reason| !green && reason.code != certwright_model::ReasonCode::Healthy);
    reason.map(|reason| format!("{}: {}", reason.code, reason.message)).unwrap_or_default()
}

fn show(domain: &DomainView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(domain);
    }
    let route = domain.route.as_ref().map(|route| {
        let to = [("site", &route.site), ("upstream", &route.upstream), ("tunnel", &route.tunnel)];
        to.iter().find_map(|(kind, to)| to.as_ref().map(|to| format!("{kind} {to}"))).unwrap_or_default()
    });
    output::line(&output::facts(&[
        ("domain", domain.domain.clone()),
        ("id", domain.id.to_string()),
        ("state", domain.lifecycle.to_string()),
        ("route", route.unwrap_or_else(|| "none".into())),
        ("tls", format!("{} ({}{})", domain.tls_status, domain.tls_mode, if domain.proven { ", proven" } else { "" })),
        ("certificate", domain.certificate_ref.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("until", output::maybe_time(domain.tls_not_after)),
        ("renewal due", output::maybe_time(domain.cert_renewal_due_at)),
        ("issuers", domain.issuers.join(", ")),
        ("key", domain.key_type.to_string()),
        ("failures", if domain.cert_failure_count > 0 { domain.cert_failure_count.to_string() } else { String::new() }),
        ("next try", output::maybe_time(domain.cert_next_retry_at)),
        ("policy", domain.cert_failure_policy.to_string()),
    ]));
    output::line(&format!("\n{}", checklist(domain)));
    Ok(())
}

/// The three answers, and for each that is missing whose move it is and what to do.
pub(crate) fn checklist(domain: &DomainView) -> String {
    let mut text = domain.domain.clone();
    let list = &domain.checklist;
    for (name, answer) in [("ownership", &list.ownership), ("routing", &list.routing), ("tls", &list.tls)] {
        text.push_str(&format!("\n  {} {name:<9}  {}", if answer.ok { "ok     " } else { "missing" }, answer.message));
        if !answer.ok {
            text.push_str(&missing(answer));
        }
    }
    text
}

fn missing(answer: &AnswerView) -> String {
    let indent = format!("\n{}", " ".repeat(21));
    let next = answer.next_check_at.map(|at| format!(", looked at again {}", output::time(at))).unwrap_or_default();
    let records = answer.records.iter().map(|record| format!("{indent}add  {}  {}  {}", record.name, record.kind, record.value));
    format!("{indent}move: {}{next}{}", answer.actor.as_str(), records.collect::<String>())
}

/// One name a line; empty lines and those that start with `#` are left out.
fn read_names(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    if names.is_empty() { bail!("{} names no domain", file.display()) } else { Ok(names) }
}

async fn add_many(api: &Api, bodies: Vec<NewDomain>, format: Format) -> anyhow::Result<()> {
    let mut outcomes: Vec<BulkOutcome> = Vec::with_capacity(bodies.len());
    let (mut created, mut unchanged, mut failed) = (0, 0, 0);
    for part in bodies.chunks(BULK) {
        let answer: BulkAnswer = api.post("/v1/domains/bulk", &BulkDomains { domains: part.to_vec() }).await?;
        created += answer.created;
        unchanged += answer.unchanged;
        failed += answer.failed;
        outcomes.extend(answer.outcomes);
    }
    if format == Format::Json {
        output::json(&outcomes)?;
    } else {
        for outcome in &outcomes {
            if let Some(problem) = &outcome.problem {
                output::line(&format!("{}: {}", outcome.domain, problem.detail));
            }
        }
        output::line(&format!("{created} added, {unchanged} there already, {failed} refused"));
    }
    if failed > 0 { bail!("{failed} of {} domains were refused", outcomes.len()) } else { Ok(()) }
}

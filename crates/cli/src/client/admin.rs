//! `certwright job …`, `certwright token …` and `certwright audit …`

use super::follow::{FOREVER, step_line};
use super::wishes::word;
use super::{Api, Followed, follow, segment};
use crate::args::{AuditArgs, AuditCommand, ClientArgs, Format, JobArgs, JobCommand, TokenArgs, TokenCommand};
use crate::output;
use anyhow::{anyhow, bail};
use certwright_engine::clock::Clock;
use certwright_model::authority::Role;
use certwright_model::job::JobStatus;
use certwright_server::wire::admin::{AuditView, Done, NewToken, TokenCreated, TokenList, TokenView};
use certwright_server::wire::jobs::JobView;
use jiff::SignedDuration;
use std::time::Duration;

pub(crate) async fn job(args: JobArgs) -> anyhow::Result<()> {
    let (client, api) = (&args.client, Api::find(&args.client)?);
    match args.command {
        JobCommand::List { site, limit } => {
            let query: Vec<(&str, String)> = site.map(|site| ("site", site)).into_iter().collect();
            let jobs: Vec<JobView> = api.list("/api/jobs", &query, limit.limit).await?;
            let row = |job: &JobView| {
                vec![
                    job.id.to_string(),
                    job.kind.to_string(),
                    job.subject.clone(),
                    job.status.to_string(),
                    output::time(job.created_at),
                    job.error.clone().unwrap_or_default(),
                ]
            };
            output::list(client.output, &jobs, &["id", "kind", "subject", "status", "asked", "error"], row, "no jobs yet")
        }
        JobCommand::Show { id } => show(&api.get(&format!("/api/jobs/{}", segment(&id))).await?, client.output),
        JobCommand::Follow { id } => {
            let job: JobView = api.get(&format!("/api/jobs/{}", segment(&id))).await?;
            let (Followed::Over(job) | Followed::Pending(job)) = follow(&api, job.id, FOREVER, client.output == Format::Table).await?;
            match client.output {
                Format::Json => output::json(&job)?,
                Format::Table => output::line(&format!("{} {}: {}", job.kind, job.subject, job.status)),
            }
            if job.status == JobStatus::Failed { bail!("{}", job.error.unwrap_or_else(|| "the job failed".into())) } else { Ok(()) }
        }
    }
}

fn show(job: &JobView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(job);
    }
    output::line(&output::facts(&[
        ("job", job.id.to_string()),
        ("kind", job.kind.to_string()),
        ("subject", job.subject.clone()),
        ("status", job.status.to_string()),
        ("error", job.error.clone().unwrap_or_default()),
        ("asked", output::time(job.created_at)),
        ("over", output::maybe_time(job.finished_at)),
    ]));
    for step in job.steps.iter().flatten() {
        output::line(&step_line(step));
    }
    Ok(())
}

pub(crate) async fn token(args: TokenArgs) -> anyhow::Result<()> {
    let client = &args.client;
    match args.command {
        TokenCommand::Reset(reset) => crate::keys::reset_token(&reset.settings(client)).await,
        TokenCommand::Create { name, role, expires } => create(client, name, &role, expires).await,
        TokenCommand::List => {
            let tokens: TokenList = Api::find(client)?.get("/v1/admin/tokens").await?;
            let row = |token: &TokenView| {
                let end = token.expires_at.map_or_else(|| "never".into(), output::time);
                vec![token.name.clone(), token.role.to_string(), output::time(token.created_at), end, token.id.to_string()]
            };
            output::list(client.output, &tokens.items, &["name", "role", "made", "ends", "id"], row, "no tokens")
        }
        TokenCommand::Revoke { token } => {
            let api = Api::find(client)?;
            let tokens: TokenList = api.get("/v1/admin/tokens").await?;
            let found = tokens.items.iter().find(|one| one.name == token || one.id.to_string() == token);
            let found = found.ok_or_else(|| anyhow!("there is no token `{token}`; `certwright token list` shows them"))?;
            done(client.output, &api.delete(&format!("/v1/admin/tokens/{}", found.id)).await?)
        }
    }
}

async fn create(client: &ClientArgs, name: String, role: &str, expires: Option<Duration>) -> anyhow::Result<()> {
    let role = word("--role", Some(role), Role::parse, Role::ALL)?.ok_or_else(|| anyhow!("--role is missing"))?;
    let now = Clock::system().now();
    let end = |after: Duration| Ok::<_, anyhow::Error>(now.checked_add(SignedDuration::try_from(after)?)?);
    let body = NewToken { name, role, expires_at: expires.map(end).transpose()? };
    let made: TokenCreated = Api::find(client)?.post("/v1/admin/tokens", &body).await?;
    match client.output {
        Format::Json => output::json(&made),
        Format::Table => {
            output::progress(&format!("token `{}`, role {}; it is not shown again:", made.token.name, made.token.role));
            output::line(&made.secret);
            Ok(())
        }
    }
}

pub(crate) async fn audit(args: AuditArgs) -> anyhow::Result<()> {
    let AuditCommand::List { limit } = args.command;
    let entries: Vec<AuditView> = Api::find(&args.client)?.list("/v1/admin/audit", &[], limit.limit).await?;
    let row = |entry: &AuditView| vec![output::time(entry.at), entry.actor.clone(), entry.action.clone(), entry.subject.clone()];
    output::list(args.client.output, &entries, &["at", "who", "what", "subject"], row, "nothing has been changed yet")
}

pub(crate) fn done(format: Format, done: &Done) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(done),
        Format::Table => {
            output::line(&done.message);
            Ok(())
        }
    }
}

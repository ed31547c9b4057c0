//! `certwright demo`: a whole instance on this machine, one site, one custom domain, and the proof of both.
//!
//! Invariants: it reads no settings but its own flags; it takes other ports where the usual ones are taken; success is what
//! the wire showed, and the page fetched with the exported root, nothing else.

mod proof;

use crate::args::{DemoArgs, Format};
use crate::compose::{Listeners, prepare_data_dir};
use crate::running::{Addresses, ROOT_FILE, Running, TOKEN_FILE, stop_asked};
use crate::settings::{LogFormat, Settings, Table};
use crate::{archive, output, serve};
use anyhow::{Context, bail};
use certwright_engine::Engine;
use certwright_model::Hostname;
use certwright_model::job::JobStatus;
use certwright_model::record::Job;
use certwright_model::site::SiteName;
use certwright_store::Who;
use proof::Proof;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);
const SITE: &str = "hello";
const BASE_DOMAIN: &str = "sites.localhost";
const DOMAIN: &str = "shop.localhost";
const PAGE: &[u8] = include_bytes!("page.html");

pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    serve::init_log(LogFormat::Text, "warn")?;
    let (data_dir, temporary) = folder(&args)?;
    let settings = Settings::only(vec![
        ("data_dir".into(), data_dir.display().to_string()),
        ("base_domain".into(), BASE_DOMAIN.into()),
        ("probe_system_roots".into(), "false".into()),
        ("drain_timeout".into(), "2s".into()),
    ])?;
    output::progress(&format!("data      {}", data_dir.display()));
    prepare_data_dir(&data_dir)?;
    let listeners = listeners(&settings.table).await?;
    let mut running = Running::start_on(&settings, listeners, None).await?;
    let at = running.addresses;
    output::progress(&format!("edge      https on {}, http on {}", at.https, at.http));
    let engine = running.engine.clone();
    let shown = tokio::select! {
        shown = show(&engine, at, &args, &data_dir) => shown,
        asked = stop_asked() => asked.and_then(|()| bail!("interrupted")),
        error = running.broken() => Err(error),
    };
    let ended = match shown {
        Ok(()) if !args.once => stay(&mut running, &data_dir).await,
        other => other,
    };
    running.stop().await;
    if args.keep
        && let Some(temporary) = temporary
    {
        output::progress(&format!("kept in {}", temporary.keep().display()));
    }
    ended
}

fn folder(args: &DemoArgs) -> anyhow::Result<(PathBuf, Option<TempDir>)> {
    match &args.data_dir {
        Some(dir) => Ok((dir.clone(), None)),
        None => {
            let temporary = tempfile::Builder::new().prefix("certwright-demo-").tempdir().context("a temporary folder")?;
            Ok((temporary.path().to_owned(), Some(temporary)))
        }
    }
}

async fn listeners(table: &Table) -> anyhow::Result<Listeners> {
    Ok(Listeners {
        api: usual_or_free(table.api).await?,
        http: usual_or_free(table.http).await?,
        https: usual_or_free(table.https).await?,
        metrics: usual_or_free(table.metrics).await?,
    })
}

async fn usual_or_free(usual: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(usual).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::new(usual.ip(), 0)).await.context("no free port"),
    }
}

/// Makes the site and its domain, and prints what was proven of them.
async fn show(engine: &Engine, at: Addresses, args: &DemoArgs, data_dir: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    let deadline = started + PATIENCE;
    let who = Who { actor: "demo".into() };
    let site = SiteName::parse(SITE)?;
    if engine.store().site_by_name(&site).await?.is_none() {
        let packed = archive::of_page("index.html", PAGE)?;
        let taken = engine.provision_static(&site, packed.path(), &who).await?;
        follow(engine, taken.job, &taken.message, deadline).await?;
    }
    let taken = engine.set_site_domain(&site, Hostname::parse(DOMAIN)?, &who).await?;
    follow(engine, taken.job, &taken.message, deadline).await?;
    let mut proof = Proof::collect(engine, &site, &data_dir.join(ROOT_FILE), deadline).await?;
    proof.fetch(at.https, PAGE).await?;
    proof.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match args.output {
        Format::Json => output::json(&proof)?,
        Format::Table => output::line(&proof.describe()),
    }
    Ok(())
}

/// Shows the steps of a job until it is over.
async fn follow(engine: &Engine, job: Option<Job>, message: &str, deadline: Instant) -> anyhow::Result<()> {
    output::progress(message);
    let Some(mut job) = job else { return Ok(()) };
    let mut seen = 0;
    loop {
        for (seq, step) in engine.store().job_steps(job.id, seen).await? {
            seen = seq;
            output::progress(&format!("  {:<8} {}  {}", step.status.as_str(), step.step, step.message));
        }
        match job.status {
            JobStatus::Succeeded => return Ok(()),
            JobStatus::Failed => bail!("not proven: {}", job.error.unwrap_or_else(|| "the job failed".into())),
            _ if Instant::now() >= deadline => bail!("not proven within {} s: {}", PATIENCE.as_secs(), why(engine, &job).await?),
            _ => job = engine.wait_for_job(job.id, Duration::from_millis(200)).await?,
        }
    }
}

async fn why(engine: &Engine, job: &Job) -> anyhow::Result<String> {
    let domain = match job.domain_id {
        Some(id) => engine.store().domain_by_id(id).await?,
        None => None,
    };
    let reason = domain.and_then(|domain| domain.state.reason);
    Ok(reason
        .map_or_else(|| format!("the job is {}", job.status), |reason| format!("{} (move: {})", reason.message, reason.actor.as_str())))
}

async fn stay(running: &mut Running, data_dir: &Path) -> anyhow::Result<()> {
    let at = running.addresses;
    let root = data_dir.join(ROOT_FILE);
    output::line(&format!(
        "\ndashboard  http://{}\ntoken      {}\nroot       {}\n\ntry        curl --cacert {} --resolve {DOMAIN}:{}:{} https://{DOMAIN}:{}/\n           {} site list --data-dir {}\n\nCtrl-C stops it.",
        at.api,
        data_dir.join(TOKEN_FILE).display(),
        root.display(),
        root.display(),
        at.https.port(),
        at.https.ip(),
        at.https.port(),
        // A newcomer has it nowhere on the path yet.
        std::env::current_exe().map_or_else(|_| "certwright".into(), |program| program.display().to_string()),
        data_dir.display(),
    ));
    tokio::select! {
        asked = stop_asked() => asked,
        error = running.broken() => Err(error),
    }
}

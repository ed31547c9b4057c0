//! `certwright serve`: until a signal asks it to stop.

use crate::args::ServeArgs;
use crate::running::{Running, TOKEN_FILE, stop_asked};
use crate::settings::{LogFormat, Settings};
use crate::{abort_hook, output};
use anyhow::Context;
use tracing_subscriber::EnvFilter;

pub(crate) async fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let settings = Settings::load(&args.given())?;
    init_log(settings.table.log_format, &settings.table.log_level)?;
    warn(&settings);
    let mut running = Running::start(&settings, abort_hook::from_environment()?).await?;
    let at = running.addresses;
    tracing::info!(api = %at.api, http = %at.http, https = %at.https, metrics = %at.metrics, "serving");
    output::line(&format!(
        "dashboard  http://{}\nedge       https on {}, http on {}\nmetrics    http://{}/metrics\ntoken      {}",
        at.api,
        at.https,
        at.http,
        at.metrics,
        settings.table.data_dir.join(TOKEN_FILE).display()
    ));
    let broken = tokio::select! {
        asked = stop_asked() => asked.err(),
        error = running.broken() => Some(error),
    };
    match broken {
        None => {
            tracing::info!("stopping; another signal stops at once");
            running.stop().await;
            Ok(())
        }
        Some(error) => Err(error),
    }
}

pub(crate) fn init_log(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level).with_context(|| format!("`log_level`: `{level}` is not a level, such as `info`"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

fn warn(settings: &Settings) {
    let table = &settings.table;
    for message in &settings.suspicious {
        tracing::warn!("{message}");
    }
    if !table.api.ip().is_loopback() {
        tracing::warn!(api = %table.api, "the API speaks plain HTTP and can be reached from other machines; put TLS in front of it");
    }
    if !table.https.ip().is_loopback() && table.edge_addresses.is_empty() && table.edge_cname.is_none() {
        tracing::warn!("neither `edge_addresses` nor `edge_cname` is set: where DNS points is not judged");
    }
}

//! What works on the database itself, without a server: another key-encryption key, another administrator's token.

use crate::args::{RotateArgs, SecretsArgs, SecretsCommand, SettingsArgs};
use crate::compose;
use crate::output;
use crate::running::TOKEN_FILE;
use crate::settings::Settings;
use anyhow::Context;
use certwright_engine::clock::Clock;
use certwright_store::KekSource;

pub(crate) async fn run(args: SecretsArgs) -> anyhow::Result<()> {
    let SecretsCommand::RotateKey(args) = args.command;
    rotate(args).await
}

async fn rotate(args: RotateArgs) -> anyhow::Result<()> {
    let settings = Settings::load(&args.settings.given())?;
    let (new, setting) = match (&args.to_file, &args.to_command) {
        (Some(path), _) => (KekSource::File(path.clone()), format!("kek_file = {:?}", path.display().to_string())),
        (None, Some(command)) => (KekSource::Command(command.clone()), format!("kek_command = {command:?}")),
        (None, None) => anyhow::bail!("name the new key with --to-file FILE or --to-command COMMAND"),
    };
    let store = compose::open_store(&settings.table, &Clock::system()).await?;
    store.rotate_kek(new).await.context("nothing was changed")?;
    store.close().await;
    output::line(&format!(
        "the data keys are sealed with the new key; start the server with this setting from now on:\n\n{setting}\n\nKeep the old key for as long as you keep backups that were made with it."
    ));
    Ok(())
}

pub(crate) async fn reset_token(args: &SettingsArgs) -> anyhow::Result<()> {
    let settings = Settings::load(&args.given())?;
    compose::install_crypto();
    let clock = Clock::system();
    let instance = compose::build(&settings, clock.clone(), clock.node(), None, None).await?;
    let path = settings.table.data_dir.join(TOKEN_FILE);
    certwright_server::replace_admin_token(&instance.engine, &path).await?;
    instance.engine.store().close().await;
    output::line(&format!("a new administrator's token is in {}; the one named `admin` before it is revoked", path.display()));
    Ok(())
}

//! The binary `certwright`: the command line, the configuration, and the putting together of all other crates.
//!
//! Invariants: it decides nothing about sites, domains or certificates. Results go to standard output, everything else to
//! standard error; an error says what to do. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod abort_hook;
mod archive;
mod args;
mod client;
mod compose;
mod demo;
mod keys;
mod manual;
mod node;
mod output;
mod private_file;
mod probe;
mod running;
mod serve;
mod settings;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    compose::install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Serve(args) => serve::run(&args).await,
        Command::Site(args) => client::site::run(args).await,
        Command::Domain(args) => client::domain::run(args).await,
        Command::Cert(args) => client::cert::run(args).await,
        Command::Ca(args) => client::cert::ca(args).await,
        Command::Job(args) => client::admin::job(args).await,
        Command::Event(args) => client::event::run(args).await,
        Command::Source(args) => client::event::source(args).await,
        Command::Token(args) => client::admin::token(args).await,
        Command::Audit(args) => client::admin::audit(args).await,
        Command::Doctor(args) => client::doctor::run(args).await,
        Command::Probe(args) => probe::run(args).await,
        Command::Secrets(args) => keys::run(args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "certwright", &mut script);
            output::line(String::from_utf8(script)?.trim_end());
            Ok(())
        }
        Command::Docs { page } => {
            output::line(manual::page(page).trim_end());
            Ok(())
        }
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    output::progress(&format!("error: {error:#}"));
    ExitCode::FAILURE
}

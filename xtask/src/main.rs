//! `cargo xtask`: everything that is done to this repository, from a clean machine, with one command each.
//!
//! It needs Rust and, for the peers, Debian's package manager. It starts what it needs on free ports of 127.0.0.1, stops it
//! again, and says by name what it could not have. It is no part of the product.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod peers;
mod repo;
mod step;
mod test;
mod tidy;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Test, measure and check Certwright")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install and start the peers, check style, and run every test on both databases
    Test(test::Options),
    /// Run benches against their peers and print a table
    Bench(bench::Options),
    /// Check the rules of the house that no compiler knows
    Tidy,
    /// Say which peers are there, in which version
    Peers,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True when everything that was asked for is fine.
fn run(task: Task) -> Result<bool> {
    match task {
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Tidy => tidy::run(),
        Task::Peers => peers::print(),
    }
}

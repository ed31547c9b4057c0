//! `cargo xtask test`: peers, style, lints and every test, with one table and one line of totals at the end.
//!
//! Everything it starts is gone when it ends, however it ends. A failed step does not hide the result of the next ones.

use std::process::Command;

use anyhow::{Result, ensure};
use certwright_testkit::postgres::{self, Cluster, Durability};
use clap::{Args, ValueEnum};

use crate::step::{Steps, line_by_line, passing_through};
use crate::{peers, repo, tidy};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only tests whose name contains this, and none of the style checks
    filter: Option<String>,
    /// Install and build nothing; say what is missing
    #[arg(long)]
    no_install: bool,
    /// Of the tests that run on both databases, run only this one's
    #[arg(long)]
    only: Option<Database>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

/// Results of all test programs together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
}

pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut steps = Steps::default();
    peers::provide(&mut steps, !options.no_install);
    let cluster = start_postgres(options, &mut steps);
    if options.filter.is_none() {
        steps.run("tidy", || {
            ensure!(tidy::run()?, "the house rules are broken, see above");
            Ok(())
        });
        steps.run("format", || cargo(&["fmt", "--all", "--check"]));
        steps.run("lint", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    }
    let mut totals = Totals::default();
    let mut not_run = Vec::new();
    steps.run("tests", || run_tests(options, cluster.as_ref(), &mut totals, &mut not_run));
    for line in not_run {
        steps.missing(line);
    }
    drop(cluster);
    println!("{}", steps.table());
    if totals.ignored > 0 {
        println!("{} ignored", totals.ignored);
    }
    println!("{} passed, {} failed", totals.passed, totals.failed);
    Ok(steps.all_ok())
}

fn start_postgres(options: &Options, steps: &mut Steps) -> Option<Cluster> {
    if options.only == Some(Database::Sqlite) {
        steps.missing("not run: the PostgreSQL half of every test (--only sqlite)".to_owned());
        return None;
    }
    if !Cluster::is_installed() {
        // Named already, with what could not be installed.
        return None;
    }
    steps.run("start PostgreSQL", || Cluster::start(Durability::Off))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let mut command = repo::cargo()?;
    command.args(arguments);
    passing_through(command)
}

fn run_tests(options: &Options, cluster: Option<&Cluster>, totals: &mut Totals, not_run: &mut Vec<String>) -> Result<()> {
    let mut command = repo::cargo()?;
    command.args(["test", "--workspace", "--no-fail-fast"]).args(&options.filter);
    // Shown output is where a passing test says what it could not run; the rest of it is dropped again below.
    command.args(["--", "--show-output"]);
    match options.only {
        // Tests that run on both are named `…::sqlite` and `…::postgres`.
        Some(Database::Sqlite) => command.args(["--skip", "::postgres"]),
        Some(Database::Postgres) => command.args(["--skip", "::sqlite"]),
        None => &mut command,
    };
    set_environment(&mut command, cluster)?;
    let mut shown = Shown::default();
    let ok = line_by_line(command, |line| {
        if let Some(found) = totals.not_run_or_add(line) {
            not_run.push(found);
        }
        if shown.keeps(line) {
            println!("{line}");
        }
    })?;
    ensure!(ok && totals.failed == 0, "{} failed", if totals.failed > 0 { "tests" } else { "the build of the tests" });
    Ok(())
}

fn set_environment(command: &mut Command, cluster: Option<&Cluster>) -> Result<()> {
    match cluster {
        Some(cluster) => command.env(postgres::ENVIRONMENT, cluster.url()),
        None => command.env_remove(postgres::ENVIRONMENT),
    };
    command.env("CERTWRIGHT_TEST_BIN_DIR", peers::bin_folder()?);
    let pebble = peers::newest_pebble()?;
    if pebble.is_file() {
        command.env("CERTWRIGHT_TEST_PEBBLE_NEW", pebble);
    }
    Ok(())
}

impl Totals {
    /// Counts a result line; gives back a line that says what did not run.
    fn not_run_or_add(&mut self, line: &str) -> Option<String> {
        if let Some(result) = line.strip_prefix("test result: ") {
            let count = |word: &str| -> u64 {
                let mut parts = result.split([' ', ';', '.']).filter(|part| !part.is_empty()).peekable();
                while let Some(part) = parts.next() {
                    if parts.peek() == Some(&word) {
                        return part.parse().unwrap_or(0);
                    }
                }
                0
            };
            self.passed += count("passed");
            self.failed += count("failed");
            self.ignored += count("ignored");
        }
        line.starts_with("not run: ").then(|| line.to_owned())
    }
}

/// Drops the output of passing tests, which `--show-output` prints between `successes:` and what comes after it.
#[derive(Debug, Default)]
struct Shown {
    in_successes: bool,
}

impl Shown {
    fn keeps(&mut self, line: &str) -> bool {
        if line == "successes:" {
            self.in_successes = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.in_successes = false;
        }
        !self.in_successes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 2 tests\ntest a ... ok\n\nsuccesses:\n\n---- a stdout ----\nnoise\nnot run: X (no Y)\n\n\
        successes:\n    a\n\nfailures:\n\n---- b stdout ----\nboom\n\nfailures:\n    b\n\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s\n\
        test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.20s";

    #[test]
    fn result_lines_are_added_up_and_what_did_not_run_is_collected() {
        let mut totals = Totals::default();
        let not_run: Vec<String> = OUTPUT.lines().filter_map(|line| totals.not_run_or_add(line)).collect();
        assert_eq!(totals, Totals { passed: 41, failed: 1, ignored: 2 });
        assert_eq!(not_run, ["not run: X (no Y)"]);
    }

    #[test]
    fn output_of_passing_tests_is_dropped_and_of_failing_ones_kept() {
        let mut shown = Shown::default();
        let kept: Vec<&str> = OUTPUT.lines().filter(|line| shown.keeps(line)).collect();
        assert!(!kept.contains(&"noise"));
        assert!(kept.contains(&"boom") && kept.contains(&"test a ... ok"));
    }
}

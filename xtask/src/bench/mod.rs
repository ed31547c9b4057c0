//! `cargo xtask bench`: figures, each with its peer in the same run where it has one, as measured and with the command.
//!
//! A bench is one line in `BENCHES` and one function that gives a table. Nothing is asserted here: a figure is a report, and
//! tests assert what must not break. Release builds; on a machine that does other things at the same time the figures are worth little.

use anyhow::{Result, bail};
use clap::Args;

use crate::step::Steps;
use crate::{peers, repo};

mod examples;
mod handshake;
mod report;

use report::Table;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which to run; all when none is named
    names: Vec<String>,
    /// Say which there are
    #[arg(long)]
    list: bool,
    /// Put the tables into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// One short round, to see that a bench works; its figures are not for writing down
    #[arg(long, conflicts_with = "write")]
    quick: bool,
}

struct Bench {
    name: &'static str,
    /// What is measured.
    what: &'static str,
    /// What it has to reach.
    reach: &'static str,
    run: fn(Effort) -> Result<Table>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    Quick,
    Full,
}

const BENCHES: [Bench; 8] = [
    Bench {
        name: "issue",
        what: "1,000 names, one process, from request to stored, deployed and proven on the wire, Pebble on the same machine",
        reach: "at least 100 a second",
        run: examples::issue,
    },
    Bench {
        name: "time-to-green",
        what: "one name at a time on an idle system, from request to proven; Caddy on a Pebble of the same kind",
        reach: "no slower than Caddy, and the time spent in our own waits named",
        run: examples::time_to_green,
    },
    Bench {
        name: "handshake",
        what: "full TLS 1.3 handshakes a second over 10,000 names, P-256, one core for the server and one for the load",
        reach: "at least the better of nginx and Caddy with the same certificates",
        run: handshake::run,
    },
    Bench {
        name: "edge-scale",
        what: "the built-in edge with 10,000, 100,000 and 1,000,000 names: start until the first handshake, memory, a cold name",
        reach: "1,000,000 names: under 5 s, under 400 MB cold, under 10 ms",
        run: examples::edge_scale,
    },
    Bench {
        name: "due-scan",
        what: "selecting and leasing 500 due domains out of 10,000, 100,000 and 1,000,000, on SQLite and PostgreSQL",
        reach: "does not grow between 10,000 and 1,000,000 by more than a factor of 2",
        run: examples::due_scan,
    },
    Bench {
        name: "probe",
        what: "local handshakes proven a second, 256 at once, on the cores that the probed servers use too",
        reach: "at least 1,500 on two cores",
        run: examples::probe,
    },
    Bench {
        name: "ingest",
        what: "signed certificate events over HTTP, 64 connections, 10,000 domains, each on disk before it is acknowledged",
        reach: "15,000 a second on SQLite, 10,000 on PostgreSQL; p99 under 50 ms; under 300 MB",
        run: examples::ingest,
    },
    Bench {
        name: "apply",
        what: "200,000 pending certificate events over 10,000 domains into final state, history included",
        reach: "20,000 a second on both databases; under 300 MB",
        run: examples::apply,
    },
];

pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.list {
        for bench in &BENCHES {
            println!("{:<14} {}\n{:<14} to reach: {}", bench.name, bench.what, "", bench.reach);
        }
        return Ok(true);
    }
    let effort = if options.quick { Effort::Quick } else { Effort::Full };
    let chosen = chosen(&options.names)?;
    // What cannot be had is named by the bench that goes without.
    peers::provide(&mut Steps::default(), true);
    let mut all_ran = true;
    for bench in chosen {
        eprintln!("==> bench {}: {}", bench.name, bench.what);
        match (bench.run)(effort) {
            Ok(table) => {
                println!("\n{}\n{}", bench.name, table.for_terminal());
                println!("to reach: {}\n", bench.reach);
                if options.write {
                    report::write(bench.name, bench.what, bench.reach, &table)?;
                }
            }
            Err(error) => {
                eprintln!("    bench {} FAILED: {error:#}", bench.name);
                all_ran = false;
            }
        }
    }
    Ok(all_ran)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Bench>> {
    if let Some(unknown) = names.iter().find(|name| BENCHES.iter().all(|bench| bench.name != name.as_str())) {
        let known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("there is no bench `{unknown}`; there are {}", known.join(", "));
    }
    Ok(BENCHES.iter().filter(|bench| names.is_empty() || names.iter().any(|name| name == bench.name)).collect())
}

/// Builds the examples and programs for release and says where this example is. All of them at once: built one by one, each package's own
/// choice of features would build the dependencies again.
fn release_example(example: &str) -> Result<std::path::PathBuf> {
    let mut command = repo::cargo()?;
    command.args(["build", "--quiet", "--release", "--workspace", "--examples", "--bins"]);
    crate::step::passing_through(command)?;
    Ok(repo::target()?.join("release/examples").join(example))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_bench_is_answered_with_those_that_there_are() {
        let error = chosen(&["speed".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("handshake") && error.contains("probe"), "{error}");
        assert_eq!(chosen(&[]).unwrap().len(), BENCHES.len());
        assert_eq!(chosen(&["probe".to_owned()]).unwrap().len(), 1);
    }
}

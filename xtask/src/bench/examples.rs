//! Benches that live beside the code that they measure, as examples that print one JSON object a line.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use certwright_testkit::postgres::{self, Cluster, Durability};
use serde_json::Value;

use super::{Effort, Table, release_example};
use crate::repo;
use crate::step::line_by_line;

/// Ours beside what other clients reached on this Pebble when they were looked at: Caddy 2.6 about 1 a second (it starts 10
/// orders in 10 s), certbot 0.35, lego 0.2.
pub(super) fn issue(effort: Effort) -> Result<Table> {
    let lines = on_both("issue", &["--names", if effort == Effort::Quick { "50" } else { "1000" }])?;
    let notes = vec!["HTTP-01 answered by the built-in edge; Pebble with `PEBBLE_VA_NOSLEEP=1`, nonce rejection off; its lock order mended; SQLite `synchronous=FULL`, PostgreSQL with fsync. All of it shares two cores.".to_owned()];
    const COLUMNS: [Column; 5] =
        [("backend", "backend"), ("names", "names"), ("callers", "orders at once"), ("seconds", "seconds"), ("per_second", "proven/s")];
    Ok(Table { notes, ..table_of(&lines, &COLUMNS)? })
}

pub(super) fn ingest(effort: Effort) -> Result<Table> {
    let (events, domains) = if effort == Effort::Quick { ("5000", "100") } else { ("200000", "10000") };
    let server = repo::target()?.join("release/certwright");
    let server = server.to_str().context("the target folder has a strange name")?;
    let lines = on_both("ingest", &["--events", events, "--domains", domains, "--server", server])?;
    let notes = vec!["The server with its loops at work (probing off), the database and the load share two cores. SQLite `synchronous=FULL`, PostgreSQL with fsync. Memory is the server's own.".to_owned()];
    const COLUMNS: [Column; 8] = [
        ("backend", "backend"),
        ("events", "events"),
        ("per_second", "events/s"),
        ("p50_ms", "p50 ms"),
        ("p99_ms", "p99 ms"),
        ("max_ms", "max ms"),
        ("applied_after_s", "all applied after s"),
        ("peak_mib", "peak MiB"),
    ];
    Ok(Table { notes, ..table_of(&lines, &COLUMNS)? })
}

pub(super) fn apply(effort: Effort) -> Result<Table> {
    let (events, domains) = if effort == Effort::Quick { ("4000", "200") } else { ("200000", "10000") };
    const COLUMNS: [Column; 6] = [
        ("backend", "backend"),
        ("events", "events"),
        ("domains", "domains"),
        ("seconds", "seconds"),
        ("per_second", "events/s"),
        ("peak_mib", "peak MiB"),
    ];
    table_of(&on_both("apply", &["--events", events, "--domains", domains])?, &COLUMNS)
}

/// The same on SQLite and on a PostgreSQL with fsync.
fn on_both(example: &str, arguments: &[&str]) -> Result<Vec<Value>> {
    let program = release_example(example)?;
    let cluster = if Cluster::is_installed() { Some(Cluster::start(Durability::On)?) } else { None };
    let mut command = Command::new(&program);
    command.args(arguments);
    let mut lines = json_lines(command)?;
    if let Some(cluster) = &cluster {
        let mut command = Command::new(&program);
        command.args(arguments).arg("--postgres").env(postgres::ENVIRONMENT, cluster.url());
        lines.extend(json_lines(command)?);
    }
    Ok(lines)
}

pub(super) fn time_to_green(effort: Effort) -> Result<Table> {
    let mut command = Command::new(release_example("time_to_green")?);
    command.args(["--rounds", if effort == Effort::Quick { "3" } else { "20" }]);
    let lines = json_lines(command)?;
    let row = |line: &Value| {
        let ms = |key: &str| cell(&line["ms"][key]);
        vec![cell(&line["who"]), cell(&line["rounds"]), ms("min"), ms("median"), ms("max")]
    };
    let steps = lines.iter().filter_map(|line| line["steps_ms"].as_object()).flatten();
    let split: Vec<String> = steps.map(|(step, ms)| format!("{step} {} ms", cell(ms))).collect();
    Ok(Table {
        columns: ["who", "rounds", "min ms", "median ms", "max ms"].map(str::to_owned).to_vec(),
        rows: lines.iter().map(row).collect(),
        notes: vec![format!(
            "Where ours goes, on average a name (`issue` holds the CA's part and the steps named after it): {}.",
            split.join(", ")
        )],
    })
}

pub(super) fn due_scan(_effort: Effort) -> Result<Table> {
    let mut command = Command::new(release_example("due_scan")?);
    // As installed, with fsync: leasing writes.
    let cluster = if Cluster::is_installed() { Some(Cluster::start(Durability::On)?) } else { None };
    let mut notes = Vec::new();
    match &cluster {
        Some(cluster) => {
            command.env(postgres::ENVIRONMENT, cluster.url());
            notes.push(format!("PostgreSQL {} as installed, fsync on.", cluster.version()?));
        }
        None => notes.push("Not run: PostgreSQL (it is not installed).".to_owned()),
    }
    Ok(Table { notes, ..table_of(&json_lines(command)?, &[])? })
}

pub(super) fn probe(effort: Effort) -> Result<Table> {
    let mut command = Command::new(release_example("probe_bench")?);
    if effort == Effort::Quick {
        command.arg("1500");
    }
    const COLUMNS: [Column; 5] =
        [("names", "names"), ("at_once", "at once"), ("handshakes", "handshakes"), ("proven", "proven"), ("proven_per_second", "proven/s")];
    table_of(&json_lines(command)?, &COLUMNS)
}

pub(super) fn edge_scale(effort: Effort) -> Result<Table> {
    let example = release_example("edge_scale")?;
    let sizes: &[&str] = if effort == Effort::Quick { &["10000"] } else { &["10000", "100000", "1000000"] };
    let mut lines = Vec::new();
    for names in sizes {
        // A process for each size: resident memory of a smaller one must not count.
        let mut command = Command::new(&example);
        command.args(["--names", names]);
        lines.extend(json_lines(command)?);
    }
    table_of(&lines, &[])
}

/// Runs a bench and keeps the JSON objects that it prints; anything else it says is for the person who waits.
pub(super) fn json_lines(command: Command) -> Result<Vec<Value>> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut objects = Vec::new();
    let ok = line_by_line(command, |line| match serde_json::from_str::<Value>(line) {
        Ok(value) if value.is_object() => objects.push(value),
        _ => eprintln!("    {line}"),
    })?;
    if !ok {
        bail!("{name} failed");
    }
    Ok(objects)
}

/// A key of the objects, and what stands above its column.
type Column = (&'static str, &'static str);

/// One row an object. Without columns named, every key of the first object is one.
fn table_of(objects: &[Value], columns: &[Column]) -> Result<Table> {
    let first = objects.first().and_then(Value::as_object).context("the bench printed no JSON object")?;
    let columns: Vec<(String, String)> = match columns {
        [] => first.keys().map(|key| (key.clone(), key.replace('_', " "))).collect(),
        named => named.iter().map(|(key, head)| ((*key).to_owned(), (*head).to_owned())).collect(),
    };
    if let Some((key, _)) = columns.iter().find(|(key, _)| !first.contains_key(key)) {
        bail!("the bench says nothing about `{key}`: {}", objects[0]);
    }
    let rows = objects.iter().map(|object| columns.iter().map(|(key, _)| cell(&object[key])).collect()).collect();
    Ok(Table { columns: columns.into_iter().map(|(_, head)| head).collect(), rows, notes: Vec::new() })
}

/// A figure as a person reads it: no quotes, three digits that mean something.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().map(figure).unwrap_or_default(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_become_rows_in_the_order_of_their_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo starting; echo '{"rows": 10000, "ms": 1.234}'; echo '{"rows": 1000000, "ms": 123.4}'"#]);
        let table = table_of(&json_lines(command).unwrap(), &[]).unwrap();
        assert_eq!(table.columns, ["ms", "rows"]);
        assert_eq!(table.rows, [["1.23", "10000"], ["123", "1000000"]]);
    }

    #[test]
    fn named_columns_stand_in_their_order_and_must_be_there() {
        let objects = [serde_json::json!({"a": 1, "b": 20.04})];
        let table = table_of(&objects, &[("b", "second"), ("a", "first")]).unwrap();
        assert_eq!(
            (table.columns, table.rows),
            (vec!["second".to_owned(), "first".to_owned()], vec![vec!["20.0".to_owned(), "1".to_owned()]])
        );
        assert!(table_of(&objects, &[("c", "gone")]).is_err());
    }

    #[test]
    fn a_bench_that_fails_gives_no_table() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo '{}'; exit 1"]);
        assert!(json_lines(command).is_err());
    }
}

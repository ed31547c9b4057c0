//! What is printed: tables for people, JSON for programs, progress on standard error.
//!
//! A reader that goes away (`| head`) ends the program quietly.

use crate::args::Format;
use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::io::{ErrorKind, Write};

pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        let code = if error.kind() == ErrorKind::BrokenPipe { 0 } else { 1 };
        std::process::exit(code);
    }
}

/// A step towards the result. Standard output stays for the result.
pub(crate) fn progress(text: &str) {
    // Where nobody hears it, nothing is lost.
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A list, in the way that was asked for.
pub(crate) fn list<T: Serialize>(
    format: Format,
    items: &[T],
    head: &[&str],
    row: impl Fn(&T) -> Vec<String>,
    empty: &str,
) -> anyhow::Result<()> {
    match format {
        Format::Json => json(&items),
        Format::Table if items.is_empty() => {
            line(empty);
            Ok(())
        }
        Format::Table => {
            line(&table(head, items.iter().map(row)));
            Ok(())
        }
    }
}

pub(crate) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.iter().map(|title| title.to_uppercase()));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Names and values below each other.
pub(crate) fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| {
        let indented = value.replace('\n', &format!("\n{}", " ".repeat(width + 2)));
        format!("{name:<width$}  {indented}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// To the second.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

pub(crate) fn maybe_time(at: Option<Timestamp>) -> String {
    at.map(time).unwrap_or_default()
}

/// How far away, in its largest unit.
pub(crate) fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().abs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

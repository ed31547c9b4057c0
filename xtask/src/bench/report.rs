//! Tables of figures: for the terminal, and between markers of docs/benchmarks.md, with the machine and the command.
//!
//! Only the section of the bench that ran is replaced; what people write around the markers stays.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result};

use crate::repo;

const DOCUMENT: &str = "docs/benchmarks.md";

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    /// Sentences below the table: how the peers were set up, what limits the figure.
    pub(super) notes: Vec<String>,
}

impl Table {
    pub(super) fn for_terminal(&self) -> String {
        let width = |index: usize| self.lines().map(|line| line.get(index).map_or(0, |cell| cell.chars().count())).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for line in self.lines() {
            for (cell, width) in line.iter().zip(&widths) {
                let _ = write!(text, "{cell:>width$}  ");
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    fn for_markdown(&self) -> String {
        let mut text = String::new();
        for (index, line) in self.lines().enumerate() {
            let _ = writeln!(text, "| {} |", line.join(" | "));
            if index == 0 {
                let _ = writeln!(text, "|{}", "---|".repeat(self.columns.len()));
            }
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.columns).chain(&self.rows)
    }
}

/// Replaces the section of this bench in docs/benchmarks.md, or adds it at the end.
pub(super) fn write(name: &str, what: &str, reach: &str, table: &Table) -> Result<()> {
    let path = repo::root()?.join(DOCUMENT);
    let before = std::fs::read_to_string(&path).unwrap_or_else(|_| "# Benchmarks\n\nAs measured, by the commands named.\n".to_owned());
    let section = format!(
        "## `{name}`\n\nMeasured: {what}. To reach: {reach}.\n\n`cargo xtask bench {name}`, {}.\n\n{}",
        circumstances(),
        table.for_markdown()
    );
    std::fs::write(&path, replaced(&before, name, &section)).with_context(|| format!("cannot write {DOCUMENT}"))?;
    eprintln!("    wrote {DOCUMENT}");
    Ok(())
}

fn replaced(document: &str, name: &str, section: &str) -> String {
    let (open, close) = (format!("<!-- bench: {name} -->\n"), format!("<!-- end: {name} -->\n"));
    let parts = document.split_once(&open).and_then(|(head, rest)| Some((head, rest.split_once(&close)?.1)));
    let (head, tail) = match parts {
        Some((head, tail)) => (head.to_owned(), tail),
        None => (format!("{}\n\n", document.trim_end()), ""),
    };
    format!("{head}{open}{section}{close}{tail}")
}

/// When, on what, and at which commit.
fn circumstances() -> String {
    let said = |program: &str, arguments: &[&str]| -> String {
        let output = Command::new(program).args(arguments).current_dir(repo::root().unwrap_or_default()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_matches([':', ' ', '\t']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{} on {cores} cores ({model}), Linux {}, commit {}",
        said("date", &["-u", "+%F"]),
        said("uname", &["-r"]),
        said("git", &["rev-parse", "--short", "HEAD"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_where_it_stands_and_the_rest_stays() {
        let once = replaced("# Figures\n", "a", "one\n");
        let both = replaced(&once, "b", "two\n");
        let again = replaced(&both, "a", "three\n");
        assert_eq!(again, "# Figures\n\n<!-- bench: a -->\nthree\n<!-- end: a -->\n\n<!-- bench: b -->\ntwo\n<!-- end: b -->\n");
    }

    #[test]
    fn a_table_has_its_head_and_its_notes() {
        let table = Table { columns: vec!["x".into(), "y".into()], rows: vec![vec!["1".into(), "2".into()]], notes: vec!["Why.".into()] };
        assert_eq!(table.for_markdown(), "| x | y |\n|---|---|\n| 1 | 2 |\n\nWhy.\n");
        assert!(table.for_terminal().starts_with("x  y"));
    }
}

//! Rules for what stands beside the code: links that lead somewhere, decisions in order, migrations in pairs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Source};

/// Every relative link of a Markdown file leads to a file or a folder of the repository.
pub(super) fn links(source: &Source, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (number, line) in source.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in targets(line) {
            let path = target.split(['#', '?']).next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let resolved = resolve(&source.path, path);
            let leads = resolved.is_some_and(|resolved| {
                resolved.is_empty() || files.iter().any(|file| *file == resolved || file.starts_with(&format!("{resolved}/")))
            });
            if !leads {
                findings.push(source.finding(
                    number,
                    format!("link to `{target}` leads nowhere"),
                    "name a file of the repository, relative to this one",
                ));
            }
        }
    }
    findings
}

/// Decisions are `docs/adr/NNNN-title.md`, counted from 0001 without a gap or a double.
pub(super) fn decisions(files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut next = 1;
    for path in files.iter().filter(|path| path.starts_with("docs/adr/") && !path.ends_with("/README.md")) {
        let name = path.trim_start_matches("docs/adr/");
        let number = name
            .split_once('-')
            .filter(|(number, _)| number.len() == 4 && name.ends_with(".md"))
            .and_then(|(number, _)| number.parse::<u32>().ok());
        let problem = match number {
            None => "a decision without a number".to_owned(),
            Some(number) if number != next => format!("decision {number:04} where {next:04} comes next"),
            Some(_) => {
                next += 1;
                continue;
            }
        };
        findings.push(Finding { path: path.clone(), line: 1, problem, fix: format!("call it docs/adr/{next:04}-title.md") });
    }
    findings
}

/// Both databases have the same migrations: the same numbers and names, from 0001 without a gap.
pub(super) fn migrations(files: &[String]) -> Vec<Finding> {
    let mut by_name: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for path in files {
        let Some(rest) = path.strip_prefix("crates/store/migrations/") else { continue };
        if let Some((database, name)) = rest.split_once('/') {
            by_name.entry(name).or_default().insert(database);
        }
    }
    let mut findings = Vec::new();
    for (index, (name, databases)) in by_name.iter().enumerate() {
        for database in ["sqlite", "postgres"].into_iter().filter(|database| !databases.contains(database)) {
            findings.push(Finding {
                path: format!("crates/store/migrations/{database}/{name}"),
                line: 1,
                problem: "the other database has this migration and this one has not".to_owned(),
                fix: "write it for both; one that has nothing to do says so in a comment".to_owned(),
            });
        }
        let expected = format!("{:04}_", index + 1);
        if !name.starts_with(&expected) {
            findings.push(Finding {
                path: format!("crates/store/migrations/sqlite/{name}"),
                line: 1,
                problem: "migrations are counted from 0001 without a gap or a double".to_owned(),
                fix: format!("call it {expected}name.sql in both folders"),
            });
        }
    }
    findings
}

/// What stands in `](…)` of a line, outside of code spans, without a title.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    // Every other piece between backticks is code.
    for piece in line.split('`').step_by(2) {
        for after in piece.split("](").skip(1) {
            if let Some(target) = after.split([')', ' ']).next() {
                found.push(target.trim_matches(['<', '>']));
            }
        }
    }
    found
}

/// `path` as seen from the file `from`; `None` when it leaves the repository.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn files(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn links_lead_to_files_and_folders_of_the_repository() {
        let all = files(&["README.md", "docs/a.md", "docs/adr/0001-x.md"]);
        let text = "[a](a.md#top) [r](../README.md) [d](adr) [w](https://x.test/y) [s](#here)\n`[no](code.md)`\n```\n[no](fence.md)\n```\n";
        assert_eq!(links(&source("docs/b.md", text), &all), []);
        let broken = links(&source("docs/b.md", "x\n[gone](gone.md) [out](../../out.md)\n"), &all);
        assert_eq!(broken.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn links_around_code_spans_count_and_titles_do_not() {
        assert_eq!(targets("see [`planner`](src/planner.rs) and [b](b.md \"title\")"), ["src/planner.rs", "b.md"]);
        assert_eq!(targets("[a](one.md)[b](two.md)"), ["one.md", "two.md"]);
    }

    #[test]
    fn decisions_are_numbered_in_order() {
        assert_eq!(decisions(&files(&["docs/adr/0001-a.md", "docs/adr/0002-b.md", "docs/adr/README.md"])), []);
        assert_eq!(decisions(&files(&["docs/adr/0001-a.md", "docs/adr/0001-b.md"])).len(), 1);
        assert_eq!(decisions(&files(&["docs/adr/0001-a.md", "docs/adr/0003-b.md"])).len(), 1);
        assert_eq!(decisions(&files(&["docs/adr/idea.md"])).len(), 1);
    }

    #[test]
    fn migrations_come_in_pairs_and_in_order() {
        let pair = ["crates/store/migrations/postgres/0001_a.sql", "crates/store/migrations/sqlite/0001_a.sql"];
        assert_eq!(migrations(&files(&pair)), []);
        let alone = migrations(&files(&[pair[0], pair[1], "crates/store/migrations/sqlite/0002_b.sql"]));
        assert_eq!(alone.len(), 1);
        assert_eq!(alone[0].path, "crates/store/migrations/postgres/0002_b.sql");
        assert_eq!(
            migrations(&files(&["crates/store/migrations/postgres/0002_a.sql", "crates/store/migrations/sqlite/0002_a.sql"])).len(),
            1
        );
    }
}

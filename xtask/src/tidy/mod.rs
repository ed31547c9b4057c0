//! `cargo xtask tidy`: the rules of the house that no compiler knows, each with its reason and the way to fix it.
//!
//! A rule is a pure function from file texts to findings, so that it is tested on texts. Rules look at lines and not at a
//! syntax tree: quick, without dependencies, and good enough for a house that wants to pass.

use anyhow::{Context, Result};

use crate::repo;

mod direction;
mod documents;
mod rust_files;
mod text_files;

/// A file of the repository: its path from the root, and its text.
#[derive(Debug)]
struct Source {
    path: String,
    text: String,
}

/// A broken rule: where, what, and how to mend it.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    problem: String,
    fix: String,
}

/// Prints every finding; true when there is none.
pub(crate) fn run() -> Result<bool> {
    let files = repo::files()?;
    let sources = read(&files)?;
    let findings = check(&files, &sources);
    for finding in &findings {
        eprintln!("{}:{}: {}\n    fix: {}", finding.path, finding.line, finding.problem, finding.fix);
    }
    eprintln!("tidy: {} files, {} findings", files.len(), findings.len());
    Ok(findings.is_empty())
}

fn check(files: &[String], sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        if source.path.ends_with(".rs") {
            findings.extend(rust_files::check(source));
        }
        if source.path.ends_with("Cargo.toml") {
            findings.extend(direction::check(source));
        }
        if source.path.ends_with(".md") {
            findings.extend(documents::links(source, files));
        }
        findings.extend(text_files::check(source));
    }
    findings.extend(documents::decisions(files));
    findings.extend(documents::migrations(files));
    findings
}

/// Files that are text; certificates, pictures and the lock file are nobody's style.
fn read(files: &[String]) -> Result<Vec<Source>> {
    let root = repo::root()?;
    let mut sources = Vec::new();
    for path in files.iter().filter(|path| !path.ends_with("Cargo.lock")) {
        // A file that another program removes right now is not there any more, which breaks no rule.
        let Ok(bytes) = std::fs::read(root.join(path)).with_context(|| path.clone()) else { continue };
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path: path.clone(), text });
        }
    }
    Ok(sources)
}

impl Source {
    fn finding(&self, line: usize, problem: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, problem: problem.into(), fix: fix.into() }
    }

    /// Lines with their number from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The crate it belongs to (`store` of `crates/store/…`), if any.
    fn room(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }
}

#[cfg(test)]
fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy_in_its_own_tools() {
        let files = repo::files().unwrap();
        let sources = read(&files).unwrap();
        let own: Vec<Finding> = check(&files, &sources).into_iter().filter(|finding| finding.path.starts_with("xtask/")).collect();
        assert_eq!(own, []);
    }
}

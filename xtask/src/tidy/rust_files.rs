//! Rules for Rust files: an opening that says what the file is for, a length one can read, and each effect in its room.

use super::{Finding, Source};

const LONGEST: usize = 500;
const LONGEST_TEST: usize = 600;

/// Words that belong to certain rooms, and where to go instead.
struct Confined {
    words: &'static [&'static str],
    rooms: &'static [&'static str],
    fix: &'static str,
}

const CONFINED: [Confined; 3] = [
    Confined {
        words: &["sqlx::"],
        rooms: &["store"],
        fix: "only crates/store speaks SQL: give it a method there that says what is wanted",
    },
    Confined {
        words: &["axum::"],
        rooms: &["server"],
        fix: "only crates/server is an API: return a typed value or error and give it a route there",
    },
    Confined {
        words: &["StatusCode"],
        // Providers and the command line read statuses of other systems; they never choose one.
        rooms: &["server", "edge", "providers", "cli"],
        fix: "only the servers choose an HTTP status: return a typed error or outcome and map it there",
    },
];

/// What a pure crate cannot have: time, chance, environment, I/O, an executor.
const IMPURE: [&str; 12] = [
    "tokio",
    "async fn",
    "std::env",
    "std::fs",
    "std::process",
    "std::time::Instant",
    "SystemTime",
    "TcpStream",
    "UdpSocket",
    "Timestamp::now",
    "now_v7",
    "new_v4",
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let is_source = source.path.starts_with("xtask/") || source.room().is_some() && source.path.contains("/src/");
    let mut findings = Vec::new();
    if is_source {
        findings.extend(opening(source));
        findings.extend(confined(source));
    }
    findings.extend(length(source));
    if source.path.starts_with("crates/model/src/") {
        findings.extend(pure(source));
    }
    findings
}

fn opening(source: &Source) -> Option<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    (!first.starts_with("//! "))
        .then(|| source.finding(1, "does not open with `//!`", "open with `//!`: its purpose, its invariants, and what it does not do"))
}

fn length(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().count();
    let longest = if source.path.contains("/tests/") { LONGEST_TEST } else { LONGEST };
    (lines > longest).then(|| {
        source.finding(
            longest + 1,
            format!("{lines} lines, more than {longest}"),
            "one file, one idea: move the second idea to a file of its own",
        )
    })
}

fn confined(source: &Source) -> Vec<Finding> {
    let room = source.room().unwrap_or("xtask");
    let mut findings = Vec::new();
    for rule in CONFINED.iter().filter(|rule| !rule.rooms.contains(&room) && room != "xtask") {
        for (number, line) in source.lines() {
            if let Some(word) = rule.words.iter().find(|word| code(line).contains(**word)) {
                findings.push(source.finding(number, format!("`{word}` outside crates/{}", rule.rooms.join(" and crates/")), rule.fix));
            }
        }
    }
    findings
}

fn pure(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.lines() {
        if let Some(word) = IMPURE.iter().find(|word| code(line).contains(**word)) {
            findings.push(source.finding(
                number,
                format!("`{word}` in the pure crate"),
                "crates/model decides and does nothing: take the time, the entropy or the observation as a parameter",
            ));
        }
    }
    findings
}

/// The line without its comment. A `//` in a string cuts it short, which can only hide something, never accuse.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<(usize, String)> {
        check(&source(path, text)).into_iter().map(|finding| (finding.line, finding.problem)).collect()
    }

    #[test]
    fn a_file_says_first_what_it_is_for() {
        assert_eq!(problems("crates/store/src/a.rs", "use std::io;\n"), [(1, "does not open with `//!`".to_owned())]);
        assert!(problems("crates/store/src/a.rs", "//! Rows.\n").is_empty());
        assert!(problems("crates/store/tests/a.rs", "use std::io;\n").is_empty());
    }

    #[test]
    fn a_file_has_500_lines_at_most_and_a_test_600() {
        let of = |lines: usize| format!("//! x\n{}", "a\n".repeat(lines - 1));
        assert!(problems("crates/edge/src/a.rs", &of(500)).is_empty());
        assert_eq!(problems("crates/edge/src/a.rs", &of(501))[0].0, 501);
        assert!(problems("crates/edge/tests/a.rs", &of(600)).is_empty());
        assert_eq!(problems("crates/edge/tests/a.rs", &of(601)).len(), 1);
    }

    #[test]
    fn sql_stays_in_the_store_and_a_status_in_the_servers() {
        let sql = "//! x\nlet a = sqlx::query(\"\");\n// as sqlx::query does\n";
        assert_eq!(problems("crates/engine/src/a.rs", sql).len(), 1);
        assert_eq!(problems("crates/engine/src/a.rs", sql)[0].0, 2);
        assert!(problems("crates/store/src/a.rs", sql).is_empty());
        let status = "//! x\nuse http::StatusCode;\n";
        assert_eq!(problems("crates/engine/src/a.rs", status).len(), 1);
        assert!(problems("crates/edge/src/a.rs", status).is_empty());
        assert_eq!(problems("crates/edge/src/a.rs", "//! x\nuse axum::Router;\n").len(), 1);
        assert!(problems("crates/server/src/a.rs", status).is_empty());
    }

    #[test]
    fn the_model_is_pure() {
        for impure in ["let now = Timestamp::now();", "use std::env;", "tokio::spawn(x);", "pub async fn look() {}"] {
            assert_eq!(problems("crates/model/src/a.rs", &format!("//! x\n{impure}\n")).len(), 1, "{impure}");
        }
        assert!(problems("crates/model/src/a.rs", "//! No tokio here.\nfn next(now: Timestamp) {}\n").is_empty());
    }
}

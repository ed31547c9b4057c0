//! Which crate may know which: `cli → server → engine → {store, providers, edge} → model`, and nothing points up.

use super::{Finding, Source};

/// Each room with what it may depend on. A room that is not here is new, and its place has to be decided first.
const MAY_KNOW: [(&str, &[&str]); 8] = [
    ("model", &[]),
    ("store", &["model"]),
    ("providers", &["model"]),
    ("edge", &["model"]),
    ("engine", &["model", "store", "providers", "edge"]),
    ("server", &["model", "store", "engine"]),
    ("cli", &["model", "store", "providers", "edge", "engine", "server"]),
    ("testkit", &["model"]),
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let Some(room) = source.room() else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let Some((_, may_know)) = MAY_KNOW.iter().find(|(name, _)| *name == room) else {
        return vec![source.finding(
            1,
            format!("crates/{room} has no place in the house"),
            "give it one in xtask/src/tidy/direction.rs and in ARCHITECTURE.md",
        )];
    };
    if !source.text.contains("[lints]\nworkspace = true") {
        findings.push(source.finding(1, "does not take the workspace's lints", "add `[lints]` with `workspace = true`"));
    }
    let mut section = "";
    for (number, line) in source.lines() {
        if line.starts_with('[') {
            section = line.trim().trim_matches(['[', ']']);
        }
        let Some(known) = dependency(section, line) else { continue };
        let in_tests = section.starts_with("dev-dependencies");
        // A test may put together what lies below, to test a room over real parts.
        let fits = may_know.contains(&known) || (in_tests && (known == "testkit" || is_below(known, room)));
        if !fits {
            findings.push(source.finding(
                number,
                format!("crates/{room} must not know crates/{known}"),
                "nothing points up: move what is needed down to the crate that both may know",
            ));
        }
    }
    findings
}

/// Whether `room` rests on `known`, directly or through others.
fn is_below(known: &str, room: &str) -> bool {
    let under = MAY_KNOW.iter().find(|(name, _)| *name == room).map_or(&[] as &[&str], |(_, under)| under);
    under.iter().any(|next| *next == known || is_below(known, next))
}

/// The room that a line of a dependency section names, as a key or as a section of its own.
fn dependency<'a>(section: &'a str, line: &'a str) -> Option<&'a str> {
    let (kind, of_its_own) = section.split_once('.').map_or((section, None), |(kind, name)| (kind, Some(name)));
    if !matches!(kind, "dependencies" | "dev-dependencies" | "build-dependencies") {
        return None;
    }
    let name = match of_its_own {
        // The header itself is the line to point at; the keys below it are options.
        Some(name) => line.starts_with('[').then_some(name)?,
        None => line.split(['.', '=', ' ']).next()?,
    };
    name.strip_prefix("certwright-")
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn problems(room: &str, text: &str) -> Vec<(usize, String)> {
        let text = format!("[lints]\nworkspace = true\n{text}");
        check(&source(&format!("crates/{room}/Cargo.toml"), &text)).into_iter().map(|finding| (finding.line, finding.problem)).collect()
    }

    #[test]
    fn nothing_points_up() {
        assert!(problems("engine", "[dependencies]\ncertwright-store.workspace = true\n").is_empty());
        let up = problems("store", "[dependencies]\ncertwright-model.workspace = true\ncertwright-engine = { path = \"x\" }\n");
        assert_eq!(up, [(5, "crates/store must not know crates/engine".to_owned())]);
        assert_eq!(problems("edge", "[dependencies.certwright-store]\nworkspace = true\n").len(), 1);
    }

    #[test]
    fn the_testkit_is_for_tests_only() {
        assert!(problems("store", "[dev-dependencies]\ncertwright-testkit.workspace = true\n").is_empty());
        assert_eq!(problems("store", "[dependencies]\ncertwright-testkit.workspace = true\n").len(), 1);
        assert!(problems("server", "[dev-dependencies]\ncertwright-edge.workspace = true\n").is_empty());
        assert_eq!(problems("server", "[dependencies]\ncertwright-edge.workspace = true\n").len(), 1);
        assert_eq!(problems("edge", "[dev-dependencies]\ncertwright-engine.workspace = true\n").len(), 1);
    }

    #[test]
    fn a_new_room_needs_a_place_and_every_room_the_lints() {
        assert_eq!(problems("attic", "").len(), 1);
        assert_eq!(check(&source("crates/model/Cargo.toml", "[package]\n")).len(), 1);
    }
}

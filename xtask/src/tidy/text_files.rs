//! Rules for every text file: nothing put off, nothing of one machine.

use super::{Finding, Source};

/// The files that name the words because they forbid them.
const OF_THE_RULES: &str = "xtask/src/tidy/";

/// Work put off into the code, where nobody looks for it.
const PUT_OFF: [&str; 6] = ["todo!", "unimplemented!", "FIXME", "TODO", "XXX:", "#[ignore"];

/// Folders of one machine. A path after a letter, a brace or a dot is part of something else (`https://x.test/home/`, `{base}/root/`).
const OF_ONE_MACHINE: [&str; 3] = ["/root/", "/home/", "/Users/"];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    if source.path.starts_with(OF_THE_RULES) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in source.lines() {
        if is_code(&source.path)
            && let Some(word) = PUT_OFF.iter().find(|word| line.contains(**word))
        {
            findings.push(source.finding(number, format!("`{word}`"), "do it now, or open an issue and say in prose what is not there"));
        }
        if let Some(folder) = OF_ONE_MACHINE.iter().find(|folder| stands_alone(line, folder)) {
            findings.push(source.finding(
                number,
                format!("a path of one machine (`{folder}…`)"),
                "take it from the environment, a parameter, or write `~`",
            ));
        }
    }
    findings
}

/// Documents may speak of the words; code may not use them.
fn is_code(path: &str) -> bool {
    [".rs", ".sql", ".sh", ".toml", ".html", ".js", ".css"].iter().any(|ending| path.ends_with(ending)) || path.starts_with(".ci/")
}

fn stands_alone(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || "}).-_~/>*".contains(before)))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&source(path, text)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn nothing_is_put_off_in_code() {
        assert_eq!(lines("crates/a/src/a.rs", "fn a() {\n    todo!()\n}\n// FIXME later\n#[ignore = \"slow\"]\n"), [2, 4, 5]);
        assert_eq!(lines("CONTRIBUTING.md", "no `todo!`\n"), [] as [usize; 0]);
    }

    #[test]
    fn paths_of_one_machine_are_found_and_parts_of_others_are_not() {
        assert_eq!(lines("docs/a.md", "in /home/me/x\n`/root/x`\n"), [1, 2]);
        assert_eq!(lines("docs/a.md", "https://x.test/home/page\n{base}/root/0\n~/root/x\n"), [] as [usize; 0]);
    }
}

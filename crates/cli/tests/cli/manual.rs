//! Help and the manual: every command has an example, and the written pages are those of the code.

use crate::support::Ground;
use std::path::Path;

#[test]
fn every_command_has_an_example() {
    let ground = Ground::new();
    let mut walked = 0;
    walk(&ground, &mut Vec::new(), &mut walked);
    assert!(walked > 40, "only {walked} commands were found");
}

fn walk(ground: &Ground, path: &mut Vec<String>, walked: &mut usize) {
    let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = ground.run(&args).good();
    *walked += 1;
    let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  certwright ")).collect();
    assert!(!examples.is_empty(), "{path:?} has no example:\n{help}");
    let spelled = ["certwright"].into_iter().chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    assert!(examples.iter().all(|line| line.trim().starts_with(&spelled)), "{path:?} shows another command:\n{help}");
    for name in subcommands(&help) {
        path.push(name);
        walk(ground, path, walked);
        path.pop();
    }
}

fn subcommands(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("Commands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_written_pages_are_those_of_the_code() {
    let ground = Ground::new();
    for page in ["configuration", "cli"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/{page}.md"));
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        let generated = ground.run(&["docs", page]).good();
        assert!(written == generated, "docs/{page}.md is old; write it with: cargo run -- docs {page} > docs/{page}.md");
    }
}

#[test]
fn completions_are_written_for_every_shell() {
    let ground = Ground::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(ground.run(&["completions", shell]).good().contains("certwright"), "{shell}");
    }
}

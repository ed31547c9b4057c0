//! The pages of the manual that are written from the code.

use crate::args::{Cli, Page};
use crate::settings;
use clap::{Command, CommandFactory};
use std::fmt::Write;

const HEAD: &str = "# Command line

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage. Every listing has
`--output table|json`. Commands that change something show the steps and stay up to 30 seconds for the outcome (`--wait 2m`,
`--no-wait`); that it is still pending then is no error.

Commands that call a server find it, and the token for it, in `CERTWRIGHT_URL` and `CERTWRIGHT_TOKEN`, else in the data folder
(`--data-dir DIR`, `CERTWRIGHT_DATA_DIR`, `./certwright-data`).

This page is written by `certwright docs cli`; a test compares the two. `certwright COMMAND --help` tells every option.
";

pub(crate) fn page(page: Page) -> String {
    match page {
        Page::Configuration => settings::reference(),
        Page::Cli => command_line(),
    }
}

fn command_line() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = HEAD.to_owned();
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        describe(&mut text, command, 2);
    }
    text
}

fn describe(text: &mut String, command: &Command, level: usize) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples: String = example.lines().filter_map(|line| line.strip_prefix("  ")).map(|line| format!("{line}\n")).collect();
    // Writing to a string does not fail.
    let _ = write!(text, "\n{} `{name}`\n\n{about}.\n\n```sh\n{examples}```\n", "#".repeat(level.min(4)));
    let options: Vec<String> =
        command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_global_set()).filter_map(option).collect();
    if !options.is_empty() {
        let _ = writeln!(text, "\n{}", options.join("\n"));
    }
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help") {
        describe(text, inner, level + 1);
    }
}

fn option(arg: &clap::Arg) -> Option<String> {
    if matches!(arg.get_id().as_str(), "help" | "version") {
        return None;
    }
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<&str> = arg.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect();
    let takes = arg.get_action().takes_values() && !values.is_empty();
    let name = match arg.get_long() {
        Some(long) if takes => format!("--{long} {}", values.join(" ")),
        Some(long) => format!("--{long}"),
        None => values.join(" "),
    };
    Some(format!("- `{name}`{}{help}", if help.is_empty() { "" } else { ": " }))
}

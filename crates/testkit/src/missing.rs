//! One form for "this could not run here": `not run: WHAT (WHY)` on standard error, which `cargo xtask test` collects.
//!
//! A test that lacks a peer says so and returns; it neither fails nor hides. Tests run under a harness that captures output,
//! so `cargo xtask test` also names the peers that it could not have.

use std::path::PathBuf;

/// Says that `what` did not run and why. Call it right before the early return.
pub fn not_run(what: &str, why: &str) {
    eprintln!("{}", line(what, why));
}

/// As `program`; when there is none it says what does not run.
pub fn program_or_say(name: &str, what: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        not_run(what, &format!("the program `{name}` is not there"));
    }
    found
}

/// Where the program `name` is: on PATH, where Debian keeps servers, or in CERTWRIGHT_TEST_BIN_DIR, where `cargo xtask test` builds
/// what the distribution has not (or has older: the distribution's comes first).
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::var_os("CERTWRIGHT_TEST_BIN_DIR").map(PathBuf::from);
    std::env::split_paths(&path)
        // A user's PATH on Debian has no sbin, where nginx is.
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .chain(own)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

fn line(what: &str, why: &str) -> String {
    format!("not run: {what} ({why})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_and_why_in_one_form() {
        assert_eq!(line("PostgreSQL", "no server"), "not run: PostgreSQL (no server)");
    }

    #[test]
    fn finds_a_program_that_is_there_and_none_that_is_not() {
        assert!(program("sh").is_some());
        assert!(program("certwright-no-such-program").is_none());
    }
}

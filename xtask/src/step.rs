//! Steps: each has a name, is timed, tells that it lives while it is silent, and stands in the table at the end.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use certwright_testkit::process::Process;

const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Done {
    name: String,
    elapsed: Duration,
    ok: bool,
}

/// The steps so far and what could not be had.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<Done>,
    missing: Vec<String>,
}

impl Steps {
    /// Runs one step. A failure is printed, noted and does not stop the next ones; `None` then.
    pub(crate) fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        eprintln!("==> {name}");
        let start = Instant::now();
        let result = with_signs_of_life(name, work);
        let elapsed = start.elapsed();
        match &result {
            Ok(_) => eprintln!("    {name}: ok, {:.1} s", elapsed.as_secs_f64()),
            Err(error) => eprintln!("    {name}: FAILED, {:.1} s: {error:#}", elapsed.as_secs_f64()),
        }
        self.done.push(Done { name: name.to_owned(), elapsed, ok: result.is_ok() });
        result.ok()
    }

    /// Notes a part that is not there, and what therefore does not run.
    pub(crate) fn missing(&mut self, line: String) {
        eprintln!("    {line}");
        if !self.missing.contains(&line) {
            self.missing.push(line);
        }
    }

    pub(crate) fn all_ok(&self) -> bool {
        self.done.iter().all(|step| step.ok)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("\n{:<32} {:>8}  result\n", "step", "seconds");
        for step in &self.done {
            let result = if step.ok { "ok" } else { "FAILED" };
            let _ = writeln!(text, "{:<32} {:>8.1}  {result}", step.name, step.elapsed.as_secs_f64());
        }
        if !self.missing.is_empty() {
            text.push_str("\ncould not be had here:\n");
            for line in &self.missing {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}

/// A program whose output is ours, in a group that dies with us.
pub(crate) fn passing_through(command: Command) -> Result<()> {
    let shown = shown(&command);
    let status = Process::start_as_is(command)?.wait()?;
    ensure!(status.success(), "`{shown}` ended with {status}");
    Ok(())
}

/// As a person would type it: the program without its folder, and its words.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words: Vec<_> = std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// A program whose standard output goes through `line` and whose errors are ours. True when it ended well.
pub(crate) fn line_by_line(mut command: Command, mut line: impl FnMut(&str)) -> Result<bool> {
    use std::io::{BufRead, BufReader};
    command.stdout(Stdio::piped());
    let mut process = Process::start_as_is(command)?;
    if let Some(output) = process.take_output() {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        // Not `lines()`: a test may print what is not UTF-8.
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
            bytes.clear();
        }
    }
    Ok(process.wait()?.success())
}

fn with_signs_of_life<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let (stop, stopped) = channel::<()>();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            while stopped.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("    … {name}: {} s", start.elapsed().as_secs());
            }
        });
        let result = work();
        drop(stop);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_in_the_table_and_the_next_one_runs() {
        let mut steps = Steps::default();
        assert_eq!(steps.run("first", || Err::<(), _>(anyhow::anyhow!("broken"))), None);
        assert_eq!(steps.run("second", || Ok(2)), Some(2));
        assert!(!steps.all_ok());
        let table = steps.table();
        assert!(table.contains("FAILED") && table.contains("second"), "{table}");
    }

    #[test]
    fn lines_of_a_program_arrive_one_by_one_with_its_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'a\\nb'; exit 1"]);
        let mut seen = Vec::new();
        assert!(!line_by_line(command, |line| seen.push(line.to_owned())).unwrap());
        assert_eq!(seen, ["a", "b"]);
    }
}

//! A program under test: its own process group, its output in a file, killed with all its children when the guard goes.
//!
//! Signals go through the shell's `kill`, because std has no safe call for them; a test sends few. Waiting blocks the
//! thread (peers answer within tens of milliseconds); use a multi-threaded runtime when the test itself serves the peer.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::reaper;

const POLL: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Hangup,
    Interrupt,
    Terminate,
    Kill,
    Stop,
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Hangup => "HUP",
            Signal::Interrupt => "INT",
            Signal::Terminate => "TERM",
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        }
    }
}

/// A running program. Dropping it kills the whole group.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    log: Option<PathBuf>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` in a group of its own with no standard input and both outputs appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Result<Process> {
        let output = File::options().create(true).append(true).open(log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone()?;
        command.stdout(output).stderr(errors);
        let mut process = Process::start_as_is(command)?;
        process.log = Some(log.to_owned());
        Ok(process)
    }

    /// The same with the outputs that `command` names itself.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_as_is(mut command: Command) -> Result<Process> {
        let what = Path::new(command.get_program()).file_name().map_or_else(OsString::new, OsString::from).to_string_lossy().into_owned();
        command.process_group(0).stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {what}"))?;
        reaper::note_group(child.id());
        Ok(Process { what, child, log: None, ended: None })
    }

    /// Its standard output, once, when it was started with a pipe for it.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, both outputs together.
    pub fn log(&self) -> String {
        let bytes = self.log.as_ref().and_then(|log| std::fs::read(log).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until something accepts TCP connections on `address`.
    ///
    /// # Errors
    /// When the program ends or `within` passes first; the error carries the end of its log.
    pub fn wait_listening(&mut self, address: SocketAddr, within: Duration) -> Result<()> {
        let what = format!("listens on {address}");
        self.wait_until(&what, within, || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
    }

    /// Waits until `ready` says so, as `wait_listening` does.
    ///
    /// # Errors
    /// As above.
    pub fn wait_until(&mut self, what: &str, within: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited()? {
                bail!("{} ended ({status}) before it {what}\n{}", self.what, self.log_tail());
            }
            if ready() {
                return Ok(());
            }
            ensure!(start.elapsed() < within, "{} did not get so far in {within:?}: {what}\n{}", self.what, self.log_tail());
            sleep(POLL);
        }
    }

    /// Sends a signal to the whole group. One that has ended already takes none, which is no error.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_some() {
            return Ok(());
        }
        signal_group(self.child.id(), signal)
    }

    /// Freezes the group: it keeps its sockets and answers nothing.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::Stop)
    }

    /// # Errors
    /// When the signal cannot be sent.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::Continue)
    }

    /// Kills the group and waits for the program to be gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        // The group and not the program alone, even when the program has ended: its workers may have stayed.
        let sent = signal_group(self.child.id(), Signal::Kill);
        if self.exited()?.is_none() {
            sent?;
        }
        self.wait()
    }

    /// Sends a signal to the program alone and not to its children.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal_leader(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_some() { Ok(()) } else { send(&self.child.id().to_string(), signal) }
    }

    /// Asks with `signal` and kills what is left after `within`.
    ///
    /// # Errors
    /// When it can be neither signalled nor waited for.
    pub fn stop(&mut self, signal: Signal, within: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        self.signal(signal)?;
        while start.elapsed() < within {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            sleep(POLL);
        }
        self.kill()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let status = self.child.wait()?;
        self.ended = Some(status);
        Ok(status)
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to be told; the reaper has the group until here.
        let _ = self.kill();
        reaper::forget_group(self.child.id());
    }
}

/// True when we run as root, where servers want a user of their own.
pub fn we_are_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|own| own.uid() == 0)
}

/// True when nothing listens on `address`. Reads by trying, so only for ports of this test.
pub fn is_closed(address: SocketAddr) -> bool {
    matches!(TcpStream::connect_timeout(&address, Duration::from_secs(1)), Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

fn signal_group(group: u32, signal: Signal) -> Result<()> {
    send(&format!("-{group}"), signal)
}

fn send(target: &str, signal: Signal) -> Result<()> {
    let line = format!("kill -s {} -- {target}", signal.name());
    let output = Command::new("sh").args(["-c", &line]).output().context("cannot run sh")?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn shell(script: &str, log: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command, log).unwrap()
    }

    fn state_of(id: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }

    #[test]
    fn dropping_the_guard_kills_children_of_the_program_too() {
        let scratch = Scratch::new("process").unwrap();
        let log = scratch.path().join("log");
        let mut process = shell("sleep 60 & echo $!; wait", &log);
        process.wait_until("said its child", Duration::from_secs(5), || std::fs::read_to_string(&log).unwrap().ends_with('\n')).unwrap();
        let grandchild: u32 = process.log().trim().parse().unwrap();
        assert!(state_of(grandchild).is_some());
        drop(process);
        let gone = (0..500).any(|_| {
            sleep(POLL);
            matches!(state_of(grandchild), None | Some('Z'))
        });
        assert!(gone);
    }

    #[test]
    fn a_program_that_ends_early_is_told_with_its_last_words() {
        let scratch = Scratch::new("process").unwrap();
        let mut process = shell("echo no such option >&2; exit 3", &scratch.path().join("log"));
        let error = process.wait_listening(crate::ports::free_address(), Duration::from_secs(10)).unwrap_err().to_string();
        assert!(error.contains("no such option"), "{error}");
        assert_eq!(process.wait().unwrap().code(), Some(3));
    }

    #[test]
    fn a_paused_program_is_stopped_and_goes_on_when_resumed() {
        let scratch = Scratch::new("process").unwrap();
        // One process: a shell that is stopped between vfork and exec of a child waits for it, and is never seen stopped.
        let mut process = shell("exec sleep 60", &scratch.path().join("log"));
        process.pause().unwrap();
        let id = process.id();
        process.wait_until("stopped", Duration::from_secs(30), || state_of(id) == Some('T')).unwrap();
        process.resume().unwrap();
        process.wait_until("went on", Duration::from_secs(30), || state_of(id) == Some('S')).unwrap();
        assert!(!process.stop(Signal::Terminate, Duration::from_secs(30)).unwrap().success());
    }
}

//! A real nginx in the foreground with a given configuration, in a folder of its own.
//!
//! The frame (no daemon, logs to the process log, scratch paths) is ours; everything inside `http { … }` is the test's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::missing::program;
use crate::process::{Process, Signal, we_are_root};
use crate::scratch::Scratch;

/// Ten thousand server blocks take nginx several seconds.
const START_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Nginx {
    program: PathBuf,
    scratch: Scratch,
    process: Process,
}

impl Nginx {
    pub fn is_installed() -> bool {
        program("nginx").is_some()
    }

    /// Starts it with one worker and `http` inside the `http` block, and waits until it listens on `listen`.
    ///
    /// # Errors
    /// When nginx is not installed, finds the configuration wrong, or does not come up.
    pub fn start(http: &str, listen: SocketAddr) -> Result<Nginx> {
        Nginx::start_in(Scratch::new("nginx")?, http, listen)
    }

    /// The same in a folder that already holds what the configuration names, certificates for instance.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_in(scratch: Scratch, http: &str, listen: SocketAddr) -> Result<Nginx> {
        let program = program("nginx").context("the program `nginx` is not there (Debian: nginx)")?;
        let file = write_config(&scratch, http)?;
        let mut command = invocation(&program, &scratch);
        command.arg("-c").arg(file);
        let mut process = Process::start(command, &scratch.path().join("log"))?;
        process.wait_listening(listen, START_WITHIN)?;
        Ok(Nginx { program, scratch, process })
    }

    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Checks the new `http` block as an operator would (`nginx -t`) and reloads; a wrong one leaves the old one running.
    ///
    /// # Errors
    /// With what nginx says is wrong.
    pub fn reload(&mut self, http: &str) -> Result<()> {
        let file = write_config(&self.scratch, http)?;
        let check = invocation(&self.program, &self.scratch).arg("-t").arg("-c").arg(file).output().context("cannot run nginx -t")?;
        ensure!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr).trim());
        // Not to the group: workers take a hang-up as a wish to end.
        self.process.signal_leader(Signal::Hangup)
    }
}

fn invocation(program: &Path, scratch: &Scratch) -> Command {
    let mut command = Command::new(program);
    command.arg("-p").arg(scratch.path()).args(["-e", "stderr"]);
    command
}

fn write_config(scratch: &Scratch, http: &str) -> Result<PathBuf> {
    let folder = scratch.path().display();
    // Workers keep the master's user: the folder belongs to whoever runs the tests, and root's is closed to www-data.
    let user = if we_are_root() { "user root;" } else { "" };
    scratch.write(
        "nginx.conf",
        format!(
            "daemon off; {user}\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr notice;\n\
             worker_rlimit_nofile 8192;\nevents {{ worker_connections 4096; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  \
             fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n{http}\n}}\n"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::missing::not_run;
    use crate::ports::free_address;

    fn body(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split("\r\n\r\n").nth(1).unwrap().to_owned()
    }

    #[test]
    fn serves_reloads_and_refuses_a_wrong_configuration_without_stopping() {
        if !Nginx::is_installed() {
            return not_run("nginx", "the program `nginx` is not there");
        }
        let address = free_address();
        let server = |text: &str| format!("server {{ listen {address}; return 200 {text}; }}");
        let mut nginx = Nginx::start(&server("one"), address).unwrap();
        assert_eq!(body(address), "one");
        assert!(nginx.reload("server { nonsense }").is_err());
        assert_eq!(body(address), "one");
        nginx.reload(&server("two")).unwrap();
        nginx.process().wait_until("serves the new configuration", Duration::from_secs(10), || body(address) == "two").unwrap();
    }
}

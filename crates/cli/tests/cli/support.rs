//! Runs the binary in a scratch folder, without this machine's settings.

use certwright_testkit::scratch::Scratch;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const FREE_PORTS: [&str; 8] =
    ["--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];

/// A folder to run in.
pub(crate) struct Ground {
    pub(crate) scratch: Scratch,
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The standard output of a run that has to succeed.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.good()).unwrap()
    }

    /// The standard error of a run that has to fail with this code.
    pub(crate) fn bad(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl Ground {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self { scratch: Scratch::new("cli").unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwright"));
        for (name, _) in std::env::vars_os() {
            let ours =
                name.to_str().is_some_and(|name| name.starts_with("CERT") || name.starts_with("TLS_PROBE") || name == "DATABASE_URL");
            if ours {
                command.env_remove(name);
            }
        }
        command.args(args).current_dir(self.scratch.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::new(self.command(args).output().unwrap())
    }

    /// A site's folder with one page.
    pub(crate) fn folder(&self, page: &str) -> String {
        std::fs::create_dir_all(self.path("public/deep")).unwrap();
        std::fs::write(self.path("public/index.html"), page).unwrap();
        std::fs::write(self.path("public/deep/a.txt"), "a").unwrap();
        "public".into()
    }

    /// `serve` on free ports with the default data folder.
    pub(crate) fn serve(&self, more: &[&str]) -> Server {
        self.serve_with(more, &[])
    }

    pub(crate) fn serve_with(&self, more: &[&str], variables: &[(&str, &str)]) -> Server {
        let args: Vec<&str> = FREE_PORTS[2..].iter().chain(more).copied().collect();
        self.serve_on(&args, variables)
    }

    /// The API and metrics on free ports, everything else as `args` say.
    pub(crate) fn serve_on(&self, args: &[&str], variables: &[(&str, &str)]) -> Server {
        let own = ["serve", "--api", "127.0.0.1:0", "--set", "base_domain=sites.localhost"];
        let metrics: &[&str] = if args.contains(&"--metrics") { &[] } else { &FREE_PORTS[6..] };
        let args: Vec<&str> = own.iter().chain(metrics).chain(args).copied().collect();
        let mut command = self.command(&args);
        command.envs(variables.iter().copied());
        Server::start(command, &self.path("certwright-data"), &self.path("serve.out"))
    }
}

/// A running `serve` or `demo`; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) data_dir: PathBuf,
    out: PathBuf,
}

impl Server {
    /// Returns when it has said where it listens.
    pub(crate) fn start(mut command: Command, data_dir: &Path, out: &Path) -> Self {
        let file = std::fs::File::create(out).unwrap();
        let log = std::fs::File::create(out.with_extension("err")).unwrap();
        let child = command.stdout(file).stderr(log).spawn().unwrap();
        let mut server = Self { child, data_dir: data_dir.to_owned(), out: out.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        while !server.said().contains("token ") {
            assert!(server.child.try_wait().unwrap().is_none() && Instant::now() < deadline, "it did not start: {}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.out.with_extension("err")).unwrap_or_default()
    }

    pub(crate) fn url(&self) -> String {
        let server: Value = serde_json::from_slice(&std::fs::read(self.data_dir.join("server.json")).unwrap()).unwrap();
        server["url"].as_str().unwrap().to_owned()
    }

    /// What the line that starts with `name` says after the word `after`.
    pub(crate) fn address(&self, after: &str) -> SocketAddr {
        let said = self.said();
        let rest = said.split_once(after).unwrap_or_else(|| panic!("{said}")).1;
        rest.trim_start().split([',', ' ', '\n']).next().unwrap().parse().unwrap()
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.address("https on ")
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([format!("-{name}"), id]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a visitor gets who trusts this root and nothing else, and finds the name at the edge.
pub(crate) fn visit(host: &str, edge: SocketAddr, root_pem: &[u8]) -> Result<(u16, String), reqwest::Error> {
    let root = reqwest::Certificate::from_pem(root_pem).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).resolve(host, edge).build().unwrap();
    let url = format!("https://{host}:{}/", edge.port());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let response = client.get(url).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    })
}

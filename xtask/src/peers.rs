//! The programs that the tests run against: which there are, in which version, and how to get those that are not.
//!
//! Debian packages are installed only as root; their services are kept from starting, because a test must not put a web
//! server on port 80 of somebody's machine. The newest Pebble is built with Go into the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use certwright_testkit::missing::program;
use certwright_testkit::postgres::Cluster;
use certwright_testkit::process::we_are_root;

use crate::repo;
use crate::step::{Steps, passing_through};

/// A Debian package, how to see that it is there, and what does not run without it.
struct Package {
    name: &'static str,
    is_there: fn() -> bool,
    version: &'static [&'static str],
    without: &'static str,
}

const PACKAGES: [Package; 4] = [
    Package {
        name: "pebble",
        is_there: || program("pebble").is_some() && program("pebble-challtestsrv").is_some(),
        version: &["dpkg-query", "-W", "-f=${Version}", "pebble"],
        without: "everything against a real ACME CA",
    },
    Package { name: "caddy", is_there: || program("caddy").is_some(), version: &["caddy", "version"], without: "comparisons with Caddy" },
    Package {
        name: "nginx",
        is_there: || program("nginx").is_some(),
        version: &["nginx", "-v"],
        without: "tests and comparisons with nginx",
    },
    Package {
        name: "postgresql",
        is_there: Cluster::is_installed,
        version: &["psql", "--version"],
        without: "the PostgreSQL half of every test",
    },
];

const NEWEST_PEBBLE: &str = "github.com/letsencrypt/pebble/v2@latest";

/// `cargo xtask peers`.
pub(crate) fn print() -> Result<bool> {
    for package in &PACKAGES {
        let state = if (package.is_there)() {
            version(package.version).unwrap_or_else(|| "there".to_owned())
        } else {
            format!("missing, so without: {}", package.without)
        };
        println!("{:<14} {state}", package.name);
    }
    let pebble = newest_pebble()?;
    let state = match (pebble.is_file(), go()) {
        (true, Some(go)) => module_version(&go, &pebble).unwrap_or_else(|| "there".to_owned()),
        (true, None) => "there".to_owned(),
        (false, Some(_)) => "not built yet; `cargo xtask test` builds it".to_owned(),
        (false, None) => "missing (there is no Go to build it with), so without: ACME renewal information and profiles".to_owned(),
    };
    println!("{:<14} {state}", "newest pebble");
    Ok(true)
}

/// Where the newest Pebble is when it has been built.
pub(crate) fn newest_pebble() -> Result<PathBuf> {
    Ok(bin_folder()?.join("pebble-newest"))
}

/// The folder for programs that were built here.
pub(crate) fn bin_folder() -> Result<PathBuf> {
    Ok(repo::cache()?.join("bin"))
}

/// Gets what is missing and may be had, and names the rest.
pub(crate) fn provide(steps: &mut Steps, install: bool) {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !(package.is_there)()).collect();
    let apt = program("apt-get");
    if !missing.is_empty() && install && we_are_root() && apt.is_some() {
        let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
        steps.run(&format!("install {}", names.join(" ")), || install_packages(&names));
    }
    for package in missing.iter().filter(|package| !(package.is_there)()) {
        let why = match (install, we_are_root(), apt.is_some()) {
            (false, ..) => "--no-install".to_owned(),
            (_, false, true) => format!("not root; `apt-get install {}` gets it", package.name),
            (_, _, false) => "there is no apt-get".to_owned(),
            _ => "apt-get could not install it".to_owned(),
        };
        steps.missing(format!("not run: {} ({}: {why})", package.without, package.name));
    }
    provide_newest_pebble(steps, install);
}

fn provide_newest_pebble(steps: &mut Steps, install: bool) {
    let built = newest_pebble().map(|pebble| pebble.is_file()).unwrap_or_default();
    if built {
        return;
    }
    let why = match (install, go()) {
        (false, _) => "--no-install",
        (true, None) => "there is no Go to build it with",
        (true, Some(go)) => match steps.run("build the newest Pebble", || build_newest_pebble(&go)) {
            Some(()) => return,
            None => "it could not be built",
        },
    };
    steps.missing(format!("not run: ACME renewal information and profiles (newest Pebble: {why})"));
}

fn install_packages(names: &[&str]) -> Result<()> {
    apt(&["update", "-q"])?;
    let all_at_once: Vec<&str> = ["install", "-qy", "--no-install-recommends"].into_iter().chain(names.iter().copied()).collect();
    if apt(&all_at_once).is_ok() {
        return Ok(());
    }
    // One that this distribution does not have must not cost the others.
    let failed: Vec<&str> =
        names.iter().copied().filter(|name| apt(&["install", "-qy", "--no-install-recommends", name]).is_err()).collect();
    ensure!(failed.is_empty(), "apt-get could not install {}", failed.join(", "));
    Ok(())
}

/// Runs apt-get with services held back: a policy file that is there for this one call only, and never replaces one.
fn apt(arguments: &[&str]) -> Result<()> {
    const HELD_BACK: &str = "policy=/usr/sbin/policy-rc.d\n\
        if [ ! -e $policy ]; then trap 'rm -f $policy' EXIT; trap 'exit 130' INT TERM; printf '#!/bin/sh\\nexit 101\\n' >$policy; chmod +x $policy; fi\n\
        apt-get \"$@\" >&2";
    let mut command = Command::new("sh");
    command.args(["-c", HELD_BACK, "apt-get"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    passing_through(command)
}

/// Its own module, copied so that it can be changed, and built.
fn build_newest_pebble(go: &Path) -> Result<()> {
    let bin = bin_folder()?;
    std::fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
    let mut download = go_command(go)?;
    let said = download.args(["mod", "download", "-json", NEWEST_PEBBLE]).current_dir(&bin).output().context("cannot run go")?;
    let module: serde_json::Value = serde_json::from_slice(&said.stdout).context("`go mod download` said nothing that can be read")?;
    let folder = module["Dir"].as_str().with_context(|| format!("the module cannot be had: {}", module["Error"]))?;
    let copy = bin.join(format!("pebble-source-{}", std::process::id()));
    copy_folder(Path::new(folder), &copy)?;
    let built = mend_lock_order(&copy.join("db/memorystore.go")).and_then(|()| {
        let mut build = go_command(go)?;
        build.args(["build", "-o", "pebble-newest", "./cmd/pebble"]).current_dir(&copy);
        passing_through(build)?;
        // Whole, or not there.
        std::fs::rename(copy.join("pebble-newest"), newest_pebble()?).context("cannot put the newest Pebble into its place")
    });
    let _ = std::fs::remove_dir_all(&copy);
    built
}

fn go_command(go: &Path) -> Result<Command> {
    let mut command = Command::new(go);
    command.env("GOFLAGS", "-modcacherw");
    if std::env::var_os("HOME").is_none() {
        // Go wants a home only for its caches.
        command.env("GOPATH", repo::cache()?.join("go")).env("GOCACHE", repo::cache()?.join("go-build"));
    }
    Ok(command)
}

/// Pebble (2.4 to 2.10 at least) takes the locks of orders and authorizations while it holds the one of its store, and
/// elsewhere the other way around: under many orders at once it stops for good. Released before the inner lock is taken,
/// nothing else changes.
fn mend_lock_order(file: &Path) -> Result<()> {
    const MENDED: [(&str, &str); 2] = [
        (
            "m.RLock()\n\tdefer m.RUnlock()\n\tfor _, authz := range m.authorizationsByID {",
            "m.RLock()\n\tall := make([]*core.Authorization, 0, len(m.authorizationsByID))\n\tfor _, authz := range m.authorizationsByID {\n\t\t\
             all = append(all, authz)\n\t}\n\tm.RUnlock()\n\tfor _, authz := range all {",
        ),
        (
            "m.RLock()\n\tdefer m.RUnlock()\n\n\tif order, ok := m.ordersByID[id]; ok {",
            "m.RLock()\n\torder, ok := m.ordersByID[id]\n\tm.RUnlock()\n\tif ok {",
        ),
    ];
    let mut text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    for (locked, mended) in MENDED {
        ensure!(text.matches(locked).count() == 1, "Pebble's store has changed; is its lock order still to be mended?");
        text = text.replace(locked, mended);
    }
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Files and folders, writable, whatever the originals are.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            let bytes = std::fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            std::fs::write(&target, bytes).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}

/// Go from PATH, or where its own installer puts it.
fn go() -> Option<PathBuf> {
    program("go").or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.is_file()))
}

/// The first line that a program says about its version, on whichever output.
fn version(command: &[&str]) -> Option<String> {
    let output = Command::new(program(command[0])?).args(&command[1..]).output().ok().filter(|output| output.status.success())?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
}

fn module_version(go: &Path, binary: &Path) -> Option<String> {
    let output = Command::new(go).args(["version", "-m"]).arg(binary).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.trim_start().starts_with("mod\t")).and_then(|line| line.split('\t').nth(3)).map(str::to_owned)
}

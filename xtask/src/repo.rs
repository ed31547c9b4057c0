//! Where the repository is, which files it has, and where things go that do not belong into it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The folder of the workspace, from wherever in it `cargo xtask` was called.
pub(crate) fn root() -> Result<PathBuf> {
    // Cargo names the folder of this package when it runs it; the compiled-in one would be wrong after a move.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    PathBuf::from(own).parent().map(PathBuf::from).context("xtask has no folder above it")
}

/// Files of the repository, relative, sorted: tracked ones and new ones that are not ignored.
pub(crate) fn files() -> Result<Vec<String>> {
    let root = root()?;
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])
        .current_dir(&root)
        .output()
        .context("cannot run git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    let mut files: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .split('\0')
        .filter(|file| !file.is_empty() && root.join(file).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    Ok(files)
}

/// `${XDG_CACHE_HOME:-~/.cache}/certwright`, for what is built once and is no part of the tree.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("there is no home folder for the cache: set XDG_CACHE_HOME")?;
    Ok(base.join("certwright"))
}

/// Cargo, in the workspace; the very one that runs us, so that its toolchain is the same.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// Where Cargo puts what it builds.
pub(crate) fn target() -> Result<PathBuf> {
    let output = cargo()?.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo metadata names no target directory")
}

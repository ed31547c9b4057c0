//! A folder for one peer, removed when its guard goes, also when the whole process is killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::reaper;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A fresh folder under the system's temporary one. Short on purpose: sockets in it must fit 108 bytes.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// # Errors
    /// When the temporary folder cannot be written.
    pub fn new(label: &str) -> Result<Scratch> {
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("certwright-{label}-{}-{serial}", std::process::id()));
        if path.exists() {
            // An earlier process had our number and was cut off together with its reaper.
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot clear {}", path.display()))?;
        }
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        reaper::note_folder(&path);
        Ok(Scratch { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file below the folder and gives its path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Hands the folder to another user of this machine, for servers that refuse to run as root.
    ///
    /// # Errors
    /// When `chown` refuses.
    pub fn give_to(&self, user: &str) -> Result<()> {
        let status = Command::new("chown").arg("-R").arg(user).arg(&self.path).status().context("cannot run chown")?;
        anyhow::ensure!(status.success(), "chown {user} {} failed", self.path.display());
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.path).is_ok() {
            reaper::forget_folder(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_its_guard() {
        let scratch = Scratch::new("scratch").unwrap();
        let file = scratch.write("a/b.txt", "x").unwrap();
        let folder = scratch.path().to_owned();
        assert!(file.is_file());
        drop(scratch);
        assert!(!folder.exists());
    }
}

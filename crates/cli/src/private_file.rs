//! Files that appear whole: written beside their place, synced, renamed.

use anyhow::Context;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// For its owner alone (0600).
pub(crate) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    write_with(path, content, 0o600)
}

/// For everybody to read (0644).
pub(crate) fn write_public(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    write_with(path, content, 0o644)
}

fn write_with(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

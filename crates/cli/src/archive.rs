//! A folder as a ZIP archive, in a temporary file.
//!
//! Links are refused: what they lead to may not be meant for the public.

use anyhow::{Context, bail};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

pub(crate) fn of_folder(folder: &Path) -> anyhow::Result<NamedTempFile> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    if files.is_empty() {
        bail!("{} holds no files", folder.display());
    }
    let packed = NamedTempFile::new()?;
    let mut zip = ZipWriter::new(packed.reopen()?);
    for path in files {
        let name = path.strip_prefix(folder)?.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned();
        zip.start_file(name, SimpleFileOptions::default().large_file(true))?;
        let mut file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        io::copy(&mut file, &mut zip).with_context(|| format!("cannot read {}", path.display()))?;
    }
    zip.finish()?;
    Ok(packed)
}

/// One file.
pub(crate) fn of_page(name: &str, content: &[u8]) -> anyhow::Result<NamedTempFile> {
    let packed = NamedTempFile::new()?;
    let mut zip = ZipWriter::new(packed.reopen()?);
    zip.start_file(name, SimpleFileOptions::default())?;
    zip.write_all(content)?;
    zip.finish()?;
    Ok(packed)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let reading = || format!("cannot read {}", folder.display());
    let mut entries: Vec<_> = std::fs::read_dir(folder).with_context(reading)?.collect::<io::Result<_>>().with_context(reading)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().with_context(reading)?);
        if kind.is_dir() {
            collect(&path, files)?;
        } else if kind.is_file() {
            files.push(path);
        } else {
            bail!("{} is a link or a device; put the file itself there", path.display());
        }
    }
    Ok(())
}

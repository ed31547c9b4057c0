//! Static content: an uploaded archive becomes one folder, whole or not at all.
//!
//! Refused before anything is visible: traversal, absolute paths, links and other special entries, duplicate names,
//! encryption, bombs (entries, size, ratio), archives without a file. The folder appears by one rename after it is on disk.

use certwright_model::site::SiteName;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const INCOMING: &str = ".incoming";
/// Folders within folders; each name may make as many.
const DEPTH: usize = 32;

/// What an archive may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: usize,
    pub unpacked_bytes: u64,
    /// Unpacked size over packed size, for entries above 1 MiB.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 20_000, unpacked_bytes: 1 << 30, ratio: 200 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("the upload is not a ZIP archive that can be read: {0}")]
    NotZip(String),
    #[error("the archive holds no file")]
    Empty,
    #[error("the entry `{0}` would land outside the site's folder, or too deep in it")]
    Traversal(String),
    #[error("the entry `{0}` is a link or a special file; only files and folders are taken")]
    Link(String),
    #[error("the entry `{0}` is there twice")]
    Duplicate(String),
    #[error("the archive holds two entries of one name")]
    Duplicates,
    #[error("the entry `{0}` is encrypted")]
    Encrypted(String),
    #[error("the archive has {0} entries; at most {1} are allowed")]
    TooMany(usize, usize),
    #[error("the archive unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("the entry `{0}` unpacks to more than {1} times its packed size")]
    Bomb(String, u64),
    #[error("the disk is full")]
    DiskFull,
    #[error("the content cannot be written: {0}")]
    Io(io::Error),
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded {
            Self::DiskFull
        } else {
            Self::Io(error)
        }
    }
}

/// Where a version of a site's content lies.
pub fn path(sites_dir: &Path, site: &SiteName, version: &str) -> PathBuf {
    sites_dir.join(site.as_str()).join(version)
}

/// Unpacks the archive into the version's folder. On any error nothing of it is left.
pub fn unpack(archive: &Path, sites_dir: &Path, site: &SiteName, version: &str, limits: Limits) -> Result<(), ContentError> {
    let staging = sites_dir.join(INCOMING).join(version);
    let result = unpack_into(archive, &staging, limits).and_then(|()| {
        let target = path(sites_dir, site, version);
        fs::create_dir_all(sites_dir.join(site.as_str()))?;
        fs::rename(&staging, &target)?;
        sync(sites_dir)?;
        Ok(())
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&staging);
    }
    result
}

/// Removes what a former life was unpacking when it died.
pub fn sweep(sites_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(sites_dir.join(INCOMING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes everything of a site. A site without content is fine.
pub fn remove(sites_dir: &Path, site: &SiteName) -> io::Result<()> {
    match fs::remove_dir_all(sites_dir.join(site.as_str())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unpack_into(archive: &Path, staging: &Path, limits: Limits) -> Result<(), ContentError> {
    let not_zip = |error: zip::result::ZipError| match error {
        zip::result::ZipError::Io(error) if error.kind() == io::ErrorKind::StorageFull => ContentError::DiskFull,
        other => ContentError::NotZip(other.to_string()),
    };
    let mut zip = zip::ZipArchive::new(File::open(archive)?).map_err(not_zip)?;
    if zip.len() > limits.entries {
        return Err(ContentError::TooMany(zip.len(), limits.entries));
    }
    // The library keeps the last of two entries with one name; which one a person meant, nobody knows.
    if zip.has_duplicate_names() {
        return Err(ContentError::Duplicates);
    }
    fs::create_dir_all(staging)?;
    let (mut seen, mut files, mut total) = (HashSet::new(), 0usize, 0u64);
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(not_zip)?;
        let raw_name = entry.name().map_err(not_zip)?.into_owned();
        let name = printable(&raw_name);
        if entry.encrypted() {
            return Err(ContentError::Encrypted(name));
        }
        let relative = safe_path(&raw_name).ok_or_else(|| ContentError::Traversal(name.clone()))?;
        let kind = entry.unix_mode().unwrap_or(0) & 0o170_000;
        if entry.is_symlink() || !matches!(kind, 0 | 0o100_000 | 0o040_000) {
            return Err(ContentError::Link(name));
        }
        let is_dir = entry.is_dir();
        let (packed, declared_size) = (entry.compressed_size().max(1), entry.size());
        if !seen.insert(relative.clone()) && !is_dir {
            return Err(ContentError::Duplicate(name));
        }
        if declared_size > 1 << 20 && declared_size / packed > limits.ratio {
            return Err(ContentError::Bomb(name, limits.ratio));
        }
        let target = staging.join(&relative);
        if is_dir {
            fs::create_dir_all(&target)?;
            continue;
        }
        drop(entry);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|error| clash(error, &name))?;
        }
        let mut out = File::create_new(&target).map_err(|error| clash(error, &name))?;
        // What an entry says of its size is a claim; what it unpacks to is what counts.
        let left = limits.unpacked_bytes - total;
        let entry = zip.by_index(index).map_err(not_zip)?;
        let written = io::copy(&mut entry.take(left + 1), &mut out).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
                ContentError::NotZip(error.to_string())
            }
            _ => error.into(),
        })?;
        if written > left {
            return Err(ContentError::TooLarge(limits.unpacked_bytes));
        }
        if written > 1 << 20 && written / packed > limits.ratio {
            return Err(ContentError::Bomb(name, limits.ratio));
        }
        total += written;
        files += 1;
    }
    if files == 0 {
        return Err(ContentError::Empty);
    }
    sync(staging)?;
    Ok(())
}

/// A file where a folder has to be, or the other way round: the archive contradicts itself.
fn clash(error: io::Error, name: &str) -> ContentError {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            ContentError::Duplicate(name.to_owned())
        }
        _ => error.into(),
    }
}

/// The entry's path below the site's folder; `None` when it would leave it.
fn safe_path(name: &str) -> Option<PathBuf> {
    if name.is_empty() || name.len() > 1024 || name.contains(['\\', '\0']) || name.starts_with('/') {
        return None;
    }
    let mut path = PathBuf::new();
    for part in name.trim_end_matches('/').split('/') {
        if part.is_empty() || part == "." || part == ".." || part.len() > 255 || part.contains(':') && part.len() == 2 {
            return None;
        }
        path.push(part);
    }
    if path.components().count() > DEPTH {
        return None;
    }
    Some(path)
}

fn printable(name: &str) -> String {
    name.chars().take(120).flat_map(char::escape_default).collect()
}

/// One call for the whole file system: a site may have thousands of files.
fn sync(dir: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(dir)?)?;
    Ok(())
}

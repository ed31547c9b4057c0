//! Opens files below a root so that no path and no link leads out of it.
//!
//! The kernel does the looking (`openat2` with `RESOLVE_BENEATH`), so there is no gap between a check and its use. Where
//! it cannot (before Linux 5.6, or under a strict seccomp filter) the path is walked one component at a time without
//! following any link: stricter, never laxer. Only regular files are opened; a FIFO or device is as good as absent.

use super::negotiate::Encoding;
use super::path::SitePath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::Path;

pub(super) struct Found {
    pub(super) file: File,
    pub(super) len: u64,
    /// Seconds and nanoseconds since the epoch.
    pub(super) modified: (i64, u32),
    /// The name that was asked for, without the suffix of its encoding.
    pub(super) name: String,
    pub(super) encoding: Option<Encoding>,
}

pub(super) enum Opened {
    Found(Found),
    /// It is a folder, and the request did not end in a slash.
    Folder,
    Nothing,
}

pub(super) fn root(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    absent_is_none(openat(CWD, path, flags, Mode::empty()))
}

pub(super) fn find(root: &OwnedFd, path: &SitePath, encodings: &[Encoding]) -> io::Result<Opened> {
    if path.wants_folder {
        return Ok(best(root, &path.index(), encodings)?.map_or(Opened::Nothing, Opened::Found));
    }
    let Some(fd) = beneath(root.as_fd(), path.as_str())? else { return Ok(Opened::Nothing) };
    let status = fstat(&fd)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Ok(Opened::Folder),
        FileType::RegularFile => Ok(match encoded(root, path.as_str(), encodings)? {
            Some(found) => Opened::Found(found),
            None => Opened::Found(found(fd, &status, path.as_str(), None)),
        }),
        _ => Ok(Opened::Nothing),
    }
}

pub(super) fn not_found_page(root: &OwnedFd) -> io::Result<Option<Found>> {
    regular(root, "404.html", "404.html", None)
}

/// The file in the encoding that the client likes best, or as it is. Without the plain file there is nothing.
fn best(root: &OwnedFd, name: &str, encodings: &[Encoding]) -> io::Result<Option<Found>> {
    let Some(plain) = regular(root, name, name, None)? else { return Ok(None) };
    Ok(Some(encoded(root, name, encodings)?.unwrap_or(plain)))
}

fn encoded(root: &OwnedFd, name: &str, encodings: &[Encoding]) -> io::Result<Option<Found>> {
    for encoding in encodings {
        let sibling = format!("{name}.{}", encoding.suffix());
        if let Some(found) = regular(root, &sibling, name, Some(*encoding))? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn regular(root: &OwnedFd, path: &str, name: &str, encoding: Option<Encoding>) -> io::Result<Option<Found>> {
    let Some(fd) = beneath(root.as_fd(), path)? else { return Ok(None) };
    let status = fstat(&fd)?;
    let is_file = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    Ok(is_file.then(|| found(fd, &status, name, encoding)))
}

fn found(fd: OwnedFd, status: &rustix::fs::Stat, name: &str, encoding: Option<Encoding>) -> Found {
    Found {
        file: File::from(fd),
        len: u64::try_from(status.st_size).unwrap_or(0),
        modified: (status.st_mtime, u32::try_from(status.st_mtime_nsec).unwrap_or(0)),
        name: name.to_owned(),
        encoding,
    }
}

/// Opening must not wait (a FIFO) and must not make a terminal ours.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

fn beneath(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..4 {
        match openat2(root, path, READ, Mode::empty(), resolve) {
            // Something was renamed during the walk; the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            Err(Errno::NOSYS | Errno::PERM) => return walk(root, path),
            result => return absent_is_none(result),
        }
    }
    walk(root, path)
}

fn walk(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    let mut folder: Option<OwnedFd> = None;
    let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
    for component in parents.split('/').filter(|component| !component.is_empty()) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = folder.as_ref().map_or(root, AsFd::as_fd);
        match absent_is_none(openat(at, component, flags, Mode::empty()))? {
            Some(next) => folder = Some(next),
            None => return Ok(None),
        }
    }
    let at = folder.as_ref().map_or(root, AsFd::as_fd);
    absent_is_none(openat(at, last, READ | OFlags::NOFOLLOW, Mode::empty()))
}

/// What is not there, may not be read, or lies outside is one and the same to a client.
fn absent_is_none(result: Result<OwnedFd, Errno>) -> io::Result<Option<OwnedFd>> {
    match result {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ACCESS | Errno::NAMETOOLONG | Errno::NXIO | Errno::INVAL) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn neither_way_of_opening_leaves_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("root");
        std::fs::create_dir_all(base.join("sub")).unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::fs::write(base.join("sub/inside"), "inside").unwrap();
        symlink("../secret", base.join("out")).unwrap();
        symlink(folder.path(), base.join("outdir")).unwrap();
        symlink("/proc/self/root/etc/passwd", base.join("magic")).unwrap();
        symlink("sub/inside", base.join("in")).unwrap();
        let root = root(&base).unwrap().unwrap();
        for open in [beneath, walk] {
            assert!(open(root.as_fd(), "sub/inside").unwrap().is_some());
            for bad in ["out", "outdir/secret", "magic", "missing", "sub/inside/below"] {
                assert!(open(root.as_fd(), bad).unwrap().is_none(), "{bad}");
            }
        }
        assert!(walk(root.as_fd(), "in").unwrap().is_none(), "the fallback follows no link at all");
    }
}

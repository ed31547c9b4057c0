//! Where the key-encryption key comes from: a file that only its owner reads, or a command.
//!
//! A key file is written and synced before anything in the database depends on it. The key itself is never logged, never
//! part of an error, and is wiped from memory after use.

use crate::{Result, StoreError};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use zeroize::Zeroizing;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KekSource {
    /// 64 hex digits in a file that only its owner reads. Created when it is absent and the database has no data key yet.
    File(PathBuf),
    /// An argument list (no shell) that prints 64 hex digits within 10 seconds.
    Command(Vec<String>),
}

pub(crate) type Key = Zeroizing<[u8; 32]>;

impl KekSource {
    pub(crate) async fn load(&self, may_create: bool) -> Result<Key> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                let task = tokio::task::spawn_blocking(move || from_file(&path, may_create));
                task.await.map_err(|error| StoreError::Key(error.to_string()))?
            }
            Self::Command(argv) => from_command(argv).await,
        }
    }
}

fn from_file(path: &Path, may_create: bool) -> Result<Key> {
    let problem = |what: &str| StoreError::Key(format!("{}: {what}", path.display()));
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_create => {
            create(path).map_err(|error| problem(&format!("it cannot be created: {error}")))?;
            std::fs::metadata(path).map_err(|error| problem(&error.to_string()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(problem("the file is missing, and the database is sealed with it; bring it back from a backup"));
        }
        Err(error) => return Err(problem(&error.to_string())),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(problem("others may read it; run `chmod 600` on it"));
    }
    let text = Zeroizing::new(std::fs::read(path).map_err(|error| problem(&error.to_string()))?);
    parse(&text).ok_or_else(|| problem("it does not hold 64 hex digits"))
}

/// Two processes may start at once: the first link wins, and both read the winner's key.
fn create(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let key = random_key()?;
    let unique: String = random_key()?[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = folder.join(format!(".kek-{unique}"));
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in key.iter() {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text.push('\n');
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    std::fs::remove_file(&draft)?;
    linked?;
    std::fs::File::open(folder)?.sync_all()
}

/// A key must not be predictable from anything a caller could pass in, so this is the one place that draws entropy itself.
pub(crate) fn random_key() -> std::io::Result<Key> {
    let mut key = Zeroizing::new([0u8; 32]);
    aws_lc_rs::rand::fill(&mut key[..]).map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
    Ok(key)
}

async fn from_command(argv: &[String]) -> Result<Key> {
    let (program, arguments) = argv.split_first().ok_or_else(|| StoreError::Config("the key command is empty".into()))?;
    let problem = |what: String| StoreError::Key(format!("the command `{program}` {what}"));
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What it says there may hold the secret; it is not ours to repeat.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| problem(format!("cannot be started: {error}")))?;
    let output = tokio::time::timeout(COMMAND_TIMEOUT, child.wait_with_output())
        .await
        .map_err(|_| problem(format!("did not end within {} seconds", COMMAND_TIMEOUT.as_secs())))?
        .map_err(|error| problem(error.to_string()))?;
    let text = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(problem(format!("failed ({})", output.status)));
    }
    parse(&text).ok_or_else(|| problem("did not print 64 hex digits".into()))
}

fn parse(text: &[u8]) -> Option<Key> {
    let digits = text.trim_ascii();
    if digits.len() != 64 {
        return None;
    }
    let mut key = Zeroizing::new([0u8; 32]);
    for (index, pair) in digits.chunks_exact(2).enumerate() {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        key[index] = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(key)
}

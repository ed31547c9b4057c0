//! Who this node is: an identifier that stays in the data folder, and a lock that one process at a time can hold.
//!
//! What a node held when it died it takes up at its next start, which is right only while nobody else goes by its name.

use crate::private_file;
use anyhow::{Context, bail};
use certwright_engine::clock::Clock;
use certwright_model::ids::NodeId;
use std::fs::{File, TryLockError};
use std::path::Path;

const ID_FILE: &str = "node.id";
const LOCK_FILE: &str = "node.lock";

/// The identity, for as long as this value lives. The system drops the lock with the process, however it ends.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    _lock: File,
}

impl Node {
    pub(crate) fn take(data_dir: &Path, clock: &Clock) -> anyhow::Result<Self> {
        let path = data_dir.join(LOCK_FILE);
        let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another certwright serves from {}; stop it, or choose another folder with --data-dir DIR", data_dir.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
        let file = data_dir.join(ID_FILE);
        let id = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().with_context(|| format!("{} holds no identifier; delete it", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = clock.node();
                private_file::write(&file, id.to_string().as_bytes())?;
                id
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        Ok(Self { id, _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_goes_by_the_name_and_the_next_one_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let first = Node::take(folder.path(), &clock).unwrap();
        let refused = Node::take(folder.path(), &clock).err().unwrap().to_string();
        assert!(refused.contains("another certwright"), "{refused}");
        let id = first.id;
        drop(first);
        assert_eq!(Node::take(folder.path(), &clock).unwrap().id, id);
    }
}

//! One lookout per database: an advisory lock on `<file>.lock`, which names its owner, and one on the file itself, so
//! that a hard link is no way around the first.
//!
//! The system drops both when the process dies; readers such as `sqlite3` are not hindered by them. The lock file
//! stays, since removing it would race with the next start.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::error::{StoreError, io_error};
use super::file::beside;

/// File systems of other machines, by their numbers on Linux. They turn a lock on a file into one of the kind that
/// SQLite takes, which would lock SQLite out.
#[cfg(target_os = "linux")]
const NETWORK: [u32; 3] = [0x6969, 0xff53_4d42, 0xfe53_4d42];

/// Held, hardly used: the locks live as long as it.
#[derive(Debug)]
pub(super) struct Lock {
    named: File,
    /// To be dropped after the connection: closing a file drops the locks that SQLite holds on it.
    database: File,
}

impl Lock {
    /// Locks the database at `path`, whose file is created when it is not there.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let named = lock_named(path)?;
        Ok(Self { named, database: lock_database(path)? })
    }

    /// Locks `path` for the database in `file`, which is about to be there in place of another.
    pub(super) fn take_over(self, path: &Path, database: File) -> Result<Self, StoreError> {
        let named = if self.is_named(path) { self.named } else { lock_named(path)? };
        Ok(Self { named, database })
    }

    /// Whether the lock file at `path` is the one that is held.
    pub(super) fn is_named(&self, path: &Path) -> bool {
        let at_path = fs::metadata(beside(path, ".lock")).map(|file| (file.dev(), file.ino()));
        let held = self.named.metadata().map(|file| (file.dev(), file.ino()));
        matches!((at_path, held), (Ok(at_path), Ok(held)) if at_path == held)
    }

    /// Whether the database begins like one and is as long as it says. One that was cut or overwritten in its place is
    /// not; SQLite, which believes its cache, would not notice before the next start.
    pub(super) fn is_whole(&self) -> bool {
        let mut header = [0; 100];
        let Ok(length) = self.database.metadata().map(|file| file.len()) else { return false };
        if self.database.read_exact_at(&mut header, 0).is_err() || !header.starts_with(b"SQLite format 3\0") {
            return false;
        }
        let number =
            |at: usize, bytes: usize| header[at..at + bytes].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        // 1 stands for 65,536.
        let page = if number(16, 2) == 1 { 65_536 } else { number(16, 2) };
        length >= page * number(28, 4)
    }

    /// Locks the lock file anew when somebody removed it.
    pub(super) fn renew(&mut self, path: &Path) -> Result<(), StoreError> {
        if !self.is_named(path) {
            self.named = lock_named(path)?;
        }
        Ok(())
    }
}

/// For files that only their owner may read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

/// Opens the file of the database at `path`, created when it is not there, and locks it. SQLite gives its log and
/// shared memory the mode of this file.
pub(super) fn lock_database(path: &Path) -> Result<File, StoreError> {
    let failed = |action| move |error| io_error(path.to_owned(), action, error);
    let file = private().open(path).map_err(failed("open"))?;
    if is_on_network(&file) {
        return Ok(file);
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned(), owner: None }),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(failed("lock")(error)),
    }
}

#[cfg(target_os = "linux")]
fn is_on_network(file: &File) -> bool {
    // The number's type differs between machines; its low half does not.
    rustix::fs::fstatfs(file).is_ok_and(|system| NETWORK.contains(&(system.f_type as u32)))
}

/// Elsewhere every file system is taken for a local one.
#[cfg(not(target_os = "linux"))]
const fn is_on_network(_file: &File) -> bool {
    false
}

fn lock_named(path: &Path) -> Result<File, StoreError> {
    let failed = |action| move |error| io_error(beside(path, ".lock"), action, error);
    let mut file = private().open(beside(path, ".lock")).map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => {
            // For people and for the error below; a lock file that can't be written still locks.
            let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            if let Err(error) = written {
                tracing::debug!(path = %path.display(), %error, "lock file does not name its owner");
            }
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let read = file.rewind().and_then(|()| file.take(16).read_to_string(&mut owner));
            Err(StoreError::Locked { path: path.to_owned(), owner: read.ok().and_then(|_| owner.trim().parse().ok()) })
        }
        Err(TryLockError::Error(error)) => Err(failed("lock")(error)),
    }
}

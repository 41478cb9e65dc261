//! Ensures that only one lookout has a database open: an advisory lock on `<file>.lock`, which contains the process id of
//! its owner, and one on the file itself, which also covers hard links.
//!
//! The system releases both when the process dies; readers such as `sqlite3` are not affected. The lock file is never
//! removed, since that would race with the next start.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::error::{StoreError, io_error};
use super::file::with_suffix;

/// Types of network file systems on Linux. They turn our lock into one of the kind that SQLite takes, which would lock out
/// SQLite.
#[cfg(target_os = "linux")]
const NETWORK_FILE_SYSTEMS: [u32; 3] = [0x6969, 0xff53_4d42, 0xfe53_4d42];

/// Both locks, released on drop.
#[derive(Debug)]
pub(super) struct DatabaseLock {
    lock_file: File,
    /// Must be dropped after the connection, since closing any descriptor of a file releases SQLite's locks on it.
    database: File,
}

impl DatabaseLock {
    /// Locks the database at `path`. Creates the file if it does not exist.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let lock_file = open_lock_file(path)?;
        Ok(Self { lock_file, database: lock_database(path)? })
    }

    /// Moves the lock to `database`, which replaces the file at `path`.
    pub(super) fn take_over(self, path: &Path, database: File) -> Result<Self, StoreError> {
        let lock_file = if self.owns_lock_file(path) { self.lock_file } else { open_lock_file(path)? };
        Ok(Self { lock_file, database })
    }

    /// Whether the lock file of `path` is the one that is locked.
    pub(super) fn owns_lock_file(&self, path: &Path) -> bool {
        let at_path = fs::metadata(with_suffix(path, ".lock")).map(|file| (file.dev(), file.ino()));
        let held = self.lock_file.metadata().map(|file| (file.dev(), file.ino()));
        matches!((at_path, held), (Ok(at_path), Ok(held)) if at_path == held)
    }

    /// Whether the database has a valid header and its full length. SQLite trusts its cache and would not notice a file that
    /// was truncated or overwritten in place.
    pub(super) fn is_complete(&self) -> bool {
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

    /// Creates and locks the lock file again if it was removed.
    pub(super) fn renew(&mut self, path: &Path) -> Result<(), StoreError> {
        if !self.owns_lock_file(path) {
            self.lock_file = open_lock_file(path)?;
        }
        Ok(())
    }
}

/// Options to open or create a file that only its owner may read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

/// Opens the database file at `path`, creating it if necessary, and locks it. SQLite creates the write-ahead log and the
/// shared memory with the mode of this file.
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
    // The type of the field differs between architectures; its low 32 bits do not.
    rustix::fs::fstatfs(file).is_ok_and(|system| NETWORK_FILE_SYSTEMS.contains(&(system.f_type as u32)))
}

/// On other systems every file system is treated as local.
#[cfg(not(target_os = "linux"))]
const fn is_on_network(_file: &File) -> bool {
    false
}

fn open_lock_file(path: &Path) -> Result<File, StoreError> {
    let failed = |action| move |error| io_error(with_suffix(path, ".lock"), action, error);
    let mut file = private().open(with_suffix(path, ".lock")).map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => {
            // For people and for the error below; the lock works without it.
            let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            if let Err(error) = written {
                tracing::debug!(path = %path.display(), %error, "process id not written to the lock file");
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

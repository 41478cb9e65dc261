//! What can go wrong with a file of the store, in words that name the file and the remedy.
//!
//! An error while writing is an ordinary answer: the handle keeps working, what could not be written is
//! kept and tried again, and the store recovers by itself when the disk does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHORT_READ;

/// A failure of the store. Cheap to clone: one failed transaction answers many callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory of the file is not there, or is no directory.
    #[error("{path}: its directory does not exist; create it, or set `store.path` to a file in one that does", path = path.display())]
    Directory {
        /// The file that was to be opened.
        path: PathBuf,
    },
    /// The file is gone, and cannot be written anew.
    #[error("{path} was removed or moved, and its directory with it; create the directory again, and the store is written there anew", path = path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// Another lookout has the file open.
    #[error("{path} is in use by another lookout{owner}; stop that one, or set another `store.path`", path = path.display(), owner = owner.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process that holds it, when its lock file says so.
        owner: Option<u32>,
    },
    /// A newer lookout wrote the file.
    #[error("{path} has schema version {found}, and this lookout knows {known} at most; use the newer lookout, or set another `store.path`", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The file is a database, but not this one.
    #[error("{path} is a database of another program; set `store.path` to a file of lookout's own", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("{path}: cannot {action} it; {remedy}", path = path.display(), remedy = io_remedy(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// SQLite refused something.
    #[error("{path}: cannot {action} it; {remedy}", path = path.display(), remedy = remedy(source))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// SQLite's answer.
        source: Arc<rusqlite::Error>,
    },
    /// The log can't be folded into the file, and would grow without end.
    #[error("{path}: its log has grown to {size} bytes, since another program has been reading it all along; end that program's transaction", path = path.display())]
    LogHeld {
        /// The file.
        path: PathBuf,
        /// The log's size.
        size: u64,
    },
    /// The file's content is damaged.
    #[error("{path} is damaged: {detail}; restore it from a backup, or move it away", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A deadline passed first.
    #[error("{path}: not all was written within {}; the disk is too slow or hangs", crate::model::duration::display(*within), path = path.display())]
    Late {
        /// The file.
        path: PathBuf,
        /// How long it was given.
        within: std::time::Duration,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether it says that the disk, or our right to it, is at fault.
    pub(super) fn is_of_disk(&self) -> bool {
        let of_disk = [
            ErrorCode::DiskFull,
            ErrorCode::ReadOnly,
            ErrorCode::PermissionDenied,
            ErrorCode::CannotOpen,
            ErrorCode::SystemIoFailure,
        ];
        match self {
            Self::Io { .. } => true,
            Self::Sqlite { source, .. } => source.sqlite_error_code().is_some_and(|code| of_disk.contains(&code)),
            _ => false,
        }
    }

    /// Whether it says that the file's content, not its surroundings, is at fault.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Sqlite { source, .. } => {
                // A log that was cut in its place is read beyond its end.
                let is_cut = source.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHORT_READ);
                is_cut
                    || matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            _ => false,
        }
    }
}

fn io_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FULL,
        io::ErrorKind::FileTooLarge => TOO_LARGE,
        io::ErrorKind::ReadOnlyFilesystem => {
            "its file system is read-only: mount it for writing, or set `store.path` to a file elsewhere"
        }
        io::ErrorKind::PermissionDenied => {
            "make it and its directory writable for the user that lookout runs as, or set `store.path` to a file elsewhere"
        }
        _ => "check that the path is a file that lookout may write",
    }
}

const FULL: &str = "the disk is full: free some space";
const TOO_LARGE: &str =
    "a write failed: check the disk, and the limit of a file's size (`ulimit -f`, systemd's `LimitFSIZE`)";

fn remedy(error: &rusqlite::Error) -> &'static str {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    match error.sqlite_error_code() {
        _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_WRITE) => TOO_LARGE,
        Some(ErrorCode::DiskFull) => FULL,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "it is read-only: make it and its directory writable"
        }
        Some(ErrorCode::CannotOpen) => "check that the path is a file that lookout may write",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds a lock on it: end that program's transaction"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "its content is damaged: restart lookout to have it set aside"
        }
        _ => "check the disk",
    }
}

/// A file at `path` with which `action` failed.
pub(super) fn io_error(path: PathBuf, action: &'static str, error: io::Error) -> StoreError {
    StoreError::Io { path, action, source: Arc::new(error) }
}

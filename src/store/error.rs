//! Errors of the store, each with the file and the remedy.
//!
//! A failed write does not invalidate a handle: the content is kept in memory and written by a later transaction.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHORT_READ;

/// A failure of the store. Cheap to clone: one failed transaction answers many callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory of the file does not exist or is not a directory.
    #[error("{path}: directory does not exist; create it, or set `store.path` to a file in an existing directory", path = path.display())]
    Directory {
        /// The file.
        path: PathBuf,
    },
    /// The file and its directory were removed while lookout was running.
    #[error("{path}: file and directory were removed or moved; create the directory again, then lookout writes the file again", path = path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// Another lookout has the file open.
    #[error("{path} is in use by another lookout{owner}; stop that process, or set another `store.path`", path = path.display(), owner = owner.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// The file.
        path: PathBuf,
        /// Process id of the other lookout, when its lock file is readable.
        owner: Option<u32>,
    },
    /// The file was written by a newer lookout.
    #[error("{path} has schema version {found}, this lookout supports up to {known}; run the newer lookout, or set another `store.path`", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Schema version of the file.
        found: u32,
        /// Newest supported schema version.
        known: u32,
    },
    /// The file is a SQLite database of another program.
    #[error("{path} is a database of another program; set `store.path` to another file", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// An operation of the operating system failed.
    #[error("{path}: cannot {action} the file; {remedy}", path = path.display(), remedy = io_remedy(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation, as a verb.
        action: &'static str,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// An operation of SQLite failed.
    #[error("{path}: cannot {action} the file; {remedy}", path = path.display(), remedy = remedy(source))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The operation, as a verb.
        action: &'static str,
        /// The cause.
        source: Arc<rusqlite::Error>,
    },
    /// The write-ahead log is too large and cannot be checkpointed.
    #[error("{path}: write-ahead log has grown to {size} bytes, because a transaction of another program prevents its checkpoint; end that transaction", path = path.display())]
    WalTooLarge {
        /// The file.
        path: PathBuf,
        /// Size of the write-ahead log in bytes.
        size: u64,
    },
    /// The file's content is damaged.
    #[error("{path} is damaged: {detail}; restore it from a backup, or move it away", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first error that SQLite found.
        detail: String,
    },
    /// Closing took longer than its deadline.
    #[error("{path}: not everything was written within {}; check the disk", crate::model::duration::display(*within), path = path.display())]
    Late {
        /// The file.
        path: PathBuf,
        /// The deadline.
        within: std::time::Duration,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the disk or its permissions caused the error.
    pub(super) fn is_disk_failure(&self) -> bool {
        let disk_codes = [
            ErrorCode::DiskFull,
            ErrorCode::ReadOnly,
            ErrorCode::PermissionDenied,
            ErrorCode::CannotOpen,
            ErrorCode::SystemIoFailure,
        ];
        match self {
            Self::Io { .. } => true,
            Self::Sqlite { source, .. } => source.sqlite_error_code().is_some_and(|code| disk_codes.contains(&code)),
            _ => false,
        }
    }

    /// Whether the content of the file caused the error.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Sqlite { source, .. } => {
                // What SQLite reports for a truncated write-ahead log.
                let is_truncated =
                    source.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHORT_READ);
                is_truncated
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
            "the file system is read-only: remount it writable, or set `store.path` to a file elsewhere"
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: make the file and its directory writable for the user that runs lookout, or set `store.path` to a file elsewhere"
        }
        _ => "check that the path is a file that lookout may write",
    }
}

const FULL: &str = "the disk is full: free some space";
const TOO_LARGE: &str =
    "a write failed: check the disk and the limit on file size (`ulimit -f`, systemd's `LimitFSIZE`)";

fn remedy(error: &rusqlite::Error) -> &'static str {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    match error.sqlite_error_code() {
        _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_WRITE) => TOO_LARGE,
        Some(ErrorCode::DiskFull) => FULL,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "it is read-only: make the file and its directory writable"
        }
        Some(ErrorCode::CannotOpen) => "check that the path is a file that lookout may write",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "it is locked by another program: end that program's transaction"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged: restart lookout, which moves it aside and starts with an empty one"
        }
        _ => "check the disk",
    }
}

/// The error of a failed `action` on the file at `path`.
pub(super) fn io_error(path: PathBuf, action: &'static str, error: io::Error) -> StoreError {
    StoreError::Io { path, action, source: Arc::new(error) }
}

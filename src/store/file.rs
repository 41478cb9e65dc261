//! SQLite files: opening, migrating, and moving damaged ones aside. Files of other programs and of newer versions are
//! never touched; only the owner may read ours.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{StoreError, io_error};
use crate::model::Time;

/// Files of up to this size are checked completely when they are opened, at about 1 GB/s.
const FULL_CHECK_SIZE: u64 = 128 << 20;

/// How long a transaction waits for the lock of another program. Short, since notifications may wait behind it.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// The format of one kind of database.
#[derive(Debug)]
pub(super) struct Layout {
    /// `PRAGMA application_id`, which identifies our databases.
    pub(super) application_id: i32,
    /// Migrations from an empty file to the current schema; `PRAGMA user_version` is the number of those applied. Never
    /// change a released one; append.
    pub(super) migrations: &'static [&'static str],
    /// Settings of the writing connection.
    pub(super) pragmas: &'static str,
}

impl Layout {
    fn version(&self) -> u32 {
        u32::try_from(self.migrations.len()).unwrap_or(u32::MAX)
    }
}

/// Maximum number of symbolic links that are followed to a file that does not exist yet.
const MAX_LINKS: usize = 40;

/// Suffixes of the files that SQLite keeps next to a database.
pub(super) const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Where a database is. Clones of a location in memory refer to the same database.
#[derive(Clone, Debug)]
pub(super) enum DatabaseLocation {
    File(PathBuf),
    Memory(PathBuf),
}

impl DatabaseLocation {
    /// The file at `path` with symbolic links resolved, or a new database in memory.
    pub(super) fn new(path: Option<&Path>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match path {
            Some(path) => Self::File(resolve(path)),
            // The `memdb` VFS rather than `:memory:`, so that a second connection sees the same database.
            None => Self::Memory(format!("file:/lookout-{}?vfs=memdb", NEXT.fetch_add(1, Ordering::Relaxed)).into()),
        }
    }

    /// The path, for messages.
    pub(super) fn name(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Memory(_) => Path::new("in memory"),
        }
    }

    pub(super) const fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Converts an error of SQLite during `action`, for `map_err`.
    pub(super) fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.name().to_owned();
        move |source| StoreError::Sqlite { path: path.clone(), action, source: Arc::new(source) }
    }

    /// Connects to the database. Its file exists already: taking the lock creates it.
    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match self {
            Self::File(path) => Connection::open_with_flags(path, flags),
            Self::Memory(uri) => {
                let flags = flags | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_URI;
                Connection::open_with_flags(uri, flags)
            }
        };
        let connection = connection.map_err(self.failed("open"))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(self.failed("open"))?;
        // Otherwise queries on tables with partial indexes are planned again for each value that is bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(self.failed("open"))?;
        Ok(connection)
    }

    /// A read-only connection in addition to the main one; `is_writable` is whether the main one can write.
    pub(super) fn connect_reader(&self, layout: &Layout, is_writable: bool) -> Result<Connection, StoreError> {
        let connection = match self {
            Self::File(path) if !is_writable => connect_read_only(path, layout).map_err(self.failed("open"))?,
            _ => self.connect()?,
        };
        connection.execute_batch("PRAGMA query_only=ON; PRAGMA temp_store=MEMORY;").map_err(self.failed("open"))?;
        Ok(connection)
    }
}

/// `path` with symbolic links resolved, as far as it exists.
fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(known) = path.canonicalize() {
            return known;
        }
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    match (parent_of(&path).canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path,
    }
}

/// The directory of `path`.
pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens the file at `path` read-only, if it is ours and has the current schema.
pub(super) fn connect_read_only(path: &Path, layout: &Layout) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let connect = |mode: &str| {
        let connection = Connection::open_with_flags(format!("file:{escaped}?{mode}"), flags)?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let is_ours = number("PRAGMA application_id")? == i64::from(layout.application_id)
            && number("PRAGMA user_version")? == i64::from(layout.version());
        if is_ours { Ok(connection) } else { Err(rusqlite::Error::InvalidQuery) }
    };
    // Includes the write-ahead log, indexed in memory. Where that fails too, only the file is read, as of its last
    // checkpoint.
    connect("readonly_shm=1").or_else(|_| connect("immutable=1"))
}

/// Restricts the files to their owner (mode 0600), since alerts contain text of agents. SQLite creates further files with
/// the mode of the database.
pub(super) fn make_private(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = fs::read_dir(parent_of(path)).into_iter().flatten().flatten();
    let is_ours = |entry: &fs::DirEntry| {
        let entry = entry.file_name().to_string_lossy().into_owned();
        entry.strip_prefix(&name).is_some_and(|rest| {
            rest.is_empty()
                || rest == ".lock"
                || COMPANIONS.contains(&rest)
                || ASIDE_SUFFIXES.iter().any(|why| rest.starts_with(why))
        })
    };
    for entry in entries.filter(is_ours) {
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() || metadata.permissions().mode() & 0o077 == 0 {
            continue;
        }
        if let Err(error) = fs::set_permissions(entry.path(), Permissions::from_mode(0o600)) {
            tracing::warn!(path = %entry.path().display(), %error, "store file is readable by other users; set its mode to 0600");
        }
    }
}

/// Connects to `location`, whose file exists already, migrates its schema and calls `read`.
pub(super) fn attempt<T>(
    location: &DatabaseLocation,
    layout: &Layout,
    read: &impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<(Connection, T), StoreError> {
    let mut connection = location.connect()?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(location.failed("read"));
    let id = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_master")?;
    if tables > 0 && id != i64::from(layout.application_id) {
        return Err(StoreError::Foreign { path: location.name().to_owned() });
    }
    let (found, known) = (u32::try_from(version).unwrap_or(u32::MAX), layout.version());
    if found > known {
        return Err(StoreError::Newer { path: location.name().to_owned(), found, known });
    }
    if tables > 0 && fs::metadata(location.name()).is_ok_and(|file| file.len() <= FULL_CHECK_SIZE) {
        let result = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        let detail = result.map_err(location.failed("read"))?;
        if detail != "ok" {
            return Err(StoreError::Damaged { path: location.name().to_owned(), detail });
        }
    }
    prepare(&mut connection, layout, found as usize).map_err(location.failed("open"))?;
    let read = read(&connection).map_err(location.failed("read"))?;
    Ok((connection, read))
}

fn prepare(connection: &mut Connection, layout: &Layout, applied: usize) -> rusqlite::Result<()> {
    enable_vacuum(connection)?;
    // With WAL readers and the writer do not block each other. A database in memory ignores it.
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    // Fails where the index of the write-ahead log cannot grow: SQLite would open such a file read-only without an error.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    connection.execute_batch("PRAGMA temp_store=MEMORY;")?;
    connection.execute_batch(layout.pragmas)?;
    if applied < layout.migrations.len() {
        let transaction = connection.transaction()?;
        for step in layout.migrations.iter().skip(applied) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", layout.application_id)?;
        transaction.pragma_update(None, "user_version", layout.version())?;
        transaction.commit()?;
    }
    Ok(())
}

/// Enables incremental vacuum. A file that was created without it is rewritten once.
fn enable_vacuum(connection: &Connection) -> rusqlite::Result<()> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (incremental, pages) = (2, number("PRAGMA page_count")?);
    if number("PRAGMA auto_vacuum")? == incremental {
        return Ok(());
    }
    connection.execute_batch("PRAGMA auto_vacuum=INCREMENTAL")?;
    if pages > 0
        && let Err(error) = connection.execute_batch("VACUUM")
    {
        // The file works without it; it only does not shrink.
        tracing::debug!(%error, "incremental vacuum not enabled");
    }
    Ok(())
}

/// `path` with `suffix` appended to its file name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Suffixes of files that were moved aside; a time follows.
const ASIDE_SUFFIXES: [&str; 2] = [".damaged", ".replaced"];

/// Renames the file and its companions to `<name>.<why>-<Unix milliseconds>`, so that `sqlite3` can still open them
/// together. Only the last [`MAX_ASIDE`] files per reason are kept.
pub(super) fn move_aside(path: &Path, why: &str, now: Time) -> Result<PathBuf, StoreError> {
    let first = now.as_millis();
    let free = (first..first.saturating_add(1000))
        .map(|at| with_suffix(path, &format!(".{why}-{at}")))
        .find(|aside| !aside.exists());
    let aside = free.unwrap_or_else(|| with_suffix(path, &format!(".{why}")));
    for companion in ["", "-wal", "-shm"] {
        let from = with_suffix(path, companion);
        match fs::rename(&from, with_suffix(&aside, companion)) {
            Err(error) if companion.is_empty() || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error(from, "move aside", error));
            }
            _ => {}
        }
    }
    remove_old(path, why);
    Ok(aside)
}

/// Maximum number of files kept per reason. A faulty disk may damage one file after the other.
const MAX_ASIDE: usize = 5;

/// Removes the oldest files that were moved aside.
fn remove_old(path: &Path, why: &str) {
    let prefix = with_suffix(path, &format!(".{why}-"));
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut times: Vec<i64> = fs::read_dir(parent_of(path))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().strip_prefix(&prefix)?.parse().ok())
        .collect();
    times.sort_unstable();
    times.truncate(times.len().saturating_sub(MAX_ASIDE));
    for at in times {
        let old = with_suffix(path, &format!(".{why}-{at}"));
        tracing::warn!(path = %old.display(), "old store file that had been moved aside was removed");
        for companion in ["", "-wal", "-shm"] {
            // A file that can't be removed is tried again next time.
            fs::remove_file(with_suffix(&old, companion)).ok();
        }
    }
}

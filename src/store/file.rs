//! A SQLite file: where it is, how it is connected to, never a foreign or newer one, and how a damaged one is kept aside.
//! Only its owner may read it.
//!
//! Refuses to know what is in the tables.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::{StoreError, io_error};
use crate::model::Time;

/// Up to this size a file is checked whole when it is opened, at about 1 GB/s; beyond it only what is read is.
const CHECKED_WHOLE: u64 = 128 << 20;

/// How long a transaction waits for another program's lock. Short: an alarm may wait behind it.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// What distinguishes one of our files from another.
#[derive(Debug)]
pub(super) struct Layout {
    /// `PRAGMA application_id`, so that a foreign database is told from ours.
    pub(super) application_id: i32,
    /// The steps from an empty file to the schema of today; `PRAGMA user_version` counts those taken. Never
    /// change one that was released, append.
    pub(super) migrations: &'static [&'static str],
    /// Settings of each writing connection.
    pub(super) pragmas: &'static str,
}

impl Layout {
    fn version(&self) -> u32 {
        u32::try_from(self.migrations.len()).unwrap_or(u32::MAX)
    }
}

/// Symbolic links that are followed to a file that is not there yet.
const LINKS: usize = 40;

/// What SQLite keeps beside a database.
pub(super) const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Where a database is. Clones of a place in memory name the same database.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File(PathBuf),
    Memory(PathBuf),
}

impl Place {
    /// The file at `path`, by the one name that it has without links, or a new database in memory.
    pub(super) fn new(path: Option<&Path>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match path {
            Some(path) => Self::File(resolve(path)),
            // The `memdb` VFS, and not `:memory:`, so that a second connection for readers sees the same database.
            None => Self::Memory(format!("file:/lookout-{}?vfs=memdb", NEXT.fetch_add(1, Ordering::Relaxed)).into()),
        }
    }

    /// For messages.
    pub(super) fn name(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Memory(_) => Path::new("in memory"),
        }
    }

    pub(super) const fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// An error of SQLite while doing `action`, to be completed by `map_err`.
    pub(super) fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.name().to_owned();
        move |source| StoreError::Sqlite { path: path.clone(), action, source: Arc::new(source) }
    }

    /// A connection to the database, whose file is there already: it is created when it is locked.
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
        Ok(connection)
    }

    /// A connection that only reads, beside the one that was opened; `is_writable` is whether that one can write.
    pub(super) fn connect_reader(&self, layout: &Layout, is_writable: bool) -> Result<Connection, StoreError> {
        let connection = match self {
            Self::File(path) if !is_writable => connect_read_only(path, layout).map_err(self.failed("open"))?,
            _ => self.connect()?,
        };
        connection.execute_batch("PRAGMA query_only=ON; PRAGMA temp_store=MEMORY;").map_err(self.failed("open"))?;
        Ok(connection)
    }
}

/// `path` without symbolic links, as far as it is there.
fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
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

/// The directory that `path` is in.
pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens the file at `path` to be read only, if it is one of ours as it is today.
pub(super) fn connect_read_only(path: &Path, layout: &Layout) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let connect = |how: &str| {
        let connection = Connection::open_with_flags(format!("file:{escaped}?{how}"), flags)?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let is_ours = number("PRAGMA application_id")? == i64::from(layout.application_id)
            && number("PRAGMA user_version")? == i64::from(layout.version());
        if is_ours { Ok(connection) } else { Err(rusqlite::Error::InvalidQuery) }
    };
    // A log is read with the file, by an index in memory; where even that can't be, the file alone is read as it was
    // last folded.
    connect("readonly_shm=1").or_else(|_| connect("immutable=1"))
}

/// Takes the right to read away from everybody but the owner: alerts hold what agents say. What is created from now on
/// has the mode of the database.
pub(super) fn make_private(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = fs::read_dir(parent_of(path)).into_iter().flatten().flatten();
    let is_ours = |entry: &fs::DirEntry| {
        let entry = entry.file_name().to_string_lossy().into_owned();
        entry.strip_prefix(&name).is_some_and(|rest| {
            rest.is_empty()
                || rest == ".lock"
                || COMPANIONS.contains(&rest)
                || ASIDE.iter().any(|why| rest.starts_with(why))
        })
    };
    for entry in entries.filter(is_ours) {
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() || metadata.permissions().mode() & 0o077 == 0 {
            continue;
        }
        if let Err(error) = fs::set_permissions(entry.path(), Permissions::from_mode(0o600)) {
            tracing::warn!(path = %entry.path().display(), %error, "a file of the store can be read by others than its owner; set its mode to 600");
        }
    }
}

/// Connects to `place`, whose file is there already, brings its schema up to date and calls `read`.
pub(super) fn attempt<T>(
    place: &Place,
    layout: &Layout,
    read: &impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<(Connection, T), StoreError> {
    let mut connection = place.connect()?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(place.failed("read"));
    let id = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_master")?;
    if tables > 0 && id != i64::from(layout.application_id) {
        return Err(StoreError::Foreign { path: place.name().to_owned() });
    }
    let (found, known) = (u32::try_from(version).unwrap_or(u32::MAX), layout.version());
    if found > known {
        return Err(StoreError::Newer { path: place.name().to_owned(), found, known });
    }
    if tables > 0 && fs::metadata(place.name()).is_ok_and(|file| file.len() <= CHECKED_WHOLE) {
        let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        let detail = verdict.map_err(place.failed("read"))?;
        if detail != "ok" {
            return Err(StoreError::Damaged { path: place.name().to_owned(), detail });
        }
    }
    prepare(&mut connection, layout, found as usize).map_err(place.failed("open"))?;
    let read = read(&connection).map_err(place.failed("read"))?;
    Ok((connection, read))
}

fn prepare(connection: &mut Connection, layout: &Layout, taken: usize) -> rusqlite::Result<()> {
    make_shrinkable(connection)?;
    // WAL, so that readers and the writer don't wait for each other; a database in memory stays without.
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    // Where the log's index can't grow, SQLite opens the file all the same, and only ever reads it.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
    connection.execute_batch("PRAGMA temp_store=MEMORY;")?;
    connection.execute_batch(layout.pragmas)?;
    if taken < layout.migrations.len() {
        let transaction = connection.transaction()?;
        for step in layout.migrations.iter().skip(taken) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", layout.application_id)?;
        transaction.pragma_update(None, "user_version", layout.version())?;
        transaction.commit()?;
    }
    Ok(())
}

/// Has the file be one that can give free pages back. One from before is rewritten, once.
fn make_shrinkable(connection: &Connection) -> rusqlite::Result<()> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (incremental, pages) = (2, number("PRAGMA page_count")?);
    if number("PRAGMA auto_vacuum")? == incremental {
        return Ok(());
    }
    connection.execute_batch("PRAGMA auto_vacuum=INCREMENTAL")?;
    if pages > 0
        && let Err(error) = connection.execute_batch("VACUUM")
    {
        // It is as large as it ever was, and no larger.
        tracing::debug!(%error, "database not rewritten");
    }
    Ok(())
}

/// `path` with `suffix` after its whole name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What the names of files begin with that were set aside, after the name of the database.
const ASIDE: [&str; 2] = [".damaged", ".replaced"];

/// Renames the file and its companions to `<name>.<why>-<Unix milliseconds>`, so that `sqlite3` can still open them
/// together. Of those that were set aside for one reason the last [`KEPT`] stay.
pub(super) fn set_aside(path: &Path, why: &str, now: Time) -> Result<PathBuf, StoreError> {
    let first = now.as_millis();
    let free = (first..first.saturating_add(1000))
        .map(|at| beside(path, &format!(".{why}-{at}")))
        .find(|aside| !aside.exists());
    let aside = free.unwrap_or_else(|| beside(path, &format!(".{why}")));
    for companion in ["", "-wal", "-shm"] {
        let from = beside(path, companion);
        match fs::rename(&from, beside(&aside, companion)) {
            Err(error) if companion.is_empty() || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error(from, "set aside", error));
            }
            _ => {}
        }
    }
    remove_old(path, why);
    Ok(aside)
}

/// Databases that are kept after they were set aside, for each reason: a disk that damages one damages the next.
const KEPT: usize = 5;

/// Removes the oldest of what was set aside.
fn remove_old(path: &Path, why: &str) {
    let prefix = beside(path, &format!(".{why}-"));
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut times: Vec<i64> = fs::read_dir(parent_of(path))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().strip_prefix(&prefix)?.parse().ok())
        .collect();
    times.sort_unstable();
    times.truncate(times.len().saturating_sub(KEPT));
    for at in times {
        let old = beside(path, &format!(".{why}-{at}"));
        tracing::warn!(path = %old.display(), "an old database that had been set aside was removed, to make room");
        for companion in ["", "-wal", "-shm"] {
            // One that can't be removed now is found again next time.
            fs::remove_file(beside(&old, companion)).ok();
        }
    }
}

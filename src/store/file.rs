//! Opens a SQLite file safely: one lookout per file, never a foreign or newer one, a damaged one kept aside, and one
//! on a disk that takes nothing is read at least.
//!
//! Two lookouts on one file are refused by an advisory lock on `<file>.lock`, held while the file is open and
//! dropped by the system when the process dies; readers such as `sqlite3` are not hindered by it. The lock file
//! itself stays, since removing it would race with the next start. Refuses to know what is in the tables.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use crate::model::Time;

/// Up to this size a file is checked whole when it is opened, at about 1 GB/s; beyond it only what is read is.
const CHECKED_WHOLE: u64 = 128 << 20;

/// How long a transaction waits for another program's lock. Short: an alarm may wait behind it.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// What distinguishes one of our files from another.
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

/// Where a database is. Clones of a place in memory name the same database.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File(PathBuf),
    Memory(PathBuf),
}

impl Place {
    /// The file at `path`, or a new database in memory.
    pub(super) fn new(path: Option<&Path>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match path {
            Some(path) => Self::File(path.to_owned()),
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
    pub(super) fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
        let path = self.name().to_owned();
        move |source| StoreError::Sqlite { path: path.clone(), action, source: Arc::new(source) }
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match self {
            Self::File(path) => Connection::open_with_flags(path, flags),
            Self::Memory(uri) => Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI),
        };
        let connection = connection.map_err(self.failed("open"))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(self.failed("open"))?;
        Ok(connection)
    }

    /// A connection that only reads, beside the one that [`open`] returned.
    pub(super) fn connect_reader(&self) -> Result<Connection, StoreError> {
        let connection = self.connect()?;
        connection.execute_batch("PRAGMA query_only=ON; PRAGMA temp_store=MEMORY;").map_err(self.failed("open"))?;
        Ok(connection)
    }
}

/// A database that is open for writing, and what was read from it.
#[derive(Debug)]
pub(super) struct Opened<T> {
    /// Where it is: in memory, if the file can be read and not be written.
    pub(super) place: Place,
    pub(super) connection: Connection,
    /// Held, not used: the lock lives as long as it.
    pub(super) lock: Option<File>,
    /// Where a damaged predecessor was put.
    pub(super) damaged: Option<PathBuf>,
    /// Why nothing is kept in the file.
    pub(super) unwritable: Option<StoreError>,
    /// What `read` returned.
    pub(super) read: T,
}

/// Opens `place`, brings its schema up to date and calls `read`; a damaged file is set aside and a fresh one begun.
/// Of a file that is there and can't be written what can be read is read, and from there on all is kept in memory:
/// who restarts on a full disk must be told of alerts all the same.
pub(super) fn open<T>(
    place: &Place,
    layout: &Layout,
    now: Time,
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<Opened<T>, StoreError> {
    let Place::File(path) = place else {
        let (connection, read) = attempt(place, layout, &read)?;
        return Ok(Opened { place: place.clone(), connection, lock: None, damaged: None, unwritable: None, read });
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(StoreError::Directory { path: path.clone() });
    }
    match open_for_writing(place, path, layout, now, &read) {
        Err(error) if error.is_of_disk() && path.is_file() => open_for_reading(path, layout, &read, error),
        opened => opened,
    }
}

fn open_for_writing<T>(
    place: &Place,
    path: &Path,
    layout: &Layout,
    now: Time,
    read: &impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<Opened<T>, StoreError> {
    let lock = Some(lock(path)?);
    let (aside, (connection, read)) = match attempt(place, layout, read) {
        Ok(opened) => (None, opened),
        Err(error) if error.is_damage() => {
            let aside = set_aside(path, now)?;
            tracing::error!(path = %path.display(), aside = %aside.display(), %error, "store is damaged and was set aside");
            (Some(aside), attempt(place, layout, read)?)
        }
        Err(error) => return Err(error),
    };
    Ok(Opened { place: place.clone(), connection, lock, damaged: aside, unwritable: None, read })
}

/// Reads the file at `path`, and begins a database in memory in its place; the error is `why` when it can't be read
/// either, or is none of ours as it is today.
fn open_for_reading<T>(
    path: &Path,
    layout: &Layout,
    read: &impl Fn(&Connection) -> rusqlite::Result<T>,
    why: StoreError,
) -> Result<Opened<T>, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let take = |file: Connection| {
        let number = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0));
        let is_ours = number("PRAGMA application_id")? == i64::from(layout.application_id)
            && number("PRAGMA user_version")? == i64::from(layout.version());
        if is_ours { read(&file) } else { Err(rusqlite::Error::InvalidQuery) }
    };
    // A log is read with the file, by an index in memory; where even that can't be, the file alone is read as it was
    // last folded.
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let known = ["readonly_shm=1", "immutable=1"].into_iter().find_map(|how| {
        let uri = format!("file:{escaped}?{how}");
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).and_then(take).ok()
    });
    let Some(known) = known else { return Err(why) };
    let place = Place::new(None);
    let (connection, _) = attempt(&place, layout, read)?;
    Ok(Opened { place, connection, lock: None, damaged: None, unwritable: Some(why), read: known })
}

fn attempt<T>(
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
    // WAL, so that readers and the writer don't wait for each other; a database in memory stays without.
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
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

/// `path` with `suffix` after its whole name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |action| move |error| StoreError::Io { path: beside(path, ".lock"), action, source: Arc::new(error) };
    let options = File::options().read(true).write(true).create(true).truncate(false).open(beside(path, ".lock"));
    let mut file = options.map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => {
            // For people and the message above; a lock file that can't be written still locks.
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

/// Renames the file and its companions to `<name>.damaged-<Unix milliseconds>`, so that `sqlite3` can still open them together.
fn set_aside(path: &Path, now: Time) -> Result<PathBuf, StoreError> {
    let first = now.as_millis();
    let free = (first..first.saturating_add(1000))
        .map(|at| beside(path, &format!(".damaged-{at}")))
        .find(|aside| !aside.exists());
    let aside = free.unwrap_or_else(|| beside(path, ".damaged"));
    for companion in ["", "-wal", "-shm"] {
        let from = beside(path, companion);
        match fs::rename(&from, beside(&aside, companion)) {
            Err(error) if companion.is_empty() || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::Io { path: from, action: "set aside", source: Arc::new(error) });
            }
            _ => {}
        }
    }
    Ok(aside)
}

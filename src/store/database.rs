//! An open SQLite database: its connection, its lock, and the identity of its files.
//!
//! When the files of a running program are removed, moved or replaced, SQLite keeps writing into the unlinked file, whose
//! content is lost at the next start. Each transaction therefore checks the files first and, when they have changed,
//! writes the whole content, which the open file still holds, to the path again. A database on a full or read-only disk
//! is opened for reading, and for writing as soon as that is possible.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::{Connection, config::DbConfig};

use super::error::{StoreError, io_error};
use super::file::{self, COMPANIONS, DatabaseLocation, Layout, move_aside, parent_of, with_suffix};
use super::lock::{DatabaseLock, lock_database, private};
use crate::clock::Stopwatch;
use crate::model::Time;

/// Minimum time between two attempts to restore a file, since each copies the whole database.
const RESTORE_RETRY: Duration = Duration::from_millis(500);

/// Maximum size of the write-ahead log. It is checkpointed long before, unless another program holds a read transaction.
const MAX_WAL_SIZE: u64 = 256 << 20;

/// Pages that one vacuum step returns to the file system: 4 MiB.
const VACUUM_PAGES: u64 = 1024;

/// Device and inode of the database, its write-ahead log and its shared memory; `None` for a file that does not exist.
type FileIdentities = [Option<(u64, u64)>; 3];

/// An open database, writable or read-only.
#[derive(Debug)]
pub(super) struct Database {
    location: DatabaseLocation,
    layout: &'static Layout,
    /// Dropped before the lock.
    pub(super) connection: Connection,
    /// `None` in memory, and while the file is read-only.
    lock: Option<DatabaseLock>,
    identity: FileIdentities,
    /// Length of the write-ahead log after this thread last wrote it. A shorter one was truncated by another program.
    wal_length: u64,
    /// The last failure to restore the files and when it happened; the next attempt is [`RESTORE_RETRY`] later.
    failed: Option<(StoreError, Stopwatch)>,
    /// Incremented when the connection is replaced, so that readers reconnect.
    generation: Arc<AtomicU64>,
}

impl Database {
    /// `lock` is `None` in memory, and when `connection` is read-only.
    pub(super) fn new(
        location: DatabaseLocation,
        layout: &'static Layout,
        connection: Connection,
        lock: Option<DatabaseLock>,
    ) -> Self {
        let identity = identity_of(&location);
        let mut database = Self {
            location,
            layout,
            connection,
            lock,
            identity,
            wal_length: 0,
            failed: None,
            generation: Arc::default(),
        };
        database.note_written();
        database
    }

    pub(super) const fn location(&self) -> &DatabaseLocation {
        &self.location
    }

    /// The counter of replaced connections, shared with readers.
    pub(super) fn generation(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.generation)
    }

    /// Whether the file was opened for writing.
    pub(super) const fn is_writable(&self) -> bool {
        self.location.is_memory() || self.lock.is_some()
    }

    /// Bytes on disk, with the write-ahead log.
    pub(super) fn size(&self) -> u64 {
        self.length("") + self.length("-wal")
    }

    fn length(&self, suffix: &str) -> u64 {
        let DatabaseLocation::File(path) = &self.location else { return 0 };
        fs::metadata(with_suffix(path, suffix)).map_or(0, |file| file.len())
    }

    /// Remembers the state of the files after a write of this thread. Any later difference was made by another program.
    pub(super) fn note_written(&mut self) {
        self.wal_length = self.length("-wal");
    }

    /// Bytes of the file that are in use.
    pub(super) fn used(&self) -> rusqlite::Result<u64> {
        let [pages, free, size] = self.pages()?;
        Ok(pages.saturating_sub(free) * size)
    }

    /// Returns some free pages to the file system, while the file is larger than `most` bytes or a quarter of it is free.
    pub(super) fn vacuum(&self, most: u64) -> rusqlite::Result<()> {
        let [pages, free, size] = self.pages()?;
        if free == 0 || !(pages * size > most || free > pages / 4 && free > VACUUM_PAGES) {
            return Ok(());
        }
        let mut vacuum = self.connection.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut steps = vacuum.query([])?;
        // Each step frees one page.
        while steps.next()?.is_some() {}
        Ok(())
    }

    /// Number of pages, number of free pages, and bytes per page.
    fn pages(&self) -> rusqlite::Result<[u64; 3]> {
        let mut numbers = [0; 3];
        for (number, pragma) in numbers.iter_mut().zip(["page_count", "freelist_count", "page_size"]) {
            let value: i64 =
                self.connection.prepare_cached(&format!("PRAGMA {pragma}"))?.query_row([], |row| row.get(0))?;
            *number = value.try_into().unwrap_or(0);
        }
        Ok(numbers)
    }

    /// Ensures that the open database is the file at the path. A file that was removed, moved or replaced is written
    /// again; one that was read-only is opened again. Returns whether the content may have changed.
    pub(super) fn restore(&mut self, now: Time) -> Result<bool, StoreError> {
        let DatabaseLocation::File(path) = &self.location else { return Ok(false) };
        if let Some((error, since)) = &self.failed
            && since.elapsed() < RESTORE_RETRY
        {
            return Err(error.clone());
        }
        let path = path.clone();
        let outcome = self.try_restore(&path, now);
        self.failed = outcome.as_ref().err().map(|error| (error.clone(), Stopwatch::start()));
        outcome
    }

    fn try_restore(&mut self, path: &Path, now: Time) -> Result<bool, StoreError> {
        let is_wal_complete = self.length("-wal") >= self.wal_length;
        let Some(lock) = &mut self.lock else {
            self.reopen(path, now)?;
            return Ok(true);
        };
        let found = identity_of(&self.location);
        let is_same = self.identity.iter().zip(&found).all(|(held, found)| held.is_none() || held == found);
        if is_same && is_wal_complete && lock.is_complete() {
            lock.renew(path)?;
            self.bound_wal(path)?;
            return Ok(false);
        }
        match self.rewrite(path, found, now) {
            Err(error) if error.is_damage() => {
                tracing::error!(path = %path.display(), %error, "store file was removed or replaced and its content is no longer readable; starting with an empty one");
                self.start_over(path, now)?;
                Ok(true)
            }
            outcome => outcome.map(|()| false),
        }
    }

    /// Returns an error when the write-ahead log has grown too large because a transaction of another program prevents
    /// its checkpoint.
    fn bound_wal(&self, path: &Path) -> Result<(), StoreError> {
        let size = self.length("-wal");
        if size <= MAX_WAL_SIZE {
            return Ok(());
        }
        let busy: i64 = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(self.location.failed("checkpoint"))?;
        if busy == 0 { Ok(()) } else { Err(StoreError::WalTooLarge { path: path.to_owned(), size }) }
    }

    /// Moves a damaged file aside and opens an empty one.
    pub(super) fn start_over(&mut self, path: &Path, now: Time) -> Result<(), StoreError> {
        self.detach()?;
        if path.exists() {
            let aside = move_aside(path, "damaged", now)?;
            tracing::error!(path = %path.display(), aside = %aside.display(), "store file is damaged and was moved aside; starting with an empty one");
        }
        self.reopen(path, now)
    }

    /// Writes the whole content to `path`, in place of the files `found` there.
    fn rewrite(&mut self, path: &Path, found: FileIdentities, now: Time) -> Result<(), StoreError> {
        let parent = parent_of(path);
        if !parent.is_dir() {
            let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            created.map_err(|_| StoreError::Gone { path: path.to_owned() })?;
        }
        let is_other = found[0].is_some() && found[0] != self.identity[0];
        if is_other {
            // The other file may belong to another lookout, which then holds its lock.
            drop(lock_database(path)?);
        }
        let copy = with_suffix(path, ".new");
        let failed = |action| move |error| io_error(path.to_owned(), action, error);
        remove(&copy).map_err(failed("write"))?;
        let file = private().open(&copy).map_err(failed("create"))?;
        self.connection
            .execute("VACUUM INTO ?1", [copy.to_string_lossy()])
            .map_err(self.location.failed("write a copy of"))?;
        file.sync_all().map_err(failed("sync"))?;
        drop(file);
        let database = lock_database(&copy)?;
        let aside = if is_other { Some(move_aside(path, "replaced", now)?) } else { None };
        for companion in COMPANIONS {
            remove(&with_suffix(path, companion)).map_err(failed("replace"))?;
        }
        let lock = self.detach()?;
        fs::rename(&copy, path).map_err(failed("replace"))?;
        // A failed sync of the directory is not fatal: the file itself is synced.
        fs::File::open(parent).and_then(|parent| parent.sync_all()).ok();
        let lock = match lock {
            Some(lock) => lock.take_over(path, database)?,
            None => return Err(StoreError::Gone { path: path.to_owned() }),
        };
        let (connection, ()) = file::attempt(&self.location, self.layout, &|_| Ok(()))?;
        self.attach(Self::new(self.location.clone(), self.layout, connection, Some(lock)));
        match aside {
            Some(aside) => {
                tracing::error!(path = %path.display(), aside = %aside.display(), "store file was replaced by another file; that one was moved aside and the store was written again");
            }
            None => {
                tracing::error!(path = %path.display(), "store file was removed or moved; it was written again without loss");
            }
        }
        Ok(())
    }

    /// Opens the file at the path as at startup.
    fn reopen(&mut self, path: &Path, now: Time) -> Result<(), StoreError> {
        if !parent_of(path).is_dir() {
            return Err(StoreError::Gone { path: path.to_owned() });
        }
        // SQLite shares one index of the write-ahead log per process: while one connection has it open read-only, no other
        // connection can write.
        self.detach()?;
        let opened = open_for_writing(&self.location, path, self.layout, now, &|_| Ok(()))?;
        self.attach(opened.database);
        Ok(())
    }

    fn attach(&mut self, other: Self) {
        let generation = Arc::clone(&self.generation);
        *self = Self { generation, ..other };
        self.generation.fetch_add(1, Relaxed);
    }

    /// Closes the connection without touching the files at the path. Until another one is opened, the connection is to an
    /// empty database in memory, and [`Database::restore`] opens the file at the path.
    fn detach(&mut self) -> Result<Option<DatabaseLock>, StoreError> {
        let failed = self.location.failed("close");
        let empty = Connection::open_in_memory().map_err(&failed)?;
        let old = std::mem::replace(&mut self.connection, empty);
        old.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(&failed)?;
        drop(old);
        Ok(self.lock.take())
    }
}

/// An open database and its content.
#[derive(Debug)]
pub(super) struct OpenedDatabase<T> {
    pub(super) database: Database,
    /// Where a damaged file was moved to.
    pub(super) damaged: Option<PathBuf>,
    /// Why the file is read-only for now.
    pub(super) unwritable: Option<StoreError>,
    /// The result of `read`.
    pub(super) read: T,
}

/// Opens the database at `location`, migrates its schema and calls `read`. A damaged file is moved aside and replaced by an
/// empty one. An existing file that is not writable is opened read-only, so that a restart on a full disk keeps its
/// alerts; [`Database::restore`] makes it writable later.
pub(super) fn open<T>(
    location: &DatabaseLocation,
    layout: &'static Layout,
    now: Time,
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<OpenedDatabase<T>, StoreError> {
    let DatabaseLocation::File(path) = location else {
        let (connection, read) = file::attempt(location, layout, &read)?;
        let database = Database::new(location.clone(), layout, connection, None);
        return Ok(OpenedDatabase { database, damaged: None, unwritable: None, read });
    };
    if !parent_of(path).is_dir() {
        return Err(StoreError::Directory { path: path.clone() });
    }
    match open_for_writing(location, path, layout, now, &read) {
        Err(error) if error.is_disk_failure() && path.is_file() => {
            let failed = location.failed("read");
            match file::connect_read_only(path, layout).and_then(|connection| Ok((read(&connection)?, connection))) {
                Ok((read, connection)) => {
                    let database = Database::new(location.clone(), layout, connection, None);
                    Ok(OpenedDatabase { database, damaged: None, unwritable: Some(error), read })
                }
                Err(also) => {
                    tracing::debug!(error = %failed(also), "store file is not readable either");
                    Err(error)
                }
            }
        }
        opened => opened,
    }
}

/// Locks the file at `path` and opens it for writing.
fn open_for_writing<T>(
    location: &DatabaseLocation,
    path: &Path,
    layout: &'static Layout,
    now: Time,
    read: &impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<OpenedDatabase<T>, StoreError> {
    let mut lock = DatabaseLock::take(path)?;
    let (damaged, (connection, read)) = match file::attempt(location, layout, read) {
        Ok(opened) => (None, opened),
        Err(error) if error.is_damage() => {
            let aside = move_aside(path, "damaged", now)?;
            tracing::error!(path = %path.display(), aside = %aside.display(), %error, "store file is damaged and was moved aside");
            lock = DatabaseLock::take_over(lock, path, lock_database(path)?)?;
            (Some(aside), file::attempt(location, layout, read)?)
        }
        Err(error) => return Err(error),
    };
    file::make_private(path);
    let database = Database::new(location.clone(), layout, connection, Some(lock));
    Ok(OpenedDatabase { database, damaged, unwritable: None, read })
}

fn identity_of(location: &DatabaseLocation) -> FileIdentities {
    let DatabaseLocation::File(path) = location else { return [None; 3] };
    ["", "-wal", "-shm"].map(|name| fs::metadata(with_suffix(path, name)).ok().map(|file| (file.dev(), file.ino())))
}

/// Removes a file if it exists.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

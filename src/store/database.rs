//! A database as the thread that owns it holds it: the connection, the lock, and which file it is. One lookout has it, and
//! one on a disk that takes nothing is read at least.
//!
//! People and scripts remove, move and replace files under running programs. SQLite then goes on writing into a file
//! that nobody will find again. Here that is noticed before a transaction, and the whole content, which the open file
//! still holds, is written to the path anew.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::{Connection, config::DbConfig};

use super::error::{StoreError, io_error};
use super::file::{self, COMPANIONS, Layout, Place, beside, parent_of, set_aside};
use super::lock::{Lock, lock_database, private};
use crate::clock::Stopwatch;
use crate::model::Time;

/// How long after a failure it is tried again to restore a file: a copy of everything is no small thing.
const AGAIN: Duration = Duration::from_millis(500);

/// The longest that a log may become. It is folded long before, unless another program reads it all the time.
const LONGEST_LOG: u64 = 256 << 20;

/// Pages that are given back at once: 4 MiB.
const GIVEN_BACK: u64 = 1024;

/// Device and inode of the database, its log and its shared memory; `None` for one that was not there.
type Identity = [Option<(u64, u64)>; 3];

/// A database that is open, to be read at least.
#[derive(Debug)]
pub(super) struct Database {
    place: Place,
    layout: &'static Layout,
    /// Dropped before the lock.
    pub(super) connection: Connection,
    /// `None` in memory, and for a file that can't be written yet.
    lock: Option<Lock>,
    identity: Identity,
    /// The length of the log when this thread last touched it: nobody else cuts it.
    log_length: u64,
    /// Why it could not be restored, and since when that is known: it is not tried again before [`AGAIN`].
    failed: Option<(StoreError, Stopwatch)>,
    /// How often another file took the place of the one before. Readers connect anew then.
    generation: Arc<AtomicU64>,
}

impl Database {
    /// `lock` is `None` in memory, and when `connection` only reads.
    pub(super) fn new(place: Place, layout: &'static Layout, connection: Connection, lock: Option<Lock>) -> Self {
        let identity = identity_of(&place);
        let mut database =
            Self { place, layout, connection, lock, identity, log_length: 0, failed: None, generation: Arc::default() };
        database.note();
        database
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Counts how often the connection was replaced.
    pub(super) fn generation(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.generation)
    }

    /// Whether the file can be written, as far as is known.
    pub(super) const fn is_writable(&self) -> bool {
        self.place.is_memory() || self.lock.is_some()
    }

    /// Bytes on disk, with the log.
    pub(super) fn size(&self) -> u64 {
        self.length("") + self.length("-wal")
    }

    fn length(&self, suffix: &str) -> u64 {
        let Place::File(path) = &self.place else { return 0 };
        fs::metadata(beside(path, suffix)).map_or(0, |file| file.len())
    }

    /// Notes how the files are after this thread wrote: what is otherwise afterwards was somebody else.
    pub(super) fn note(&mut self) {
        self.log_length = self.length("-wal");
    }

    /// Bytes of the file that are in use.
    pub(super) fn used(&self) -> rusqlite::Result<u64> {
        let [pages, free, size] = self.pages()?;
        Ok(pages.saturating_sub(free) * size)
    }

    /// Gives some of the free pages back to the file system, while the file is larger than `most` bytes or a quarter
    /// of it is free.
    pub(super) fn give_back(&self, most: u64) -> rusqlite::Result<()> {
        let [pages, free, size] = self.pages()?;
        if free == 0 || !(pages * size > most || free > pages / 4 && free > GIVEN_BACK) {
            return Ok(());
        }
        let mut vacuum = self.connection.prepare_cached(&format!("PRAGMA incremental_vacuum({GIVEN_BACK})"))?;
        let mut steps = vacuum.query([])?;
        // A page each.
        while steps.next()?.is_some() {}
        Ok(())
    }

    /// Pages, free pages, and bytes of a page.
    fn pages(&self) -> rusqlite::Result<[u64; 3]> {
        let mut numbers = [0; 3];
        for (number, pragma) in numbers.iter_mut().zip(["page_count", "freelist_count", "page_size"]) {
            let value: i64 =
                self.connection.prepare_cached(&format!("PRAGMA {pragma}"))?.query_row([], |row| row.get(0))?;
            *number = value.try_into().unwrap_or(0);
        }
        Ok(numbers)
    }

    /// Makes sure that what is written now will be found at the path. A file that was removed, moved or replaced is
    /// written there anew; one that could only be read so far is opened again. Returns whether the content may be
    /// another than it was.
    pub(super) fn restore(&mut self, now: Time) -> Result<bool, StoreError> {
        let Place::File(path) = &self.place else { return Ok(false) };
        if let Some((error, since)) = &self.failed
            && since.elapsed() < AGAIN
        {
            return Err(error.clone());
        }
        let path = path.clone();
        let outcome = self.try_restore(&path, now);
        self.failed = outcome.as_ref().err().map(|error| (error.clone(), Stopwatch::start()));
        outcome
    }

    fn try_restore(&mut self, path: &Path, now: Time) -> Result<bool, StoreError> {
        let is_log_whole = self.length("-wal") >= self.log_length;
        let Some(lock) = &mut self.lock else {
            self.reopen(path, now)?;
            return Ok(true);
        };
        let found = identity_of(&self.place);
        let is_there = self.identity.iter().zip(&found).all(|(held, found)| held.is_none() || held == found);
        if is_there && is_log_whole && lock.is_whole() {
            lock.renew(path)?;
            self.bound_log(path)?;
            return Ok(false);
        }
        match self.write_anew(path, found, now) {
            Err(error) if error.is_damage() => {
                tracing::error!(path = %path.display(), %error, "store was removed or replaced, and what it held can't be read any longer; a new one is begun");
                self.begin_anew(path, now)?;
                Ok(true)
            }
            outcome => outcome.map(|()| false),
        }
    }

    /// Refuses to let the log grow while somebody's transaction, left open, keeps it from being folded.
    fn bound_log(&self, path: &Path) -> Result<(), StoreError> {
        let size = self.length("-wal");
        if size <= LONGEST_LOG {
            return Ok(());
        }
        let busy: i64 = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(self.place.failed("checkpoint"))?;
        if busy == 0 { Ok(()) } else { Err(StoreError::LogHeld { path: path.to_owned(), size }) }
    }

    /// Sets a file aside that turned out to be damaged, and begins a new one.
    pub(super) fn begin_anew(&mut self, path: &Path, now: Time) -> Result<(), StoreError> {
        self.detach()?;
        if path.exists() {
            let aside = set_aside(path, "damaged", now)?;
            tracing::error!(path = %path.display(), aside = %aside.display(), "store is damaged and was set aside; a new one is begun");
        }
        self.reopen(path, now)
    }

    /// Writes everything to `path`, where `found` is now.
    fn write_anew(&mut self, path: &Path, found: Identity, now: Time) -> Result<(), StoreError> {
        let parent = parent_of(path);
        if !parent.is_dir() {
            let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            created.map_err(|_| StoreError::Gone { path: path.to_owned() })?;
        }
        let is_other = found[0].is_some() && found[0] != self.identity[0];
        if is_other {
            // Another lookout may have begun it; then it is that one's.
            drop(lock_database(path)?);
        }
        let copy = beside(path, ".new");
        let failed = |action| move |error| io_error(path.to_owned(), action, error);
        remove(&copy).map_err(failed("write"))?;
        let file = private().open(&copy).map_err(failed("create"))?;
        self.connection
            .execute("VACUUM INTO ?1", [copy.to_string_lossy()])
            .map_err(self.place.failed("write a copy of"))?;
        file.sync_all().map_err(failed("sync"))?;
        drop(file);
        let database = lock_database(&copy)?;
        let aside = if is_other { Some(set_aside(path, "replaced", now)?) } else { None };
        for companion in COMPANIONS {
            remove(&beside(path, companion)).map_err(failed("replace"))?;
        }
        let lock = self.detach()?;
        fs::rename(&copy, path).map_err(failed("replace"))?;
        // A directory that can't be synced is no reason to do without the file.
        fs::File::open(parent).and_then(|parent| parent.sync_all()).ok();
        let lock = match lock {
            Some(lock) => lock.take_over(path, database)?,
            None => return Err(StoreError::Gone { path: path.to_owned() }),
        };
        let (connection, ()) = file::attempt(&self.place, self.layout, &|_| Ok(()))?;
        self.attach(Self::new(self.place.clone(), self.layout, connection, Some(lock)));
        match aside {
            Some(aside) => {
                tracing::error!(path = %path.display(), aside = %aside.display(), "another file was put in place of the store while lookout runs; it was set aside, and the store written anew");
            }
            None => {
                tracing::error!(path = %path.display(), "the store was removed or moved while lookout runs; it was written anew, and nothing is lost");
            }
        }
        Ok(())
    }

    /// Opens the file at the path as at a start.
    fn reopen(&mut self, path: &Path, now: Time) -> Result<(), StoreError> {
        if !parent_of(path).is_dir() {
            return Err(StoreError::Gone { path: path.to_owned() });
        }
        // SQLite has one index of the log in the process: as long as one connection only reads it, all do.
        self.detach()?;
        let opened = open_for_writing(&self.place, path, self.layout, now, &|_| Ok(()))?;
        self.attach(opened.database);
        Ok(())
    }

    fn attach(&mut self, other: Self) {
        let generation = Arc::clone(&self.generation);
        *self = Self { generation, ..other };
        self.generation.fetch_add(1, Relaxed);
    }

    /// Closes the connection without touching what is at the path. Until another is opened, an empty database in
    /// memory takes its place, and [`Database::restore`] opens what is at the path.
    fn detach(&mut self) -> Result<Option<Lock>, StoreError> {
        let failed = self.place.failed("close");
        let empty = Connection::open_in_memory().map_err(&failed)?;
        let old = std::mem::replace(&mut self.connection, empty);
        old.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(&failed)?;
        drop(old);
        Ok(self.lock.take())
    }
}

/// A database that is open, and what was read from it.
#[derive(Debug)]
pub(super) struct Opened<T> {
    pub(super) database: Database,
    /// Where a damaged predecessor was put.
    pub(super) damaged: Option<PathBuf>,
    /// Why it can only be read as yet.
    pub(super) unwritable: Option<StoreError>,
    /// What `read` returned.
    pub(super) read: T,
}

/// Opens `place`, brings its schema up to date and calls `read`; a damaged file is set aside and a fresh one begun.
/// Of a file that is there and can't be written what can be read is read: who restarts on a full disk must be notified
/// of alerts all the same. It is written once it can be, see [`Database::restore`].
pub(super) fn open<T>(
    place: &Place,
    layout: &'static Layout,
    now: Time,
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<Opened<T>, StoreError> {
    let Place::File(path) = place else {
        let (connection, read) = file::attempt(place, layout, &read)?;
        let database = Database::new(place.clone(), layout, connection, None);
        return Ok(Opened { database, damaged: None, unwritable: None, read });
    };
    if !parent_of(path).is_dir() {
        return Err(StoreError::Directory { path: path.clone() });
    }
    match open_for_writing(place, path, layout, now, &read) {
        Err(error) if error.is_of_disk() && path.is_file() => {
            let failed = place.failed("read");
            match file::connect_read_only(path, layout).and_then(|connection| Ok((read(&connection)?, connection))) {
                Ok((read, connection)) => {
                    let database = Database::new(place.clone(), layout, connection, None);
                    Ok(Opened { database, damaged: None, unwritable: Some(error), read })
                }
                Err(also) => {
                    tracing::debug!(error = %failed(also), "store can't be read either");
                    Err(error)
                }
            }
        }
        opened => opened,
    }
}

/// Opens the file at `path` for writing, which takes its lock.
fn open_for_writing<T>(
    place: &Place,
    path: &Path,
    layout: &'static Layout,
    now: Time,
    read: &impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<Opened<T>, StoreError> {
    let mut lock = Lock::take(path)?;
    let (damaged, (connection, read)) = match file::attempt(place, layout, read) {
        Ok(opened) => (None, opened),
        Err(error) if error.is_damage() => {
            let aside = set_aside(path, "damaged", now)?;
            tracing::error!(path = %path.display(), aside = %aside.display(), %error, "store is damaged and was set aside");
            lock = Lock::take_over(lock, path, lock_database(path)?)?;
            (Some(aside), file::attempt(place, layout, read)?)
        }
        Err(error) => return Err(error),
    };
    file::make_private(path);
    let database = Database::new(place.clone(), layout, connection, Some(lock));
    Ok(Opened { database, damaged, unwritable: None, read })
}

fn identity_of(place: &Place) -> Identity {
    let Place::File(path) = place else { return [None; 3] };
    ["", "-wal", "-shm"].map(|name| fs::metadata(beside(path, name)).ok().map(|file| (file.dev(), file.ino())))
}

/// Removes a file that need not be there.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

//! Tests of both files of the store together.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::model::Time;

fn config(path: PathBuf) -> StoreConfig {
    StoreConfig { path: Some(path), retention: Duration::from_secs(86_400), ..StoreConfig::default() }
}

fn clock() -> Clock {
    Clock::at(Time::from_millis(1_800_000_000_000))
}

fn open(path: &Path) -> Result<(Store, RestoredLedger, SavedFleet), StoreError> {
    Store::open(&config(path.to_owned()), &clock())
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_store_closes_into_two_plain_files_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (store, restored, saved) = open(&path).unwrap();
    assert_eq!((restored.written_at, saved.saved_at), (None, None));
    let other = store.clone();
    store.close(SOON).await.unwrap();
    assert!(matches!(other.ledger.commit(Commit::default()).await, Err(StoreError::Closed)));
    assert!(matches!(other.history.flush().await, Err(StoreError::Closed)));
    let mut names: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with("history.db-shm") && !name.ends_with("history.db-wal"));
    names.sort();
    assert_eq!(names, ["lookout.db", "lookout.db.lock", "lookout.history.db", "lookout.history.db.lock"]);
    open(&path).unwrap().0.close(SOON).await.unwrap();
}

#[tokio::test]
async fn a_second_lookout_is_refused_and_the_error_names_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (store, ..) = open(&path).unwrap();
    match open(&path) {
        Err(StoreError::Locked { path: named, owner }) => {
            assert_eq!((named, owner), (path.clone(), Some(std::process::id())));
        }
        other => panic!("expected a lock, got {other:?}"),
    }
    // Also through links.
    let links = tempfile::tempdir().unwrap();
    let name = |name: &str| links.path().join(name);
    std::os::unix::fs::symlink(&path, name("symbolic.db")).unwrap();
    std::os::unix::fs::symlink(dir.path(), name("folder")).unwrap();
    fs::hard_link(&path, name("hard.db")).unwrap();
    let roundabout = dir.path().join("..").join(dir.path().file_name().unwrap()).join("lookout.db");
    for other in [name("symbolic.db"), name("folder").join("lookout.db"), name("hard.db"), roundabout] {
        let error = open(&other).unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }), "{}: {error:?}", other.display());
    }
    store.close(SOON).await.unwrap();
    open(&path).unwrap().0.close(SOON).await.unwrap();
}

#[test]
fn two_ledgers_with_the_same_history_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir.path().join("lookout.db")).unwrap();
    assert!(matches!(open(&dir.path().join("lookout.sqlite")), Err(StoreError::Locked { .. })));
    drop(first);
}

#[test]
fn a_missing_directory_is_an_error_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for parent in ["missing", "file"] {
        let path = dir.path().join(parent).join("lookout.db");
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Directory { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "{}: directory does not exist; create it, or set `store.path` to a file in an existing directory",
                path.display()
            )
        );
    }
    assert!(
        matches!(open(dir.path()), Err(StoreError::Sqlite { .. } | StoreError::Io { .. })),
        "the path is a directory"
    );
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    open(&path).unwrap().0.close(SOON).await.unwrap();
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, known: 2, .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_database_of_another_program_is_refused_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs(a); INSERT INTO theirs VALUES(1);")
        .unwrap();
    let before = fs::read(&path).unwrap();
    assert!(matches!(open(&path), Err(StoreError::Foreign { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_file_is_moved_aside_and_replaced_by_an_empty_one() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("text", |path| fs::write(path, "this is no database, whatever its name says\n".repeat(50)).unwrap()),
        ("short", |path| fs::write(path, "oops").unwrap()),
        ("holes", |path| {
            let mut bytes = fs::read(path).unwrap();
            // The schema and all pages after it; the header stays.
            bytes.iter_mut().skip(100).for_each(|byte| *byte = 0x5a);
            fs::write(path, bytes).unwrap();
        }),
    ];
    for (name, damage) in damages {
        for damaged in ["lookout.db", "lookout.history.db"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("lookout.db");
            open(&path).unwrap().0.close(SOON).await.unwrap();
            let victim = dir.path().join(damaged);
            damage(&victim);
            let bytes = fs::read(&victim).unwrap();
            let (store, restored, saved) = open(&path).unwrap_or_else(|error| panic!("{name} {damaged}: {error:?}"));
            let aside = dir.path().join(format!("{damaged}.damaged-1800000000000"));
            let moved_to = if damaged == "lookout.db" { restored.damaged } else { saved.damaged };
            assert_eq!(moved_to.as_ref(), Some(&aside), "{name} {damaged}");
            assert_eq!(fs::read(&aside).unwrap(), bytes, "{name} {damaged}: unchanged");
            store.ledger.commit(Commit { counts: Some(LedgerCounts::default()), ..Commit::default() }).await.unwrap();
            store.close(SOON).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_in_memory_works_and_leaves_no_files() {
    let config = StoreConfig { path: None, ..StoreConfig::default() };
    let (store, ..) = Store::open(&config, &clock()).unwrap();
    let (other, ..) = Store::open(&config, &clock()).unwrap();
    let counts = LedgerCounts { by_level: [1, 2, 3, 4], fired: 5 };
    store.ledger.commit(Commit { counts: Some(counts), ..Commit::default() }).await.unwrap();
    assert!(store.history.alerts(ClosedFilter { limit: 9, ..ClosedFilter::default() }).await.unwrap().is_empty());
    store.close(SOON).await.unwrap();
    other.close(SOON).await.unwrap();
    assert_eq!(Store::open(&config, &clock()).unwrap().1.counts, LedgerCounts::default());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let files = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let (store, ..) = open(&path).unwrap();
    assert_eq!(files().count(), 8, "two files, each with log, shared memory and lock");
    assert!(files().all(|path| mode(&path) == 0o600), "{:?}", files().map(|path| mode(&path)).collect::<Vec<_>>());
    store.close(SOON).await.unwrap();
    // Files of an earlier version.
    fs::write(dir.path().join("lookout.db.damaged-1"), "").unwrap();
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    for path in files() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let (store, ..) = open(&path).unwrap();
    let readable_by_others: Vec<_> = files().filter(|path| mode(path) != 0o600).collect();
    assert_eq!(readable_by_others, [dir.path().join("notes.txt")], "other files are not changed");
    store.close(SOON).await.unwrap();
}

/// A commit with a distinguishable counter.
fn counted(fired: u64) -> Commit {
    Commit { counts: Some(LedgerCounts { by_level: [0; 4], fired }), ..Commit::default() }
}

fn usage(seq: u64) -> UsageBody {
    UsageBody { seq, at: Time::from_millis(0), body: "{}".into() }
}

#[tokio::test]
async fn nothing_is_lost_when_the_files_are_removed_or_moved_while_running() {
    type Harm = fn(&Path);
    fn every(path: &Path, suffixes: &[&str], action: impl Fn(&Path)) {
        for suffix in suffixes {
            action(&file::with_suffix(path, suffix));
        }
    }
    let harms: [(&str, Harm); 8] = [
        ("all removed", |path| every(path, &["", "-wal", "-shm", ".lock"], |path| fs::remove_file(path).unwrap())),
        ("the database removed", |path| fs::remove_file(path).unwrap()),
        ("the log removed", |path| every(path, &["-wal"], |path| fs::remove_file(path).unwrap())),
        ("log and shared memory removed", |path| {
            every(path, &["-wal", "-shm"], |path| fs::remove_file(path).unwrap());
        }),
        ("the lock removed", |path| every(path, &[".lock"], |path| fs::remove_file(path).unwrap())),
        ("moved", |path| fs::rename(path, path.with_extension("moved")).unwrap()),
        ("replaced by a copy", |path| {
            let copy = path.with_extension("copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(copy, path).unwrap();
        }),
        ("the folder removed", |path| fs::remove_dir_all(path.parent().unwrap()).unwrap()),
    ];
    for (name, harm) in harms {
        for is_history in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("data").join("lookout.db");
            fs::create_dir(path.parent().unwrap()).unwrap();
            let (store, ..) = open(&path).unwrap();
            store.ledger.commit(counted(1)).await.unwrap();
            store.history.log_usage(usage(1)).await.unwrap().unwrap();
            let victim = if is_history { path.with_extension("history.db") } else { path.clone() };
            harm(&victim);
            let what = format!("{name}, of history: {is_history}");
            store.ledger.commit(counted(2)).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            store.history.log_usage(usage(2)).await.unwrap().unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert!(matches!(open(&path), Err(StoreError::Locked { .. })), "{what}: still locked");
            assert!(store.history.timeline(crate::model::Fingerprint(1)).await.unwrap().is_empty(), "{what}");
            assert_eq!((mode(&victim), mode(&file::with_suffix(&victim, "-wal"))), (0o600, 0o600), "{what}");
            // A copy of the files as after a crash.
            let image = tempfile::tempdir().unwrap();
            for entry in fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()) {
                if !entry.to_string_lossy().ends_with("-shm") {
                    fs::copy(&entry, image.path().join(entry.file_name().unwrap())).unwrap();
                }
            }
            let (_, restored, saved) = open(&image.path().join("lookout.db")).unwrap();
            assert_eq!(restored.counts.fired, 2, "{what}");
            assert_eq!(saved.usage_log, [usage(1), usage(2)], "{what}");
            store.close(SOON).await.unwrap();
            let (store, restored, saved) = open(&path).unwrap();
            assert_eq!((restored.counts.fired, saved.usage_log.len()), (2, 2), "{what}");
            store.close(SOON).await.unwrap();
        }
    }
}

#[tokio::test]
async fn removed_files_are_written_again_even_while_idle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (store, ..) = open(&path).unwrap();
    store.ledger.commit(counted(7)).await.unwrap();
    let files = [path.clone(), path.with_extension("history.db")];
    for path in &files {
        for suffix in ["", "-wal", "-shm", ".lock"] {
            fs::remove_file(file::with_suffix(path, suffix)).unwrap();
        }
    }
    let watch = crate::clock::Stopwatch::start();
    while !files.iter().all(|path| file::with_suffix(path, "-wal").exists()) {
        assert!(watch.elapsed() < SOON, "they were not written again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.ledger.is_ok() && store.history.is_ok());
    store.close(SOON).await.unwrap();
    assert_eq!(open(&path).unwrap().1.counts.fired, 7);
}

#[tokio::test]
async fn a_file_truncated_or_overwritten_in_place_is_recovered() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("cut", |path| fs::write(path, "").unwrap()),
        ("overwritten", |path| fs::write(path, "not a database any more".repeat(1000)).unwrap()),
        ("the log cut", |path| fs::write(file::with_suffix(path, "-wal"), "").unwrap()),
        ("both cut", |path| {
            fs::write(path, "").unwrap();
            fs::write(file::with_suffix(path, "-wal"), "").unwrap();
        }),
    ];
    for (name, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lookout.db");
        let (store, ..) = open(&path).unwrap();
        store.ledger.commit(counted(1)).await.unwrap();
        harm(&path);
        harm(&path.with_extension("history.db"));
        let watch = crate::clock::Stopwatch::start();
        let mut seq = 1;
        let (mut ledger, mut history) = (false, false);
        // As the engine does: retry, and write lost state again.
        while !(ledger && history) {
            seq += 1;
            ledger = store.ledger.commit(counted(seq)).await.is_ok();
            history = store.history.log_usage(usage(seq)).await.unwrap().is_ok();
            assert!(watch.elapsed() < SOON, "{name}: ledger {ledger}, history {history}");
        }
        assert!(store.ledger.is_ok() && store.history.is_ok(), "{name}");
        store.close(SOON).await.unwrap();
        let (store, restored, saved) = open(&path).unwrap();
        assert_eq!((restored.counts.fired, restored.damaged), (seq, None), "{name}");
        assert_eq!((saved.usage_log.last(), saved.damaged), (Some(&usage(seq)), None), "{name}");
        store.close(SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_of_another_lookout_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (store, ..) = open(&path).unwrap();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        fs::remove_file(file::with_suffix(&path, suffix)).unwrap();
        fs::remove_file(file::with_suffix(&path.with_extension("history.db"), suffix)).unwrap();
    }
    let Ok((other, ..)) = open(&path) else {
        // The first one restored its files before the other could open them.
        return;
    };
    let error = store.ledger.commit(counted(1)).await.unwrap_err();
    assert!(error.to_string().contains("in use by another lookout"), "{error}");
    assert!(!store.ledger.is_ok());
    other.ledger.commit(counted(5)).await.unwrap();
    other.close(SOON).await.unwrap();
}

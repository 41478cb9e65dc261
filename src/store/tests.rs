//! Tests of `store`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::model::Time;

fn config(path: PathBuf) -> StoreConfig {
    StoreConfig { path: Some(path), retention: Duration::from_secs(86_400) }
}

fn clock() -> Clock {
    Clock::at(Time::from_millis(1_800_000_000_000))
}

fn open(path: &Path) -> Result<(Store, Restored, Saved), StoreError> {
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
async fn a_second_lookout_on_one_file_is_refused_and_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (store, ..) = open(&path).unwrap();
    match open(&path) {
        Err(StoreError::Locked { path: named, owner }) => {
            assert_eq!((named, owner), (path.clone(), Some(std::process::id())));
        }
        other => panic!("expected a lock, got {other:?}"),
    }
    store.close(SOON).await.unwrap();
    open(&path).unwrap().0.close(SOON).await.unwrap();
}

#[test]
fn two_ledgers_that_share_a_history_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir.path().join("lookout.db")).unwrap();
    assert!(matches!(open(&dir.path().join("lookout.sqlite")), Err(StoreError::Locked { .. })));
    drop(first);
}

#[test]
fn a_directory_that_is_missing_or_a_file_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for parent in ["missing", "file"] {
        let path = dir.path().join(parent).join("lookout.db");
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Directory { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "{}: its directory does not exist; create it, or set `store.path` to a file in one that does",
                path.display()
            )
        );
    }
    assert!(
        matches!(open(dir.path()), Err(StoreError::Sqlite { .. } | StoreError::Io { .. })),
        "a directory is no file"
    );
}

#[tokio::test]
async fn a_newer_version_is_refused_and_left_alone() {
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
fn a_database_of_another_program_is_refused_and_left_alone() {
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
async fn a_damaged_file_is_kept_aside_and_a_fresh_one_begun() {
    type Damage = fn(&Path);
    let rubbish: [(&str, Damage); 3] = [
        ("text", |path| fs::write(path, "this is no database, whatever its name says\n".repeat(50)).unwrap()),
        ("short", |path| fs::write(path, "oops").unwrap()),
        ("holes", |path| {
            let mut bytes = fs::read(path).unwrap();
            // The schema and all pages after it; the header stays.
            bytes.iter_mut().skip(100).for_each(|byte| *byte = 0x5a);
            fs::write(path, bytes).unwrap();
        }),
    ];
    for (name, damage) in rubbish {
        for damaged in ["lookout.db", "lookout.history.db"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("lookout.db");
            open(&path).unwrap().0.close(SOON).await.unwrap();
            let victim = dir.path().join(damaged);
            damage(&victim);
            let bytes = fs::read(&victim).unwrap();
            let (store, restored, saved) = open(&path).unwrap_or_else(|error| panic!("{name} {damaged}: {error:?}"));
            let aside = dir.path().join(format!("{damaged}.damaged-1800000000000"));
            let told = if damaged == "lookout.db" { restored.damaged } else { saved.damaged };
            assert_eq!(told.as_ref(), Some(&aside), "{name} {damaged}");
            assert_eq!(fs::read(&aside).unwrap(), bytes, "{name} {damaged}: kept as it was");
            store.ledger.commit(Commit { counts: Some(LedgerCounts::default()), ..Commit::default() }).await.unwrap();
            store.close(SOON).await.unwrap();
        }
    }
}

#[tokio::test]
async fn in_memory_leaves_nothing_behind_and_answers_the_same() {
    let config = StoreConfig { path: None, ..StoreConfig::default() };
    let (store, ..) = Store::open(&config, &clock()).unwrap();
    let (other, ..) = Store::open(&config, &clock()).unwrap();
    let counts = LedgerCounts { raised: [1, 2, 3, 4], fired: 5 };
    store.ledger.commit(Commit { counts: Some(counts), ..Commit::default() }).await.unwrap();
    assert!(store.history.alerts(ClosedFilter { limit: 9, ..ClosedFilter::default() }).await.unwrap().is_empty());
    store.close(SOON).await.unwrap();
    other.close(SOON).await.unwrap();
    assert_eq!(Store::open(&config, &clock()).unwrap().1.counts, LedgerCounts::default());
}

//! Tests of the ledger.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::model::{AlertState, Ending, Level, NoticeKind, ReceiverState, Subject, Worst};

const DAY: Duration = Duration::from_secs(86_400);
const START: Time = Time::from_millis(1_800_000_000_000);

fn open(path: &Path) -> (LedgerHandle, RestoredLedger) {
    Ledger::open(Some(path), DAY, u64::MAX, Clock::at(START)).unwrap()
}

fn agent(name: &str) -> Subject {
    Subject::Agent { project: "shop".into(), name: name.into() }
}

fn alert(name: &str, level: Level) -> Alert {
    Alert {
        fingerprint: Fingerprint::of("AgentIdle", &agent(name)),
        rule: "AgentIdle".into(),
        subject: agent(name),
        state: AlertState::Firing,
        level,
        value: Some(400.0),
        grows_since: None,
        threshold: Some(300.0),
        no_data: false,
        inhibited_by: None,
        started_at: START,
        fired_at: Some(START),
        clearing_since: None,
        source: None,
        noticed_at: START,
        caused_at: START,
        peak: level,
        worst: None,
        resolved_at: None,
        changed_at: START,
        ending: None,
        agent_type: None,
        ack: None,
        flips: Vec::new(),
        flapping_since: None,
        receivers: BTreeMap::from([(
            "ops".into(),
            ReceiverState { level: Some(level), firing_at: Some(START), sequence: 1, ..ReceiverState::default() },
        )]),
    }
}

fn notice(key: &str) -> Arc<Notice> {
    Arc::new(Notice {
        key: key.into(),
        receiver: "ops".into(),
        fingerprint: Fingerprint::of("AgentIdle", &agent("a")),
        incident: "i".into(),
        rule: "AgentIdle".into(),
        subject: agent("a"),
        agent_type: None,
        part_of: None,
        reference: None,
        kind: NoticeKind::Firing,
        level: Level::Warning,
        previous: None,
        peak: None,
        now_at: None,
        value: Some(400.0),
        threshold: None,
        unit: crate::model::Unit::Seconds,
        message: "idle \"quoted\" 🤖".into(),
        action: "".into(),
        started_at: START,
        fired_at: START,
        resolved_at: None,
        ending: None,
        at: START,
        caused_at: START,
    })
}

fn keys(restored: &RestoredLedger) -> Vec<&str> {
    restored.outbox.iter().map(|notice| &*notice.key).collect()
}

/// A copy of the files as after a crash: the database and its write-ahead log without lock and shared memory.
fn crash_image(path: &Path, into: &Path) -> PathBuf {
    let copy = into.join("crashed.db");
    fs::copy(path, &copy).unwrap();
    fs::copy(format!("{}-wal", path.display()), format!("{}-wal", copy.display())).unwrap();
    copy
}

#[tokio::test]
async fn acknowledged_commits_survive_a_crash_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (ledger, _) = open(&path);
    let counts = LedgerCounts { by_level: [0, 2, 1, 0], fired: 3 };
    let notices = vec![notice("z"), notice("a"), notice("m")];
    let alerts = vec![alert("a", Level::Warning), alert("b", Level::Error), alert("c", Level::Error)];
    ledger.commit(Commit { alerts, notices, counts: Some(counts), ..Commit::default() }).await.unwrap();
    let second = Commit {
        alerts: vec![alert("a", Level::Critical)],
        delete: vec![alert("b", Level::Error).fingerprint],
        outcomes: vec![("a".into(), NoticeOutcome::Delivered)],
        ..Commit::default()
    };
    ledger.commit(second).await.unwrap();
    let (_, restored) = open(&crash_image(&path, dir.path()));
    let mut expected = vec![alert("a", Level::Critical), alert("c", Level::Error)];
    expected.sort_by_key(|alert| alert.fingerprint.0.cast_signed());
    assert_eq!(restored.alerts, expected);
    assert_eq!(keys(&restored), ["z", "m"], "pending, in the order of the commits");
    assert_eq!(restored.outbox.first(), Some(&*notice("z")));
    assert_eq!((restored.counts, restored.written_at, restored.unreadable), (counts, Some(START), 0));
}

#[tokio::test]
async fn a_notice_key_is_never_reused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (ledger, _) = open(&path);
    let dead = NoticeOutcome::Dead { reason: SendReason::Refused, message: "channel_not_found".to_owned() };
    let first = Commit {
        notices: vec![notice("a"), notice("a"), notice("b"), notice("c")],
        outcomes: vec![
            ("a".into(), NoticeOutcome::Delivered),
            ("b".into(), dead),
            ("unknown".into(), NoticeOutcome::Delivered),
        ],
        ..Commit::default()
    };
    ledger.commit(first).await.unwrap();
    let again = Commit {
        notices: vec![notice("a"), notice("b"), notice("c")],
        outcomes: vec![("b".into(), NoticeOutcome::Delivered)],
        ..Commit::default()
    };
    ledger.commit(again).await.unwrap();
    ledger.close().await.unwrap();
    assert_eq!(keys(&open(&path).1), ["c"]);
    let file = rusqlite::Connection::open(&path).unwrap();
    let text: String = file
        .query_row(
            "SELECT group_concat(key || ' ' || state || ' ' || ifnull(reason || ' ' || error, '-'), '; ') FROM outbox",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(text, "a delivered -; b dead refused channel_not_found; c pending -", "readable without lookout");
}

#[tokio::test]
async fn queued_commits_are_all_acknowledged_and_durable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (ledger, _) = open(&path);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..3_000 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            ledger.commit(Commit { notices: vec![notice(&format!("k{n}"))], ..Commit::default() }).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(open(&crash_image(&path, dir.path())).1.outbox.len(), 3_000);
}

#[tokio::test]
async fn a_commit_refused_by_a_lock_is_written_once_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (ledger, _) = open(&path);
    let intruder = rusqlite::Connection::open(&path).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let commit =
        |key| Commit { notices: vec![notice(key)], alerts: vec![alert(key, Level::Error)], ..Commit::default() };
    let error = ledger.commit(commit("a")).await.unwrap_err();
    assert!(error.to_string().ends_with("it is locked by another program: end that program's transaction"), "{error}");
    assert_eq!((ledger.is_ok(), ledger.errors(), ledger.dropped()), (false, 1, 0));
    intruder.execute_batch("ROLLBACK").unwrap();
    ledger.commit(commit("b")).await.unwrap();
    assert!(ledger.is_ok());
    let (_, restored) = open(&crash_image(&path, dir.path()));
    assert_eq!((keys(&restored), restored.alerts.len()), (vec!["a", "b"], 2));
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_the_thread_keeps_running() {
    let location = DatabaseLocation::new(None);
    let opened = database::open(&location, &writer::LAYOUT, START, writer::restore).unwrap();
    opened.database.connection.pragma_update(None, "max_page_count", 12).unwrap();
    let health = Arc::new(FileHealth::new(location.name(), None));
    let writer = writer::LedgerWriter::new(opened, Arc::clone(&health), Clock::at(START));
    let (queue, end) = queue::bounded(QUEUE);
    std::thread::spawn(move || writer.run(&end));
    let ledger = LedgerHandle { queue, health };
    let large = Commit { notices: (0..500).map(|n| notice(&n.to_string())).collect(), ..Commit::default() };
    let error = ledger.commit(large).await.unwrap_err();
    assert!(error.to_string().ends_with("the disk is full: free some space"), "{error}");
    assert!(
        ledger.commit(Commit { counts: Some(LedgerCounts::default()), ..Commit::default() }).await.is_err(),
        "still running, still full"
    );
    assert_eq!(ledger.errors(), 2);
}

#[tokio::test]
async fn notices_are_deleted_after_the_retention_unless_pending() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let clock = Clock::at(START);
    let (ledger, _) = Ledger::open(Some(&path), DAY, u64::MAX, clock.clone()).unwrap();
    let notices: Vec<Arc<Notice>> = (0..1_200).map(|n| notice(&format!("k{n}"))).collect();
    let outcomes = notices.iter().skip(1).map(|notice| (Arc::clone(&notice.key), NoticeOutcome::Delivered)).collect();
    ledger.commit(Commit { notices, outcomes, ..Commit::default() }).await.unwrap();
    clock.advance(DAY + Duration::from_secs(1));
    let fresh = Commit {
        notices: vec![notice("new")],
        outcomes: vec![("new".into(), NoticeOutcome::Delivered)],
        ..Commit::default()
    };
    ledger.commit(fresh).await.unwrap();
    let reader = rusqlite::Connection::open(&path).unwrap();
    let wait = Clock::system();
    let deadline = wait.now().plus(Duration::from_secs(20));
    let rows = loop {
        let rows: i64 = reader.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap();
        if rows <= 2 || wait.now() > deadline {
            break rows;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(rows, 2, "the pending one and the one just delivered");
    ledger.close().await.unwrap();
    assert_eq!(keys(&open(&path).1), ["k0"]);
}

#[tokio::test]
async fn an_unreadable_row_is_counted_and_not_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (ledger, _) = open(&path);
    ledger.commit(Commit { notices: vec![notice("a"), notice("b")], ..Commit::default() }).await.unwrap();
    ledger.close().await.unwrap();
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE outbox SET body = '{}' WHERE key = 'a'", []).unwrap();
    for _ in 0..2 {
        let (ledger, restored) = open(&path);
        assert_eq!((keys(&restored), restored.unreadable), (vec!["b"], 0));
        let lost = LostNotice {
            key: "a".into(),
            receiver: "ops".into(),
            fingerprint: Fingerprint::of("AgentIdle", &agent("a")).to_string(),
        };
        assert_eq!(restored.lost, [lost]);
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn submitted_commits_keep_their_order_and_never_wait() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lookout.db");
    let (ledger, _) = open(&path);
    let (queue, end) = queue::bounded(1);
    let full = LedgerHandle { queue, health: Arc::new(FileHealth::new(&path, None)) };
    assert!(full.submit(Commit::default()).is_ok());
    let back = full.submit(Commit { notices: vec![notice("mine")], ..Commit::default() }).unwrap_err();
    assert_eq!(back.notices.len(), 1, "returned");
    drop(end);
    drop(ledger.submit(Commit { notices: vec![notice("a")], ..Commit::default() }).unwrap());
    ledger
        .commit(Commit { outcomes: vec![("a".into(), NoticeOutcome::Delivered)], ..Commit::default() })
        .await
        .unwrap();
    assert!(open(&crash_image(&path, dir.path())).1.outbox.is_empty());
}

fn text() -> impl Strategy<Value = Arc<str>> {
    ".{0,12}".prop_map(Arc::from)
}

fn time() -> impl Strategy<Value = Time> {
    (-9_000_000_000_000_000_i64..9_000_000_000_000_000).prop_map(Time::from_millis)
}

fn level() -> impl Strategy<Value = Level> {
    proptest::sample::select(Level::ALL.to_vec())
}

fn subject() -> impl Strategy<Value = Subject> {
    (text(), text(), 0..4).prop_map(|(project, name, kind)| match kind {
        0 => Subject::Agent { project, name },
        1 => Subject::Component { project, name },
        2 => Subject::Source { name },
        _ => Subject::Cluster { project },
    })
}

fn ending() -> impl Strategy<Value = Option<Ending>> {
    proptest::option::of(proptest::sample::select(vec![
        Ending::Removed,
        Ending::Expired,
        Ending::NewDay,
        Ending::RuleGone,
    ]))
}

/// A multiple of 0.25, which JSON represents exactly.
fn value() -> impl Strategy<Value = Option<f64>> {
    proptest::option::of((-1_000_000_i32..1_000_000).prop_map(|n| f64::from(n) / 4.0))
}

prop_compose! {
    fn any_alert()(
        (rule, subject, level, value, threshold) in (text(), subject(), level(), value(), value()),
        (no_data, inhibited_by, ending, state) in (any::<bool>(), proptest::option::of(text()), ending(), 0_usize..3),
        times in (time(), proptest::option::of(time()), proptest::option::of(time()), proptest::option::of(time()), proptest::option::of(time()), time()),
        receivers in proptest::collection::btree_map(text(), (proptest::option::of(self::level()), proptest::option::of(time()), any::<u32>()), 0..3),
    ) -> Alert {
        Alert {
            fingerprint: Fingerprint::of(&rule, &subject), rule, subject, level, value, threshold, no_data, inhibited_by, ending,
            state: [AlertState::Pending, AlertState::Firing, AlertState::Resolved][state],
            started_at: times.0, fired_at: times.1, clearing_since: times.2, source: None, peak: level, worst: Some(Worst { level, value, threshold }), noticed_at: times.5, caused_at: times.5, resolved_at: times.4, changed_at: times.5,
            grows_since: times.1, agent_type: None, ack: None, flips: times.1.into_iter().collect(), flapping_since: times.2,
            receivers: receivers.into_iter().map(|(name, (level, firing_at, sequence))| (name, ReceiverState { level, firing_at, deescalated_since: times.3, sequence, ..ReceiverState::default() })).collect(),
        }
    }
}

prop_compose! {
    fn any_notice()(
        (rule, subject, level, value, threshold) in (text(), subject(), level(), value(), value()),
        (key, receiver, incident, message, action) in (text(), text(), text(), text(), text()),
        (previous, now_at, ending, kind) in (proptest::option::of(self::level()), proptest::option::of(self::level()), ending(), 0_usize..6),
        times in (time(), time(), proptest::option::of(time()), time(), time()),
    ) -> Notice {
        Notice {
            agent_type: None, part_of: None, reference: None, unit: crate::model::Unit::Ratio,
            fingerprint: Fingerprint::of(&rule, &subject), rule, subject, level, value, threshold, key, receiver, incident, message, action,
            previous, now_at, ending, peak: previous,
            kind: [NoticeKind::Firing, NoticeKind::Escalated, NoticeKind::Deescalated, NoticeKind::Repeat, NoticeKind::Resolved, NoticeKind::Test][kind],
            started_at: times.0, fired_at: times.1, resolved_at: times.2, at: times.3, caused_at: times.4,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_alert_and_notice_are_restored_unchanged(
        alerts in proptest::collection::vec(any_alert(), 0..6),
        notices in proptest::collection::vec(any_notice(), 0..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lookout.db");
        let (ledger, _) = open(&path);
        let commit = Commit { alerts: alerts.clone(), notices: notices.iter().cloned().map(Arc::new).collect(), ..Commit::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { ledger.commit(commit).await?; ledger.close().await }).unwrap();
        let (_, restored) = open(&path);
        let by_id: BTreeMap<i64, &Alert> = alerts.iter().map(|alert| (alert.fingerprint.0.cast_signed(), alert)).collect();
        prop_assert_eq!(restored.alerts.iter().collect::<Vec<_>>(), by_id.into_values().collect::<Vec<_>>());
        let mut first = Vec::new();
        for notice in &notices {
            if !first.iter().any(|known: &&Notice| known.key == notice.key) {
                first.push(notice);
            }
        }
        prop_assert_eq!(restored.outbox.iter().collect::<Vec<_>>(), first);
        prop_assert_eq!(restored.unreadable, 0);
    }
}

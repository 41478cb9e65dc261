//! Tests of history.

use proptest::prelude::*;
use std::fs;

use super::*;
use crate::model::{
    AgentStatus, Alert, AlertState, ClosedAlert, ComponentStatus, Count, DigestKey, Fingerprint, GroupCount, RateLimit,
    RunCount, Slab, StreamCount, Subject, Sum, Task, UsageOwner,
};

const DAY: Duration = Duration::from_secs(86_400);
const START: Time = Time::from_millis(1_800_000_000_000);

fn open(path: &Path) -> (HistoryHandle, SavedFleet) {
    History::open(Some(path), DAY, u64::MAX, Clock::at(START)).unwrap()
}

fn write_save(history: &HistoryHandle, save: FleetSave) {
    history.save(history.save_slot().unwrap(), save);
}

/// A row `at` milliseconds after [`START`].
fn row(name: &str, at: i64, to: &'static str) -> HistoryRow {
    HistoryRow {
        at: Time::from_millis(START.as_millis() + at),
        project: "shop".into(),
        kind: "agent",
        name: name.into(),
        from: "idle",
        to,
        reason: (at % 2 == 0).then(|| "with \"quotes\"".into()),
    }
}

fn closed(rule: &str, agent: &str, level: Level) -> ClosedAlert {
    let subject = Subject::Agent { project: "shop".into(), name: agent.into() };
    ClosedAlert {
        alert: Alert {
            fingerprint: Fingerprint::of(rule, &subject),
            rule: rule.into(),
            subject,
            state: AlertState::Resolved,
            level,
            value: None,
            grows_since: None,
            threshold: None,
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
            resolved_at: Some(START),
            changed_at: START,
            ending: None,
            receivers: std::collections::BTreeMap::new(),
            agent_type: None,
            ack: None,
            flips: Vec::new(),
            flapping_since: None,
        },
        message: "m".into(),
        action: "a".into(),
        task_id: Some(format!("task-of-{agent}").into()),
    }
}

fn agent(name: &str) -> Agent {
    Agent::new("shop".into(), name.into(), "push".into(), START)
}

fn snapshot(agents: Vec<Agent>) -> Arc<Snapshot> {
    let mut slab = Slab::default();
    for agent in agents {
        slab.insert_with(|slot| Agent { slot, ..agent });
    }
    Arc::new(Snapshot { at: START, agents: slab, ..Snapshot::default() })
}

fn names(saved: &SavedFleet) -> Vec<&str> {
    saved.agents.iter().map(|agent| &*agent.name).collect()
}

/// The times of a subject's rows in milliseconds after [`START`].
async fn ats(history: &HistoryHandle, name: &str, limit: usize) -> Vec<i64> {
    history
        .history("shop", name, limit)
        .await
        .unwrap()
        .iter()
        .map(|entry| entry.at.as_millis() - START.as_millis())
        .collect()
}

fn in_memory(retention: Duration, clock: Clock) -> HistoryHandle {
    History::open(None, retention, u64::MAX, clock).unwrap().0
}

#[tokio::test]
async fn history_of_an_agent_is_newest_first_across_batches_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    // 120 rows of three agents: two full statements of 50 and a rest, each with several rows of one agent.
    let names = ["a", "b", "c"];
    history.record((0..120).map(|n| row(names[n as usize % 3], n, "running")).collect());
    history.flush().await.unwrap();
    history.record(vec![row("a", 180, "failed"), row("a", 181, "stale")]);
    history.close().await.unwrap();
    let (history, _) = open(&path);
    history.record(vec![row("a", 182, "removed")]);
    history.flush().await.unwrap();
    let mut expected: Vec<i64> = (0..120).filter(|n| n % 3 == 0).chain([180, 181, 182]).collect();
    expected.reverse();
    assert_eq!(ats(&history, "a", 1_000).await, expected);
    assert_eq!(ats(&history, "b", 2).await, [118, 115]);
    assert_eq!(ats(&history, "unknown", 2).await, [] as [i64; 0]);
    assert!(history.history("other", "a", 9).await.unwrap().is_empty());
    let entry = history.history("shop", "a", 3).await.unwrap().pop().unwrap();
    let expected = HistoryEntry {
        at: START.plus(Duration::from_millis(180)),
        kind: "agent".into(),
        from: "idle".into(),
        to: "failed".into(),
        reason: Some("with \"quotes\"".into()),
    };
    assert_eq!(entry, expected);
}

#[tokio::test]
async fn closed_alerts_are_found_by_level_agent_and_rule() {
    let history = in_memory(DAY, Clock::at(START));
    let all = [
        closed("AgentIdle", "a", Level::Warning),
        closed("AgentIdle", "b", Level::Error),
        closed("RateLimited", "a", Level::Error),
    ];
    for alert in &all {
        history.close_alert(alert.clone());
    }
    history.flush().await.unwrap();
    let filter = ClosedFilter { limit: 10, ..ClosedFilter::default() };
    let found = |filter: ClosedFilter| async { history.alerts(filter).await.unwrap() };
    let [first, second, third] = all;
    assert_eq!(found(filter.clone()).await, [third.clone(), second.clone(), first.clone()]);
    assert_eq!(found(ClosedFilter { limit: 1, ..filter.clone() }).await, std::slice::from_ref(&third));
    let level = ClosedFilter { level: Some(Level::Error), ..filter.clone() };
    assert_eq!(found(level.clone()).await, [third.clone(), second]);
    assert_eq!(found(ClosedFilter { agent: Some("a".into()), ..filter.clone() }).await, [third.clone(), first.clone()]);
    assert_eq!(found(ClosedFilter { agent: Some("a".into()), ..level }).await, [third]);
    let of_task = ClosedFilter { task: Some("task-of-a".into()), ..filter.clone() };
    assert_eq!(found(of_task).await.len(), 2);
    assert_eq!(found(ClosedFilter { task: Some("other".into()), ..filter.clone() }).await, []);
    let idle = ClosedFilter { rule: Some("AgentIdle".into()), agent: Some("a".into()), ..filter };
    assert_eq!(found(idle).await, [first]);
}

#[tokio::test]
async fn a_crash_after_a_flush_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    let usage_ids = vec![(u64::MAX, START), (7, START.plus(DAY))];
    let save = FleetSave { snapshot: snapshot(vec![agent("a")]), agents: vec![0], usage_ids, ..FleetSave::default() };
    write_save(&history, save);
    history.record(vec![row("a", 1, "running")]);
    history.flush().await.unwrap();
    let copy = dir.path().join("copy.db");
    fs::copy(&path, &copy).unwrap();
    fs::copy(dir.path().join("h.db-wal"), dir.path().join("copy.db-wal")).unwrap();
    let (copied, saved) = open(&copy);
    assert_eq!((names(&saved), saved.saved_at), (vec!["a"], Some(START)));
    assert_eq!(saved.usage_ids, [(u64::MAX, START), (7, START.plus(DAY))]);
    assert_eq!(ats(&copied, "a", 9).await, [1]);
}

#[tokio::test]
async fn a_later_save_replaces_the_earlier_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    let first = FleetSave {
        snapshot: snapshot(vec![agent("gone"), agent("back"), agent("stays")]),
        agents: vec![0, 1, 2, 99],
        removed_agents: vec![("shop".into(), "back".into())],
        ..FleetSave::default()
    };
    // Slot 0 was reused by another agent.
    let later = FleetSave {
        snapshot: snapshot(vec![agent("new"), agent("back"), Agent { stale: true, ..agent("stays") }]),
        agents: vec![0, 2],
        removed_agents: vec![("shop".into(), "gone".into())],
        ..FleetSave::default()
    };
    write_save(&history, first);
    history.flush().await.unwrap();
    write_save(&history, later);
    history.close().await.unwrap();
    let saved = open(&path).1;
    assert_eq!(names(&saved), ["back", "new", "stays"]);
    assert!(saved.agents.iter().any(|agent| &*agent.name == "stays" && agent.stale));
}

#[tokio::test]
async fn projects_and_components_are_restored_unless_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    let mut components = Slab::default();
    for name in ["db", "cache"] {
        components.insert_with(|slot| Component {
            slot,
            project_slot: 0,
            project: "shop".into(),
            name: name.into(),
            labels: "".into(),
            source: "push".into(),
            status: ComponentStatus::Limited,
            status_since: START,
            details: None,
            metrics: vec![("pool_size".into(), 10.5)],
            custom: None,
            last_seen: START,
        });
    }
    let mut project = Project { name: "shop".into(), ..Project::default() };
    project.totals.cost_usd.add(0.1);
    project.totals.cost_usd.add(0.2);
    project.task_durations.observe(&[1.0], DAY);
    let snapshot = Arc::new(Snapshot { components, projects: vec![Arc::new(project)], ..Snapshot::default() });
    let save = FleetSave { snapshot, components: vec![0, 1], projects: vec![0, 5], ..FleetSave::default() };
    write_save(&history, save.clone());
    history.flush().await.unwrap();
    let removed_components = vec![("shop".into(), "db".into())];
    write_save(&history, FleetSave { components: vec![], removed_components, ..save });
    history.close().await.unwrap();
    let saved = open(&path).1;
    let [component] = saved.components.as_slice() else { panic!("{:?}", saved.components) };
    assert_eq!((&*component.name, component.status), ("cache", ComponentStatus::Limited));
    assert_eq!(component.metrics, [("pool_size".into(), 10.5)]);
    let [project] = saved.projects.as_slice() else { panic!("{:?}", saved.projects) };
    assert_eq!(project.totals.cost_usd.get(), Some(0.1 + 0.2), "to the last bit");
    assert_eq!((project.totals.restarts.get(), project.task_durations.buckets.as_slice()), (None, [0, 1].as_slice()));
}

#[tokio::test]
async fn usage_ids_are_kept_for_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    for (start, minutes) in [(0, 0), (40_000, 30), (80_000, 61)] {
        let at = START.plus(Duration::from_secs(minutes * 60));
        let usage_ids = (start..start + 40_000).map(|id| (id, at)).collect();
        let snapshot = Arc::new(Snapshot { at, ..Snapshot::default() });
        write_save(&history, FleetSave { snapshot, usage_ids, ..FleetSave::default() });
        history.flush().await.unwrap();
    }
    history.close().await.unwrap();
    let ids = open(&path).1.usage_ids;
    assert_eq!(
        (ids.len(), ids.first().map(|it| it.0), ids.last().map(|it| it.0)),
        (80_000, Some(40_000), Some(119_999))
    );
}

#[tokio::test]
async fn an_unreadable_row_does_not_affect_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    write_save(
        &history,
        FleetSave { snapshot: snapshot(vec![agent("a"), agent("b")]), agents: vec![0, 1], ..FleetSave::default() },
    );
    history.close().await.unwrap();
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE agents SET body = x'ff' WHERE name = 'a'", []).unwrap();
    let saved = open(&path).1;
    assert_eq!((names(&saved), saved.unreadable), (vec!["b"], 1));
}

#[tokio::test]
async fn pruned_rows_end_the_chain() {
    let clock = Clock::at(START);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = History::open(Some(&path), DAY, u64::MAX, clock.clone()).unwrap();
    let (old, new) = (0, 86_401_000);
    history.record(vec![row("a", old, "running"), row("b", old, "running"), row("a", new, "failed")]);
    history.close_alert(closed("AgentIdle", "a", Level::Error));
    history.flush().await.unwrap();
    assert_eq!(ats(&history, "a", 9).await, [new, old]);
    clock.advance(DAY + Duration::from_secs(1));
    history.record(vec![row("c", new, "running")]);
    let wait = Clock::system();
    let deadline = wait.now().plus(Duration::from_secs(20));
    while ats(&history, "b", 9).await.len()
        + history.alerts(ClosedFilter { limit: 9, ..ClosedFilter::default() }).await.unwrap().len()
        > 0
    {
        assert!(wait.now() < deadline, "rows were not pruned");
    }
    assert_eq!(ats(&history, "a", 9).await, [new]);
    history.close().await.unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    let heads: i64 = file.query_row("SELECT count(*) FROM heads", [], |row| row.get(0)).unwrap();
    assert_eq!(heads, 2, "a subject without rows has no head");
}

#[tokio::test]
async fn rows_beyond_the_queue_are_dropped_and_counted_and_a_save_has_no_room() {
    let (queue, end) = queue::bounded(3);
    let (reads, _reads_end) = queue::bounded(1);
    let history = HistoryHandle {
        queue,
        saves: Arc::new(Semaphore::new(SAVES)),
        reads,
        health: Arc::new(FileHealth::new(Path::new("h.db"), None)),
        counts: Arc::default(),
        thread: std::thread::current(),
    };
    history.record(vec![row("a", 1, "idle"), row("a", 2, "idle")]);
    history.record(vec![row("a", 3, "idle"), row("a", 4, "idle")]);
    history.record(Vec::new());
    assert_eq!((history.dropped(), history.queued()), (2, 2));
    write_save(&history, FleetSave::default());
    assert!(history.save_slot().is_none());
    history.close_alert(closed("AgentIdle", "a", Level::Error));
    assert_eq!(history.dropped(), 3);
    drop(end);
}

#[tokio::test]
async fn rows_refused_by_a_lock_are_written_once_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    history.record(vec![row("a", 1, "running")]);
    history.flush().await.unwrap();
    let intruder = rusqlite::Connection::open(&path).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    history.record(vec![row("a", 2, "running")]);
    write_save(&history, FleetSave { snapshot: snapshot(vec![agent("a")]), agents: vec![0], ..FleetSave::default() });
    assert!(history.flush().await.is_err());
    assert_eq!(ats(&history, "a", 9).await, [1], "reads still work");
    assert!(!history.is_ok());
    intruder.execute_batch("ROLLBACK").unwrap();
    history.record(vec![row("a", 3, "running")]);
    history.flush().await.unwrap();
    assert!(history.is_ok());
    assert_eq!(ats(&history, "a", 9).await, [3, 2, 1]);
    history.close().await.unwrap();
    assert_eq!(names(&open(&path).1), ["a"]);
}

fn text() -> impl Strategy<Value = Arc<str>> {
    ".{0,12}".prop_map(Arc::from)
}

fn time() -> impl Strategy<Value = Time> {
    any::<i64>().prop_map(Time::from_millis)
}

fn count() -> impl Strategy<Value = Count> {
    proptest::collection::vec(any::<u64>(), 0..3).prop_map(|values| {
        let mut count = Count::default();
        for value in values {
            count.report(value);
        }
        count
    })
}

fn sum() -> impl Strategy<Value = Sum> {
    proptest::collection::vec(any::<f64>(), 0..3).prop_map(|values| {
        let mut sum = Sum::default();
        for value in values {
            sum.report(value);
        }
        sum
    })
}

prop_compose! {
    fn any_agent()(
        (project, name, source, agent_type, model) in (text(), text(), text(), proptest::option::of(text()), proptest::option::of(text())),
        (reason, phase, task_id) in (proptest::option::of(text()), proptest::option::of(text()), proptest::option::of(text())),
        (now, last_activity, working_since) in (time(), proptest::option::of(time()), proptest::option::of(time())),
        status in proptest::option::of(proptest::sample::select(AgentStatus::ALL.to_vec())),
        (progress, ttl, stale, day, day_tokens) in (proptest::option::of((0_u8..5).prop_map(|n| f64::from(n) / 4.0)), proptest::option::of(any::<Duration>()), any::<bool>(), any::<i32>(), any::<u64>()),
        (restarts, requests, tasks_failed, tokens) in (count(), count(), count(), [count(), count(), count(), count(), count()]),
        cost_usd in sum(),
        limits in proptest::collection::vec((text(), text(), proptest::option::of(any::<u64>()), proptest::option::of(time())), 0..3),
        usage_owner in proptest::sample::select(vec![None, Some(UsageOwner::State), Some(UsageOwner::Usage)]),
    ) -> Agent {
        Agent {
            agent_type, model, reason, phase, last_activity, status, progress, ttl, stale, day, day_tokens, restarts, requests, tasks_failed, tokens, cost_usd, usage_owner,
            task: task_id.map(|id| Task { id, started_at: now, worked: Duration::from_millis(day_tokens % 1_000_000), working_since, tokens: day_tokens }),
            rate_limits: limits.into_iter().map(|(provider, limit_type, limit, reset_at)| RateLimit { provider, limit_type, limit, remaining: None, reset_at }).collect(),
            slot: 0, project_slot: 0,
            ..Agent::new(project, name, source, now)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_agent_is_restored_unchanged(agent in any_agent()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.db");
        let (history, _) = open(&path);
        write_save(&history, FleetSave { snapshot: snapshot(vec![agent.clone()]), agents: vec![0], ..FleetSave::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(history.close()).unwrap();
        let saved = open(&path).1;
        prop_assert_eq!(saved.unreadable, 0);
        // `Agent` is not comparable; its debug output contains every field with all digits.
        prop_assert_eq!(format!("{:?}", saved.agents), format!("{:?}", [agent]));
    }
}

#[tokio::test]
async fn counting_state_is_saved_with_the_agents() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let stream = |value| {
        let runs = vec![RunCount { start: 5, time: u64::MAX, value }];
        StreamCount::Totals { runs, since: 3 }
    };
    let group = GroupCount { meters: vec![(u64::MAX, vec![1.0, 2.5])], counted: vec![1.0], timed_by: Some(3) };
    let counting = |seen: &[u64], value| CountingState {
        since: Some(7),
        scheme: 9,
        key: Some(DigestKey([u64::MAX, 5])),
        seen: seen.to_vec(),
        streams: [(u64::MAX, stream(value)), (1, StreamCount::Deltas(vec![(1, u64::MAX)]))].into(),
        groups: [(2, group.clone())].into(),
    };
    let (history, saved) = open(&path);
    assert!(saved.counting.is_empty());
    write_save(&history, FleetSave { counting: counting(&[1, u64::MAX, 3], 2.5), ..FleetSave::default() });
    history.close().await.unwrap();
    let (history, saved) = open(&path);
    assert_eq!(saved.counting, counting(&[1, u64::MAX, 3], 2.5));
    write_save(
        &history,
        FleetSave { counting: CountingState { since: None, ..counting(&[4], 3.5) }, ..FleetSave::default() },
    );
    history.close().await.unwrap();
    assert_eq!(open(&path).1.counting, counting(&[1, u64::MAX, 3, 4], 3.5));
}

#[tokio::test]
async fn counting_state_survives_a_crash_before_the_first_save() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    let counting =
        CountingState { since: Some(7), scheme: 9, key: Some(DigestKey([1, 2])), ..CountingState::default() };
    history.save_counting(counting.clone()).await.unwrap();
    let crashed = after_a_crash(&path);
    assert_eq!((crashed.counting, crashed.saved_at), (counting, None), "the fleet was not saved");
}

/// Opens a copy of the files as after a crash.
fn after_a_crash(path: &Path) -> SavedFleet {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("crashed.db");
    fs::copy(path, &copy).unwrap();
    fs::copy(format!("{}-wal", path.display()), format!("{}-wal", copy.display())).unwrap();
    open(&copy).1
}

fn usage(seq: u64) -> UsageBody {
    UsageBody { seq, at: START, body: Bytes::from(format!("{{\"n\": {seq}}}")) }
}

#[tokio::test]
async fn acknowledged_usage_survives_a_crash_until_a_save_includes_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    let logged = [1, 2, 3].map(|seq| history.log_usage(usage(seq)));
    for answer in logged {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(after_a_crash(&path).usage_log, [usage(1), usage(2), usage(3)]);
    let save =
        FleetSave { snapshot: snapshot(vec![agent("a")]), agents: vec![0], usage_through: 2, ..FleetSave::default() };
    write_save(&history, save);
    history.log_usage(usage(4)).await.unwrap().unwrap();
    history.flush().await.unwrap();
    let saved = after_a_crash(&path);
    assert_eq!((saved.usage_log, saved.agents.len()), (vec![usage(3), usage(4)], 1));
}

#[tokio::test]
async fn the_oldest_rows_are_deleted_to_keep_the_file_below_its_maximum() {
    const MOST: u64 = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let clock = Clock::at(START);
    let (history, _) = History::open(Some(&path), DAY, MOST, clock.clone()).unwrap();
    let long = |name: String, at: i64| HistoryRow { reason: Some("r".repeat(1000).into()), ..row(&name, at, "failed") };
    for round in 0..40 {
        clock.advance(Duration::from_secs(1));
        history.record((0..1000).map(|n| long(format!("a{round}-{n}"), round * 1000 + n)).collect());
        history.flush().await.unwrap();
    }
    // The size is enforced in the turn after the last batch.
    clock.advance(Duration::from_secs(1));
    history.flush().await.unwrap();
    clock.advance(Duration::from_secs(1));
    history.close().await.unwrap();
    assert!(fs::metadata(&path).unwrap().len() <= MOST, "{} bytes", fs::metadata(&path).unwrap().len());
    assert!(history.pruned_for_size() >= 30_000, "{}", history.pruned_for_size());
    let file = rusqlite::Connection::open(&path).unwrap();
    let (oldest, newest): (i64, i64) =
        file.query_row("SELECT min(at), max(at) FROM history", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert!(oldest > START.as_millis() + 30_000 && newest == START.as_millis() + 39_999, "{oldest} {newest}");
}

#[tokio::test]
async fn a_file_above_a_lowered_maximum_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.db");
    let (history, _) = open(&path);
    let long = |n: i64| HistoryRow { reason: Some("r".repeat(1000).into()), ..row(&format!("a{n}"), n, "failed") };
    history.record((0..20_000).map(long).collect());
    history.close().await.unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 20 << 20);
    let clock = Clock::at(START);
    let (history, _) = History::open(Some(&path), DAY, 8 << 20, clock.clone()).unwrap();
    for _ in 0..20 {
        clock.advance(Duration::from_secs(1));
        history.record(vec![row("later", 30_000, "idle")]);
        history.flush().await.unwrap();
    }
    history.close().await.unwrap();
    assert!(fs::metadata(&path).unwrap().len() <= 8 << 20, "{} bytes", fs::metadata(&path).unwrap().len());
}

#[tokio::test]
async fn a_flapping_agent_does_not_displace_others() {
    let history = in_memory(DAY, Clock::at(START));
    history.record((0..1000).map(|n| row("flapping", n, "failed")).collect());
    for _ in 0..300 {
        history.close_alert(closed("AgentDown", "flapping", Level::Error));
    }
    history.record(vec![row("calm", 1001, "failed")]);
    history.flush().await.unwrap();
    assert_eq!(ats(&history, "flapping", 1000).await.len(), 50);
    assert_eq!(ats(&history, "calm", 1000).await.len(), 1);
    assert_eq!(history.rate_limited(), 950 + 250);
}

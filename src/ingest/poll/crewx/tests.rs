//! Tests of `ingest::poll::crewx`.

use super::*;

const NOW: &str = "2026-11-29T21:00:00Z";

fn database(sql: &str) -> (tempfile::TempDir, PathBuf, Connection) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("traces.db");
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch(sql).expect("its tables");
    (dir, path, connection)
}

fn poll(crewx: &mut Crewx) -> Result<Vec<Batch<'static>>, SourceError> {
    let clock = Clock::at(Time::parse(NOW).expect("a time"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(crewx.poll(Duration::from_secs(20), &clock, "crew"))
}

fn names(path: &Path) -> Vec<String> {
    let files = fs::read_dir(path.parent().expect("a folder")).expect("files");
    let mut names: Vec<String> =
        files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

const OLDEST: &str = "CREATE TABLE tasks (id TEXT, agent_id TEXT, status TEXT, started_at TEXT, prompt TEXT);
    INSERT INTO tasks VALUES ('t1', 'boss', 'success', '2026-11-29T20:00:00.000Z', 'a secret'),
    ('t2', 'boss', 'failed', '2026-11-29T20:10:00.000Z', x'ff'), ('t3', NULL, 'failed', '2026-11-29T20:10:00Z', ''),
    ('t4', 'clerk', 'failed', 'yesterday', '');";

#[test]
fn columns_that_do_not_exist_are_unknown() {
    let (_dir, path, _) = database(OLDEST);
    let mut crewx = Crewx::new("crew", &path, false);
    let batches = poll(&mut crewx).expect("agents");
    let agent = &batches[0].agents[0];
    assert_eq!((&*agent.name, agent.status, batches[0].agents.len()), ("boss", Some(AgentStatus::Failed), 1));
    assert!(batches[0].rejected[0].error.contains("2 rows have no valid id or time"), "{:?}", batches[0].rejected);
    assert_eq!(crewx.runs.take().len(), 2);
    poll(&mut crewx).expect("agents");
    assert!(crewx.runs.take().is_empty(), "the same again");
}

#[test]
fn what_is_no_database_of_crewx_is_an_error_with_a_remedy() {
    let (dir, path, connection) = database("CREATE TABLE other (x)");
    let error = |path: &Path| poll(&mut Crewx::new("crew", path, false)).expect_err("no tasks");
    assert_eq!(error(&path).reason, SourceErrorReason::Malformed);
    drop(connection);
    fs::write(&path, "no database at all, but long enough to be one").expect("written");
    assert_eq!(error(&path).reason, SourceErrorReason::Malformed);
    let missing = error(&dir.path().join("nothing.db"));
    assert!(missing.reason == SourceErrorReason::Connect && missing.message.contains("check `path`"), "{missing}");
}

#[test]
fn nothing_is_left_next_to_the_file() {
    let (_dir, path, writer) = database(&format!("PRAGMA journal_mode=WAL; {OLDEST}"));
    let mut crewx = Crewx::new("crew", &path, false);
    // Open by its writer: what is only in its log is seen.
    writer.execute("UPDATE tasks SET status = 'success' WHERE id = 't2'", []).expect("an update");
    let open = names(&path);
    assert_eq!(open, ["traces.db", "traces.db-shm", "traces.db-wal"]);
    let status = |crewx: &mut Crewx| poll(crewx).expect("agents")[0].agents[0].status;
    assert_eq!(status(&mut crewx), Some(AgentStatus::Completed));
    writer.execute("UPDATE tasks SET status = 'failed' WHERE id = 't2'", []).expect("the writer is not disturbed");
    assert_eq!(status(&mut crewx), Some(AgentStatus::Failed));
    assert_eq!(names(&path), open);
    // Killed: its log stays, without its index.
    let copy = path.parent().expect("a folder").join("killed.db");
    fs::copy(&path, &copy).expect("copied");
    fs::copy(companion(&path, "-wal"), companion(&copy, "-wal")).expect("copied");
    let before = names(&path);
    assert_eq!(status(&mut Crewx::new("crew", &copy, false)), Some(AgentStatus::Failed));
    assert_eq!(names(&path), before);
    // Closed: there is the file alone.
    drop(writer);
    fs::remove_file(&copy).and_then(|()| fs::remove_file(companion(&copy, "-wal"))).expect("removed");
    assert_eq!(names(&path), ["traces.db"]);
    assert_eq!(status(&mut crewx), Some(AgentStatus::Failed));
    assert_eq!(names(&path), ["traces.db"]);
    Connection::open(&path).expect("open").execute("DELETE FROM tasks", []).expect("the writer can write");
    assert_eq!(poll(&mut crewx).expect("agents")[0].agents.len(), 0);
}

#[test]
fn a_task_whose_process_is_gone_or_another_one_has_failed() {
    let mut child = std::process::Command::new("true").spawn().expect("a process");
    child.wait().expect("its end");
    let (this, dead) = (std::process::id(), child.id());
    let (_dir, path, _) = database(&format!(
        "CREATE TABLE tasks (id TEXT, agent_id TEXT, status TEXT, started_at TEXT, pid INTEGER, error TEXT);
        INSERT INTO tasks VALUES ('t1', 'dead', 'running', '2026-11-29T20:00:00.000Z', {dead}, NULL),
        ('t2', 'reused', 'running', '2026-11-27T20:00:00.000Z', {this}, NULL),
        ('t3', 'starting', 'running', '2026-11-29T20:00:00.000Z', NULL, NULL);"
    ));
    let mut crewx = Crewx::new("crew", &path, false);
    let statuses = |crewx: &mut Crewx| {
        let batches = poll(crewx).expect("agents");
        batches[0].agents.iter().map(|agent| (agent.name.to_string(), agent.status)).collect::<BTreeMap<_, _>>()
    };
    let first = statuses(&mut crewx);
    assert!(first.values().all(|status| *status == Some(AgentStatus::Running)), "it may have just ended: {first:?}");
    let second = statuses(&mut crewx);
    assert_eq!(second["dead"], Some(AgentStatus::Failed));
    assert_eq!(second["starting"], Some(AgentStatus::Running));
    if cfg!(target_os = "linux") {
        assert_eq!(second["reused"], Some(AgentStatus::Failed), "its id is that of another process");
    }
    let errors: Vec<_> =
        crewx.runs.take().iter().filter_map(|it| it.span.field(SpanField::Error).map(str::to_owned)).collect();
    assert!(errors.iter().all(|error| error == GONE) && !errors.is_empty(), "{errors:?}");
}

//! The speed of the store on disk: history rows, saved agents, and commits of the ledger compared with a plain write and sync.
//! Prints a Markdown table. `cargo bench --bench history [DIRECTORY]`; the directory, by default the current one, selects
//! the disk.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement, not the program"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lookout::clock::Clock;
use lookout::model::{
    Agent, AgentStatus, Alert, AlertState, Fingerprint, HistoryRow, Level, Notice, NoticeKind, Slab, Snapshot, Subject,
    Task, Time,
};
use lookout::store::{Commit, FleetSave, History, Ledger};

const MONTH: Duration = Duration::from_secs(30 * 86_400);
const AGENTS: usize = 10_000;
const NOW: Time = Time::from_millis(1_800_000_000_000);

fn main() {
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let directory = directory.map_or_else(|| std::env::current_dir().unwrap(), PathBuf::from);
    let directory = tempfile::tempdir_in(directory).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("| what | figure |\n|---|---|");
    runtime.block_on(async {
        history(directory.path()).await;
        saves(directory.path()).await;
        floor(directory.path());
        commits(directory.path()).await;
    });
}

async fn history(directory: &Path) {
    const BATCH: usize = 100;
    const BATCHES: usize = 10_000;
    let (history, _) = History::open(Some(&directory.join("rows.db")), MONTH, u64::MAX, Clock::at(NOW)).unwrap();
    let names: Vec<Arc<str>> = (0..AGENTS).map(|n| Arc::from(format!("agent-{n:05}"))).collect();
    let (project, reason): (Arc<str>, Arc<str>) = ("shop".into(), "waits for the review of its change".into());
    let batch = |start: usize| -> Vec<HistoryRow> {
        // Spread over all agents, as in practice.
        let row = |n: usize| HistoryRow {
            at: NOW,
            project: Arc::clone(&project),
            kind: "agent",
            name: Arc::clone(&names[n * 7_919 % AGENTS]),
            from: "running",
            to: "waiting_review",
            reason: n.is_multiple_of(2).then(|| Arc::clone(&reason)),
        };
        (start..start + BATCH).map(row).collect()
    };
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let mut slowest = Duration::ZERO;
    for n in 0..BATCHES {
        // Stays within the capacity of the queue, so that nothing is dropped.
        while history.queued() > 60_000 {
            std::thread::sleep(Duration::from_micros(200));
        }
        let rows = batch(n * BATCH);
        let before = Instant::now();
        history.record(rows);
        slowest = slowest.max(before.elapsed());
    }
    history.flush().await.unwrap();
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    assert_eq!(history.dropped(), 0);
    let rows = (BATCH * BATCHES) as f64;
    println!(
        "| history, 10,000 agents, batches of 100 | {:.0} rows/s, {:.2} µs CPU a row |",
        rows / elapsed,
        cpu * 1e6 / rows
    );
    println!("| handing a batch over, slowest of 10,000 | {:.0} µs |", slowest.as_secs_f64() * 1e6);
    let before = Instant::now();
    let found = history.history("shop", "agent-00007", 100).await.unwrap();
    println!(
        "| one agent's last {} changes of a million | {:.0} µs |",
        found.len(),
        before.elapsed().as_secs_f64() * 1e6
    );
    history.close().await.unwrap();
    // Ensures that the rows were written.
    let file = rusqlite::Connection::open(directory.join("rows.db")).unwrap();
    let number = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("SELECT count(*) FROM history"), (BATCH * BATCHES) as i64);
    assert_eq!(number("SELECT count(*) FROM heads"), AGENTS as i64);
}

async fn saves(directory: &Path) {
    const ROUNDS: usize = 50;
    let (history, _) = History::open(Some(&directory.join("saves.db")), MONTH, u64::MAX, Clock::at(NOW)).unwrap();
    let mut agents = Slab::default();
    for n in 0..AGENTS {
        agents.insert_with(|slot| agent(slot, n));
    }
    let size = serde_json::to_string(agents.get(0).unwrap()).unwrap().len();
    let all: Vec<u32> = (0..10_000).collect();
    let (mut cpu, mut elapsed) = (0.0, 0.0);
    for round in 0..=ROUNDS {
        // Every agent changes each time, since SQLite does not write unchanged rows.
        for slot in &all {
            let agent = agents.get_mut(*slot).unwrap();
            agent.last_seen = NOW.plus(Duration::from_secs(round as u64));
            agent.tokens.iter_mut().for_each(|count| _ = count.report(123_456 + 1_000 * round as u64));
        }
        let snapshot = Arc::new(Snapshot { at: NOW, agents: agents.clone(), ..Snapshot::default() });
        let (cpu_before, before) = (cpu_seconds(), Instant::now());
        history.save(history.save_slot().unwrap(), FleetSave { snapshot, agents: all.clone(), ..FleetSave::default() });
        history.flush().await.unwrap();
        // The first round inserts; the following ones are the cost of a running fleet.
        if round > 0 {
            cpu += cpu_seconds() - cpu_before;
            elapsed += before.elapsed().as_secs_f64();
        }
    }
    let saved = (AGENTS * ROUNDS) as f64;
    println!("| saving changed agents of {size} bytes | {:.2} µs CPU an agent |", cpu * 1e6 / saved);
    println!(
        "| 10,000 agents saved and flushed, up to 50 ms of batching included | {:.0} ms |",
        elapsed * 1e3 / ROUNDS as f64
    );
    history.close().await.unwrap();
    let before = Instant::now();
    let (_, saved) = History::open(Some(&directory.join("saves.db")), MONTH, u64::MAX, Clock::at(NOW)).unwrap();
    let last_seen = NOW.plus(Duration::from_secs(ROUNDS as u64));
    assert!(saved.agents.len() == AGENTS && saved.agents.iter().all(|agent| agent.last_seen == last_seen));
    println!("| opening with {} agents | {:.0} ms |", saved.agents.len(), before.elapsed().as_secs_f64() * 1e3);
}

const COMMITS: usize = 2_000;

fn floor(directory: &Path) {
    let file = File::create(directory.join("floor")).unwrap();
    let page = [7_u8; 5 * 4_120];
    file.write_all_at(&vec![0; 4 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let sync = |n: usize| {
        let before = Instant::now();
        file.write_all_at(&page, (n % 200 * page.len()) as u64).unwrap();
        file.sync_data().unwrap();
        before.elapsed()
    };
    report("the floor: 20 KiB written in place and synced", (0..COMMITS).map(sync).collect());
}

async fn commits(directory: &Path) {
    let (ledger, _) = Ledger::open(Some(&directory.join("ledger.db")), MONTH, u64::MAX, Clock::at(NOW)).unwrap();
    let mut times = Vec::new();
    for n in 0..COMMITS {
        let (alert, notice) = (alert(n), notice(n));
        let before = Instant::now();
        ledger.commit(Commit { alerts: vec![alert], notices: vec![notice], ..Commit::default() }).await.unwrap();
        times.push(before.elapsed());
        // In bursts with pauses, like alerts.
        if n % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
    report("ledger: alert and notice committed and synced", times);
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..10_000 {
        let ledger = ledger.clone();
        let commit = Commit { alerts: vec![alert(n)], notices: vec![notice(COMMITS + n)], ..Commit::default() };
        tasks.spawn(async move { ledger.commit(commit).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    println!("| ledger: 10,000 commits at once, all synced | {:.0} ms |", started.elapsed().as_secs_f64() * 1e3);
    ledger.close().await.unwrap();
    let (_, restored) = Ledger::open(Some(&directory.join("ledger.db")), MONTH, u64::MAX, Clock::at(NOW)).unwrap();
    assert_eq!(restored.outbox.len(), COMMITS + 10_000);
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("| {what} | median {:.3} ms, p99 {:.3} ms |", at(0.5), at(0.99));
}

/// CPU time of all threads so far, in seconds.
fn cpu_seconds() -> f64 {
    let stat = procfs::process::Process::myself().unwrap().stat().unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

fn agent(slot: u32, n: usize) -> Agent {
    let mut agent = Agent::new("shop".into(), format!("agent-{n:05}").into(), "push".into(), NOW);
    agent.slot = slot;
    agent.agent_type = Some("claude-code".into());
    agent.model = Some("claude-opus".into());
    agent.status = Some(AgentStatus::Running);
    agent.task = Some(Task {
        id: format!("task_{n}").into(),
        started_at: NOW,
        worked: Duration::from_secs(12),
        working_since: Some(NOW),
        tokens: 150_000,
    });
    agent.phase = Some("implement".into());
    agent.progress = Some(0.425);
    agent.last_activity = Some(NOW);
    agent.ttl = Some(Duration::from_secs(60));
    agent.tokens.iter_mut().for_each(|count| _ = count.report(123_456));
    agent.cost_usd.report(1.234_567);
    for count in [&mut agent.restarts, &mut agent.requests, &mut agent.request_errors, &mut agent.reviews_passed] {
        count.report(40);
    }
    agent
}

fn subject(n: usize) -> Subject {
    Subject::Agent { project: "shop".into(), name: format!("agent-{:05}", n * 7_919 % AGENTS).into() }
}

fn alert(n: usize) -> Alert {
    let subject = subject(n);
    Alert {
        fingerprint: Fingerprint::of("AgentIdle", &subject),
        rule: "AgentIdle".into(),
        subject,
        state: AlertState::Firing,
        level: Level::Warning,
        value: Some(400.0),
        grows_since: None,
        threshold: Some(300.0),
        no_data: false,
        inhibited_by: None,
        started_at: NOW,
        fired_at: Some(NOW),
        clearing_since: None,
        source: None,
        peak: Level::Warning,
        worst: None,
        noticed_at: NOW,
        caused_at: NOW,
        resolved_at: None,
        changed_at: NOW,
        ending: None,
        receivers: std::collections::BTreeMap::default(),
        agent_type: None,
        ack: None,
        flips: Vec::new(),
        flapping_since: None,
    }
}

fn notice(n: usize) -> Arc<Notice> {
    let subject = subject(n);
    let fingerprint = Fingerprint::of("AgentIdle", &subject);
    let incident: Arc<str> = format!("{fingerprint}-{:x}", NOW.as_millis()).into();
    Arc::new(Notice {
        key: format!("{incident}-{n}-ops").into(),
        receiver: "ops".into(),
        fingerprint,
        incident,
        rule: "AgentIdle".into(),
        subject,
        agent_type: None,
        part_of: None,
        reference: None,
        kind: NoticeKind::Firing,
        level: Level::Warning,
        previous: None,
        peak: None,
        now_at: None,
        value: Some(400.0),
        threshold: Some(300.0),
        unit: lookout::model::Unit::Seconds,
        message: "agent has been idle for 6m40s".into(),
        action: "Look at its terminal, or stop it.".into(),
        started_at: NOW,
        fired_at: NOW,
        resolved_at: None,
        ending: None,
        at: NOW,
        caused_at: NOW,
    })
}

//! The order in which the loop serves its queues.

use bytes::Bytes;

use super::*;
use crate::alerts::IncidentPolicy;
use crate::alerts::config::DigestConfig;
use crate::engine::EngineHandle;
use crate::fleet::config::{AgentsConfig, BudgetsConfig};
use crate::ingest::hooks::claude_code::TOOL;
use crate::ingest::{DecodedPush, decode_pushed_state};
use crate::model::{AgentStatus, Batch};
use crate::notify::Receiver;
use crate::rules::compile::RuleSettings;
use crate::store::config::StoreConfig;

fn pushed(body: &'static str) -> DecodedPush<Batch<'static>> {
    decode_pushed_state(Bytes::from_static(body.as_bytes()), Time::from_millis(0)).unwrap()
}

/// An engine of which nothing outlives the test.
pub(in crate::engine) fn in_memory(clock: Clock, digest: DigestConfig) -> (Engine, mpsc::Receiver<DeliveryReport>) {
    restored(clock, settings(digest), SavedFleet::default())
}

/// An engine that remembers what was saved, and of which nothing outlives the test.
pub(in crate::engine) fn restored(
    clock: Clock,
    settings: EngineSettings,
    saved: SavedFleet,
) -> (Engine, mpsc::Receiver<DeliveryReport>) {
    let memory = StoreConfig { path: None, ..StoreConfig::default() };
    let (store, _, _) = Store::open(&memory, &clock).unwrap();
    let (monitoring, _) = watch::channel(true);
    let (restored, own) = (RestoredLedger::default(), Arc::new(SidecarMetrics::new()));
    Engine::new(EngineParts {
        clock,
        settings,
        own,
        store,
        restored,
        saved,
        monitoring,
        recorder: None,
        runs: super::super::runs::in_memory(),
        live: super::super::live::LiveFeed::default(),
    })
}

/// The built-in rules and one receiver.
pub(in crate::engine) fn settings(digest: DigestConfig) -> EngineSettings {
    let rules = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
    EngineSettings {
        fleet: crate::fleet::FleetSettings {
            agents: AgentsConfig::default(),
            expected: Vec::new(),
            budgets: BudgetsConfig::default(),
            max_series: 1_000_000,
            sources: Vec::new(),
        },
        rules: crate::rules::built_in(rules).unwrap(),
        incidents: IncidentPolicy::default(),
        digest,
        receivers: vec![Receiver::console()],
    }
}

#[tokio::test]
async fn reads_see_every_hook_that_was_sent_before_them() {
    let clock = Clock::at(Time::parse("2026-11-21T08:59:00Z").unwrap());
    let (engine, reports) = in_memory(clock, DigestConfig::default());
    let many = BURST * 3;
    let (handle, queues) = EngineHandle::new(1, 1, many);
    // All of it waits before the loop begins.
    let hook = |event: &str| {
        let body = format!(r#"{{"session_id": "s", "hook_event_name": "{event}"}}"#);
        let event = TOOL.decode(body.as_bytes(), Time::from_millis(0)).unwrap();
        handle.hook(event.into_hook(&TOOL, ("default".into(), "a".into()), None))
    };
    assert!((1..many).all(|_| hook("UserPromptSubmit")) && hook("Stop"));
    assert!(!hook("SessionEnd"), "a hook beyond the capacity is rejected and changes nothing");
    let reader = handle.clone();
    let reading = tokio::spawn(async move { reader.view().await });
    let pusher = handle.clone();
    let state = pushed(r#"{"project": "shop", "agents": [{"name": "b", "status": "running"}]}"#);
    let pushing = tokio::spawn(async move { pusher.push_state(state, None).await });
    while handle.queues() != [("bulk", 1), ("control", 1), ("hooks", many)] {
        tokio::task::yield_now().await;
    }
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(engine.run(queues, reports, stopped));
    let view = reading.await.unwrap().unwrap();
    let agent = view.fleet.agents.iter().next().expect("an agent");
    assert_eq!((&*agent.name, agent.status), ("a", Some(AgentStatus::Idle)), "as the last hook left it");
    assert_eq!(pushing.await.unwrap().unwrap().accepted, 1, "a flood of hooks does not starve pushes");
    stop.send(Duration::ZERO).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn what_was_answered_is_saved_even_if_the_store_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let config = StoreConfig { path: Some(dir.path().join("lookout.db")), ..StoreConfig::default() };
    let (store, restored, saved) = Store::open(&config, &clock).unwrap();
    let (monitoring, _) = watch::channel(true);
    let (settings, own) = (settings(DigestConfig::default()), Arc::new(SidecarMetrics::new()));
    let history = store.history.clone();
    let parts = EngineParts {
        clock: clock.clone(),
        settings,
        own,
        store,
        restored,
        saved,
        monitoring,
        recorder: None,
        runs: super::super::runs::in_memory(),
        live: super::super::live::LiveFeed::default(),
    };
    let (engine, reports) = Engine::new(parts);
    let (handle, queues) = EngineHandle::new(2, 2, 2);
    let (stop, stopped) = oneshot::channel();
    let pushing = tokio::spawn(async move {
        handle.push_state(pushed(r#"{"agents": [{"name": "a", "status": "running"}]}"#), None).await
    });
    while queues.bulk.is_empty() {
        tokio::task::yield_now().await;
    }
    // An earlier save waits for the disk when the end comes.
    history.save(history.save_slot().unwrap(), crate::store::FleetSave::default());
    stop.send(Duration::ZERO).unwrap();
    engine.run(queues, reports, stopped).await;
    assert_eq!(pushing.await.unwrap().unwrap().accepted, 1);
    let (_, _, saved) = Store::open(&config, &clock).unwrap();
    let names: Vec<&str> = saved.agents.iter().map(|agent| &*agent.name).collect();
    assert_eq!(names, ["a"]);
}

/// An engine that was restored with this ledger.
fn with_ledger(clock: Clock, restored: RestoredLedger) -> (Engine, mpsc::Receiver<DeliveryReport>) {
    let memory = StoreConfig { path: None, ..StoreConfig::default() };
    let (store, _, _) = Store::open(&memory, &clock).unwrap();
    let (monitoring, _) = watch::channel(true);
    let (own, settings, saved) =
        (Arc::new(SidecarMetrics::new()), settings(DigestConfig::default()), SavedFleet::default());
    Engine::new(EngineParts {
        clock,
        settings,
        own,
        store,
        restored,
        saved,
        monitoring,
        recorder: None,
        runs: super::super::runs::in_memory(),
        live: super::super::live::LiveFeed::default(),
    })
}

#[tokio::test]
async fn an_unreadable_pending_notice_is_dead_lettered_and_counted() {
    let clock = Clock::at(Time::parse("2026-11-21T08:59:00Z").unwrap());
    let lost = crate::store::LostNotice { key: "k".into(), receiver: "console".into(), fingerprint: "00".into() };
    let (mut engine, _reports) =
        with_ledger(clock.clone(), RestoredLedger { lost: vec![lost], ..RestoredLedger::default() });
    let page = engine.own.text(crate::metrics::ExpositionFormat::Text);
    let failed = "lookout_notifications_failed_total{receiver=\"console\",reason=\"message\"} 1";
    assert!(page.contains(failed), "{page}");
    engine.serve_deadlines(clock.now());
    assert!(!engine.committer.is_idle(), "the outbox row is to be updated");
}

#[tokio::test]
async fn each_pause_and_extension_is_announced_and_no_digest_leaves_meanwhile() {
    let now = Time::parse("2026-11-21T08:59:00Z").unwrap();
    let digest = DigestConfig { at: Some("09:00".to_owned()), ..DigestConfig::default() };
    let (mut engine, _reports) = in_memory(Clock::at(now), digest);
    let announced = |engine: &Engine| -> Vec<String> {
        engine.committer.waiting().iter().map(|notice| format!("{} {}", notice.rule, notice.message)).collect()
    };
    for (minutes, on) in [(0, false), (0, false), (10, true), (11, true)] {
        let at = now.plus(Duration::from_secs(60 * minutes));
        engine.step(at, MachineEvent::Monitoring { on, by: "ann" }).unwrap();
        engine.serve_deadlines(at.plus(Duration::from_secs(120)));
    }
    let announced = announced(&engine);
    assert_eq!(announced.len(), 3, "{announced:?}");
    for (line, words) in announced.iter().zip(["ann paused", "ann extended the pause", "ann resumed"]) {
        assert!(line.starts_with("Announcement ") && line.contains(words), "{announced:?}");
    }
}

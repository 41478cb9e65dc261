//! The wall clock of one program, set while it runs: Debian's libfaketime, which leaves the monotonic clock alone.

use std::path::Path;

use lookout::clock::Clock;
use serde_json::{Value, json};

use crate::counterparts::Need;
use crate::doubles::slack::Slack;
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{metric, push, receiver};
use crate::{Case, trial};

/// The library, in the directory that the loader knows for each architecture.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

pub(super) fn trials() -> Vec<Case> {
    vec![
        trial("faults: a clock set forward an hour fires no alert and loses no resolve", &[Need::Faketime], || step(1)),
        trial("faults: a clock set back an hour fires no alert and loses no resolve", &[Need::Faketime], || step(-1)),
    ]
}

/// `setup` with a wall clock that [`set`] sets.
pub(super) fn under(setup: Setup) -> Setup {
    set(setup.path(), 0);
    let offset = setup.path().join("offset").display().to_string();
    [
        ("LD_PRELOAD", LIBRARY),
        ("FAKETIME_TIMESTAMP_FILE", &offset),
        ("FAKETIME_NO_CACHE", "1"),
        // Its name in newer and in older versions.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]
    .into_iter()
    .fold(setup, |setup, (name, value)| setup.env(name, value))
}

/// Sets the wall clock of the program in `folder` to an offset in seconds from the machine's.
pub(super) fn set(folder: &Path, seconds: i64) {
    std::fs::write(folder.join("offset.new"), format!("{seconds:+}\n")).expect("a new offset");
    std::fs::rename(folder.join("offset.new"), folder.join("offset")).expect("a new offset");
}

/// Removes files that the library leaves behind.
pub(super) fn sweep(id: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        // The library may have removed it.
        drop(std::fs::remove_file(format!("/dev/shm/{name}{id}")));
    }
}

/// The wall clock of the sidecar, in milliseconds.
fn wall(offset: i64) -> i64 {
    Clock::system().now().as_millis() + offset * 1_000
}

fn states(ages: &[(&str, i64)], wall: i64) -> Value {
    let agent = |(name, age): &(&str, i64)| {
        json!({"name": name, "status": "running", "task_id": "t", "last_activity": wall - age * 1_000,
               "task_started_at": wall - age * 1_000})
    };
    json!({"project": "shop", "ttl": "1h", "agents": ages.iter().map(agent).collect::<Vec<_>>()})
}

fn idle_seconds(lookout: &Lookout, name: &str) -> f64 {
    let labels = format!("{{project=\"shop\",agent_name=\"{name}\"}}");
    metric(lookout, &format!("orchestrator_agent_idle_time_seconds{labels}")).expect("it is there")
}

/// When the clock is set, one agent is idle for two minutes, and one long enough to fire.
fn step(hours: i64) {
    let slack = Slack::start();
    let setup = under(Setup::new(&format!("rules: [mine.yaml]\nreceivers:\n{}", receiver("ops", &slack))));
    setup.write(
        "mine.yaml",
        "rules:\n  - {name: AgentIdle, for_each: agent, signal: idle_seconds, when: at_least, \
         levels: {warning: 5m, error: 10m}, cooldown: 1s, summary: 'it is idle'}\n",
    );
    let lookout = setup.start();
    let reported = wall(0);
    let ages = [("quiet", 120), ("idle", 400)];
    push(&lookout, &states(&ages, reported));
    slack.wait(1);
    let offset = hours * 3_600;
    set(setup.path(), offset);
    let is_close = |lookout: &Lookout| (119.0..150.0).contains(&idle_seconds(lookout, "quiet"));
    // One source repeats its times, another one computes them from its own clock, which was set as well.
    push(&lookout, &states(&ages, reported));
    assert!(is_close(&lookout), "{}", idle_seconds(&lookout, "quiet"));
    push(&lookout, &states(&[("quiet", 130), ("idle", 410), ("late", 100)], wall(offset)));
    assert!(is_close(&lookout), "{}", idle_seconds(&lookout, "quiet"));
    // The other clients use the machine's clock.
    let shown = "orchestrator_agent_last_activity_timestamp_seconds{project=\"shop\",agent_name=\"late\"}";
    let shown = metric(&lookout, shown).expect("it is there");
    assert!((shown - wall(offset) as f64 / 1_000.0 + 100.0).abs() < 30.0, "{shown}");
    let alert = lookout.get("/api/alerts?agent=idle").json()["alerts"][0].clone();
    let started = alert["started_at"].as_str().and_then(lookout::model::Time::parse).expect("a time");
    // It is idle for 410 s now, and fires from 300 s on.
    assert!((wall(offset) - 110_000 - started.as_millis()).abs() < 30_000, "{alert}");
    // It was active, by the new clock.
    push(&lookout, &states(&[("quiet", 140), ("idle", 0)], wall(offset)));
    let seen = slack.wait(2);
    assert_eq!(seen[1].title(), "[RESOLVED] idle");
    eventually("the step is logged", || lookout.log().contains("wall clock was set").then_some(()));
    let id = lookout.id();
    assert!(lookout.sigterm().success());
    sweep(id);
    assert_eq!(slack.delivered(), ["[WARNING] idle", "[RESOLVED] idle"], "and nothing else");
    // After a restart time starts at the current wall clock: nothing fires early, nothing waits.
    let lookout = setup.start();
    push(&lookout, &states(&[("quiet", 150), ("idle", 10)], wall(offset)));
    assert!((149.0..180.0).contains(&idle_seconds(&lookout, "quiet")));
    push(&lookout, &states(&[("quiet", 150), ("idle", 700)], wall(offset)));
    slack.wait_for("the next alert", |seen| seen.last().is_some_and(|seen| seen.title() == "[ERROR] idle"));
    let id = lookout.id();
    assert!(lookout.sigterm().success());
    sweep(id);
    assert_eq!(slack.delivered().len(), 3, "{:?}", slack.delivered());
}

//! What survives the process: at whatever moment it is killed, no notification is lost and none is sent again.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::doubles::slack::{Act, Slack};
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{idle, metric, push, receiver};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial(
            "durability: a firing is notified once although the sidecar is killed right after accepting it",
            &[],
            killed_after_answer,
        ),
        trial("durability: a notification in flight at a kill is sent after the restart", &[], killed_in_a_send),
        trial(
            "durability: a resolve that was not delivered before a kill is sent after it",
            &[],
            killed_before_a_resolve,
        ),
        trial("durability: after a kill at any event, receivers end up with the true state", &[], killed_at_any_event),
        trial("durability: an alert whose agent was not saved waits for the agent", &[], an_orphan_waits),
        trial("durability: what the ledger has as delivered is not sent again", &[], settled_is_settled),
        trial("durability: agents, counters, budgets and alerts are as before a kill", &[], state_is_as_before),
        trial("durability: accepted usage survives a kill and is counted once", &[], usage_outlives_a_kill),
        trial(
            "durability: usage that can't be written is rejected, and accepted once the disk works",
            &[],
            usage_on_a_full_disk,
        ),
        trial("durability: a graceful shutdown delivers what is pending and saves all", &[], a_gentle_end),
        trial("durability: a second sidecar on the same store is rejected", &[], one_program_a_store),
        trial("durability: a damaged file is moved aside and reported", &[], a_damaged_file),
        trial("durability: an impossible store path is an error with a remedy", &[], a_store_that_cannot_be),
    ]
}

fn setup(slack: &Slack) -> Setup {
    Setup::new(&format!("receivers:\n{}", receiver("ops", slack)))
}

/// The result of a query for one number in the database at `path`, next to the running sidecar.
pub(crate) fn number(path: &Path, query: &str) -> Option<i64> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    database.query_row(query, [], |row| row.get(0)).ok()
}

/// Waits until every notice is delivered according to the ledger.
pub(crate) fn wait_until_settled(setup: &Setup, notices: i64) {
    let ledger = setup.path().join("lookout.db");
    eventually(&format!("{notices} settled notices"), || {
        let settled = number(&ledger, "SELECT count(*) FROM outbox WHERE settled_at IS NOT NULL")?;
        let open = number(&ledger, "SELECT count(*) FROM outbox WHERE settled_at IS NULL")?;
        (settled >= notices && open == 0).then_some(())
    });
}

/// Waits until the fleet with this agent is on disk.
pub(crate) fn wait_until_saved(setup: &Setup, agents: i64) {
    let history = setup.path().join("lookout.history.db");
    eventually("the agents on disk", || {
        (number(&history, "SELECT count(*) FROM agents") == Some(agents)).then_some(())
    });
}

/// Asserts that what was taken before and after a kill is `expected`, but for a repeat of what was last taken
/// before it, whose outcome may not have been written.
fn assert_delivered(before: &[String], all: &[String], expected: &[&str]) {
    let mut all = all.to_vec();
    if let Some(last) = before.last()
        && all.get(before.len()) == Some(last)
    {
        all.remove(before.len());
    }
    assert_eq!(all, expected, "before the kill: {before:?}");
}

fn killed_after_answer() {
    for seed in 0..8 {
        let slack = Slack::start();
        let setup = setup(&slack);
        let lookout = setup.start();
        push(&lookout, &idle("a", 400));
        // The moment moves through evaluation, writing and sending.
        thread::sleep(Duration::from_micros(seed * seed * 400));
        lookout.kill9();
        slack.fence();
        let before = slack.delivered();
        let lookout = setup.start();
        // Sources push their state again, as they all do.
        push(&lookout, &idle("a", 401));
        slack.wait_for("the warning", |seen| seen.iter().any(|seen| seen.was_taken()));
        push(&lookout, &idle("a", 402));
        assert!(lookout.sigterm().success());
        assert_delivered(&before, &slack.delivered(), &["[WARNING] a"]);
    }
}

fn killed_in_a_send() {
    for trouble in [Act::Hang, Act::Cut, Act::Answer(429, "rate_limited", Some(600)), Act::Answer(500, "", None)] {
        let slack = Slack::start();
        slack.always(trouble);
        let setup = setup(&slack);
        let lookout = setup.start();
        push(&lookout, &idle("a", 400));
        slack.wait(1);
        let pending = number(&setup.path().join("lookout.db"), "SELECT count(*) FROM outbox WHERE settled_at IS NULL");
        assert_eq!(pending, Some(1), "the intent is on disk before the send");
        wait_until_saved(&setup, 1);
        lookout.kill9();
        slack.fence();
        let sent = slack.seen().len();
        slack.always(Act::Take);
        let lookout = setup.start();
        let seen = slack.wait(sent + 1);
        assert_eq!(without_age(&seen[sent].body), without_age(&seen[0].body), "the same message, after {trouble:?}");
        assert!(lookout.sigterm().success());
        assert_eq!(slack.delivered(), ["[WARNING] a"], "{trouble:?}");
    }
}

/// A message without the duration in it, which is computed when it is sent.
fn without_age(body: &Value) -> String {
    let text = body.to_string();
    let parts: Vec<&str> = text.split(" ago)").collect();
    let (last, aged) = parts.split_last().expect("a part at least");
    let kept = aged.iter().map(|part| part.rsplit_once(" (").expect("an age begins").0);
    kept.chain([*last]).collect()
}

fn killed_before_a_resolve() {
    for seed in 0..6_u64 {
        let slack = Slack::start();
        let setup = setup(&slack);
        let lookout = setup.start();
        push(&lookout, &idle("a", 400));
        slack.wait(1);
        wait_until_settled(&setup, 1);
        wait_until_saved(&setup, 1);
        slack.always(if seed.is_multiple_of(2) { Act::Hang } else { Act::Take });
        push(&lookout, &idle("a", 0));
        match seed {
            0 | 2 => drop(slack.wait(2)),
            _ => thread::sleep(Duration::from_millis(seed * seed)),
        }
        lookout.kill9();
        slack.always(Act::Take);
        slack.fence();
        let before = slack.delivered();
        let lookout = setup.start();
        push(&lookout, &idle("a", 1));
        slack
            .wait_for("the resolve", |seen| seen.iter().any(|seen| seen.was_taken() && seen.title() == "[RESOLVED] a"));
        assert!(lookout.sigterm().success());
        assert_delivered(&before, &slack.delivered(), &["[WARNING] a", "[RESOLVED] a"]);
    }
}

/// The last notification about an agent.
fn last_delivered(slack: &Slack, name: &str) -> Option<String> {
    slack.delivered().into_iter().rev().find(|alert| alert.ends_with(&format!("] {name}")))
}

fn killed_at_any_event() {
    let runs: Vec<_> = (0..10).map(|seed| thread::spawn(move || killed_at_event(seed))).collect();
    for run in runs {
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Three agents get worse and better while Slack is in trouble; the program is killed when Slack sees its n-th request.
fn killed_at_event(seed: usize) {
    let slack = Slack::start();
    let troubles = [Act::Take, Act::Cut, Act::Take, Act::Answer(500, "", None), Act::Take];
    let script: Vec<Act> = (0..8).map(|place| troubles[(place * 3 + seed) % troubles.len()]).collect();
    slack.next(&script);
    let setup = setup(&slack);
    let lookout = setup.start();
    let steps = [idle("a", 400), idle("b", 650), idle("c", 950), idle("a", 650), idle("b", 0), idle("c", 0)];
    let (events, mut done) = (1 + seed / 2, 0);
    for step in &steps {
        push(&lookout, step);
        done += 1;
        if slack.seen().len() >= events {
            break;
        }
        if seed.is_multiple_of(2) {
            // Half of the runs let each step go out before the next.
            slack.wait(slack.seen().len().max(1));
        }
    }
    slack.wait(events.min(2));
    lookout.kill9();
    slack.fence();
    let before = slack.delivered();
    slack.always(Act::Take);
    let lookout = setup.start();
    // Sources push the current state again.
    let (past, rest) = steps.split_at(done);
    let is_latest = |place: usize, step: &Value| {
        past[place + 1..].iter().all(|later| later["agents"][0]["name"] != step["agents"][0]["name"])
    };
    for (_, step) in past.iter().enumerate().filter(|(place, step)| is_latest(*place, step)) {
        push(&lookout, step);
    }
    for step in rest {
        push(&lookout, step);
    }
    let truth = |name: &str, expected: &str| {
        eventually(&format!("seed {seed}: {expected} {name}"), || {
            let last = last_delivered(&slack, name)?;
            (last == format!("{expected} {name}")).then_some(())
        });
    };
    truth("a", "[ERROR]");
    for name in ["b", "c"] {
        // An alert that resolved before its first notification need not be mentioned.
        if last_delivered(&slack, name).is_some() {
            truth(name, "[RESOLVED]");
        }
    }
    assert!(lookout.sigterm().success());
    let delivered = slack.delivered();
    for name in ["a", "b", "c"] {
        let mine = |all: &[String]| -> Vec<String> {
            all.iter().filter(|alert| alert.ends_with(&format!("] {name}"))).cloned().collect()
        };
        let (mut mine_all, mine_before) = (mine(&delivered), mine(&before));
        if mine_all.get(mine_before.len()).is_some_and(|next| Some(next) == mine_before.last()) {
            mine_all.remove(mine_before.len());
        }
        let mut once = mine_all.clone();
        once.dedup();
        assert_eq!(mine_all, once, "seed {seed}: {delivered:?}, before the kill {before:?}");
    }
}

fn an_orphan_waits() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("agents: {{timeout: 3s}}\nreceivers:\n{}", receiver("ops", &slack)));
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    push(&lookout, &idle("b", 650));
    eventually("two deliveries", || (slack.delivered().len() == 2).then_some(()));
    wait_until_settled(&setup, 2);
    lookout.kill9();
    // As if the kill had come between the two files.
    for companion in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(setup.path().join(format!("lookout.history.db{companion}"))));
    }
    let lookout = setup.start();
    assert_eq!(alerts(&lookout).len(), 2, "it is no news that they are gone");
    push(&lookout, &idle("a", 0));
    eventually("three deliveries", || (slack.delivered().len() == 3).then_some(()));
    assert_eq!(alerts(&lookout).len(), 1, "the other one waits");
    let seen = slack.wait_for("its end", |seen| seen.iter().flat_map(|seen| seen.alerts()).count() == 4);
    assert!(seen.last().unwrap().text().contains("no longer watched"), "{}", seen.last().unwrap().text());
    assert!(!seen[seen.len() - 2].text().contains("no longer watched"), "{}", seen[seen.len() - 2].text());
    assert_eq!(slack.delivered(), ["[WARNING] a", "[ERROR] b", "[RESOLVED] a", "[RESOLVED] b"]);
}

fn settled_is_settled() {
    let slack = Slack::start();
    let setup = setup(&slack);
    let lookout = setup.start();
    for (name, seconds) in [("a", 400), ("b", 650), ("a", 0)] {
        push(&lookout, &idle(name, seconds));
    }
    slack.wait_for("all three", |_| true);
    eventually("three deliveries", || (slack.delivered().len() == 3).then_some(()));
    wait_until_settled(&setup, 3);
    wait_until_saved(&setup, 2);
    lookout.kill9();
    for _ in 0..3 {
        let lookout = setup.start();
        push(&lookout, &idle("b", 651));
        lookout.kill9();
    }
    let lookout = setup.start();
    assert!(lookout.sigterm().success());
    let mut delivered = slack.delivered();
    delivered.sort();
    assert_eq!(delivered, ["[ERROR] b", "[RESOLVED] a", "[WARNING] a"]);
}

/// The series of the fleet and of alerts that time alone does not change.
fn lasting(lookout: &Lookout) -> Vec<String> {
    let changing = ["idle_time_seconds", "_agent_up", "budget_used_ratio"];
    let lasting = |line: &&str| {
        (line.starts_with("orchestrator_") || line.starts_with("lookout_alerts"))
            && !changing.iter().any(|name| line.contains(name))
    };
    let mut lines: Vec<String> = lookout.get("/metrics").text().lines().filter(lasting).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn state_is_as_before() {
    let slack = Slack::start();
    let setup = Setup::new(&format!(
        "budgets: {{tokens_per_task: 2000, tokens_per_day: 100000, cost_usd_per_day: 50}}\nreceivers:\n{}",
        receiver("ops", &slack)
    ));
    let lookout = setup.start();
    let agents = |input: u64, restarts: u64| -> Value {
        let agent = |name: &str, factor: u64| {
            json!({"name": name, "type": "custom", "status": "running", "task_id": "t1", "restart_count": restarts,
                   "progress": 12.5, "model": "claude-opus", "last_activity": idle(name, 400)["agents"][0]["last_activity"],
                   "requests": {"total": 40 * factor, "errors": factor, "rate_limited": 0, "retries": 3},
                   "tokens": {"input": input * factor, "output": 5, "cache_read": 7, "cost_usd": 1.25}})
        };
        json!({"project": "shop", "ttl": "1h", "agents": [agent("a", 1), agent("b \"ü\"", 2)],
               "components": [{"name": "DatabaseManager", "status": "WARNING", "details": "pool is full"}]})
    };
    push(&lookout, &agents(100, 1));
    push(&lookout, &agents(1100, 4));
    let usage = json!({"project": "shop", "usage": [{"agent": "meter", "input": 500, "output": 20, "cost_usd": 0.5, "id": "u1"}]});
    assert_eq!(lookout.post("/api/usage", &usage).status, 200);
    let (series, alerts) = (lasting(&lookout), alerts(&lookout));
    // The usage came last and made the third agent; what came before it is saved with it or earlier.
    wait_until_saved(&setup, 3);
    lookout.kill9();
    let lookout = setup.start();
    let day = "orchestrator_agent_budget_used_tokens{project=\"shop\",agent_name=\"a\",scope=\"day\"}";
    assert_eq!(metric(&lookout, day), Some(1000.0), "{series:#?}");
    let restarts = "orchestrator_agent_restarts_total{project=\"shop\",agent_name=\"a\"}";
    assert!(metric(&lookout, restarts).is_some_and(|count| count >= 3.0), "{series:#?}");
    assert_eq!(lasting(&lookout), series);
    assert_eq!(self::alerts(&lookout), alerts);
    assert!(alerts.len() >= 4, "{alerts:?}");
    // Counting continues: nothing is counted twice, and a repeated id is still a duplicate.
    let repeated = lookout.post("/api/usage", &usage);
    assert!(repeated.text().contains("duplicate") || repeated.text().contains("counted"), "{}", repeated.text());
    push(&lookout, &agents(1110, 4));
    assert_eq!(metric(&lookout, day), Some(1010.0));
    let meter = "orchestrator_agent_tokens_total{project=\"shop\",agent_name=\"meter\",token_type=\"input\"}";
    assert_eq!(metric(&lookout, meter), Some(500.0));
}

/// Tokens that `meter` has used.
fn metered(lookout: &Lookout) -> Option<f64> {
    metric(lookout, "orchestrator_agent_tokens_total{project=\"shop\",agent_name=\"meter\",token_type=\"input\"}")
}

fn usage_outlives_a_kill() {
    let setup = Setup::new("");
    let usage = |id: Option<String>| {
        let increment = json!({"agent": "meter", "input": 10, "cost_usd": 0.01, "model": "m", "id": id});
        json!({"project": "shop", "usage": [increment]})
    };
    let mut answered = 0;
    for round in 0..5 {
        let lookout = setup.start();
        assert_eq!(metered(&lookout), (round > 0).then_some(f64::from(answered) * 10.0), "round {round}");
        // Twice the same id: it counts once, also over the kill.
        assert_eq!(lookout.post("/api/usage", &usage(Some(format!("id-{}", round / 2)))).status, 200);
        answered += i32::from(round % 2 == 0);
        thread::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..round * 3 {
                            assert_eq!(lookout.post("/api/usage", &usage(None)).status, 200);
                        }
                    })
                })
                .collect();
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
        answered += round * 3 * 4;
        lookout.kill9();
    }
    let lookout = setup.start();
    assert_eq!(metered(&lookout), Some(f64::from(answered) * 10.0));
    let day = "orchestrator_agent_budget_used_tokens{project=\"shop\",agent_name=\"meter\",scope=\"day\"}";
    assert_eq!(metric(&lookout, day).unwrap_or(f64::from(answered) * 10.0), f64::from(answered) * 10.0);
    // A gentle end leaves nothing to count again.
    assert!(lookout.sigterm().success());
    let history = setup.path().join("lookout.history.db");
    assert_eq!(number(&history, "SELECT count(*) FROM usage_log"), Some(0));
    assert_eq!(metered(&setup.start()), Some(f64::from(answered) * 10.0));
}

fn usage_on_a_full_disk() {
    let setup = Setup::new("").shell("trap '' XFSZ");
    let lookout = setup.start();
    let usage = json!({"project": "shop", "usage": [{"agent": "meter", "input": 10}]});
    assert_eq!(lookout.post("/api/usage", &usage).status, 200);
    crate::faults::fill(&lookout, true);
    let answer = lookout.post("/api/usage", &usage);
    assert_eq!((answer.status, answer.json()["durable"].clone()), (202, json!(false)), "{}", answer.text());
    assert_eq!(metered(&lookout), Some(20.0), "it counts all the same");
    crate::faults::fill(&lookout, false);
    eventually("ready", || (lookout.get("/-/ready").status == 200).then_some(()));
    assert_eq!(lookout.post("/api/usage", &usage).status, 200);
    lookout.kill9();
    assert_eq!(metered(&setup.start()), Some(30.0));
}

/// The firing alerts with level and start.
fn alerts(lookout: &Lookout) -> Vec<String> {
    let answer = lookout.get("/api/alerts?state=firing").json();
    let mut alerts: Vec<String> = answer["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| {
            let keys = ["fingerprint", "rule", "level", "started_at", "fired_at", "agent_name", "component"];
            keys.map(|key| alert[key].to_string()).join(" ")
        })
        .collect();
    alerts.sort();
    alerts
}

fn a_gentle_end() {
    let slack = Slack::start();
    let setup = setup(&slack);
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    slack.wait(1);
    // This one has to wait a second behind the first; the end comes before.
    push(&lookout, &idle("b", 650));
    let series = lasting(&lookout);
    let log = {
        lookout.signal("TERM");
        slack.wait(2);
        eventually("the last words", || lookout.log().contains("state saved").then(|| lookout.log()))
    };
    assert!(lookout.sigterm().success(), "{log}");
    assert_eq!(slack.delivered(), ["[WARNING] a", "[ERROR] b"]);
    let lookout = setup.start();
    assert_eq!(lasting(&lookout), series);
    assert!(lookout.sigterm().success());
    assert_eq!(slack.seen().len(), 2, "the next start has no pending notifications");
}

fn one_program_a_store() {
    let slack = Slack::start();
    let setup = setup(&slack);
    let lookout = setup.start();
    let error = setup.spawn().map(|second| second.log()).expect_err("a second program");
    assert!(error.contains("is in use by another lookout (process ") && error.contains("store.path"), "{error}");
    push(&lookout, &idle("a", 400));
    slack.wait(1);
    // By any name of the same file.
    for link in ["symbolic.db", "hard.db"] {
        let (path, link) = (setup.path().join("lookout.db"), setup.path().join(link));
        if link.ends_with("hard.db") {
            std::fs::hard_link(path, &link).unwrap();
        } else {
            std::os::unix::fs::symlink(path, &link).unwrap();
        }
        let path = link.display().to_string();
        let second = setup.command(&["run", "--config", "lookout.yaml"]).env("LOOKOUT_STORE__PATH", &path).output();
        let error = String::from_utf8(second.unwrap().stderr).unwrap();
        assert!(error.contains("is in use by another lookout"), "{path}: {error}");
        std::fs::remove_file(link).unwrap();
    }
    lookout.kill9();
    // The lock goes with the process, however it ended.
    assert!(setup.start().sigterm().success());
}

fn a_damaged_file() {
    for name in ["lookout.db", "lookout.history.db"] {
        let slack = Slack::start();
        let setup = setup(&slack);
        let lookout = setup.start();
        push(&lookout, &idle("a", 400));
        slack.wait(1);
        assert!(lookout.sigterm().success());
        std::fs::write(setup.path().join(name), "SQLite format 3\0 and then rubbish ".repeat(400)).unwrap();
        let lookout = setup.start();
        lookout.wait_for_log(&["damaged", &format!("{name}.damaged-")]);
        let aside = std::fs::read_dir(setup.path()).unwrap().flatten();
        let aside = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}.damaged-")));
        assert_eq!(aside.count(), 1, "{name} is kept");
        push(&lookout, &idle("b", 400));
        slack.wait_for("the next alert", |seen| seen.iter().any(|seen| seen.text().contains("shop/b: no activity")));
        assert!(lookout.sigterm().success());
    }
}

fn a_store_that_cannot_be() {
    let setup = Setup::new("store: {path: no/such/folder/lookout.db}\n");
    let error = setup.spawn().map(|lookout| lookout.log()).expect_err("no folder");
    for part in ["no/such/folder/lookout.db", "directory does not exist", "store.path"] {
        assert!(error.contains(part), "`{part}` in {error}");
    }
    let output = setup.command(&["run", "--config", "lookout.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

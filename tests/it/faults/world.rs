//! The environment of one run: sidecar, receivers, disk and clock. Executes the steps of a schedule.
//!
//! It tracks the true state at each moment, and records what happened.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::thread;
use std::time::Duration;

use lookout::clock::Clock;
use serde_json::{Value, json};

use super::exports::Exports;
use super::ledger::{self, Row};
use super::schedule::{Address, By, Condition, Damage, ReceiverName, SUBJECTS, Slow, Step};
use super::{clock, disk};
use crate::doubles::mailbox::Mailbox;
use crate::doubles::slack::{Line, SECRET, Slack};
use crate::program::{Lookout, Setup, eventually};
use crate::slack::push;

/// The cooldown of every rule.
pub(super) const COOLDOWN: Duration = Duration::from_millis(300);

const HEAD: &str = "listen: 127.0.0.1:0\nlog: {format: json, level: info}\n";

/// A moment after which the notifications that a receiver got and those that the program recorded may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The program was killed.
    Crash,
    /// The program was killed and its ledger was replaced.
    NewLedger,
    /// The receiver was removed and added again: its earlier notifications are not known any more.
    NewReceiver,
}

/// Such a moment, as one receiver's double recorded it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) what: Break,
    /// The number of requests before it.
    pub(super) place: usize,
    pub(super) at: Duration,
}

/// A message that a receiver got.
pub(super) struct Request {
    /// The receivers.
    pub(super) lines: Vec<Line>,
    pub(super) at: Duration,
    /// The double's response.
    pub(super) act: String,
    pub(super) was_taken: bool,
}

/// The restarts of a looping agent; the window of its rule counts those since the first report.
#[derive(Clone, Copy, Default)]
struct Loops {
    count: u64,
    first: u64,
}

/// Restarts within the window that are a warning and an error.
const LOOPING: [u64; 2] = [2, 4];

/// One run.
pub(super) struct World {
    setup: Setup,
    program: Option<Lookout>,
    doubles: Vec<Slack>,
    mailbox: Mailbox,
    exports: Exports,
    loops: HashMap<usize, Loops>,
    /// Since when, by the machine's clock, monitoring is paused and no notification may be created.
    paused_since: Option<i64>,
    /// The pauses so far, from when to when.
    pub(super) pauses: Vec<(i64, i64)>,
    /// The number of requested pauses and extensions.
    pub(super) stops: usize,
    /// Whether no state was lost: no file of the store was damaged.
    pub(super) is_kept: bool,
    /// Whether the program was ever killed.
    pub(super) was_killed: bool,
    pub(super) truth: Vec<Condition>,
    pub(super) slow: Slow,
    pub(super) extra: bool,
    /// The last reported activity and condition of a subject.
    reported: HashMap<usize, (Condition, i64)>,
    /// The offset of the wall clock in seconds.
    offset: i64,
    /// Whether it was set since the program started.
    is_set: bool,
    pub(super) marks: BTreeMap<ReceiverName, Vec<Mark>>,
    /// The rows of ledgers that were damaged later.
    pub(super) ledgers: Vec<Vec<Row>>,
    pub(super) story: Vec<String>,
    /// The logs of earlier processes.
    logs: Vec<String>,
    damaged: usize,
}

impl World {
    pub(super) fn new() -> Self {
        let setup = clock::under(Setup::new("").shell("trap '' XFSZ"));
        let mut world = Self {
            setup,
            program: None,
            doubles: ReceiverName::HOOKS.iter().map(|_| Slack::start()).collect(),
            mailbox: Mailbox::start(),
            exports: Exports::new(),
            loops: HashMap::new(),
            paused_since: None,
            pauses: Vec::new(),
            stops: 0,
            is_kept: true,
            was_killed: false,
            truth: vec![Condition::Gone; SUBJECTS.len()],
            slow: Slow::Strict,
            extra: false,
            reported: HashMap::new(),
            offset: 0,
            is_set: false,
            marks: BTreeMap::new(),
            ledgers: Vec::new(),
            story: Vec::new(),
            logs: Vec::new(),
            damaged: 0,
        };
        ReceiverName::HOOKS.into_iter().for_each(|receiver| world.address(receiver, Address::Home));
        world.configure();
        world.start();
        // Increases from before the first start do not count.
        world.exports = Exports::new();
        // Looping agents are reported and saved at the start, so that after a crash a later report is not taken for the first.
        for subject in (0..SUBJECTS.len()).filter(|subject| project(*subject) == "loop") {
            world.report(subject, Condition::Well, false);
        }
        crate::durability::wait_until_saved(&world.setup, 2);
        world
    }

    fn double(&self, receiver: ReceiverName) -> &Slack {
        &self.doubles[receiver as usize]
    }

    /// All messages that a receiver got so far, in order.
    pub(super) fn requests(&self, receiver: ReceiverName) -> Vec<Request> {
        if receiver == ReceiverName::Mail {
            let letters = self.mailbox.letters().into_iter();
            return letters
                .map(|it| Request {
                    lines: it.lines(),
                    at: it.at,
                    act: format!("{:?}", it.verdict),
                    was_taken: it.was_taken(),
                })
                .collect();
        }
        let seen = self.double(receiver).seen().into_iter();
        seen.map(|it| Request { lines: it.lines(), at: it.at, act: format!("{:?}", it.act), was_taken: it.was_taken() })
            .collect()
    }

    fn elapsed(&self, receiver: ReceiverName) -> Duration {
        if receiver == ReceiverName::Mail { self.mailbox.elapsed() } else { self.double(receiver).elapsed() }
    }

    /// The level at which a looping agent must fire: 1, 2, and 0 if it must not.
    pub(super) fn looping(&self, subject: usize) -> usize {
        let loops = self.loops.get(&subject).copied().unwrap_or_default();
        LOOPING.iter().filter(|threshold| loops.count - loops.first >= **threshold).count()
    }

    pub(super) fn path(&self) -> &Path {
        self.setup.path()
    }

    fn program(&self) -> &Lookout {
        self.program.as_ref().expect("it runs between two steps")
    }

    /// Everything that was logged, by every program of this run.
    pub(super) fn log(&self) -> String {
        let now = self.program.as_ref().map(Lookout::log).unwrap_or_default();
        [self.logs.join("\n"), now].join("\n")
    }

    fn log_step(&mut self, what: &str) {
        let at = self.doubles[0].elapsed().as_millis();
        self.story.push(format!("{at:6} ms  {what}"));
    }

    /// Executes one step.
    pub(super) fn step(&mut self, step: &Step) {
        if !matches!(step, Step::Pause(_)) {
            self.log_step(&step.to_string());
        }
        match step {
            Step::Report(subject, condition, again) => self.report(*subject, *condition, *again),
            Step::Silence(subject, millis) => {
                let silence = json!({"matchers": {"rule": rule(*subject), "project": project(*subject)},
                    "duration": format!("{millis}ms"), "created_by": SUBJECTS[*subject]});
                let answer = self.program().post("/api/silences", &silence);
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            Step::Unsilence(subject) => self.unsilence(|by| by == SUBJECTS[*subject]),
            Step::Acknowledge(subject) => {
                if let Some(alert) = self.alert(*subject) {
                    let id = alert["fingerprint"].as_str().expect("an id").to_owned();
                    // It may be over by now.
                    self.program().post(&format!("/api/alerts/{id}/ack"), &json!({"by": "ann"}));
                }
            }
            Step::Rules(slow) => {
                self.slow = *slow;
                self.configure();
                self.reload();
            }
            Step::Receiver(there) => {
                if *there {
                    self.mark(ReceiverName::Extra, Break::NewReceiver);
                }
                self.extra = *there;
                self.configure();
                self.reload();
            }
            Step::Reload(By::Api) => self.reload(),
            Step::Reload(By::Signal) => self.program().signal("HUP"),
            Step::Monitoring(on) => self.monitor(*on),
            Step::Export(who, tokens) => {
                let program = self.program.as_ref().expect("it runs between two steps");
                self.exports.export(program, *who, *tokens);
            }
            Step::Trouble(receiver, acts) => self.double(*receiver).next(acts),
            Step::MailTrouble(verdicts) => self.mailbox.next(verdicts.iter().copied()),
            Step::Remove(file) => self.remove(file),
            Step::Address(receiver, address) => self.address(*receiver, *address),
            Step::DiskFull(full) => self.fill_disk(*full),
            Step::Clock(seconds) => {
                self.offset += seconds;
                self.is_set = true;
                clock::set(self.path(), self.offset);
            }
            Step::Kill(meanwhile) => {
                self.kill(Break::Crash);
                self.restart(meanwhile);
            }
            Step::Term(meanwhile) => {
                self.end();
                self.restart(meanwhile);
            }
            Step::Damage(file, damage) => {
                let is_ledger = *file == "lookout.db";
                self.kill(if is_ledger { Break::NewLedger } else { Break::Crash });
                if is_ledger {
                    self.ledgers.push(ledger::read_copy(self.path()));
                }
                self.damage(file, *damage);
                self.is_kept = false;
                self.restart(&[]);
                self.loop_on();
            }
            Step::Pause(micros) => thread::sleep(Duration::from_micros(*micros)),
        }
    }

    /// Ends every fault, reports the true state again, and ends all silences.
    pub(super) fn make_well(&mut self) {
        self.log_step("all faults are over");
        disk::fill(self.program(), false);
        ReceiverName::HOOKS.into_iter().for_each(|receiver| self.address(receiver, Address::Home));
        self.doubles.iter().for_each(Slack::behave);
        self.mailbox.behave();
        self.monitor(true);
        self.reload();
        self.report_all();
        self.unsilence(|_| true);
        let program = self.program.as_ref().expect("it runs between two steps");
        self.exports.export_all(program);
    }

    /// Errors in the counts of exporting agents.
    pub(super) fn miscounted(&self, is_clock_steady: bool) -> Vec<String> {
        self.exports.wrong(self.program(), self.is_kept && is_clock_steady)
    }

    fn monitor(&mut self, on: bool) {
        let now = || Clock::system().now().as_millis();
        let action = if on { "start" } else { "stop" };
        self.end_pause(now());
        let answer = self.program().post(&format!("/api/monitoring/{action}"), &json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        if !on {
            self.paused_since = Some(now());
            self.stops += 1;
        }
    }

    /// Stops logging of decisions.
    fn end_pause(&mut self, now: i64) {
        self.pauses.extend(self.paused_since.take().map(|since| (since, now)));
    }

    /// Removes a database and waits until it is written again, with all its content.
    fn remove(&mut self, file: &str) {
        for end in ["", "-wal", "-shm"] {
            // There is no write-ahead log after a checkpoint.
            drop(std::fs::remove_file(self.path().join(format!("{file}{end}"))));
        }
        eventually("the database to be written again", || self.path().join(file).exists().then_some(()));
    }

    /// If a window may have been lost, looping agents restart until the loss does not matter.
    fn loop_on(&mut self) {
        for subject in (0..SUBJECTS.len()).filter(|subject| project(*subject) == "loop") {
            self.loops.entry(subject).or_default().count += LOOPING[1];
            self.report(subject, Condition::Well, false);
        }
    }

    /// Stops the sidecar and returns its exit status.
    pub(super) fn end(&mut self) {
        self.end_pause(Clock::system().now().as_millis());
        let mut program = self.program.take().expect("it runs between two steps");
        program.signal("TERM");
        // A slow or hanging receiver must not exceed the test's time.
        self.mailbox.hurry(true);
        let status = eventually("its end", || {
            self.doubles.iter().for_each(Slack::release);
            program.ended()
        });
        self.mailbox.fence();
        self.mailbox.hurry(false);
        self.logs.push(program.log());
        clock::sweep(program.id());
        assert!(status.success(), "it ended with {status}");
    }

    /// The sidecar's view of a subject's alert, if it fires.
    pub(super) fn alert(&self, subject: usize) -> Option<Value> {
        let path = format!("/api/alerts?state=firing&rule={}", rule(subject));
        let answer = self.program().get(&path).json();
        let alerts = answer["alerts"].as_array().expect("a list");
        let is_it = |alert: &&Value| {
            [&alert["agent_name"], &alert["component"]].into_iter().any(|name| name == SUBJECTS[subject])
        };
        alerts.iter().find(is_it).cloned()
    }

    fn report(&mut self, subject: usize, condition: Condition, again: bool) {
        let condition = self.change(subject, condition);
        let batch = if condition == Condition::Gone {
            self.batch(project(subject))
        } else {
            let reported = self.reported.get(&subject).filter(|(of, _)| again && *of == condition).map(|(_, at)| *at);
            if reported.is_none() {
                self.reported.remove(&subject);
            }
            let state = self.state(subject);
            json!({"project": project(subject), "ttl": "1h", list(subject): [state]})
        };
        push(self.program(), &batch);
    }

    /// Sets the condition of a subject from now on.
    fn change(&mut self, subject: usize, condition: Condition) -> Condition {
        let condition = possible(subject, condition);
        self.truth[subject] = condition;
        if let ("loop", Condition::Trouble(worse)) = (project(subject), condition) {
            self.loops.entry(subject).or_default().count += worse as u64 + 1;
        }
        condition
    }

    /// The complete state of a project, so that an agent that is not listed is removed.
    fn batch(&mut self, of: &str) -> Value {
        let there: Vec<usize> = (0..SUBJECTS.len())
            .filter(|subject| project(*subject) == of && self.truth[*subject] != Condition::Gone)
            .collect();
        let states: Vec<Value> = there.into_iter().map(|subject| self.state(subject)).collect();
        let (agents, components) = if of == "part" { (Vec::new(), states) } else { (states, Vec::new()) };
        json!({"project": of, "ttl": "1h", "complete": true, "agents": agents, "components": components})
    }

    fn report_all(&mut self) {
        for of in ["idle", "down", "slow", "part", "loop"] {
            let batch = self.batch(of);
            push(self.program(), &batch);
        }
    }

    /// A subject as its reporter describes it, with the same times as before.
    fn state(&mut self, subject: usize) -> Value {
        let (name, condition) = (SUBJECTS[subject], self.truth[subject]);
        let worse = match condition {
            Condition::Trouble(worse) => worse + 1,
            Condition::Well | Condition::Gone => 0,
        };
        match project(subject) {
            "idle" => {
                let idle = [0, 400, 700, 1_000][worse] * 1_000;
                let at = Clock::system().now().as_millis() + self.offset * 1_000 - idle;
                let (_, at) = *self.reported.entry(subject).or_insert((condition, at));
                json!({"name": name, "status": "running", "last_activity": at})
            }
            "down" => json!({"name": name, "running": worse == 0}),
            "slow" => json!({"name": name, "status": "running", "progress": ([90, 40, 10, 10][worse])}),
            "loop" => {
                let restarts = self.loops.get(&subject).map_or(0, |loops| loops.count);
                json!({"name": name, "status": "running", "restart_count": restarts})
            }
            _ => json!({"name": name, "status": (["OK", "WARNING", "ERROR", "ERROR"][worse])}),
        }
    }

    fn unsilence(&mut self, is_meant: impl Fn(&str) -> bool) {
        let list = self.program().get("/api/silences").json();
        for silence in list["silences"].as_array().expect("a list") {
            if is_meant(silence["created_by"].as_str().unwrap_or_default()) {
                let id = silence["id"].as_str().expect("an id");
                // It may expire at this moment.
                self.program().send("DELETE", &format!("/api/silences/{id}"), &[], b"");
            }
        }
    }

    fn configure(&self) {
        let receiver = |receiver: ReceiverName, level: &str| {
            let name = receiver.name();
            format!("  - {{name: {name}, min_level: {level}, slack: {{webhook_url_file: {name}.url}}}}\n")
        };
        let mut receivers = receiver(ReceiverName::Ops, "warning") + &receiver(ReceiverName::Oncall, "error");
        if self.extra {
            receivers += &receiver(ReceiverName::Extra, "warning");
        }
        receivers += &format!(
            "  - {{name: mail, min_level: error, email: {{to: [ops@example.com], from: lookout@example.com, \
             smtp: {{host: 127.0.0.1, port: {}, tls: none}}}}}}\n",
            self.mailbox.port()
        );
        let config = format!("{HEAD}agents: {{timeout: 2s}}\nrules: [team.yaml]\nreceivers:\n{receivers}");
        self.setup.write("lookout.yaml", &config);
        let rule = |name: &str, of: &str, signal: &str, rest: &str| {
            let cooldown = COOLDOWN.as_millis();
            format!(
                "  - {{name: {name}, for_each: {of}, signal: {signal}, {rest}, cooldown: {cooldown}ms, repeat: null, flap: null, summary: 'of {name}'}}\n"
            )
        };
        let mut rules = rule(
            "AgentIdle",
            "agent",
            "idle_seconds",
            "when: at_least, levels: {warning: 5m, error: 10m, critical: 15m}",
        ) + &rule("AgentDown", "agent", "agents_down", "when: at_least, levels: {error: 1}")
            + &rule(
                "ComponentStatus",
                "component",
                "component_status",
                "when: equals, levels: {warning: WARNING, error: ERROR}",
            )
            + &rule(
                "AgentRestarting",
                "agent",
                "{increase_of: restarts, over: 10m}",
                &format!("when: at_least, levels: {{warning: {}, error: {}}}", LOOPING[0], LOOPING[1]),
            );
        let levels = match self.slow {
            Slow::Absent => None,
            Slow::Strict => Some("{warning: 0.5, error: 0.2}"),
            Slow::Lenient => Some("{warning: 0.3, error: 0.05}"),
        };
        if let Some(levels) = levels {
            rules += &rule("Slow", "agent", "progress", &format!("when: at_most, levels: {levels}"));
        }
        // Incidents would be notified in place of single alerts.
        rules += "  - {name: AgentsDown, enabled: false}\n  - {name: ClusterHealth, enabled: false}\n";
        self.setup.write("team.yaml", &format!("rules:\n{rules}"));
    }

    fn reload(&self) {
        let answer = self.program().send("POST", "/-/reload", &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn address(&self, receiver: ReceiverName, address: Address) {
        let url = match address {
            Address::Home => self.double(receiver).url(),
            // The port of tcpmux, which has been unused for decades.
            Address::Refused => format!("http://127.0.0.1:1/services/{SECRET}"),
            Address::Unresolved => format!("https://unresolved.invalid/services/{SECRET}"),
        };
        let name = format!("{}.url", receiver.name());
        self.setup.write(&format!("{name}.new"), &url);
        std::fs::rename(self.path().join(format!("{name}.new")), self.path().join(name)).expect("a new address");
    }

    /// Fills the disk, or frees it and waits until unsaved state is written, which a crash before would lose.
    fn fill_disk(&self, full: bool) {
        disk::fill(self.program(), full);
        if !full {
            eventually("the ledger to be written again", || {
                let log = self.program().log();
                let mut lines = log.lines().rev().filter(|line| line.contains("\"path\":\"lookout.db\""));
                lines.next().is_none_or(|last| !last.contains("store file is not writable")).then_some(())
            });
        }
    }

    fn mark(&mut self, receiver: ReceiverName, what: Break) {
        let mark = Mark { what, place: self.requests(receiver).len(), at: self.elapsed(receiver) };
        self.marks.entry(receiver).or_default().push(mark);
    }

    fn kill(&mut self, what: Break) {
        self.end_pause(Clock::system().now().as_millis());
        self.was_killed = true;
        let program = self.program.take().expect("it runs between two steps");
        let (log, id) = (program.log(), program.id());
        program.kill9();
        clock::sweep(id);
        self.logs.push(log);
        let at = ReceiverName::ALL.map(|receiver| self.elapsed(receiver));
        for receiver in ReceiverName::ALL {
            if receiver == ReceiverName::Mail {
                self.mailbox.fence();
            } else {
                self.double(receiver).fence();
            }
            self.mark(receiver, what);
            let mark = self.marks.get_mut(&receiver).and_then(|marks| marks.last_mut()).expect("the mark just made");
            mark.at = at[receiver as usize];
        }
    }

    fn damage(&mut self, file: &str, damage: Damage) {
        let path = self.path().join(file);
        // The write-ahead log could restore damaged pages, or hold all of the data: it is checkpointed first.
        ledger::fold(&path);
        let mut bytes = std::fs::read(&path).expect("a file of the store");
        match damage {
            Damage::Rubbish => bytes = b"this is not what it was".repeat(400),
            // Everything but the header.
            Damage::Middle => bytes[100..].fill(0xa5),
            Damage::Short => bytes.truncate(bytes.len() / 2),
        }
        std::fs::write(&path, bytes).expect("a file of the store");
        self.damaged += 1;
    }

    fn restart(&mut self, meanwhile: &[(usize, Condition)]) {
        for (subject, condition) in meanwhile {
            self.change(*subject, *condition);
            self.reported.remove(subject);
        }
        let was_set = std::mem::take(&mut self.is_set);
        if was_set {
            // A time by another wall clock than that of the start can't be compared.
            self.reported.clear();
        }
        self.start();
        self.report_all();
        if was_set {
            // Nor can a clock set forward be distinguished from an hour that has passed.
            self.loop_on();
        }
    }

    fn start(&mut self) {
        let program = self.setup.start();
        self.program = Some(program);
        let aside = std::fs::read_dir(self.path()).expect("the folder").flatten();
        let aside: Vec<String> = aside
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm"))
            .collect();
        assert_eq!(aside.len(), self.damaged, "every damaged file is kept, and no other: {aside:?}");
        let log = self.program().log();
        self.log_step("started");
        if self.story.iter().rev().nth(1).is_some_and(|last| last.contains("Damage(")) {
            assert!(log.contains("store file was damaged and moved aside"), "{log}");
        }
    }
}

/// A component that is not listed stays, and looping agents are always listed.
fn possible(subject: usize, condition: Condition) -> Condition {
    if matches!(project(subject), "part" | "loop") && condition == Condition::Gone {
        Condition::Well
    } else {
        condition
    }
}

/// The rule for a subject.
pub(super) fn rule(subject: usize) -> &'static str {
    match project(subject) {
        "idle" => "AgentIdle",
        "down" => "AgentDown",
        "slow" => "Slow",
        "loop" => "AgentRestarting",
        _ => "ComponentStatus",
    }
}

fn project(subject: usize) -> &'static str {
    SUBJECTS[subject].trim_end_matches(|letter: char| letter.is_ascii_digit())
}

fn list(subject: usize) -> &'static str {
    if project(subject) == "part" { "components" } else { "agents" }
}

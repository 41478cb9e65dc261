//! Fault injection between state and receiver: the real sidecar, database and sockets under random schedules. No
//! notification may be lost, and only those in flight at a crash may be sent twice.
//!
//! `LOOKOUT_FAULT_SCHEDULES` is the number of schedules (default 20), `LOOKOUT_FAULT_SEED` replays one.

mod clock;
pub(crate) mod disk;
mod exports;
mod ledger;
mod oracle;
mod schedule;
mod world;

pub(crate) use disk::fill;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lookout::clock::Stopwatch;

use crate::counterparts::Need;
use crate::{Case, trial};
use oracle::Count;
use schedule::{LATE, LATE_ANSWER, Step};
use world::World;

pub(crate) fn trials() -> Vec<Case> {
    let schedules =
        trial("faults: under random faults no notification is lost or duplicated", &[Need::Faketime], schedules);
    [vec![schedules], clock::trials(), disk::trials()].into_iter().flatten().collect()
}

/// Schedules of an ordinary test run; each takes about a second.
const FEW: u64 = 20;
/// Concurrent schedules. They wait most of the time.
const AT_ONCE: u64 = 16;
/// How long missing notifications may take once all faults are over: a retry, a cooldown, a receiver's rate limit. A mail
/// server that answers late has that time for each of its answers.
const SETTLING: Duration = Duration::from_secs(40);

/// The result of a run.
#[derive(Default)]
struct Report {
    schedules: u64,
    faults: BTreeMap<&'static str, usize>,
    count: Count,
    failures: Vec<String>,
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

fn schedules() {
    let seed = number("LOOKOUT_FAULT_SEED");
    let first = seed.or_else(|| number("LOOKOUT_FAULT_FIRST")).unwrap_or(0);
    let count = if seed.is_some() { 1 } else { number("LOOKOUT_FAULT_SCHEDULES").unwrap_or(FEW) };
    let at_once = number("LOOKOUT_FAULT_AT_ONCE").unwrap_or(AT_ONCE).min(count);
    let next = AtomicU64::new(first);
    let report = Mutex::new(Report::default());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || report.lock().unwrap().failures.len() >= 5 {
                        return;
                    }
                    let (steps, outcome) = run(seed);
                    let mut report = report.lock().unwrap();
                    report.schedules += 1;
                    for fault in steps.iter().flat_map(Step::fault) {
                        *report.faults.entry(fault).or_default() += 1;
                    }
                    match outcome {
                        Ok(count) => {
                            report.count.missing += count.missing;
                            report.count.superseded += count.superseded;
                            report.count.dead += count.dead;
                            report.count.repeated += count.repeated;
                        }
                        Err(problem) => report.failures.push(problem),
                    }
                }
            });
        }
    });
    let Report { schedules, faults, count, failures } = report.into_inner().unwrap();
    let injected: usize = faults.values().sum();
    println!(
        "faults: {schedules} schedules, {injected} faults {faults:?}, {count:?}, {} schedules with something lost or repeated beyond the bound",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Runs the schedule of `seed`; the error contains its steps and the log.
fn run(seed: u64) -> (Vec<Step>, Result<Count, String>) {
    let steps = schedule::make(seed);
    let mut world = World::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| play(&mut world, &steps)));
    let problem = match outcome {
        Ok(Ok(count)) => return (steps, Ok(count)),
        Ok(Err(problem)) => problem,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
        }
    };
    let mut story = world.story.clone();
    for receiver in schedule::ReceiverName::ALL {
        for it in world.requests(receiver) {
            let lines: Vec<String> =
                it.lines.iter().map(|line| format!("[{}] {} {}", line.word, line.name, line.rule)).collect();
            story.push(format!("{:6} ms  {} {}: {}", it.at.as_millis(), receiver.name(), it.act, lines.join(", ")));
        }
    }
    story.sort();
    let log = world.log();
    let failure = format!(
        "seed {seed}: {problem}\nreplay with: LOOKOUT_FAULT_SEED={seed} cargo test --test it -- faults\n{}\nlog:\n{log}",
        story.join("\n")
    );
    (steps, Err(failure))
}

fn play(world: &mut World, steps: &[Step]) -> Result<Count, String> {
    for step in steps {
        world.step(step);
    }
    world.make_well();
    let watch = Stopwatch::start();
    let late = steps.iter().flat_map(Step::fault).filter(|fault| *fault == LATE_ANSWER).count();
    let settling = SETTLING + LATE * u32::try_from(late).expect("a few");
    loop {
        let missing = oracle::missing(world);
        let is_late = watch.elapsed() > settling;
        if missing.is_empty() || is_late || watch.elapsed() > SETTLING / 15 {
            let rows = ledger::read(world.path());
            let lost: Vec<&String> = missing.iter().filter(|line| !oracle::is_excused(world, &rows, line)).collect();
            // A client with the state from before may be notified of it again.
            if lost.is_empty() && (is_late || !rows.iter().any(oracle::is_on_its_way)) {
                break;
            }
            if is_late {
                return Err(format!("lost: {lost:#?}"));
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    let is_clock_steady = !steps.iter().any(|step| matches!(step, Step::Clock(_)));
    let miscounted = world.miscounted(is_clock_steady);
    world.end();
    let (count, mut wrong) = oracle::compare(world, is_clock_steady);
    wrong.extend(miscounted);
    if wrong.is_empty() { Ok(count) } else { Err(wrong.join("\n")) }
}

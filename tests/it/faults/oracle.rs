//! The notifications that each receiver must get, computed from the true state and its earlier notifications, compared
//! with those that it got.

use std::collections::HashMap;
use std::time::Duration;

use super::ledger::{self, Row};
use super::schedule::{Condition, ReceiverName, SUBJECTS, Slow};
use super::world::{Break, COOLDOWN, Mark, World, rule};

/// How long before a crash a message may have been accepted whose outcome was not yet written. Writing takes
/// milliseconds; a machine that runs many schedules at once is slow.
const IN_FLIGHT: Duration = Duration::from_secs(3);

/// The outcome of the notices of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    /// All notices.
    pub(super) missing: usize,
    /// Covered by a newer notice of the same alert.
    pub(super) superseded: usize,
    /// Permanently rejected by the receiver, or the receiver was removed.
    pub(super) dead: usize,
    /// Sent twice, as they were in flight at a crash.
    pub(super) repeated: usize,
}

/// A notification that a receiver got.
#[derive(Clone, Debug)]
struct SentNotification {
    word: String,
    /// The number of the request.
    place: usize,
    at: Duration,
}

/// The notifications that a receiver accepted, by (subject, rule), in order.
fn notifications(world: &World, receiver: ReceiverName) -> HashMap<(String, String), Vec<SentNotification>> {
    let mut notifications: HashMap<_, Vec<SentNotification>> = HashMap::new();
    for (place, request) in world.requests(receiver).into_iter().enumerate().filter(|(_, request)| request.was_taken) {
        for line in request.lines.into_iter().filter(|line| line.word != "NOTE") {
            notifications.entry((line.name, line.rule)).or_default().push(SentNotification {
                word: line.word,
                place,
                at: request.at,
            });
        }
    }
    notifications
}

/// The level at which a subject's alert must fire: 1 to 3, and 0 when it must not.
fn level(subject: usize, condition: Condition, slow: Slow) -> usize {
    let Condition::Trouble(worse) = condition else { return 0 };
    match (rule(subject), worse, slow) {
        ("AgentIdle", worse, _) => worse + 1,
        ("AgentDown", ..) => 2,
        ("Slow", _, Slow::Absent) => 0,
        ("Slow", 0, Slow::Strict) | ("Slow", 1.., Slow::Lenient) => 1,
        ("Slow", 0, Slow::Lenient) => 0,
        ("Slow", ..) => 2,
        (_, 0, _) => 1,
        _ => 2,
    }
}

const WORDS: [&str; 4] = ["RESOLVED", "WARNING", "ERROR", "CRITICAL"];

/// What is still missing once all faults are over: a line for each receiver and alert. Empty if all have the true
/// state.
pub(super) fn missing(world: &World) -> Vec<String> {
    let mut missing = Vec::new();
    for receiver in ReceiverName::ALL {
        if receiver == ReceiverName::Extra && !world.extra {
            continue;
        }
        let least = if matches!(receiver, ReceiverName::Oncall | ReceiverName::Mail) { 2 } else { 1 };
        let notifications = notifications(world, receiver);
        let marks = world.marks.get(&receiver).map(Vec::as_slice).unwrap_or_default();
        // Notifications before that are unknown.
        let forgot = marks.iter().rev().find(|mark| mark.what != Break::Crash).map_or(0, |mark| mark.place);
        for (subject, name) in SUBJECTS.iter().enumerate() {
            let level = match rule(subject) {
                "AgentRestarting" => world.looping(subject),
                _ => level(subject, world.truth[subject], world.slow),
            };
            let last = notifications
                .get(&((*name).to_owned(), rule(subject).to_owned()))
                .and_then(|notifications| notifications.last());
            let expected = WORDS[if level < least { 0 } else { level }];
            let is_known = match last {
                Some(last) if last.place < forgot => level < least || last.word == expected,
                Some(last) => last.word == expected,
                None => level < least,
            };
            if !is_known {
                let last = last.map_or("nothing", |last| &last.word);
                missing.push(format!("{} was last notified {last} of {name}, which is {expected}", receiver.name()));
            }
        }
    }
    missing
}

/// Whether a notification is missing; only for the subjects, since other alerts are in an arbitrary state at the end.
pub(super) fn is_on_its_way(row: &Row) -> bool {
    row.state == "pending" && row.kind != "announcement" && SUBJECTS.contains(&row.name.as_str())
}

/// Those of `missing` that are expected in `world`: the last notice was permanently rejected, which a dead letter shows, or
/// the alert was acknowledged before the receiver was added or while it was silenced.
pub(super) fn is_excused(world: &World, rows: &[Row], line: &str) -> bool {
    (0..SUBJECTS.len()).any(|subject| {
        let (name, rule) = (SUBJECTS[subject], rule(subject));
        let is_about =
            |receiver: ReceiverName| line.starts_with(receiver.name()) && line.contains(&format!(" of {name},"));
        ReceiverName::ALL.into_iter().filter(|receiver| is_about(*receiver)).any(|receiver| {
            let last =
                rows.iter().rev().find(|row| row.receiver == receiver.name() && row.name == name && row.rule == rule);
            let is_dead = last.is_some_and(|last| last.state == "dead");
            let is_acked = world.alert(subject).is_some_and(|alert| !alert["acked_by"].is_null());
            let is_new =
                line.contains("was last notified nothing of ") || line.contains("was last notified RESOLVED of ");
            is_dead || is_acked && (is_new || receiver == ReceiverName::Extra)
        })
    })
}

/// Compares the messages each receiver accepted with the ledgers: every notice marked as delivered was accepted,
/// and only those in flight at a crash were accepted twice. Returns the errors.
pub(super) fn compare(world: &World, is_clock_steady: bool) -> (Count, Vec<String>) {
    let mut wrong = Vec::new();
    let mut count = Count::default();
    let mut ledgers = world.ledgers.clone();
    ledgers.push(ledger::read(world.path()));
    let last = ledgers.len() - 1;
    for (place, rows) in ledgers.iter().enumerate() {
        for row in rows.iter().filter(|row| row.kind != "announcement") {
            count.missing += 1;
            match row.state.as_str() {
                "superseded" => count.superseded += 1,
                "dead" => count.dead += 1,
                _ if place == last && is_on_its_way(row) => wrong.push(format!("suppressed for ever: {row:?}")),
                _ => {}
            }
        }
        let mut keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() != rows.len() {
            wrong.push(format!("{} rows have {} keys", rows.len(), keys.len()));
        }
        if is_clock_steady {
            wrong.extend(too_soon(rows));
            wrong.extend(paused(world, rows));
        }
    }
    if ledgers.len() == 1 && !world.was_killed {
        let is_of_pause = |row: &&Row| row.receiver == ReceiverName::Ops.name() && row.message.contains("pause");
        let announced = ledgers[0].iter().filter(|row| row.kind == "announcement").filter(is_of_pause).count();
        if announced < world.stops {
            wrong.push(format!("of {} pauses and extensions {announced} were announced", world.stops));
        }
    }
    for receiver in ReceiverName::ALL {
        let marks = world.marks.get(&receiver).map(Vec::as_slice).unwrap_or_default();
        for ((name, rule), notifications) in notifications(world, receiver) {
            let is_it = |row: &&Row| row.receiver == receiver.name() && row.name == name && row.rule == rule;
            let mut from = 0;
            for (place, rows) in ledgers.iter().enumerate() {
                // The notifications while this ledger was in use.
                let until = marks.iter().filter(|mark| mark.what == Break::NewLedger).nth(place);
                let mine: Vec<&SentNotification> = notifications[from..]
                    .iter()
                    .take_while(|notification| until.is_none_or(|until| notification.place < until.place))
                    .collect();
                from += mine.len();
                let rows: Vec<&Row> = rows.iter().filter(is_it).collect();
                match align(&mine, &rows, marks, place < last) {
                    Ok(repeated) => count.repeated += repeated,
                    Err(problem) => {
                        let rows: Vec<String> =
                            rows.iter().map(|row| format!("{} {} {}", row.kind, row.word, row.state)).collect();
                        let sent: Vec<String> = mine
                            .iter()
                            .map(|notification| format!("{} at {:?}", notification.word, notification.at))
                            .collect();
                        wrong.push(format!(
                            "{} and {rule} of {name}: {problem}; sent {sent:?}, written {rows:?}, breaks {marks:?}",
                            receiver.name()
                        ));
                    }
                }
            }
        }
    }
    (count, wrong)
}

/// Pairs accepted messages with rows of the ledger, in order, and returns how many were accepted again.
fn align(
    notifications: &[&SentNotification],
    rows: &[&Row],
    marks: &[Mark],
    ended_in_a_crash: bool,
) -> Result<usize, String> {
    pair(notifications, rows, None, marks, ended_in_a_crash)
        .ok_or_else(|| "what was taken is not what was written".to_owned())
}

/// The same for the part after `before`; tries both readings where a notification can be a repeat or a row of its own.
fn pair(
    notifications: &[&SentNotification],
    rows: &[&Row],
    before: Option<&SentNotification>,
    marks: &[Mark],
    ended_in_a_crash: bool,
) -> Option<usize> {
    let crash_after = |notification: &SentNotification| {
        let next = marks.iter().find(|mark| mark.what != Break::NewReceiver && mark.place > notification.place);
        next.filter(|mark| mark.at.saturating_sub(notification.at) < IN_FLIGHT)
    };
    let Some((notification, rest)) = notifications.split_first() else {
        let is_missed = rows.iter().any(|row| row.state == "delivered");
        return (ended_in_a_crash || !is_missed).then_some(0);
    };
    // A message in flight at a crash may have been accepted without being marked as delivered, and superseded by a newer one.
    let is_in_flight = crash_after(notification).is_some();
    let fits = |row: &&Row| row.word == notification.word && (row.state == "delivered" || is_in_flight);
    let missed = rows.iter().position(|row| row.state == "delivered").map_or(rows.len(), |place| place + 1);
    let own = (0..missed)
        .filter(|place| fits(&rows[*place]))
        .find_map(|place| pair(rest, &rows[place + 1..], Some(notification), marks, ended_in_a_crash));
    let is_again = || {
        let before = before.filter(|before| before.word == notification.word)?;
        crash_after(before).filter(|crash| crash.place <= notification.place)
    };
    own.or_else(|| {
        is_again()?;
        Some(1 + pair(rest, rows, Some(notification), marks, ended_in_a_crash)?)
    })
}

/// The notices created while monitoring was paused.
fn paused(world: &World, rows: &[Row]) -> Vec<String> {
    // Two processes' clocks are some milliseconds apart.
    let is_within = |row: &Row| world.pauses.iter().any(|(from, until)| (from + 20..until - 20).contains(&row.at));
    let sent = rows.iter().filter(|row| row.kind != "announcement" && is_within(row));
    sent.map(|row| format!("decided while the monitoring was paused: {row:?}")).collect()
}

/// Notifications of one alert within its cooldown.
fn too_soon(rows: &[Row]) -> Vec<String> {
    let cooldown = i64::try_from(COOLDOWN.as_millis()).expect("less than a second");
    let mut last: HashMap<(&str, &str, &str), i64> = HashMap::new();
    let mut wrong = Vec::new();
    let tracked = |row: &&Row| SUBJECTS.contains(&row.name.as_str()) && row.receiver != ReceiverName::Extra.name();
    for row in rows.iter().filter(tracked).filter(|row| row.word != "RESOLVED" && row.kind != "announcement") {
        let before = last.insert((&row.receiver, &row.name, &row.rule), row.at);
        if let Some(before) = before
            && row.kind != "escalated"
            && row.at - before < cooldown
        {
            wrong.push(format!("{} ms after the one before it: {row:?}", row.at - before));
        }
    }
    wrong
}

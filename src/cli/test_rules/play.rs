//! Runs one test in a simulation.

use std::sync::Arc;
use std::time::Duration;

use super::file::RuleTest;
use super::input::{self, MAX_SPAN, TimedEvent};
use crate::config::Config;
use crate::engine::AlertView;
use crate::machine::Simulation;
use crate::machine::simulation::{Lasting, Setup};
use crate::model::{Notice, Problem, RecordedInput, Time, duration};
use crate::notify::{Receiver, Rehearsal, Sent};

/// Most deadlines processed in one test.
const MAX_DEADLINES: u64 = 2_000_000;

/// What happened in a test.
#[derive(Debug)]
pub(super) struct TestRun {
    /// The alerts at the time of each entry of `alert_rule_test`, in the order of the file.
    pub(super) alerts: Vec<Vec<AlertView>>,
    /// The notices for receivers, in order.
    pub(super) notices: Vec<Arc<Notice>>,
    /// The messages sent.
    pub(super) sent: Vec<Sent>,
}

/// Runs `test`. Calls `observe` at each interval, after the inputs of that time.
pub(super) fn play(
    test: &RuleTest,
    config: &Config,
    start: Time,
    observe: &mut dyn FnMut(Duration, &Simulation),
) -> Result<TestRun, Problem> {
    let arrivals = input::schedule(test, start, config.agents.timeout)?;
    let mut checks: Vec<(Duration, usize)> =
        test.alert_rule_test.iter().enumerate().map(|(place, check)| (check.at, place)).collect();
    checks.sort_unstable();
    let end = end(test, arrivals.last().map(|arrival| arrival.at))?;
    let rules = config.rule_set().map_err(|error| Problem::new("rule_files", error.to_string()))?;
    let build = || {
        Receiver::build(&config.receivers).map_err(|problems| {
            let lines: Vec<String> =
                problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
            Problem::new("receivers", lines.join("; "))
        })
    };
    let receivers = build()?;
    let mut fleet = config.fleet_settings();
    // The values of a series count as current for its interval, however long that is.
    fleet.agents.max_ttl = fleet.agents.max_ttl.max(test.interval.saturating_mul(3));
    let settings = Lasting {
        fleet,
        receivers: receivers.iter().map(Receiver::policy).collect(),
        incidents: config.incidents.policy(),
    };
    let setup = Setup { rules, settings };
    let mut simulation = Simulation::new(start, setup).with_limit(MAX_DEADLINES);
    let mut alerts: Vec<Vec<AlertView>> = test.alert_rule_test.iter().map(|_| Vec::new()).collect();
    let looks = (0..).map_while(|step| Some(test.interval.saturating_mul(step)).filter(|at| *at <= end));

    let mut arrivals = arrivals.into_iter().peekable();
    let mut checks = checks.into_iter().peekable();
    let mut looks = looks.peekable();
    loop {
        let times = [arrivals.peek().map(|next| next.at), checks.peek().map(|next| next.0), looks.peek().copied()];
        let Some(at) = times.into_iter().flatten().min() else { break };
        let advance = |simulation: &mut Simulation| {
            simulation
                .advance(start.plus(at))
                .map_err(|error| Problem::new(format!("at {}", duration::exact(at)), error.to_string()))
        };
        while let Some(input::ScheduledEvent { key, what, .. }) = arrivals.next_if(|next| next.at == at) {
            match what {
                TimedEvent::Restart(down) => {
                    // It ran until `down` ago, and starts again now.
                    let ended = simulation.advance(start.plus(at.saturating_sub(down)));
                    ended.map_err(|error| Problem::new(key, error.to_string()))?;
                    simulation.restart(start.plus(at));
                }
                TimedEvent::Arrives(arrival) => {
                    advance(&mut simulation)?;
                    feed(&mut simulation, &arrival).map_err(|message| Problem::new(key, message))?;
                }
            }
        }
        advance(&mut simulation)?;
        while let Some((_, place)) = checks.next_if(|next| next.0 == at) {
            if let Some(seen) = alerts.get_mut(place) {
                *seen = simulation.open();
            }
        }
        if looks.next_if_eq(&at).is_some() {
            observe(at, &simulation);
        }
    }
    simulation.advance(start.plus(end)).map_err(|error| Problem::new("until", error.to_string()))?;
    let notices = simulation.into_notices();
    let sent = Rehearsal::new(receivers).deliver(&notices);
    Ok(TestRun { alerts, notices, sent })
}

/// When a test ends: with the last input or expectation, or later at `until`.
fn end(test: &RuleTest, last: Option<Duration>) -> Result<Duration, Problem> {
    let notifications = test.notifications.iter().flatten();
    let notified = notifications.flat_map(|one| [one.at, one.between.map(|(_, until)| until.0)]).flatten();
    let end = test.alert_rule_test.iter().map(|check| check.at).chain(last).chain(notified).chain(test.until).max();
    let end = end.unwrap_or_default();
    if end > MAX_SPAN {
        return Err(Problem::new("until", format!("the test is longer than {}", duration::exact(MAX_SPAN))));
    }
    let steps = end.as_millis() / test.interval.as_millis().max(1);
    if steps > super::series::MAX_STEPS as u128 {
        let message =
            format!("the test has {steps} intervals, more than {}; lengthen `interval`", super::series::MAX_STEPS);
        return Err(Problem::new("interval", message));
    }
    Ok(end)
}

/// Feeds one input; if the sidecar would reject any of it, the test is wrong.
fn feed(simulation: &mut Simulation, arrival: &RecordedInput) -> Result<(), String> {
    if let RecordedInput::Poll { source, .. } = arrival
        && !simulation.fleet().state().sources.iter().any(|known| known.name == *source)
    {
        return Err(format!("there is no source `{source}`; add it to `sources` of this file"));
    }
    match simulation.feed(arrival)?.rejected.first() {
        Some(first) => Err(format!("{}: {}", first.name, first.error)),
        None => Ok(()),
    }
}

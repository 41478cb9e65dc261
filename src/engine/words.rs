//! What a person is told of an alert: what is known of its subject goes into the texts of its rule.

use crate::fleet::Fleet;
use crate::model::{Agent, Alert, AlertState, Class, Level, Limited, Notice, Subject, Time, Worst};
use crate::rules::{Facts, Rules};

/// Agents named at most in the text of one alert.
const NAMED: usize = 20;

/// What of an alert or notice goes into words.
pub(super) struct Said<'a> {
    subject: &'a Subject,
    level: Level,
    value: Option<f64>,
    threshold: Option<f64>,
    /// Whether those it is about are named.
    lists: bool,
}

impl<'a> From<&'a Alert> for Said<'a> {
    fn from(alert: &'a Alert) -> Self {
        let lists = alert.state != AlertState::Resolved;
        let Worst { level, value, threshold } = match alert.worst {
            // Of what is over, how bad it was is of interest, and not how it was on its way to being well.
            Some(worst) if !lists => worst,
            _ => Worst { level: alert.level, value: alert.value, threshold: alert.threshold },
        };
        Self { subject: &alert.subject, level, value, threshold, lists }
    }
}

impl<'a> From<&'a Notice> for Said<'a> {
    fn from(notice: &'a Notice) -> Self {
        let lists = notice.kind.is_firing();
        let level = notice.peak.unwrap_or(notice.level);
        Self { subject: &notice.subject, level, value: notice.value, threshold: notice.threshold, lists }
    }
}

/// What a person is told of an alert of `rule`: summary and action.
pub(super) fn words(now: Time, rules: &Rules, fleet: &Fleet, rule: &str, said: &Said<'_>) -> (String, String) {
    let state = fleet.state();
    let mut agents = Vec::new();
    let mut reason = None;
    let mut limits = Vec::new();
    match said.subject {
        Subject::Cluster { project } if said.lists => {
            let is_about: fn(&Agent) -> bool = match rules.class(rule) {
                Some(Class::AgentsLimited) => |agent| agent.limited.is_some(),
                _ => Agent::is_down,
            };
            let about: Vec<&Agent> =
                state.agents.iter().filter(|agent| *agent.project == **project && is_about(agent)).collect();
            agents = named(&about);
            limits = about.iter().filter_map(|agent| agent.limited.as_ref()).collect();
        }
        Subject::Agent { project, name } => {
            let agent = fleet.find(project, name);
            reason = agent.and_then(|agent| agent.reason.as_deref());
            limits.extend(agent.and_then(|agent| agent.limited.as_ref()));
        }
        _ => {}
    }
    // When the last of them may go on, if that is known of all.
    let until = limits.iter().map(|limit| limit.until).collect::<Option<Vec<Time>>>();
    let until = until.and_then(|ends| ends.into_iter().max()).map(|end| state.wall.show(end));
    let provider = shared(&limits);
    let Said { subject, level, value, threshold, .. } = *said;
    let (at, zone) = (now, fleet.time_zone());
    rules
        .describe(rule, &Facts { subject, level, value, threshold, reason, agents: &agents, until, provider, at, zone })
}

/// The provider of them all.
fn shared<'a>(limits: &[&'a Limited]) -> Option<&'a str> {
    let first = limits.first()?.provider.as_deref()?;
    limits.iter().all(|limit| limit.provider.as_deref() == Some(first)).then_some(first)
}

fn named(agents: &[&Agent]) -> Vec<String> {
    let mut names: Vec<String> = agents.iter().take(NAMED).map(|agent| agent.name.to_string()).collect();
    let more = agents.len().saturating_sub(NAMED);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names
}

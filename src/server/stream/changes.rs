//! Which agents changed between two snapshots of the fleet.

use std::time::Duration;

use crate::model::{Agent, Snapshot, Time};

/// How far the times of an agent may move before that alone is a change. They move with each report, and most reports
/// change nothing else.
const TIMES_MOVE: Duration = Duration::from_secs(30);

/// A change of an agent.
#[derive(Debug)]
pub(super) enum AgentChange<'a> {
    /// It is new, or differs.
    Updated(&'a Agent),
    /// It left.
    Removed(&'a Agent),
}

/// By slot, the times of each agent that viewers know.
#[derive(Debug, Default)]
pub(super) struct ShownTimes(Vec<[Option<Time>; 2]>);

impl ShownTimes {
    /// Those of a snapshot that viewers start from.
    pub(super) fn of(fleet: &Snapshot) -> Self {
        let mut shown = Self::default();
        fleet.agents.iter().for_each(|agent| shown.set(agent));
        shown
    }

    fn set(&mut self, agent: &Agent) {
        let slot = agent.slot as usize;
        if self.0.len() <= slot {
            self.0.resize(slot + 1, [None; 2]);
        }
        if let Some(times) = self.0.get_mut(slot) {
            *times = times_of(agent);
        }
    }

    fn is_outdated(&self, agent: &Agent) -> bool {
        let known = self.0.get(agent.slot as usize).copied().unwrap_or_default();
        times_of(agent).into_iter().zip(known).any(|(now, known)| match (now, known) {
            (Some(now), Some(known)) => now.since(known) >= TIMES_MOVE || known > now,
            (now, known) => now != known,
        })
    }
}

const fn times_of(agent: &Agent) -> [Option<Time>; 2] {
    [Some(agent.last_seen), agent.last_activity]
}

/// The agents that differ in `now` from `before`: those that left first, since another may have taken the name.
pub(super) fn agent_changes<'a>(
    before: &'a Snapshot,
    now: &'a Snapshot,
    shown: &mut ShownTimes,
) -> Vec<AgentChange<'a>> {
    let (mut removed, mut updated) = (Vec::new(), Vec::new());
    for (then, agent) in now.agents.changes_since(&before.agents) {
        let is_same_agent = |agent: &Agent, other: &Agent| agent.project == other.project && agent.name == other.name;
        if let Some(then) = then
            && agent.is_none_or(|agent| !is_same_agent(agent, then))
        {
            removed.push(AgentChange::Removed(then));
        }
        let Some(agent) = agent else { continue };
        let is_change = match then.filter(|then| is_same_agent(agent, then)) {
            Some(then) => !looks_alike(then, before, agent, now) || shown.is_outdated(agent),
            None => true,
        };
        if is_change {
            shown.set(agent);
            updated.push(AgentChange::Updated(agent));
        }
    }
    removed.append(&mut updated);
    removed
}

/// Whether two states of an agent look alike in `/api/status`, but for times that pass.
fn looks_alike(one: &Agent, of_one: &Snapshot, other: &Agent, of_other: &Snapshot) -> bool {
    let state = |agent: &Agent, fleet: &Snapshot| {
        let is_idle = agent.idle_seconds(fleet.at).is_some();
        (agent.status, agent.ended, agent.stale, is_idle, agent.usage_owner, agent.day_tokens)
    };
    let counts = |agent: &Agent| {
        let all = [
            agent.restarts,
            agent.unpriced_tokens,
            agent.requests,
            agent.request_errors,
            agent.rate_limit_hits,
            agent.retries,
        ];
        (all.map(|count| count.get()), agent.tokens.map(|count| count.get()))
    };
    let amounts = |agent: &Agent| {
        (
            agent.progress,
            agent.context_window_ratio,
            agent.cost_usd.get(),
            agent.day_cost_usd,
            agent.estimated_completion,
        )
    };
    state(one, of_one) == state(other, of_other)
        && counts(one) == counts(other)
        && amounts(one) == amounts(other)
        && one.agent_type == other.agent_type
        && one.model == other.model
        && one.source == other.source
        && one.reason == other.reason
        && one.phase == other.phase
        && one.task == other.task
        && one.limited == other.limited
        && one.rate_limits == other.rate_limits
        && one.custom == other.custom
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentStatus, Count, Task};

    fn fleet(names: &[&str]) -> Snapshot {
        let mut fleet = Snapshot { at: Time::from_millis(1_000_000), ..Snapshot::default() };
        for name in names {
            add(&mut fleet, name);
        }
        fleet
    }

    fn add(fleet: &mut Snapshot, name: &str) {
        let at = fleet.at;
        fleet.agents.insert_with(|slot| {
            let agent = Agent::new("shop".into(), name.into(), "push".into(), at);
            Agent { slot, last_activity: Some(at), ..agent }
        });
    }

    /// The names of the agents that changed; those that left with a minus.
    fn changed(before: &Snapshot, now: &Snapshot, shown: &mut ShownTimes) -> Vec<String> {
        let name = |change: &AgentChange<'_>| match change {
            AgentChange::Updated(agent) => agent.name.to_string(),
            AgentChange::Removed(agent) => format!("-{}", agent.name),
        };
        agent_changes(before, now, shown).iter().map(name).collect()
    }

    fn check(change: impl FnOnce(&mut Agent), expected: &[&str]) {
        let before = fleet(&["a", "b"]);
        let mut now = before.clone();
        change(now.agents.get_mut(1).expect("an agent"));
        assert_eq!(changed(&before, &now, &mut ShownTimes::of(&before)), expected);
    }

    #[test]
    fn an_agent_that_looks_different_changed() {
        check(|_| {}, &[]);
        check(|agent| agent.status = Some(AgentStatus::Failed), &["b"]);
        check(|agent| agent.stale = true, &["b"]);
        check(|agent| agent.reason = Some("why".into()), &["b"]);
        check(|agent| agent.tokens[2].add(1), &["b"]);
        check(|agent| agent.requests = Count::default(), &[]);
        check(|agent| agent.day_cost_usd = 0.1, &["b"]);
        check(|agent| agent.progress = Some(0.5), &["b"]);
        let task = |tokens| Task {
            id: "t".into(),
            started_at: Time::default(),
            worked: Duration::ZERO,
            working_since: None,
            tokens,
        };
        check(|agent| agent.task = Some(task(1)), &["b"]);
        check(|agent| agent.status_changes += 1, &[]);
    }

    #[test]
    fn times_that_pass_are_a_change_only_now_and_then() {
        check(|agent| agent.last_seen = agent.last_seen.plus(Duration::from_secs(29)), &[]);
        check(|agent| agent.last_seen = agent.last_seen.plus(Duration::from_secs(30)), &["b"]);
        check(|agent| agent.last_activity = None, &["b"]);
        let before = fleet(&["a"]);
        let mut shown = ShownTimes::of(&before);
        let mut last = before;
        let mut sent = Vec::new();
        for second in 1..=65 {
            let mut now = last.clone();
            let agent = now.agents.get_mut(0).expect("an agent");
            agent.last_seen = agent.last_seen.plus(Duration::from_secs(1));
            if !changed(&last, &now, &mut shown).is_empty() {
                sent.push(second);
            }
            last = now;
        }
        assert_eq!(sent, [30, 60], "measured from what was sent, not from the last snapshot");
    }

    #[test]
    fn agents_that_leave_come_first() {
        let before = fleet(&["a", "b", "c"]);
        let mut shown = ShownTimes::of(&before);
        let mut now = before.clone();
        now.agents.remove(2);
        now.agents.remove(0);
        assert_eq!(changed(&before, &now, &mut shown), ["-a", "-c"]);
        let gone = now.clone();
        now.agents.release(0);
        add(&mut now, "d");
        add(&mut now, "e");
        assert_eq!(changed(&gone, &now, &mut shown), ["d", "e"]);
        assert_eq!(changed(&before, &now, &mut shown), ["-a", "-c", "d", "e"], "another agent took the slot");
    }
}

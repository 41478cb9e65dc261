//! The brake: who has used up a budget that stops it, and is told so by the answer to its next hook.
//!
//! Owns the set of those agents, and publishes it, so that a hook is answered without asking the engine. It is empty
//! unless a budget carries `action: stop` and somebody has used it up. Follows the agents that changed and makes no
//! sweep but at the start and on a reload. Refuses to know how an agent is told: that is its source's business.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::handle::Posted;
use crate::fleet::Fleet;
use crate::fleet::config::BudgetsConfig;
use crate::model::{Agent, Budget, Budgets, Hook, Signal, Signals, Stop, Time};
use crate::sources::hooks::{self, Moment, Target};
use crate::sources::otlp::config::AgentRule;

/// Parts of the set that are copied by themselves: a change of it costs one of them, however many agents are in it.
const PARTS: usize = 64;
/// What changes how much of its budgets an agent has used.
const USE: Signals =
    Signals::NONE.with(Signal::TaskBudgetRatio).with(Signal::DayBudgetRatio).with(Signal::DayCostRatio);
/// Amounts of money below it are written with more digits.
const SMALL_CHANGE: f64 = 0.1;

/// Project and name of an agent.
type Whom = (Arc<str>, Arc<str>);

/// Who is told to stop, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Braked {
    /// Whom hooks are about that do not say it themselves.
    rules: Arc<[AgentRule]>,
    parts: Vec<Arc<HashMap<Whom, Arc<[Stop]>>>>,
    agents: usize,
}

impl Braked {
    /// Whether it is nobody, so that no hook need be looked at.
    pub const fn is_empty(&self) -> bool {
        self.agents == 0
    }

    /// The hook that is to be handed to the engine, and the answer that stops its sender, if that is to be stopped.
    /// A body that can't be read stops nobody, and is handed on as it came. `now` is that of the wall clock.
    pub fn read(&self, target: Target, body: Bytes, now: Time) -> (Posted, Option<String>) {
        if self.is_empty() {
            return (Posted::Body { target, body }, None);
        }
        let Ok((hook, moment)) = hooks::claude_code_that_waits(&target, &self.rules, &body, now) else {
            return (Posted::Body { target, body }, None);
        };
        let stop = moment.and_then(|moment| Some((moment, self.stop(&hook, moment)?)));
        let answer = stop.map(|(moment, stop)| moment.stop(&format!("{} {}", hook.agent, stop.why)));
        let stop = stop.map(|(_, stop)| stop.clone());
        (Posted::Read(Hook { stop, ..hook }), answer)
    }

    /// What the sender of `hook` is told at `moment`.
    fn stop(&self, hook: &Hook, moment: Moment) -> Option<&Stop> {
        let whom = (Arc::clone(&hook.project), Arc::clone(&hook.agent));
        let stops = self.parts.get(part_of(&whom))?.get(&whom)?;
        // What a person tells it is another task.
        stops.iter().find(|stop| moment != Moment::Prompted || stop.budget != Budget::TokensPerTask)
    }

    /// Sets what `whom` is told; nothing is that it may go on. Returns whether it was told something else.
    fn set(&mut self, whom: Whom, stops: Vec<Stop>) -> bool {
        self.parts.resize_with(PARTS, Arc::default);
        let Some(part) = self.parts.get_mut(part_of(&whom)) else { return false };
        if part.get(&whom).map_or(&[][..], |known| known) == stops {
            return false;
        }
        let part = Arc::make_mut(part);
        self.agents -= part.len();
        if stops.is_empty() {
            part.remove(&whom);
        } else {
            part.insert(whom, stops.into());
        }
        self.agents += part.len();
        true
    }
}

fn part_of(whom: &Whom) -> usize {
    digest(whom) as usize % PARTS
}

/// The same after a restart, so that what was told before is known.
fn digest(of: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(of)
}

/// Follows who is to be stopped.
#[derive(Debug)]
pub(super) struct Brake {
    /// The budgets that stop.
    budgets: Budgets,
    braked: Braked,
    published: watch::Sender<Arc<Braked>>,
}

impl Brake {
    pub(super) fn new() -> Self {
        let (published, _) = watch::channel(Arc::default());
        Self { budgets: Budgets::default(), braked: Braked::default(), published }
    }

    /// Where the set is published.
    pub(super) fn published(&self) -> watch::Receiver<Arc<Braked>> {
        self.published.subscribe()
    }

    /// Begins anew with the whole fleet, these budgets, and these rules of whom hooks are about.
    pub(super) fn configure(&mut self, fleet: &Fleet, budgets: &BudgetsConfig, rules: &Arc<[AgentRule]>) {
        self.budgets = budgets.brakes();
        self.braked = Braked { rules: Arc::clone(rules), ..Braked::default() };
        if self.is_on() {
            for agent in fleet.state().agents.iter() {
                self.braked.set(whom(agent), self.stops(agent));
            }
        }
        self.published.send_replace(Arc::new(self.braked.clone()));
    }

    fn is_on(&self) -> bool {
        self.budgets != Budgets::default()
    }

    /// Takes note of what changed in the fleet.
    pub(super) fn follow(&mut self, fleet: &Fleet) {
        if !self.is_on() {
            return;
        }
        let changes = fleet.changes();
        let mut is_other = false;
        for (slot, signals) in &changes.agents {
            if let Some(agent) = fleet.state().agents.get(*slot).filter(|_| signals.intersects(USE)) {
                is_other |= self.braked.set(whom(agent), self.stops(agent));
            }
        }
        for gone in &changes.removed_agents {
            if fleet.find(&gone.project, &gone.name).is_none() {
                is_other |= self.braked.set((Arc::clone(&gone.project), Arc::clone(&gone.name)), Vec::new());
            }
        }
        if is_other {
            self.published.send_replace(Arc::new(self.braked.clone()));
        }
    }

    /// What `agent` is told: a stop for each budget that it has used up.
    fn stops(&self, agent: &Agent) -> Vec<Stop> {
        let mut stops = Vec::new();
        let mut add = |budget, about, why: String| {
            let why = Arc::from(format!("used {why} (budgets.{})", Budget::as_str(budget)));
            stops.push(Stop { budget, about, why });
        };
        if let (Some(limit), Some(task)) = (self.budgets.tokens_per_task, &agent.task)
            && task.tokens >= limit
        {
            let why = format!("{} of its {limit} tokens for this task", task.tokens);
            add(Budget::TokensPerTask, digest((&task.id, limit)), why);
        }
        if let Some(limit) = self.budgets.tokens_per_day.filter(|limit| agent.day_tokens >= *limit) {
            let why = format!("{} of its {limit} tokens for today", agent.day_tokens);
            add(Budget::TokensPerDay, digest((agent.day, limit)), why);
        }
        if let Some(limit) = self.budgets.cost_usd_per_day.filter(|limit| agent.day_cost_usd >= *limit) {
            let why = format!("{} of its {} for today", money(agent.day_cost_usd), money(limit));
            add(Budget::CostUsdPerDay, digest((agent.day, limit.to_bits())), why);
        }
        stops
    }
}

fn whom(agent: &Agent) -> Whom {
    (Arc::clone(&agent.project), Arc::clone(&agent.name))
}

fn money(amount: f64) -> String {
    match amount {
        // No report makes a message of three hundred digits.
        1e12.. => format!("${amount:.2e}"),
        SMALL_CHANGE.. => format!("${amount:.2}"),
        _ => format!("${amount:.4}"),
    }
}

/// What people are told of the answer that `hook` got, before it is applied: each budget and task or day once.
pub(super) fn news(fleet: &Fleet, hook: &Hook) -> Option<String> {
    let stop = hook.stop.as_ref()?;
    let sessions = fleet.find(&hook.project, &hook.agent).and_then(|agent| agent.sessions.as_ref());
    let is_news = sessions.is_none_or(|sessions| !sessions.was_told(stop));
    is_news.then(|| format!("lookout told {} of {} to stop: it {}", hook.agent, hook.project, stop.why))
}

#[cfg(test)]
mod tests;

//! Budget enforcement: which agents have used up a budget with `action: stop`, and the order to stop that answers their
//! next hook.
//!
//! Owns the set of those orders, and publishes it, so that a hook is answered without asking the engine. It is empty
//! unless such a budget is used up. Follows the agents that changed; only the start and a reload look at all of them. How
//! an order is worded for a tool is the business of its hooks.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;

use crate::model::hook::BlockingHook;
use crate::model::snapshot::Budgets;
use crate::model::{Agent, Budget, Changes, Hook, Snapshot, Stop};

/// Parts of the set that are copied by themselves: a change of it costs one of them, however many agents are in it.
const PARTS: usize = 64;
/// Amounts of money below it are written with more digits.
const SMALL_CHANGE: f64 = 0.1;

/// Project and name of an agent.
pub type Whom = (Arc<str>, Arc<str>);

/// Who is told to stop, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct StopOrders {
    parts: Vec<Arc<HashMap<Whom, Arc<[Stop]>>>>,
    agents: usize,
}

impl StopOrders {
    /// Whether nobody has to stop.
    pub const fn is_empty(&self) -> bool {
        self.agents == 0
    }

    /// How many agents have to stop.
    pub const fn len(&self) -> usize {
        self.agents
    }

    /// Every agent that has to stop, by project and name, with its orders.
    pub fn iter(&self) -> impl Iterator<Item = (&Whom, &[Stop])> {
        self.parts.iter().flat_map(|part| part.iter().map(|(whom, stops)| (whom, &**stops)))
    }

    /// The order that `agent` is given at `moment`, if it has to stop.
    pub fn order(&self, (project, agent): (&Arc<str>, &Arc<str>), moment: BlockingHook) -> Option<&Stop> {
        let whom = (Arc::clone(project), Arc::clone(agent));
        let stops = self.parts.get(part_of(&whom))?.get(&whom)?;
        // What a person tells it is another task.
        stops.iter().find(|stop| moment != BlockingHook::Prompted || stop.budget != Budget::TokensPerTask)
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

/// Keeps the orders in step with what agents have used.
#[derive(Debug, Default)]
pub struct Enforcement {
    /// The budgets that stop.
    budgets: Budgets,
    orders: StopOrders,
}

impl Enforcement {
    /// The orders as they are now.
    pub const fn orders(&self) -> &StopOrders {
        &self.orders
    }

    /// Begins anew with the whole fleet and these budgets.
    pub fn configure(&mut self, fleet: &Snapshot, budgets: Budgets) {
        self.budgets = budgets;
        self.restart(fleet);
    }

    /// Begins anew with the whole fleet.
    pub fn restart(&mut self, fleet: &Snapshot) {
        self.orders = StopOrders::default();
        if self.is_on() {
            for agent in fleet.agents.iter() {
                self.orders.set(whom(agent), self.stops(agent));
            }
        }
    }

    fn is_on(&self) -> bool {
        self.budgets != Budgets::default()
    }

    /// Takes note of what changed in the fleet; returns whether the orders did.
    pub fn follow(&mut self, fleet: &Snapshot, changes: &Changes) -> bool {
        if !self.is_on() {
            return false;
        }
        let mut is_other = false;
        // An agent that came back at once is among those that changed.
        for gone in &changes.removed_agents {
            is_other |= self.orders.set((Arc::clone(&gone.project), Arc::clone(&gone.name)), Vec::new());
        }
        for agent in changes.agents.iter().filter_map(|slot| fleet.agents.get(*slot)) {
            let stops = self.stops(agent);
            // Mostly nobody has to stop, so that there is nothing to look up.
            if !(stops.is_empty() && self.orders.is_empty()) {
                is_other |= self.orders.set(whom(agent), stops);
            }
        }
        is_other
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

/// What is announced of the order that `hook` of `agent` was answered with, before it is applied: each budget and task or
/// day once.
pub fn announcement(agent: Option<&Agent>, hook: &Hook) -> Option<String> {
    let stop = hook.stop.as_ref()?;
    let sessions = agent.and_then(|agent| agent.sessions.as_ref());
    let is_news = sessions.is_none_or(|sessions| !sessions.has_answered_with(stop));
    is_news.then(|| format!("lookout told {} of {} to stop: it {}", hook.agent, hook.project, stop.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_so_that_people_can_read_it() {
        let written = [0.0042, 0.1, 12.5, 123_456.789, f64::MAX].map(money);
        assert_eq!(written, ["$0.0042", "$0.10", "$12.50", "$123456.79", "$1.80e308"]);
    }
}

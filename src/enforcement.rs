//! Budget enforcement: which agents have used up a budget with `action: stop`, and the order to stop that answers their
//! next hook.
//!
//! Owns the set of those orders and publishes it, so that a hook is answered without asking the engine. The set is updated
//! for agents that changed, and rebuilt only at start and reload. Each tool's hooks render an order in their own format.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;

use crate::model::hook::BlockingHook;
use crate::model::snapshot::Budgets;
use crate::model::{Agent, Budget, Changes, Hook, Snapshot, StopOrder};

/// The set is split into this many parts, so that a change copies only one of them.
const PARTS: usize = 64;
/// Amounts of money below this are shown with more digits.
const SMALL_CHANGE: f64 = 0.1;

/// Project and name of an agent.
pub type AgentKey = (Arc<str>, Arc<str>);

/// The stop orders of all agents, as an immutable set.
#[derive(Clone, Debug, Default)]
pub struct StopOrders {
    parts: Vec<Arc<HashMap<AgentKey, Arc<[StopOrder]>>>>,
    agents: usize,
}

impl StopOrders {
    /// Whether no agent has to stop.
    pub const fn is_empty(&self) -> bool {
        self.agents == 0
    }

    /// How many agents have to stop.
    pub const fn len(&self) -> usize {
        self.agents
    }

    /// Every agent that has to stop, by project and name, with its orders.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentKey, &[StopOrder])> {
        self.parts.iter().flat_map(|part| part.iter().map(|(agent_key, stops)| (agent_key, &**stops)))
    }

    /// Whether there is an order for `agent` of `project`.
    pub fn has(&self, project: &Arc<str>, agent: &Arc<str>) -> bool {
        let agent_key = (Arc::clone(project), Arc::clone(agent));
        self.parts.get(part_of(&agent_key)).is_some_and(|part| part.contains_key(&agent_key))
    }

    /// The stop order that answers the hook `moment` of `agent`, if it has to stop.
    pub fn order(&self, (project, agent): (&Arc<str>, &Arc<str>), moment: BlockingHook) -> Option<&StopOrder> {
        let agent_key = (Arc::clone(project), Arc::clone(agent));
        let stops = self.parts.get(part_of(&agent_key))?.get(&agent_key)?;
        // A prompt begins another task, so that the budget of the last one does not stop it.
        stops.iter().find(|stop| moment != BlockingHook::Prompted || stop.budget != Budget::TokensPerTask)
    }

    /// Sets the orders of an agent; none means that it need not stop. Returns whether they changed.
    fn set(&mut self, agent_key: AgentKey, stops: Vec<StopOrder>) -> bool {
        self.parts.resize_with(PARTS, Arc::default);
        let Some(part) = self.parts.get_mut(part_of(&agent_key)) else { return false };
        if part.get(&agent_key).map_or(&[][..], |known| known) == stops {
            return false;
        }
        let part = Arc::make_mut(part);
        self.agents -= part.len();
        if stops.is_empty() {
            part.remove(&agent_key);
        } else {
            part.insert(agent_key, stops.into());
        }
        self.agents += part.len();
        true
    }
}

fn part_of(agent_key: &AgentKey) -> usize {
    digest(agent_key) as usize % PARTS
}

/// A digest that is the same after a restart, so that what was announced before is recognized.
fn digest(of: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(of)
}

/// Keeps the stop orders up to date with what agents have used.
#[derive(Debug, Default)]
pub struct Enforcement {
    /// The budgets with `action: stop`.
    budgets: Budgets,
    orders: StopOrders,
}

impl Enforcement {
    /// The current stop orders.
    pub const fn orders(&self) -> &StopOrders {
        &self.orders
    }

    /// Sets the budgets, and rebuilds the orders for the whole fleet.
    pub fn configure(&mut self, fleet: &Snapshot, budgets: Budgets) {
        self.budgets = budgets;
        self.restart(fleet);
    }

    /// Rebuilds the orders for the whole fleet.
    pub fn restart(&mut self, fleet: &Snapshot) {
        self.orders = StopOrders::default();
        if self.is_on() {
            for agent in fleet.agents.iter() {
                self.orders.set(agent_key(agent), self.stops(agent));
            }
        }
    }

    fn is_on(&self) -> bool {
        self.budgets != Budgets::default()
    }

    /// Updates the orders for what changed in the fleet; returns whether they changed.
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
            // Usually no agent has to stop, which saves the lookup.
            if !(stops.is_empty() && self.orders.is_empty()) {
                is_other |= self.orders.set(agent_key(agent), stops);
            }
        }
        is_other
    }

    /// The stop orders of `agent`: one for each budget that it has used up.
    fn stops(&self, agent: &Agent) -> Vec<StopOrder> {
        let mut stops = Vec::new();
        let mut add = |budget, about, why: String| {
            let why = Arc::from(format!("used {why} (budgets.{})", Budget::as_str(budget)));
            stops.push(StopOrder { budget, about, why });
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

fn agent_key(agent: &Agent) -> AgentKey {
    (Arc::clone(&agent.project), Arc::clone(&agent.name))
}

fn money(amount: f64) -> String {
    match amount {
        // Agents report any number: it must not become a message of three hundred digits.
        1e12.. => format!("${amount:.2e}"),
        SMALL_CHANGE.. => format!("${amount:.2}"),
        _ => format!("${amount:.4}"),
    }
}

/// The announcement of the stop order that `hook` of `agent` was answered with; `None` when it was announced before, once
/// for each budget and task or day. Called before the hook is applied.
pub fn announcement(agent: Option<&Agent>, hook: &Hook) -> Option<String> {
    let stop = hook.stop.as_ref()?;
    let sessions = agent.and_then(|agent| agent.sessions.as_ref());
    let is_news = sessions.is_none_or(|sessions| !sessions.has_answered_with(stop));
    is_news.then(|| format!("{}/{}: stop order sent, {}", hook.project, hook.agent, stop.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_money_are_readable() {
        let written = [0.0042, 0.1, 12.5, 123_456.789, f64::MAX].map(money);
        assert_eq!(written, ["$0.0042", "$0.10", "$12.50", "$123456.79", "$1.80e308"]);
    }
}

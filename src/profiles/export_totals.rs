//! The usage that one export reports, by agent, until all of its items are read. Only then is it compared with what has
//! been counted: an export may hold the same usage in several metrics.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::item::add_to;
use super::profile::{COLUMNS, COST, UsageColumn};
use super::signal_totals::{Amounts, PRICE_LIST, SignalTotals};
use crate::model::AgentTelemetry;
use crate::otlp::config::{ModelPrice, price_of};

/// The usage of all agents in one export, in the order in which they first occurred.
#[derive(Default)]
pub(super) struct ExportTotals {
    agents: Vec<AgentTotals>,
    /// The position of an agent by group, project and name.
    positions: HashMap<(u64, Arc<str>, Arc<str>), usize>,
}

/// The usage of one agent in one group of sums.
struct AgentTotals {
    group: u64,
    telemetry: AgentTelemetry,
    /// Whether another signal of the agent will report the cost of its tokens.
    price_follows: bool,
    /// By signal.
    sums: Vec<(u64, Amounts)>,
}

impl ExportTotals {
    /// Adds what `signal` reports in `group` for the agent that `telemetry` names; returns that agent's telemetry.
    pub(super) fn add(
        &mut self,
        (group, signal): (u64, u64),
        amounts: &Amounts,
        telemetry: AgentTelemetry,
        price_follows: bool,
    ) -> Option<&mut AgentTelemetry> {
        let key = (group, Arc::clone(&telemetry.project), Arc::clone(&telemetry.agent));
        let position = match self.positions.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.agents.push(AgentTotals { group, telemetry, price_follows, sums: Vec::new() });
                *new.insert(self.agents.len() - 1)
            }
        };
        let agent = self.agents.get_mut(position)?;
        match agent.sums.iter_mut().find(|(known, _)| *known == signal) {
            Some((_, sums)) => sums.iter_mut().zip(amounts).for_each(|(sum, amount)| *sum += amount),
            None => agent.sums.push((signal, *amounts)),
        }
        Some(&mut agent.telemetry)
    }

    /// Adds the export to what has been counted; returns the increase of each agent.
    pub(super) fn finish(
        self,
        totals: &mut SignalTotals,
        prices: &BTreeMap<String, ModelPrice>,
    ) -> Vec<AgentTelemetry> {
        let finish = |agent: AgentTotals| {
            agent.sums.iter().for_each(|(signal, amounts)| totals.add(agent.group, *signal, amounts));
            let increase = totals.take_increase(agent.group);
            let mut telemetry = agent.telemetry;
            let whole = |column: UsageColumn| increase.get(column as usize).map_or(0, |amount| *amount as u64);
            for (tokens, amount) in telemetry.tokens.iter_mut().zip(increase) {
                *tokens = amount as u64;
            }
            (telemetry.requests, telemetry.request_errors) = (whole(UsageColumn::Requests), whole(UsageColumn::Errors));
            (telemetry.rate_limit_hits, telemetry.retries) =
                (whole(UsageColumn::RateLimited), whole(UsageColumn::Retries));
            telemetry.cost_usd = if totals.has_reported_cost(agent.group) {
                Some(cost(&increase))
            } else {
                price_list_cost(totals, agent.group, &telemetry, prices)
            };
            telemetry.price_follows = agent.price_follows && telemetry.cost_usd.is_none();
            telemetry
        };
        self.agents.into_iter().map(finish).collect()
    }
}

fn cost(amounts: &Amounts) -> f64 {
    amounts.get(UsageColumn::Cost as usize).copied().unwrap_or_default()
}

/// The cost of new tokens by the price list; `None` when it has no price for the model. It is added to the group, so that
/// a signal that reports the cost later adds only the difference.
fn price_list_cost(
    totals: &mut SignalTotals,
    group: u64,
    telemetry: &AgentTelemetry,
    prices: &BTreeMap<String, ModelPrice>,
) -> Option<f64> {
    if telemetry.tokens.iter().all(|count| *count == 0) {
        return None;
    }
    let price = price_of(prices, telemetry.model.as_deref()?, &telemetry.tokens)?;
    let mut amounts = [0.0; COLUMNS];
    add_to(&mut amounts, COST, price);
    totals.add(group, PRICE_LIST, &amounts);
    Some(cost(&totals.take_increase(group)))
}

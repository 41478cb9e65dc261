//! What the items of one export say, by whose it is, until all of them are read: only then is what they say together told
//! apart from what was said before.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::meter::{Amounts, Meters};
use super::table::{COLUMNS, Column};
use crate::model::AgentTelemetry;
use crate::sources::otlp::config::{Price, price_of};

/// What was said of agents, in the order in which they were named first.
#[derive(Default)]
pub(super) struct Touched {
    said: Vec<Said>,
    known: HashMap<(u64, Arc<str>, Arc<str>), usize>,
}

/// What was said of one agent in one group of sums.
struct Said {
    group: u64,
    telemetry: AgentTelemetry,
    tells_cost: bool,
    sums: Vec<(u64, Amounts)>,
}

impl Touched {
    /// Adds what `meter` says in `group` of the agent in `telemetry`, and returns what is said of it beside sums.
    pub(super) fn note(
        &mut self,
        (group, meter): (u64, u64),
        amounts: &Amounts,
        telemetry: AgentTelemetry,
        tells_cost: bool,
    ) -> Option<&mut AgentTelemetry> {
        let whose = (group, Arc::clone(&telemetry.project), Arc::clone(&telemetry.agent));
        let place = match self.known.entry(whose) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.said.push(Said { group, telemetry, tells_cost, sums: Vec::new() });
                *new.insert(self.said.len() - 1)
            }
        };
        let said = self.said.get_mut(place)?;
        match said.sums.iter_mut().find(|(known, _)| *known == meter) {
            Some((_, sums)) => sums.iter_mut().zip(amounts).for_each(|(sum, amount)| *sum += amount),
            None => said.sums.push((meter, *amounts)),
        }
        Some(&mut said.telemetry)
    }

    /// What of it is news, each to the agent of whom it was said.
    pub(super) fn settle(self, meters: &mut Meters, prices: &BTreeMap<String, Price>) -> Vec<AgentTelemetry> {
        let settle = |said: Said| {
            said.sums.iter().for_each(|(meter, amounts)| meters.add(said.group, *meter, amounts));
            filled(said.telemetry, &meters.settle(said.group), said.tells_cost, prices)
        };
        self.said.into_iter().map(settle).collect()
    }
}

fn filled(
    mut telemetry: AgentTelemetry,
    news: &[f64; COLUMNS],
    tells_cost: bool,
    prices: &BTreeMap<String, Price>,
) -> AgentTelemetry {
    let whole = |column: Column| news.get(column as usize).map_or(0, |amount| *amount as u64);
    for (tokens, amount) in telemetry.tokens.iter_mut().zip(news) {
        *tokens = *amount as u64;
    }
    (telemetry.requests, telemetry.request_errors) = (whole(Column::Requests), whole(Column::Errors));
    (telemetry.rate_limit_hits, telemetry.retries) = (whole(Column::RateLimited), whole(Column::Retries));
    let cost = news.get(Column::Cost as usize).copied().unwrap_or_default();
    let listed = || price_of(prices, telemetry.model.as_deref()?, &telemetry.tokens);
    telemetry.cost_usd = if cost > 0.0 || tells_cost { Some(cost) } else { listed() };
    telemetry
}

//! What the items of one export say, by whose it is, until all of them are read: only then is what they say together told
//! apart from what was said before.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::item::put;
use super::meter::{Amounts, LISTED, Meters};
use super::table::{COLUMNS, COST, Column};
use crate::model::AgentTelemetry;
use crate::otlp::config::{Price, price_of};

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
    /// Whether another of its signals will say what its tokens cost.
    price_follows: bool,
    sums: Vec<(u64, Amounts)>,
}

impl Touched {
    /// Adds what `meter` says in `group` of the agent in `telemetry`, and returns what is said of it beside sums.
    pub(super) fn note(
        &mut self,
        (group, meter): (u64, u64),
        amounts: &Amounts,
        telemetry: AgentTelemetry,
        price_follows: bool,
    ) -> Option<&mut AgentTelemetry> {
        let whose = (group, Arc::clone(&telemetry.project), Arc::clone(&telemetry.agent));
        let place = match self.known.entry(whose) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.said.push(Said { group, telemetry, price_follows, sums: Vec::new() });
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
            let news = meters.settle(said.group);
            let mut telemetry = said.telemetry;
            let whole = |column: Column| news.get(column as usize).map_or(0, |amount| *amount as u64);
            for (tokens, amount) in telemetry.tokens.iter_mut().zip(news) {
                *tokens = amount as u64;
            }
            (telemetry.requests, telemetry.request_errors) = (whole(Column::Requests), whole(Column::Errors));
            (telemetry.rate_limit_hits, telemetry.retries) = (whole(Column::RateLimited), whole(Column::Retries));
            telemetry.cost_usd = if meters.tells_cost(said.group) {
                Some(cost(&news))
            } else {
                listed(meters, said.group, &telemetry, prices)
            };
            telemetry.price_follows = said.price_follows && telemetry.cost_usd.is_none();
            telemetry
        };
        self.said.into_iter().map(settle).collect()
    }
}

fn cost(news: &Amounts) -> f64 {
    news.get(Column::Cost as usize).copied().unwrap_or_default()
}

/// What new tokens cost by the list of prices; `None` where that does not know. It is noted in the group, so that it does
/// not cost again when a signal says so.
fn listed(
    meters: &mut Meters,
    group: u64,
    telemetry: &AgentTelemetry,
    prices: &BTreeMap<String, Price>,
) -> Option<f64> {
    if telemetry.tokens.iter().all(|count| *count == 0) {
        return None;
    }
    let price = price_of(prices, telemetry.model.as_deref()?, &telemetry.tokens)?;
    let mut amounts = [0.0; COLUMNS];
    put(&mut amounts, COST, price);
    meters.add(group, LISTED, &amounts);
    Some(cost(&meters.settle(group)))
}

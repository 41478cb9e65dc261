//! What could have been saved: numbers of a range of time, each with the arithmetic behind it. Nothing is guessed: where
//! a price is not known there is no amount.

use serde_json::{Value, json};

use crate::model::run::cost_dollars;
use crate::model::{StatCell, StatRow, TokenType};
use crate::text::number::{dollars, short};

/// A name of the price list, and US dollars for a million tokens by type.
pub type PricedModel = (String, [f64; 5]);

/// Runs of an agent that failed or were abandoned.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FailedRuns {
    /// How many.
    pub runs: u64,
    /// Of those, how many have a known cost.
    pub priced: u64,
    /// What those cost together, in US dollars.
    pub cost_usd: f64,
}

/// What of an agent's range could have been saved, the dearest first. `models` are its sums by model, `price_of` is the
/// price of a model, and `prices` is the whole list.
pub fn advice(
    models: &[&StatRow],
    total: &StatCell,
    failed: FailedRuns,
    prices: &[PricedModel],
    price_of: &dyn Fn(&str) -> Option<[f64; 5]>,
) -> Vec<Value> {
    let mut found: Vec<(f64, Value)> = Vec::new();
    let mut add = |kind: &str, amount: Option<f64>, text: String| {
        let entry = json!({"kind": kind, "cost_usd": amount, "text": text});
        found.push((amount.unwrap_or(0.0), entry));
    };
    if failed.runs > 0 {
        let of = total.runs.max(failed.runs.cast_signed());
        let text = match failed.priced {
            0 => format!("{} of {of} runs failed; their cost is not known", failed.runs),
            priced if priced == failed.runs => {
                format!("{} of {of} runs failed; they cost {}", failed.runs, dollars(failed.cost_usd))
            }
            priced => {
                format!("{} of {of} runs failed; {priced} of them cost {}", failed.runs, dollars(failed.cost_usd))
            }
        };
        add("failed_runs", (failed.priced > 0).then_some(failed.cost_usd), text);
    }
    if total.failed_calls > 0 {
        let text =
            format!("{} of {} model calls failed, and each retry is a call more", total.failed_calls, total.calls);
        add("retries", None, text);
    }
    if total.fallbacks > 0 {
        let text = format!("{} calls went to another model or provider right after one that failed", total.fallbacks);
        add("fallbacks", None, text);
    }
    let mut by_model: std::collections::BTreeMap<&str, StatCell> = std::collections::BTreeMap::new();
    for row in models {
        by_model.entry(&row.name).or_default().add(&row.cell, 1);
    }
    for (model, cell) in by_model {
        let Some(price) = price_of(model) else { continue };
        let tokens = cell.tokens.map(|count| count.max(0) as f64);
        let [input, read] = [tokens[TokenType::Input as usize], tokens[TokenType::CacheRead as usize]];
        let [full, cached] = [price[TokenType::Input as usize], price[TokenType::CacheRead as usize]];
        if cell.calls > 1 && input > 0.0 && read == 0.0 && cached < full {
            let most = input * (full - cached) / 1e6;
            let text = format!(
                "{} input tokens of {} calls of {model}, none read from a cache: × (${full} - ${cached}) / 1M = at most {}, if all of it was repeated",
                short(input),
                cell.calls,
                dollars(most)
            );
            add("uncached_input", Some(most), text);
        }
        let cost_at =
            |price: &[f64; 5]| price.iter().zip(tokens).map(|(price, count)| price * count / 1e6).sum::<f64>();
        let own = cost_at(&price);
        let cheapest = prices.iter().map(|(name, price)| (name, cost_at(price))).min_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((other, cost)) = cheapest.filter(|(_, cost)| *cost < own) {
            let text = format!(
                "the {} tokens of {model} cost {} by the price list; the same tokens of {other} cost {}",
                short(tokens.iter().sum()),
                dollars(own),
                dollars(cost)
            );
            add("cheaper_model", Some(own - cost), text);
        }
    }
    let cost = cost_dollars(total.cost_nanos);
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found
        .into_iter()
        .map(|(_, mut entry)| {
            if let Some(fields) = entry.as_object_mut() {
                fields.insert("cost_of_range_usd".to_owned(), json!(cost));
            }
            entry
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StatGroup;

    #[test]
    fn each_saving_has_its_arithmetic_and_no_amount_without_a_price() {
        let cell =
            StatCell { calls: 40, failed_calls: 3, tokens: [1_000_000, 100_000, 0, 0, 0], ..StatCell::default() };
        let row = |name: &str| StatRow {
            project: "shop".into(),
            agent: "clerk".into(),
            hour: 1,
            group: StatGroup::Model,
            name: name.into(),
            cell: cell.clone(),
        };
        let (large, unpriced) = (row("large"), row("unpriced"));
        let prices =
            vec![("large".to_owned(), [3.0, 15.0, 0.3, 3.75, 15.0]), ("small".to_owned(), [1.0, 5.0, 1.0, 1.0, 5.0])];
        let price_of = |model: &str| prices.iter().find(|(name, _)| name == model).map(|(_, price)| *price);
        let total = StatCell { runs: 10, fallbacks: 2, cost_nanos: 5_000_000_000, ..cell.clone() };
        let failed = FailedRuns { runs: 3, priced: 2, cost_usd: 0.75 };
        let found = advice(&[&large, &unpriced], &total, failed, &prices, &price_of);
        let texts: Vec<&str> = found.iter().filter_map(|one| one["text"].as_str()).collect();
        assert_eq!(
            texts,
            [
                "the 1.1M tokens of large cost $4.50 by the price list; the same tokens of small cost $1.50",
                "1M input tokens of 40 calls of large, none read from a cache: × ($3 - $0.3) / 1M = at most $2.70, if all of it was repeated",
                "3 of 10 runs failed; 2 of them cost $0.75",
                "3 of 40 model calls failed, and each retry is a call more",
                "2 calls went to another model or provider right after one that failed",
            ]
        );
        assert_eq!((found[0]["cost_usd"].as_f64(), found[4]["cost_usd"].is_null()), (Some(3.0), true));
    }
}

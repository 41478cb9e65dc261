//! The parts of the fleet page that are about all of it: the headline, spending, alerts about no agent, and sources.

use minijinja::{Value, context};

use super::TEMPLATES;
use super::board::OpenAlerts;
use super::shown::{Shown, Standing, loose_alerts};
use super::words::age;
use crate::model::Snapshot;
use crate::text::number;

/// Most alerts about no agent that are listed.
const MAX_LOOSE: usize = 100;

/// How many agents are shown as what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ShownCounts([usize; Shown::ALL.len()]);

impl ShownCounts {
    pub(super) fn of(standings: &[Standing<'_>]) -> Self {
        let mut counts = Self::default();
        standings.iter().for_each(|standing| counts.add(standing.shown));
        counts
    }

    pub(super) fn add(&mut self, shown: Shown) {
        if let Some(count) = self.0.get_mut(shown as usize) {
            *count += 1;
        }
    }

    pub(super) fn remove(&mut self, shown: Shown) {
        if let Some(count) = self.0.get_mut(shown as usize) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn get(&self, shown: Shown) -> usize {
        self.0.get(shown as usize).copied().unwrap_or(0)
    }

    /// Those that want attention.
    pub(super) fn urgent(&self) -> usize {
        Shown::ALL.into_iter().filter(|shown| shown.is_urgent()).map(|shown| self.get(shown)).sum()
    }
}

/// The headline as text and as HTML.
#[derive(Debug)]
pub(super) struct Headline {
    pub(super) title: String,
    pub(super) html: String,
}

fn render(template: &str, context: Value) -> String {
    // A test renders each of them.
    TEMPLATES.get_template(template).and_then(|template| template.render(context)).unwrap_or_default()
}

/// The headline, and a quiet line about spending. `loose` alerts are about no agent.
pub(super) fn headline(fleet: &Snapshot, counts: &ShownCounts, loose: usize) -> Headline {
    let item = |text: String, source: &str| context! { text => text, source => source };
    let part = |state: &str, text: String| context! { state => state, text => text };
    let sentence = |shown: &Shown| shown.sentence(counts.get(*shown));
    let (urgent, calm): (Vec<Shown>, Vec<Shown>) =
        Shown::ALL.into_iter().filter(|shown| counts.get(*shown) > 0).partition(|shown| shown.is_urgent());
    let calm: Vec<String> = calm.iter().map(sentence).collect();
    let mut line = spending(fleet);
    let (title, parts) = if !urgent.is_empty() || loose > 0 {
        if !calm.is_empty() {
            line.insert(0, item(calm.join(", "), "agents without an alert, by their state"));
        }
        let of_others = (loose > 0).then(|| format!("{loose} alert{}", if loose == 1 { "" } else { "s" }));
        let title: Vec<String> = urgent.iter().map(sentence).chain(of_others.clone()).collect();
        let parts = urgent.iter().map(|shown| part(shown.key(), sentence(shown)));
        (title.join(" · "), parts.chain(of_others.map(|text| part("alert", text))).collect())
    } else {
        let is_well = fleet.monitoring && counts.get(Shown::Unknown) == 0;
        let text = match (calm.is_empty(), is_well) {
            (true, _) => "No agents yet".to_owned(),
            (false, true) => format!("All well: {}", calm.join(", ")),
            (false, false) => calm.join(", "),
        };
        (text.clone(), vec![context! { text => text }])
    };
    if !fleet.monitoring {
        line.push(item(
            "monitoring is paused: nothing is evaluated or sent".to_owned(),
            "POST /api/monitoring/start resumes it",
        ));
    }
    let html = render("summary.html", context! { summary => context! { parts => parts, line => line } });
    Headline { title, html }
}

/// What the fleet used in the budgets' day, and who is nearest to its budget.
fn spending(fleet: &Snapshot) -> Vec<Value> {
    let item = |text: String, source: &str| context! { text => text, source => source };
    let (mut cost, mut tokens, mut most_cost, mut most_tokens) = (0.0, 0u64, 0.0_f64, 0u64);
    for agent in fleet.agents.iter() {
        cost += agent.day_cost_usd;
        tokens = tokens.saturating_add(agent.day_tokens);
        (most_cost, most_tokens) = (most_cost.max(agent.day_cost_usd), most_tokens.max(agent.day_tokens));
    }
    let nearest = |used: f64, budget: Option<f64>, shown: fn(f64) -> String| {
        let budget = budget.filter(|budget| *budget > 0.0 && used >= *budget / 100.0)?;
        let share = number::shortest(used / budget * 100.0, 0);
        Some(format!(", highest agent at {share} % of its {}", shown(budget)))
    };
    let mut line = Vec::new();
    if cost > 0.0 {
        let budget = nearest(most_cost, fleet.budgets.cost_usd_per_day, number::dollars);
        line.push(item(
            format!("{} today{}", number::dollars(cost), budget.unwrap_or_default()),
            "cost of all agents since the budgets' day began, as agents and telemetry report it; budgets are per agent",
        ));
    }
    if tokens > 0 {
        let budget = fleet.budgets.tokens_per_day.map(|budget| budget as f64);
        let budget = nearest(most_tokens as f64, budget, number::short);
        line.push(item(
            format!("{} tokens today{}", number::short(tokens as f64), budget.unwrap_or_default()),
            "tokens of all agents since the budgets' day began, without those read from a cache; budgets are per agent",
        ));
    }
    line
}

/// What a section of the fleet page is rendered from.
pub(super) struct SectionInput<'a> {
    pub(super) fleet: &'a Snapshot,
    pub(super) alerts: &'a OpenAlerts,
    pub(super) is_admin: bool,
    /// Whether what is about a project, or about none, is shown.
    pub(super) is_shown: &'a dyn Fn(Option<&str>) -> bool,
}

/// A section of the fleet page in addition to its agents. It is there while it has something to show.
pub(super) struct FleetSection {
    /// The id of its element.
    pub(super) name: &'static str,
    /// Whether it stands above the agents.
    pub(super) is_above: bool,
    /// Its HTML; nothing if there is nothing to show.
    pub(super) render: fn(&SectionInput<'_>) -> String,
}

/// All sections, in their order. A new one, such as issues, a briefing or quotas, is a function and a line here: it is on the
/// page from then on, and is sent to those who look when its HTML changes.
pub(super) const FLEET_SECTIONS: [FleetSection; 2] = [
    FleetSection { name: "loose", is_above: true, render: loose },
    FleetSection { name: "sources", is_above: false, render: sources },
];

/// The alerts about no agent.
fn loose(input: &SectionInput<'_>) -> String {
    let fleet = input.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    let loose = loose_alerts(fleet, input.alerts);
    let shown = loose.iter().filter(|alert| (input.is_shown)(alert.project.as_deref())).take(MAX_LOOSE);
    let shown: Vec<Value> = shown.map(|alert| super::alerts::alert_value(alert, now)).collect();
    render("loose.html", context! { loose => shown, page => context! { admin => input.is_admin } })
}

/// The sources that fail.
fn sources(input: &SectionInput<'_>) -> String {
    let fleet = input.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    let failing: Vec<Value> = fleet
        .sources
        .iter()
        .filter(|source| source.up == Some(false))
        .map(|source| {
            let error = source.last_error.as_deref().unwrap_or("not polled yet");
            let agents = fleet.agents.iter().filter(|agent| agent.source == source.name).count();
            let since = source.failing_since.map(|since| format!(" for {}", age(now, fleet.wall.to_wall(since))));
            let unknown = match agents {
                0 => String::new(),
                1 => "; its agent may be out of date".to_owned(),
                more => format!("; its {more} agents may be out of date"),
            };
            context! { name => &*source.name, text => format!("{error}{}{unknown}", since.unwrap_or_default()) }
        })
        .collect();
    let total = fleet.sources.len();
    render("sources.html", context! { up => total - failing.len(), total => total, failing => failing })
}

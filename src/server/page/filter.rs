//! Which agents the fleet page shows, how it groups them, and links that change that and keep the rest.

use std::collections::BTreeSet;

use minijinja::{Value, context};

use super::Visit;
use super::shown::{Shown, Standing};
use super::words::query;

/// Most names in the choice of a filter.
const MAX_OPTIONS: usize = 200;
/// The value that stands for agents that have none.
const NONE: &str = "-";
/// What the fleet's address may have, in this order.
const PARAMETERS: [&str; 8] = ["q", "project", "type", "host", "owner", "state", "group", "wall"];

/// What agents are filtered and grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Facet {
    /// Its project.
    #[default]
    Project,
    /// Its type.
    Type,
    /// The host in its registration.
    Host,
    /// The owner in its registration.
    Owner,
}

impl Facet {
    pub(super) const ALL: [Self; 4] = [Self::Project, Self::Type, Self::Host, Self::Owner];

    /// Its name in addresses.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Type => "type",
            Self::Host => "host",
            Self::Owner => "owner",
        }
    }

    /// What `standing` has of it; `-` if nothing.
    pub(super) fn of<'s>(self, standing: &'s Standing<'_>) -> &'s str {
        let value = match self {
            Self::Project => Some(&standing.agent.project),
            Self::Type => standing.agent.agent_type.as_ref(),
            Self::Host => standing.labels.host.as_ref(),
            Self::Owner => standing.labels.owner.as_ref(),
        };
        value.map_or(NONE, |value| value)
    }

    /// How one of its values is shown.
    pub(super) fn shown(self, value: &str) -> String {
        if value == NONE { format!("no {}", self.key()) } else { value.to_owned() }
    }
}

/// Which agents are shown, and how they are grouped.
#[derive(Clone, Debug, Default)]
pub(super) struct FleetFilter {
    /// In lower case.
    text: String,
    facets: [Option<String>; 4],
    pub(super) state: Option<String>,
    pub(super) group: Facet,
}

impl FleetFilter {
    pub(super) fn new(visit: &Visit) -> Self {
        let given = |name: &str| visit.parameter(name).map(ToOwned::to_owned);
        let group = visit.parameter("group").and_then(|key| Facet::ALL.into_iter().find(|facet| facet.key() == key));
        Self {
            text: given("q").unwrap_or_default().to_lowercase(),
            facets: Facet::ALL.map(|facet| given(facet.key())),
            state: given("state"),
            group: group.unwrap_or_default(),
        }
    }

    /// Whether `standing` is shown. The script has the same conditions for what changes.
    pub(super) fn covers(&self, standing: &Standing<'_>) -> bool {
        let has = |part: &str| part.to_lowercase().contains(&self.text);
        Facet::ALL
            .into_iter()
            .zip(&self.facets)
            .all(|(facet, wanted)| wanted.as_deref().is_none_or(|wanted| wanted == facet.of(standing)))
            && self.state.as_deref().is_none_or(|state| state == standing.shown.key())
            && (self.text.is_empty()
                || has(&standing.key())
                || has(&standing.reason)
                || standing.agent.model.as_deref().is_some_and(has)
                || standing.agent.task.as_ref().is_some_and(|task| has(&task.id)))
    }

    /// Whether an alert about no agent, of this project, is shown.
    pub(super) fn covers_alert(&self, project: Option<&str>) -> bool {
        let [wanted, others @ ..] = &self.facets;
        self.state.is_none()
            && self.text.is_empty()
            && others.iter().all(Option::is_none)
            && wanted.as_deref().is_none_or(|wanted| project == Some(wanted))
    }
}

/// The fleet's address with the visit's parameters, some of them changed.
pub(super) fn link(visit: &Visit, changes: &[(&str, &str)]) -> String {
    let changed = |key: &str| changes.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    let parts: Vec<String> = PARAMETERS
        .iter()
        .filter_map(|key| match changed(key) {
            Some("") => None,
            Some(value) => Some(format!("{key}={}", query(value))),
            None if *key == "wall" => visit.query.contains_key("wall").then(|| "wall".to_owned()),
            None => visit.parameter(key).map(|value| format!("{key}={}", query(value))),
        })
        .collect();
    if parts.is_empty() { "./".to_owned() } else { format!("./?{}", parts.join("&")) }
}

/// The choices of the filters; those with one value are left out.
pub(super) fn choices(visit: &Visit, all: &[Standing<'_>], filter: &FleetFilter) -> Value {
    let option = |value: &str, name: &str, chosen: bool| context! { value => value, name => name, selected => chosen };
    let mut choices = Vec::new();
    let mut groups = Vec::new();
    for (facet, chosen) in Facet::ALL.into_iter().zip(&filter.facets) {
        let values: BTreeSet<&str> = all.iter().map(|standing| facet.of(standing)).collect();
        if values.len() < 2 && chosen.is_none() {
            continue;
        }
        let mut options = vec![option("", "all", chosen.is_none())];
        options.extend(values.iter().take(MAX_OPTIONS).map(|value| {
            let is_chosen = chosen.as_deref() == Some(*value);
            option(value, &facet.shown(value), is_chosen)
        }));
        if let Some(chosen) = chosen.as_deref().filter(|chosen| !values.contains(chosen)) {
            options.push(option(chosen, &facet.shown(chosen), true));
        }
        choices.push(context! { key => facet.key(), name => facet.key(), options => options });
        groups.push(facet);
    }
    if groups.iter().any(|facet| *facet != Facet::Project) {
        let mut offered = vec![Facet::Project];
        offered.extend(groups.into_iter().filter(|facet| *facet != Facet::Project));
        let options = offered.into_iter().map(|facet| {
            let value = if facet == Facet::Project { "" } else { facet.key() };
            option(value, facet.key(), facet == filter.group)
        });
        choices.push(context! { key => "group", name => "group by", options => options.collect::<Vec<_>>() });
    }
    // Parameters without a field stay when the form is sent without a script.
    let hidden = ["state", "wall"].into_iter().filter(|key| visit.query.contains_key(*key));
    let hidden = hidden.map(|key| context! { key => key, value => visit.parameter(key).unwrap_or_default() });
    context! {
        q => visit.parameter("q").unwrap_or_default(),
        choices => choices,
        hidden => hidden.collect::<Vec<_>>(),
        state => filter.state.clone(),
        state_word => Shown::ALL.into_iter().find(|shown| Some(shown.key()) == filter.state.as_deref()).map(Shown::word),
        all_states => link(visit, &[("state", "")]),
    }
}

//! The fleet page as it changes: each change is rendered once, as HTML for all who look at it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::board::{FleetBoard, LabelTable, OpenAlerts};
use super::shown::{Shown, Standing, loose_alerts, standings};
use super::summary::{FLEET_SECTIONS, Headline, SectionInput, ShownCounts, headline};
use super::{AlertSummary, assets, rows};
use crate::model::{Agent, Snapshot};

/// Time between two headlines that differ in amounts alone.
const AMOUNTS_EVERY: Duration = Duration::from_secs(1);

/// What follows a change on the page.
#[derive(Debug, PartialEq)]
pub(in crate::server) enum PageChange {
    /// An agent as a row or a square, or that it left.
    Row(String),
    /// The headline or a section.
    Part(String),
}

/// An agent as visitors see it.
#[derive(Debug)]
struct SeenAgent {
    name: (Arc<str>, Arc<str>),
    shown: Shown,
    /// Of its element.
    hash: u64,
}

/// What visitors see, to send only what differs.
#[derive(Debug, Default)]
pub(in crate::server) struct FleetTracker {
    hasher: RandomState,
    by_slot: HashMap<u32, SeenAgent>,
    slots: HashMap<(Arc<str>, Arc<str>), u32>,
    counts: ShownCounts,
    /// Hashes of what the headline counts, and of each section.
    headline: u64,
    sections: [u64; FLEET_SECTIONS.len()],
    amounts_at: Option<Instant>,
}

impl FleetTracker {
    /// Visitors see this now.
    pub(in crate::server) fn new(fleet: &Snapshot, alerts: &OpenAlerts, board: &FleetBoard) -> Self {
        let mut tracker = Self::default();
        for standing in &standings(fleet, alerts, &board.known_labels()) {
            tracker.note(standing, 0);
        }
        drop(tracker.parts(fleet, alerts));
        tracker
    }

    /// The slot of an agent that visitors see.
    pub(in crate::server) fn slot_of(&self, project: &Arc<str>, name: &Arc<str>) -> Option<u32> {
        self.slots.get(&(Arc::clone(project), Arc::clone(name))).copied()
    }

    /// The slots of agents that are shown as something else than visitors see because time passed.
    pub(in crate::server) fn outdated(&self, fleet: &Snapshot, alerts: &OpenAlerts, board: &FleetBoard) -> Vec<u32> {
        let labels = board.known_labels();
        let is_outdated = |agent: &&Agent| {
            let shown = Standing::new(agent, fleet, alerts, &labels).shown;
            self.by_slot.get(&agent.slot).is_none_or(|seen| seen.shown != shown)
        };
        fleet.agents.iter().filter(is_outdated).map(|agent| agent.slot).collect()
    }

    fn note(&mut self, standing: &Standing<'_>, hash: u64) {
        let agent = standing.agent;
        self.forget(agent.slot);
        self.counts.add(standing.shown);
        let name = (Arc::clone(&agent.project), Arc::clone(&agent.name));
        self.slots.insert(name.clone(), agent.slot);
        self.by_slot.insert(agent.slot, SeenAgent { name, shown: standing.shown, hash });
    }

    fn forget(&mut self, slot: u32) -> Option<SeenAgent> {
        let seen = self.by_slot.remove(&slot)?;
        self.counts.remove(seen.shown);
        if self.slots.get(&seen.name) == Some(&slot) {
            self.slots.remove(&seen.name);
        }
        Some(seen)
    }

    /// An agent that left.
    pub(in crate::server) fn remove(&mut self, agent: &Agent) -> Option<PageChange> {
        self.forget(agent.slot)?;
        let key = format!("{}/{}", agent.project, agent.name);
        Some(PageChange::Row(json!({"id": format!("a{}", agent.slot), "key": key, "gone": true}).to_string()))
    }

    /// The agents in these slots, if they look different now. In addition, those whose last day is shown and not read yet.
    pub(in crate::server) fn update(
        &mut self,
        slots: impl Iterator<Item = u32>,
        fleet: &Snapshot,
        alerts: &OpenAlerts,
        board: &FleetBoard,
    ) -> (Vec<PageChange>, Vec<Agent>) {
        let labels: Arc<LabelTable> = board.known_labels();
        let now = fleet.wall.to_wall(fleet.at);
        let (mut changes, mut unread) = (Vec::new(), Vec::new());
        for agent in slots.filter_map(|slot| fleet.agents.get(slot)) {
            let standing = Standing::new(agent, fleet, alerts, &labels);
            let day = if standing.shown.is_urgent() { board.day(agent) } else { None };
            if day.is_none() && standing.shown.is_urgent() {
                unread.push(agent.clone());
            }
            let fragment = rows::fragment(now, &standing, day.as_ref());
            let hash = self.hasher.hash_one(&fragment);
            if self.by_slot.get(&agent.slot).is_none_or(|seen| seen.hash != hash) {
                self.note(&standing, hash);
                changes.push(PageChange::Row(fragment));
            }
        }
        (changes, unread)
    }

    /// The headline and the sections that differ from what visitors see.
    pub(in crate::server) fn parts(&mut self, fleet: &Snapshot, alerts: &OpenAlerts) -> Vec<PageChange> {
        let now = Instant::now();
        let loose_count = loose_alerts(fleet, alerts).len();
        let counts = self.hasher.hash_one((format!("{:?}", self.counts), loose_count, alerts_in_nav(alerts)));
        let mut changes = Vec::new();
        if self.headline != counts || self.amounts_at.is_none_or(|at| now >= at + AMOUNTS_EVERY) {
            self.headline = counts;
            self.amounts_at = Some(now);
            let Headline { title, html } = headline(fleet, &self.counts, loose_count);
            let urgent = AlertSummary { needs: self.counts.urgent() + loose_count, ..AlertSummary::of(alerts) };
            let (count, class) = alerts_in_nav(alerts);
            let placed = json!({
                "part": "summary",
                "title": format!("{title} · lookout"),
                "icon": assets::icon_href(urgent.urgent(), urgent.is_critical()),
                "urgent": urgent.urgent(),
                "alerts": count,
                "level": class,
            });
            changes.push(PageChange::Part(format!("{placed}\n{html}")));
        }
        let input = SectionInput { fleet, alerts, is_admin: true, is_shown: &|_| true };
        for (section, seen) in FLEET_SECTIONS.iter().zip(&mut self.sections) {
            let html = (section.render)(&input);
            let hash = self.hasher.hash_one(&html);
            if std::mem::replace(seen, hash) != hash {
                changes.push(PageChange::Part(format!("{}\n{html}", json!({"part": section.name}))));
            }
        }
        changes
    }
}

/// How many alerts the link to them shows, and their worst level.
fn alerts_in_nav(alerts: &OpenAlerts) -> (usize, Option<&'static str>) {
    let summary = AlertSummary::of(alerts);
    (summary.firing, summary.worst.map(|level| level.as_str()))
}

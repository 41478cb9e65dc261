//! Incidents: many firing alerts of one rule are notified as one, and one by one again when few of them are left.

use std::collections::HashMap;
use std::sync::Arc;

use super::Alerts;
use crate::model::{AlertState, Incident};

/// From how many firing alerts of one rule on there is an incident: a share of all agents within two bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IncidentPolicy {
    /// From this share of all agents on, between 0 and 1.
    pub share: f64,
    /// Never below this number of alerts.
    pub least: u32,
    /// Always above this number of alerts.
    pub most: u32,
}

impl Default for IncidentPolicy {
    fn default() -> Self {
        Self { share: 0.3, least: 10, most: 250 }
    }
}

/// How many alerts about agents fire, by rule, and which rules have an incident.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    policy: IncidentPolicy,
    agents: u32,
    rules: HashMap<Arc<str>, FiringCount>,
    /// Rules whose count changed since [`Incidents::update`].
    changed: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
struct FiringCount {
    count: u32,
    is_open: bool,
    is_changed: bool,
}

impl Incidents {
    /// Adds `step`, 1 or -1, to the firing alerts of `rule`.
    pub(super) fn count(&mut self, rule: &Arc<str>, step: i32) {
        let firing = self.rules.entry(Arc::clone(rule)).or_default();
        firing.count = firing.count.saturating_add_signed(step);
        if !std::mem::replace(&mut firing.is_changed, true) {
            self.changed.push(Arc::clone(rule));
        }
    }

    /// The incident of `rule`, if there is one.
    pub(super) fn of(&self, rule: &str) -> Option<Incident> {
        let firing = self.rules.get(rule).filter(|firing| firing.is_open)?;
        Some(Incident { firing: firing.count, agents: self.agents })
    }

    /// How many alerts of `rule` fire now, whether they are an incident or not.
    pub(super) fn extent(&self, rule: &str) -> Incident {
        Incident { firing: self.rules.get(rule).map_or(0, |firing| firing.count), agents: self.agents }
    }

    /// From this number of alerts on there is an incident; it ends below half of it.
    fn threshold(&self) -> u32 {
        let share = (f64::from(self.agents) * self.policy.share).ceil();
        (share.min(f64::from(u32::MAX)) as u32).max(self.policy.least).min(self.policy.most.saturating_add(1)).max(2)
    }

    /// Begins and ends incidents; returns the rules whose incident ended.
    fn update(&mut self) -> Vec<Arc<str>> {
        let threshold = self.threshold();
        let mut closed = Vec::new();
        for rule in std::mem::take(&mut self.changed) {
            let Some(firing) = self.rules.get_mut(&rule) else { continue };
            firing.is_changed = false;
            if !firing.is_open {
                firing.is_open = firing.count >= threshold;
            } else if firing.count < threshold.div_ceil(2) {
                firing.is_open = false;
                closed.push(Arc::clone(&rule));
            }
            if firing.count == 0 && !firing.is_open {
                self.rules.remove(&rule);
            }
        }
        closed
    }
}

impl Alerts {
    /// Sets from how many alerts on there is an incident.
    pub fn set_incidents(&mut self, policy: IncidentPolicy) {
        self.incidents.policy = policy;
    }

    /// Sets the number of agents that [`IncidentPolicy::share`] is a share of.
    pub fn set_agents(&mut self, agents: usize) {
        self.incidents.agents = u32::try_from(agents).unwrap_or(u32::MAX);
    }

    /// Begins and ends incidents. Alerts that were notified only as part of one that ended are evaluated again, so that
    /// they are notified one by one.
    pub(super) fn update_incidents(&mut self) {
        for rule in self.incidents.update() {
            self.touch_where(|entry| {
                entry.alert.rule == rule
                    && entry.alert.state == AlertState::Firing
                    && entry.alert.receivers.values().any(|state| state.in_incident)
            });
        }
    }
}

//! One rule broken by a large part of the fleet: one incident, told as one, that opens up when few are left.

use std::collections::HashMap;
use std::sync::Arc;

use super::Alerts;
use crate::model::{AlertState, Incident};

/// When many alerts of one rule are one incident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IncidentPolicy {
    /// From this share of all agents on, …
    pub share: f64,
    /// … if they are at least so many; …
    pub least: u32,
    /// … and above so many in any case.
    pub most: u32,
}

impl Default for IncidentPolicy {
    fn default() -> Self {
        Self { share: 0.3, least: 10, most: 250 }
    }
}

/// How many alerts about agents fire, by rule.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    policy: IncidentPolicy,
    agents: u32,
    rules: HashMap<Arc<str>, Firing>,
    /// Rules whose count has changed since it was last looked at.
    changed: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
struct Firing {
    count: u32,
    is_open: bool,
    is_changed: bool,
}

impl Incidents {
    /// Counts one alert of `rule` more, or one less.
    pub(super) fn count(&mut self, rule: &Arc<str>, step: i32) {
        let firing = self.rules.entry(Arc::clone(rule)).or_default();
        firing.count = firing.count.saturating_add_signed(step);
        if !std::mem::replace(&mut firing.is_changed, true) {
            self.changed.push(Arc::clone(rule));
        }
    }

    /// The incident of `rule`, when it is one.
    pub(super) fn of(&self, rule: &str) -> Option<Incident> {
        let firing = self.rules.get(rule).filter(|firing| firing.is_open)?;
        Some(Incident { firing: firing.count, agents: self.agents })
    }

    /// How much of the fleet breaks `rule` now, be it an incident or not.
    pub(super) fn extent(&self, rule: &str) -> Incident {
        Incident { firing: self.rules.get(rule).map_or(0, |firing| firing.count), agents: self.agents }
    }

    /// So many make an incident; half of it keeps one.
    fn threshold(&self) -> u32 {
        let share = (f64::from(self.agents) * self.policy.share).ceil();
        (share.min(f64::from(u32::MAX)) as u32).max(self.policy.least).min(self.policy.most.saturating_add(1)).max(2)
    }

    /// Opens and closes incidents; returns the rules whose incident closed.
    fn turn(&mut self) -> Vec<Arc<str>> {
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
    /// Takes over how large an incident is.
    pub fn set_incidents(&mut self, policy: IncidentPolicy) {
        self.incidents.policy = policy;
    }

    /// Says how many agents there are, which a share is of.
    pub fn set_agents(&mut self, agents: usize) {
        self.incidents.agents = u32::try_from(agents).unwrap_or(u32::MAX);
    }

    /// Opens and closes incidents, and has those looked at that were told only as part of one that closed.
    pub(super) fn turn_incidents(&mut self) {
        for rule in self.incidents.turn() {
            self.touch_where(|entry| {
                entry.alert.rule == rule
                    && entry.alert.state == AlertState::Firing
                    && entry.alert.receivers.values().any(|told| told.folded)
            });
        }
    }
}

//! Other settings while the program runs: what is known stays known, what was told stays told.

use std::sync::Arc;

use super::Engine;
use crate::alerts::IncidentPolicy;
use crate::alerts::config::DigestConfig;
use crate::fleet;
use crate::model::{ReceiverPolicy, Time};
use crate::notify::Receiver;
use crate::rules::RuleSet;

/// Everything that a reload changes in the engine.
#[derive(Debug)]
pub struct Settings {
    /// For the fleet.
    pub fleet: fleet::Settings,
    /// The rules.
    pub rules: RuleSet,
    /// When many alerts of one rule are told as one.
    pub incidents: IncidentPolicy,
    /// A message a day about how things are.
    pub digest: DigestConfig,
    /// Who is told.
    pub receivers: Vec<Receiver>,
}

/// What the life of alerts must know of receivers.
pub(super) fn policies(receivers: &[Receiver]) -> Vec<ReceiverPolicy> {
    receivers.iter().map(Receiver::policy).collect()
}

/// Their names.
pub(super) fn names(receivers: &[ReceiverPolicy]) -> Vec<Arc<str>> {
    receivers.iter().map(|receiver| Arc::clone(&receiver.name)).collect()
}

impl Engine {
    /// Takes over `settings`.
    pub(super) fn reload(&mut self, now: Time, settings: Settings) {
        self.settle(now);
        let budgets = settings.fleet.budgets.enforced();
        self.fleet.configure(now, settings.fleet);
        self.enforcement.configure(self.fleet.state(), budgets);
        self.publish_stop_orders();
        self.rules.replace(settings.rules);
        self.rules.seed(now, self.fleet.state());
        let policies_now = policies(&settings.receivers);
        let names = names(&policies_now);
        self.own.set_receivers(&self.receivers, &names);
        self.receivers = names;
        self.watch(now);
        self.alerts.set_incidents(settings.incidents);
        self.digest.configure(now, settings.digest);
        let effects = self.alerts.configure(now, self.rules.policies(), policies_now);
        self.take_effects(now, effects);
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.replace(settings.receivers);
        }
        self.end_unnamed(now);
        self.mark_open();
        self.judge_all(now);
    }

    /// Judges the whole fleet.
    pub(super) fn judge_all(&mut self, now: Time) {
        if self.paused_until.is_none() {
            self.rules.evaluate_all(now, self.fleet.state(), &mut self.findings);
        }
        self.settle(now);
    }
}

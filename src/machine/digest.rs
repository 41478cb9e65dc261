//! The daily digest: a summary of fleet, alerts and usage.

use super::{Machine, MachineEffects};
use crate::alerts::config::DigestConfig;
use crate::model::{AlertState, Level, Time};
use crate::text::number::{dollars, short};

/// When the digest is due, and what it counts from.
#[derive(Debug)]
pub(super) struct Digest {
    config: DigestConfig,
    due: Option<Time>,
    /// The total of fired alerts at the last digest, or at the start.
    fired: u64,
}

impl Digest {
    pub(super) fn new(now: Time, config: DigestConfig, fired: u64) -> Self {
        Self { due: config.next(now), config, fired }
    }

    /// When the next one is due.
    pub(super) const fn deadline(&self) -> Option<Time> {
        self.due
    }

    /// Sets the total of alerts that fired before a restart.
    pub(super) const fn restore(&mut self, fired: u64) {
        self.fired = fired;
    }

    /// Replaces the settings.
    pub(super) fn configure(&mut self, now: Time, config: DigestConfig) {
        self.due = config.next(now);
        self.config = config;
    }
}

impl Machine {
    /// Sends the digest if it is due, unless monitoring is paused.
    pub(super) fn send_digest(&mut self, now: Time, effects: &mut MachineEffects) {
        if self.digest.due.is_none_or(|due| due > now) {
            return;
        }
        self.digest.due = self.digest.config.next(now);
        if self.paused_until.is_some() {
            return;
        }
        let text = self.digest_text();
        self.digest.fired = self.alerts.counts().fired;
        let names = self.digest.config.receivers.clone();
        let sent = self.alerts.digest(now, &names, &text);
        self.add(now, sent, effects);
    }

    fn digest_text(&self) -> String {
        let fleet = self.fleet.state();
        let (mut agents, mut up, mut down) = (0, 0, 0);
        for project in &fleet.projects {
            agents += project.agents;
            up += project.up;
            down += project.down;
        }
        let tokens = fleet.agents.iter().map(|agent| agent.day_tokens).fold(0, u64::saturating_add);
        let cost = fleet.agents.iter().map(|agent| agent.day_cost_usd).fold(0.0, |sum, cost| sum + cost);
        let firing = |level: Level| {
            self.alerts.open().filter(|alert| alert.state == AlertState::Firing && alert.level == level).count()
        };
        let levels: Vec<String> = Level::ALL
            .into_iter()
            .rev()
            .map(|level| (level, firing(level)))
            .filter(|(_, count)| *count > 0)
            .map(|(level, count)| format!("{count} {level}"))
            .collect();
        let firing = if levels.is_empty() { "no alerts".to_owned() } else { levels.join(", ") };
        let fired = self.alerts.counts().fired.saturating_sub(self.digest.fired);
        format!(
            "{up} of {agents} agents up, {down} down. Firing: {firing}; {fired} fired since the last digest. \
             Today so far: {} tokens, {}",
            short(tokens as f64),
            dollars(cost)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineEvent;
    use crate::machine::tests::built_in;
    use crate::model::Notice;

    #[test]
    fn an_empty_fleet_costs_nothing() {
        let text = built_in(Time::from_millis(0), DigestConfig::default()).digest_text();
        assert!(text.ends_with("Today so far: 0 tokens, $0"), "{text}");
    }

    #[test]
    fn it_is_sent_once_a_day_at_its_time() {
        let now = Time::parse("2026-11-21T08:59:00Z").unwrap();
        let config = DigestConfig { at: Some("09:00".to_owned()), ..DigestConfig::default() };
        let mut machine = built_in(now, config);
        let body = r#"{"project": "shop", "agents": [{"name": "a", "status": "running", "tokens": {"input": 0}}, {"name": "b", "status": "failed"}]}"#;
        machine.step(now, MachineEvent::State(crate::ingest::decode_state(body, now).unwrap()));
        let due = machine.digest.deadline().unwrap();
        assert_eq!(due.to_string(), "2026-11-21T09:00:00Z");
        let digests = |effects: MachineEffects| -> Vec<std::sync::Arc<Notice>> {
            let notices = effects.alerts.into_iter().flat_map(|effects| effects.notices);
            notices.filter(|notice| &*notice.rule == "Digest").collect()
        };
        let early = Time::parse("2026-11-21T08:59:59Z").unwrap();
        assert_eq!(digests(machine.step(early, MachineEvent::Deadline)).len(), 0);
        let sent = digests(machine.step(due, MachineEvent::Deadline));
        assert!(sent[0].message.starts_with("1 of 2 agents up, 1 down. "), "{}", sent[0].message);
        assert_eq!(sent.len(), 1);
        assert_eq!(digests(machine.step(due, MachineEvent::Deadline)).len(), 0, "once");
        assert_eq!(machine.digest.deadline().unwrap().to_string(), "2026-11-22T09:00:00Z");
    }
}

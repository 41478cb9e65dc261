//! Which channels telemetry of each agent arrives by, and what kinds of usage each brings. `lookout doctor` shows it to
//! find out what is missing.

use std::collections::HashMap;
use std::time::Duration;

use super::profile::UsageColumn;
use super::signal_totals::Amounts;
use crate::model::{ChannelStats, TelemetryChannel, TelemetryChannels, Time};

/// How long after the first signal the others may still be on their way: one and a half of the longest usual export
/// interval.
const FIRST_EXPORTS: Duration = Duration::from_secs(90);
/// Agents that are recorded; later ones are not.
const MAX_AGENTS: usize = 16_384;

/// What has arrived, by the digest of the agent.
#[derive(Debug, Default)]
pub(super) struct ReceptionLog(HashMap<u64, ReceptionEntry>);

#[derive(Debug)]
struct ReceptionEntry {
    reception: TelemetryChannels,
    /// When the first item arrived.
    first: Time,
}

impl ReceptionLog {
    /// Records an item; `new` describes the agent when this is its first item.
    pub(super) fn record(
        &mut self,
        agent: u64,
        now: Time,
        channel: TelemetryChannel,
        amounts: &Amounts,
        new: impl FnOnce() -> TelemetryChannels,
    ) {
        if self.0.len() >= MAX_AGENTS && !self.0.contains_key(&agent) {
            return;
        }
        let entry = self.0.entry(agent).or_insert_with(|| ReceptionEntry { reception: new(), first: now });
        let Some(received) = entry.reception.channels.get_mut(channel as usize) else { return };
        let received = received.get_or_insert(ChannelStats { last: now, items: 0, brings: [false; 3] });
        received.last = now;
        received.items += 1;
        for (column, _) in amounts.iter().enumerate().filter(|(_, amount)| **amount > 0.0) {
            let kind = match column {
                _ if column < UsageColumn::Cost as usize => 0,
                _ if column == UsageColumn::Cost as usize => 1,
                _ => 2,
            };
            if let Some(brings) = received.brings.get_mut(kind) {
                *brings = true;
            }
        }
    }

    /// Records that tokens of an agent arrived without a session.
    pub(super) fn record_missing_session(&mut self, agent: u64) {
        if let Some(entry) = self.0.get_mut(&agent) {
            entry.reception.lacks_session = true;
        }
    }

    /// Whether an agent sends metrics or logs, or may be about to.
    pub(super) fn has_more_than_spans(&self, agent: u64, now: Time) -> bool {
        self.0.get(&agent).is_some_and(|entry| {
            let arrives =
                |channel: TelemetryChannel| entry.reception.channels.get(channel as usize).is_some_and(Option::is_some);
            now.since(entry.first) < FIRST_EXPORTS
                || arrives(TelemetryChannel::Metrics)
                || arrives(TelemetryChannel::Logs)
        })
    }

    /// All agents, by project and name.
    pub(super) fn all(&self) -> Vec<TelemetryChannels> {
        let mut all: Vec<TelemetryChannels> = self.0.values().map(|entry| entry.reception.clone()).collect();
        all.sort_unstable_by(|a, b| (&a.project, &a.agent, a.agent_type).cmp(&(&b.project, &b.agent, b.agent_type)));
        all
    }
}

//! Through which channels telemetry arrives for which agent, and what each brings: what a user needs to know when something is missing.

use std::collections::HashMap;
use std::time::Duration;

use super::meter::Amounts;
use super::table::Column;
use crate::model::{ChannelStats, TelemetryChannel, TelemetryChannels, Time};

/// So long after the first signal all others are on their way: the longest usual export interval, and a half.
const SOON: Duration = Duration::from_secs(90);
/// Agents remembered; who comes after is not noted.
const MAX_AGENTS: usize = 16_384;

/// What arrived so far, by a digest of the agent.
#[derive(Debug, Default)]
pub(super) struct Book(HashMap<u64, Known>);

#[derive(Debug)]
struct Known {
    reception: TelemetryChannels,
    /// When anything arrived first.
    first: Time,
}

impl Book {
    /// Notes an item; `whose` says whose it is when it is the first.
    pub(super) fn note(
        &mut self,
        agent: u64,
        now: Time,
        channel: TelemetryChannel,
        amounts: &Amounts,
        whose: impl FnOnce() -> TelemetryChannels,
    ) {
        if self.0.len() >= MAX_AGENTS && !self.0.contains_key(&agent) {
            return;
        }
        let known = self.0.entry(agent).or_insert_with(|| Known { reception: whose(), first: now });
        let reception = &mut known.reception;
        let Some(place) = reception.channels.get_mut(channel as usize) else { return };
        let received = place.get_or_insert(ChannelStats { last: now, items: 0, brings: [false; 3] });
        received.last = now;
        received.items += 1;
        for (place, _) in amounts.iter().enumerate().filter(|(_, amount)| **amount > 0.0) {
            let kind = match place {
                _ if place < Column::Cost as usize => 0,
                _ if place == Column::Cost as usize => 1,
                _ => 2,
            };
            if let Some(brings) = received.brings.get_mut(kind) {
                *brings = true;
            }
        }
    }

    /// Notes that an agent's tokens came without a session.
    pub(super) fn lacks_session(&mut self, agent: u64) {
        if let Some(known) = self.0.get_mut(&agent) {
            known.reception.lacks_session = true;
        }
    }

    /// Whether anything but spans arrives of an agent, or may be about to.
    pub(super) fn has_more_than_spans(&self, agent: u64, now: Time) -> bool {
        self.0.get(&agent).is_some_and(|known| {
            let arrives =
                |channel: TelemetryChannel| known.reception.channels.get(channel as usize).is_some_and(Option::is_some);
            now.since(known.first) < SOON || arrives(TelemetryChannel::Metrics) || arrives(TelemetryChannel::Logs)
        })
    }

    /// All of it, by project and name.
    pub(super) fn all(&self) -> Vec<TelemetryChannels> {
        let mut all: Vec<TelemetryChannels> = self.0.values().map(|known| known.reception.clone()).collect();
        all.sort_unstable_by(|a, b| (&a.project, &a.agent, a.agent_type).cmp(&(&b.project, &b.agent, b.agent_type)));
        all
    }
}

//! Judging the sidecar itself: its receivers, its clockwork and its store.

use super::file::ForEach;
use super::judge::{rule_id, since, verdict};
use super::look::next_threshold;
use super::read::Reading;
use super::{Rules, grown};
use crate::model::watched::Gauge;
use crate::model::{Finding, Snapshot, Subject, Time};

impl Rules {
    /// Judges the part of the sidecar at `slot`.
    pub(super) fn judge_watched(&mut self, now: Time, fleet: &Snapshot, slot: u32, out: &mut Vec<Finding>) {
        let Some(part) = fleet.watched.get(slot as usize) else { return };
        let marks = grown(&mut self.watched, slot);
        for (place, rule) in self.set.rules.iter().enumerate() {
            let fits = matches!(
                (rule.for_each, &part.subject),
                (ForEach::Receiver, Subject::Receiver { .. }) | (ForEach::Sidecar, Subject::Sidecar { .. })
            );
            let Some(gauge) = part.gauge(rule.signal).filter(|_| fits) else { continue };
            let reading = match gauge {
                Gauge::Since(since) => since.map_or(Reading::Fine, |since| Reading::Value(now.seconds_since(since))),
                Gauge::Value(value) => Reading::Value(value),
            };
            let verdict = verdict(rule, reading);
            let grows = matches!(gauge, Gauge::Since(_));
            let since = if grows { since(rule, &verdict, now) } else { now };
            out.extend(verdict.finding(rule_id(place), since, marks, || part.subject.clone()));
            if let Some(at) = next_threshold(rule, reading, now).filter(|_| grows) {
                self.watched_deadlines.schedule(slot, at);
            }
        }
    }
}

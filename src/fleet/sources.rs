//! Polled sources: how each one's polls go, and what a successful one reports.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{PollReport, Source, SourceErrorReason, Time};
use crate::text::clean;

use super::{Fleet, IngestOutcome};

impl Fleet {
    /// Takes over the configuration's list of polled sources; what is known of those that stay is kept.
    pub(super) fn configure_sources(&mut self, sources: &[(String, &'static str, Duration)]) {
        let known = std::mem::take(&mut self.state.sources);
        self.state.sources = sources
            .iter()
            .map(|(name, kind, _)| {
                let same = known.iter().find(|source| *source.name == **name && source.kind == *kind);
                same.cloned().unwrap_or_else(|| {
                    Arc::new(Source {
                        name: Arc::from(name.as_str()),
                        kind,
                        up: None,
                        failing_since: None,
                        last_success: None,
                        last_error: None,
                        errors: [0; 7],
                    })
                })
            })
            .collect();
    }

    /// Takes over since when polls of these sources fail. They count as failing until a poll succeeds.
    pub fn restore_sources(&mut self, failing: impl IntoIterator<Item = (Arc<str>, Time)>) {
        for (name, since) in failing {
            if let Some(source) = self.state.sources.iter_mut().find(|source| source.name == name) {
                Arc::make_mut(source).failing_since = Some(since);
            }
        }
    }

    /// Takes in the outcome of a poll. A failed one changes no agent.
    pub fn poll(&mut self, now: Time, report: &mut PollReport) -> IngestOutcome {
        let mut taken = IngestOutcome::default();
        let Some(slot) = self.state.sources.iter().position(|source| source.name == report.source) else {
            return taken;
        };
        let interval = self.settings.sources.get(slot).map_or(Duration::ZERO, |(_, _, interval)| *interval);
        if let Some(source) = self.state.sources.get_mut(slot) {
            let source = Arc::make_mut(source);
            match &report.result {
                Ok(_) => {
                    (source.up, source.last_success) = (Some(true), Some(now));
                    (source.failing_since, source.last_error) = (None, None);
                }
                Err(error) => {
                    source.up = Some(false);
                    source.failing_since.get_or_insert(now);
                    source.last_error = Some(Arc::from(&*clean(&error.message, 512)));
                    let place = SourceErrorReason::ALL.iter().position(|reason| *reason == error.reason);
                    if let Some(count) = place.and_then(|place| source.errors.get_mut(place)) {
                        *count += 1;
                    }
                }
            }
        }
        self.changes.sources.push(u32::try_from(slot).unwrap_or(u32::MAX));
        self.touched();
        if let Ok(batches) = &mut report.result {
            let ttl = self.settings.agents.timeout.max(interval.saturating_mul(3));
            self.batch += 1;
            for batch in batches.iter_mut() {
                taken.merge(self.take_named(now, &report.source, Some(ttl), batch));
            }
            self.remove_unnamed_of(now, &report.source, batches);
            if batches.iter().any(|batch| !batch.complete) {
                self.hold_unnamed_of(now, &report.source);
            }
            if let Some(source) = self.state.sources.get_mut(slot).filter(|_| !taken.rejected.is_empty()) {
                Arc::make_mut(source).last_error = Some(Arc::from(&*clean(&taken.summary(), 512)));
            }
        }
        taken
    }

    /// What the last poll of `source` found wrong, in words.
    pub fn last_error(&self, source: &str) -> Option<Arc<str>> {
        self.state.sources.iter().find(|it| &*it.name == source)?.last_error.clone()
    }
}

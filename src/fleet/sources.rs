//! Applies poll results, and keeps the health of polled sources.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{PollReport, Source, SourceErrorReason, Time};
use crate::text::clean;

use super::{Fleet, IngestOutcome};

impl Fleet {
    /// Applies the configured list of polled sources; those that remain keep their state.
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

    /// Restores since when polls of these sources have failed. They count as failing until a poll succeeds.
    pub fn restore_sources(&mut self, failing: impl IntoIterator<Item = (Arc<str>, Time)>) {
        for (name, since) in failing {
            if let Some(source) = self.state.sources.iter_mut().find(|source| source.name == name) {
                Arc::make_mut(source).failing_since = Some(since);
            }
        }
    }

    /// Applies the result of a poll. A failed poll changes no agent.
    pub fn poll(&mut self, now: Time, report: &mut PollReport) -> IngestOutcome {
        let mut outcome = IngestOutcome::default();
        let Some(slot) = self.state.sources.iter().position(|source| source.name == report.source) else {
            return outcome;
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
        self.mark_changed();
        if let Ok(batches) = &mut report.result {
            let ttl = self.settings.agents.timeout.max(interval.saturating_mul(3));
            self.batch += 1;
            for batch in batches.iter_mut() {
                outcome.merge(self.apply_batch(now, &report.source, Some(ttl), batch));
            }
            self.remove_missing_of(now, &report.source, batches);
            if batches.iter().any(|batch| !batch.complete) {
                self.record_possible_reports(now, &report.source);
            }
            if let Some(source) = self.state.sources.get_mut(slot).filter(|_| !outcome.rejected.is_empty()) {
                Arc::make_mut(source).last_error = Some(Arc::from(&*clean(&outcome.summary(), 512)));
            }
        }
        outcome
    }

    /// The last error of `source`.
    pub fn last_error(&self, source: &str) -> Option<Arc<str>> {
        self.state.sources.iter().find(|it| &*it.name == source)?.last_error.clone()
    }
}

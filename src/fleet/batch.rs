//! Batches of reported state: their order, and what of them was accepted or rejected.

use std::sync::Arc;
use std::time::Duration;

use crate::model::update::Ordinal;
use crate::model::{AgentUpdate, Batch, CustomUpdate, RejectReason, Rejected, Time};
use crate::text::clean;

use super::config::AgentsConfig;
use super::{Fleet, MAX_PROJECTS, SERIES_PER_AGENT, SERIES_PER_COMPONENT};

impl Fleet {
    /// Applies a pushed batch.
    pub fn push(&mut self, now: Time, mut batch: Batch<'_>) -> IngestOutcome {
        self.batch += 1;
        let outcome = self.apply_push(now, &mut batch);
        self.finish_push(now, &batch, self.batch);
        outcome
    }

    /// Applies the next agents of a pushed batch, at most `most`; the last of them complete the batch.
    pub fn push_part(&mut self, now: Time, push: &mut ChunkedPush<'_>, most: usize) {
        let since = *push.since.get_or_insert_with(|| {
            self.batch += 1;
            self.batch
        });
        let mut part = Batch { agents: push.agents.by_ref().take(most).collect(), ..push.rest.clone() };
        // These belong to the first part only.
        push.rest.components.clear();
        push.rest.rejected.clear();
        push.outcome.merge(self.apply_push(now, &mut part));
        if push.is_done() {
            self.finish_push(now, &part, since);
        }
    }

    fn apply_push(&mut self, now: Time, batch: &mut Batch<'_>) -> IngestOutcome {
        // A long `ttl` must not keep an agent from ever being stale.
        let AgentsConfig { timeout, max_ttl, .. } = self.settings.agents;
        let ttl = batch.ttl.map_or(timeout, |ttl| ttl.min(max_ttl.max(timeout)));
        let source = Arc::clone(&self.push);
        self.apply_batch(now, &source, Some(ttl), batch)
    }

    /// After a complete batch, removes the pushed agents that it did not contain.
    fn finish_push(&mut self, now: Time, batch: &Batch<'_>, since: u64) {
        if batch.complete
            && let Some(project) = self.projects.get(&*batch.project).copied()
        {
            let source = Arc::clone(&self.push);
            self.remove_missing(now, &source, Some(project), since);
        }
    }

    /// Applies all items of `batch`, and records the current batch number for its agents.
    pub(super) fn apply_batch(
        &mut self,
        now: Time,
        source: &Arc<str>,
        ttl: Option<Duration>,
        batch: &mut Batch<'_>,
    ) -> IngestOutcome {
        self.roll_over_day(now);
        let mut outcome = IngestOutcome::default();
        outcome.add_rejected(std::mem::take(&mut batch.rejected));
        if batch.project.is_empty() {
            // Its project could not be parsed, so all of it was rejected.
            return outcome;
        }
        let Some(project) = self.project_slot(&batch.project) else {
            let error = format!("the limit of {MAX_PROJECTS} projects is reached; use fewer project names");
            let agents = batch.agents.iter().map(|agent| (("agents", agent.index), &agent.name));
            let components =
                batch.components.iter().map(|component| (("components", component.index), &component.name));
            for (place, name) in agents.chain(components) {
                outcome.reject(place, name, RejectReason::SeriesCap, error.clone());
            }
            return outcome;
        };
        let before = self.project_counts(project);
        for update in &batch.agents {
            let place = ("agents", update.index);
            match self.agent_slot(now, project, source, &update.name) {
                Some((slot, is_new)) => {
                    if let Some(ordinal) = &batch.ordinal
                        && let Err(error) = self.report_positions.note(slot, ordinal)
                    {
                        outcome.reject(place, &update.name, RejectReason::Late, error.to_owned());
                        continue;
                    }
                    if !self.apply_agent(now, (project, slot, is_new), (source, ttl), update, None) {
                        let error = "the agent's usage is reported on /api/usage or by telemetry already, so usage in this report was ignored; report it in one way only";
                        outcome.reject(place, &update.name, RejectReason::UsageOwner, error.to_owned());
                    }
                    outcome.accepted += 1;
                }
                None => {
                    self.state.series_dropped += SERIES_PER_AGENT as u64;
                    outcome.reject(place, &update.name, RejectReason::SeriesCap, self.cap_error());
                }
            }
        }
        for update in &batch.components {
            if let Some(slot) = self.apply_component(now, project, source, update) {
                outcome.accepted += 1;
                let plain = update.metrics.iter().filter_map(|(name, value)| CustomUpdate::plain(name, *value));
                for (name, (_, reason, error)) in
                    self.set_component_metrics(now, slot, plain.chain(update.custom.iter().cloned()))
                {
                    let error = (reason, format!("metric `{name}`: {error}"));
                    outcome.reject_field(("components", update.index), &update.name, "metrics", error);
                }
            } else {
                self.state.series_dropped += SERIES_PER_COMPONENT as u64;
                outcome.reject(("components", update.index), &update.name, RejectReason::SeriesCap, self.cap_error());
            }
        }
        self.refresh_project(now, project, before);
        self.mark_changed();
        outcome
    }
}

/// A pushed batch that is applied in chunks, so that a large one does not delay other input.
#[derive(Debug)]
pub struct ChunkedPush<'a> {
    agents: std::vec::IntoIter<AgentUpdate<'a>>,
    /// The batch without its agents.
    rest: Batch<'a>,
    /// The number of the batch, once its first chunk was applied.
    since: Option<u64>,
    outcome: IngestOutcome,
}

impl<'a> From<Batch<'a>> for ChunkedPush<'a> {
    fn from(mut batch: Batch<'a>) -> Self {
        let agents = std::mem::take(&mut batch.agents).into_iter();
        Self { agents, rest: batch, since: None, outcome: IngestOutcome::default() }
    }
}

impl ChunkedPush<'_> {
    /// Whether all of it was applied.
    pub fn is_done(&self) -> bool {
        self.since.is_some() && self.agents.len() == 0
    }

    /// What of it was accepted and rejected.
    pub fn into_outcome(self) -> IngestOutcome {
        self.outcome
    }
}

/// The maximum number of rejected items that are listed; further ones are only counted.
const MAX_REJECTED: usize = 100;

/// What of a batch was accepted and rejected.
#[derive(Debug, Default)]
pub struct IngestOutcome {
    /// The number of accepted items.
    pub accepted: usize,
    /// Rejected items, at most 100.
    pub rejected: Vec<Rejected>,
    /// The number of all rejected items, by reason.
    pub reasons: Vec<(RejectReason, u64)>,
}

impl IngestOutcome {
    /// Adds items that were rejected while the body was decoded.
    pub fn add_rejected(&mut self, rejected: Vec<Rejected>) {
        for rejected in rejected {
            self.count(rejected.reason);
            if self.rejected.len() < MAX_REJECTED {
                self.rejected.push(rejected);
            }
        }
    }

    /// Adds the outcome of another chunk.
    pub fn merge(&mut self, part: Self) {
        self.accepted += part.accepted;
        self.rejected.extend(part.rejected);
        self.rejected.truncate(MAX_REJECTED);
        for (reason, count) in part.reasons {
            self.add(reason, count);
        }
    }

    /// Rejects the item `name` at `place`, a list and an index.
    pub(super) fn reject(&mut self, place: (&'static str, usize), name: &str, reason: RejectReason, error: String) {
        self.reject_field(place, name, "", (reason, error));
    }

    /// Rejects a field of the item `name`, or the item because of it.
    pub(super) fn reject_field(
        &mut self,
        (list, index): (&'static str, usize),
        name: &str,
        field: &'static str,
        (reason, error): (RejectReason, String),
    ) {
        self.count(reason);
        if self.rejected.len() < MAX_REJECTED {
            let name = clean(name, 64).into_owned();
            self.rejected.push(Rejected { list, index: Some(index), name, field, reason, error });
        }
    }

    pub(super) fn count(&mut self, reason: RejectReason) {
        self.add(reason, 1);
    }

    pub(super) fn add(&mut self, reason: RejectReason, more: u64) {
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += more,
            None => self.reasons.push((reason, more)),
        }
    }

    /// A one-line summary: the first rejected item, and how many more there are.
    pub(super) fn summary(&self) -> String {
        let Some(first) = self.rejected.first() else { return String::new() };
        let more = self.reasons.iter().map(|(_, count)| count).sum::<u64>().saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let subject = first.subject();
        let colon = if subject.is_empty() { "" } else { ": " };
        format!("rejected {subject}{colon}{}{more}", first.error)
    }
}

/// The last report of each agent's run, by slot. A report that arrives late must not be applied after a newer one: its lower
/// counters would look like a counter reset, and the increase would be counted twice.
#[derive(Debug, Default)]
pub(super) struct ReportPositions(Vec<Option<Box<ReportPosition>>>);

#[derive(Debug)]
struct ReportPosition {
    run: Box<str>,
    number: u64,
    /// The previous run; its reports are late.
    before: Option<Box<str>>,
}

impl ReportPositions {
    /// Resets the position for a new agent in `slot`.
    pub(super) fn begin(&mut self, slot: u32) {
        if let Some(order) = self.0.get_mut(slot as usize) {
            *order = None;
        }
    }

    /// Records the report, or returns why it is late.
    pub(super) fn note(&mut self, slot: u32, ordinal: &Ordinal<'_>) -> Result<(), &'static str> {
        let place = slot as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        let Some(slot) = self.0.get_mut(place) else { return Ok(()) };
        let before = match slot {
            None => None,
            Some(order) if *order.run == *ordinal.run => {
                if ordinal.number <= order.number {
                    return Err(
                        "a newer report of the same run was accepted before; number each report higher than the last",
                    );
                }
                order.number = ordinal.number;
                return Ok(());
            }
            Some(order) if order.before.as_deref() == Some(&*ordinal.run) => {
                return Err(
                    "another run has reported under this name since; give agents that run at the same time different names",
                );
            }
            Some(order) => Some(std::mem::take(&mut order.run)),
        };
        *slot = Some(Box::new(ReportPosition { run: Box::from(&*ordinal.run), number: ordinal.number, before }));
        Ok(())
    }
}

//! States that arrived together: in which order they were sent, what of them was accepted, and what not and why.

use std::sync::Arc;
use std::time::Duration;

use crate::model::update::Ordinal;
use crate::model::{AgentUpdate, Batch, RejectReason, Rejected, Time};
use crate::text::clean;

use super::config::AgentsConfig;
use super::{Fleet, MAX_PROJECTS, SERIES_PER_AGENT, SERIES_PER_COMPONENT};

impl Fleet {
    /// Takes in a pushed batch.
    pub fn push(&mut self, now: Time, mut batch: Batch<'_>) -> IngestOutcome {
        self.batch += 1;
        let taken = self.take_pushed(now, &mut batch);
        self.end_push(now, &batch, self.batch);
        taken
    }

    /// Takes in the next agents of a pushed batch, at most so many; with the last of them the batch is done.
    pub fn push_part(&mut self, now: Time, push: &mut ChunkedPush<'_>, most: usize) {
        let since = *push.since.get_or_insert_with(|| {
            self.batch += 1;
            self.batch
        });
        let mut part = Batch { agents: push.agents.by_ref().take(most).collect(), ..push.rest.clone() };
        // They are of the first part only.
        push.rest.components.clear();
        push.rest.rejected.clear();
        push.taken.merge(self.take_pushed(now, &mut part));
        if push.is_done() {
            self.end_push(now, &part, since);
        }
    }

    fn take_pushed(&mut self, now: Time, batch: &mut Batch<'_>) -> IngestOutcome {
        // However long it says to be silent: nobody opts out of being missed.
        let AgentsConfig { timeout, max_ttl, .. } = self.settings.agents;
        let ttl = batch.ttl.map_or(timeout, |ttl| ttl.min(max_ttl.max(timeout)));
        let source = Arc::clone(&self.push);
        self.take_named(now, &source, Some(ttl), batch)
    }

    /// Of a complete batch: removes the agents that were pushed before and not named since it began.
    fn end_push(&mut self, now: Time, batch: &Batch<'_>, since: u64) {
        if batch.complete
            && let Some(project) = self.projects.get(&*batch.project).copied()
        {
            let source = Arc::clone(&self.push);
            self.remove_unnamed(now, &source, Some(project), since);
        }
    }

    /// Applies every state of `batch` and marks its agents as named in the current batch number.
    pub(super) fn take_named(
        &mut self,
        now: Time,
        source: &Arc<str>,
        ttl: Option<Duration>,
        batch: &mut Batch<'_>,
    ) -> IngestOutcome {
        self.turn_day(now);
        let mut taken = IngestOutcome::default();
        taken.add_rejected(std::mem::take(&mut batch.rejected));
        if batch.project.is_empty() {
            // Whose it is could not be read, so nothing of it was.
            return taken;
        }
        let Some(project) = self.project_slot(&batch.project) else {
            let error = format!("{MAX_PROJECTS} projects are known already; use fewer project names");
            let agents = batch.agents.iter().map(|agent| (("agents", agent.index), &agent.name));
            let components =
                batch.components.iter().map(|component| (("components", component.index), &component.name));
            for (place, name) in agents.chain(components) {
                taken.reject(place, name, RejectReason::SeriesCap, error.clone());
            }
            return taken;
        };
        let before = self.tally(project);
        for update in &batch.agents {
            let place = ("agents", update.index);
            match self.agent_slot(now, project, source, &update.name) {
                Some((slot, is_new)) => {
                    if let Some(ordinal) = &batch.ordinal
                        && let Err(error) = self.orders.note(slot, ordinal)
                    {
                        taken.reject(place, &update.name, RejectReason::Late, error.to_owned());
                        continue;
                    }
                    if !self.apply_agent(now, (project, slot, is_new), (source, ttl), update, None) {
                        let error = "its usage comes in on /api/usage or as telemetry, so what is here was left out; report it in one way only";
                        taken.reject(place, &update.name, RejectReason::UsageOwner, error.to_owned());
                    }
                    taken.accepted += 1;
                }
                None => {
                    self.state.series_dropped += SERIES_PER_AGENT as u64;
                    taken.reject(place, &update.name, RejectReason::SeriesCap, self.cap_error());
                }
            }
        }
        for update in &batch.components {
            if self.apply_component(now, project, source, update) {
                taken.accepted += 1;
            } else {
                self.state.series_dropped += SERIES_PER_COMPONENT as u64;
                taken.reject(("components", update.index), &update.name, RejectReason::SeriesCap, self.cap_error());
            }
        }
        self.settle_project(now, project, before);
        self.touched();
        taken
    }
}

/// A pushed batch that is taken in part by part, so that a large one keeps nothing else waiting.
#[derive(Debug)]
pub struct ChunkedPush<'a> {
    agents: std::vec::IntoIter<AgentUpdate<'a>>,
    /// The batch without its agents.
    rest: Batch<'a>,
    /// The number of the batch, once it was begun.
    since: Option<u64>,
    taken: IngestOutcome,
}

impl<'a> From<Batch<'a>> for ChunkedPush<'a> {
    fn from(mut batch: Batch<'a>) -> Self {
        let agents = std::mem::take(&mut batch.agents).into_iter();
        Self { agents, rest: batch, since: None, taken: IngestOutcome::default() }
    }
}

impl ChunkedPush<'_> {
    /// Whether all of it was taken in.
    pub fn is_done(&self) -> bool {
        self.since.is_some() && self.agents.len() == 0
    }

    /// What of it was accepted and what was rejected.
    pub fn into_taken(self) -> IngestOutcome {
        self.taken
    }
}

/// A batch names at most so many rejects; the others are counted.
const MAX_REJECTED: usize = 100;

/// What was taken of a batch.
#[derive(Debug, Default)]
pub struct IngestOutcome {
    /// Agents and components taken.
    pub accepted: usize,
    /// What was rejected, at most 100 of it spelt out.
    pub rejected: Vec<Rejected>,
    /// How much was not, named or not, by reason.
    pub reasons: Vec<(RejectReason, u64)>,
}

impl IngestOutcome {
    /// Adds what was found wrong while the body was read.
    pub fn add_rejected(&mut self, rejected: Vec<Rejected>) {
        for rejected in rejected {
            self.count(rejected.reason);
            if self.rejected.len() < MAX_REJECTED {
                self.rejected.push(rejected);
            }
        }
    }

    /// Adds what came of another part.
    pub fn merge(&mut self, part: Self) {
        self.accepted += part.accepted;
        self.rejected.extend(part.rejected);
        self.rejected.truncate(MAX_REJECTED);
        for (reason, count) in part.reasons {
            self.add(reason, count);
        }
    }

    /// Rejects the item `name` at `place`, a list and an index.
    pub(super) fn reject(
        &mut self,
        (list, index): (&'static str, usize),
        name: &str,
        reason: RejectReason,
        error: String,
    ) {
        self.count(reason);
        if self.rejected.len() < MAX_REJECTED {
            let name = clean(name, 64).into_owned();
            self.rejected.push(Rejected { list, index: Some(index), name, field: "", reason, error });
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

    /// What was rejected, in one line: the first of it, and how much more there is.
    pub(super) fn summary(&self) -> String {
        let Some(first) = self.rejected.first() else { return String::new() };
        let more = self.reasons.iter().map(|(_, count)| count).sum::<u64>().saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let subject = first.subject();
        let colon = if subject.is_empty() { "" } else { ": " };
        format!("rejected {subject}{colon}{}{more}", first.error)
    }
}

/// The last report of each agent's run, by the agent's slot. A report that was held up, by a sidecar that stood still for
/// example, may arrive after a newer one; taken then, its lower counts would look like a restart of the count, and what
/// lies between would count twice.
#[derive(Debug, Default)]
pub(super) struct ReportOrders(Vec<Option<Box<ReportOrder>>>);

#[derive(Debug)]
struct ReportOrder {
    run: Box<str>,
    number: u64,
    /// The run before, reports of which can only be late.
    before: Option<Box<str>>,
}

impl ReportOrders {
    /// Begins with no report for who holds `slot` from now on.
    pub(super) fn begin(&mut self, slot: u32) {
        if let Some(order) = self.0.get_mut(slot as usize) {
            *order = None;
        }
    }

    /// Notes the report, or says why it comes too late.
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
                        "a newer report of the same run was taken before; number each report higher than the last",
                    );
                }
                order.number = ordinal.number;
                return Ok(());
            }
            Some(order) if order.before.as_deref() == Some(&*ordinal.run) => {
                return Err(
                    "another run reports under this name since; give agents that run at the same time a name each",
                );
            }
            Some(order) => Some(std::mem::take(&mut order.run)),
        };
        *slot = Some(Box::new(ReportOrder { run: Box::from(&*ordinal.run), number: ordinal.number, before }));
        Ok(())
    }
}

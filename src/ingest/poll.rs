//! The poll loop: one task for each source, which polls it at its interval, retrying with back-off.
//!
//! A failed poll is reported with its reason and changes no agent. Batches of polls have no `ttl`: when agents of a polled
//! source go stale depends on the source's interval and on whether it responds, which the fleet gets from the reports.

pub(super) mod http_json;
pub(super) mod orchestrator_cc;
pub(super) mod request;
mod schedule;
mod validate;

pub use validate::validate;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::http_json::HttpJson;
use self::orchestrator_cc::OrchestratorCc;
use self::request::SourceClient;
use self::schedule::PollSchedule;
use super::config::{SourceConfig, SourceKind};
use super::page::{failed, malformed};
use crate::clock::{Clock, Stopwatch};
use crate::model::{Batch, PollReport, Problem, SourceError, SourceErrorReason, duration};

/// Most projects of one source.
const MAX_PROJECTS: usize = 1_000;

/// Starts one task for each of `sources`; results go to `reports`.
///
/// The token is cancelled when a task panics.
///
/// Nothing is polled while `monitoring` is false. The tasks end when `stop` is cancelled, even during a poll, or when
/// `reports` is closed; the tracker is closed, so that waiting for it waits for all of them. The error is what
/// [`super::validate`] reports.
pub fn start(
    sources: &[SourceConfig],
    clock: &Clock,
    reports: &mpsc::Sender<PollReport>,
    monitoring: &watch::Receiver<bool>,
    stop: &CancellationToken,
) -> Result<(TaskTracker, CancellationToken), Vec<Problem>> {
    let poller = |(place, source)| {
        let of_source = |problem: Problem| problem.under(&format!("sources[{place}]"));
        Poller::new(source, clock.clone()).map_err(|problems| problems.into_iter().map(of_source).collect())
    };
    let pollers: Result<Vec<_>, Vec<_>> = sources.iter().enumerate().map(poller).collect();
    let (tracker, aborted) = (TaskTracker::new(), CancellationToken::new());
    for (poller, source) in pollers?.into_iter().zip(sources) {
        let task = PollTask {
            poller,
            schedule: PollSchedule::new(source.interval),
            timeout: source.timeout,
            reports: reports.clone(),
            monitoring: monitoring.clone(),
        };
        let (stop, abort_guard) = (stop.clone(), aborted.clone().drop_guard());
        tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task.run() => {}
            }
            abort_guard.disarm();
        });
    }
    tracker.close();
    Ok((tracker, aborted))
}

struct PollTask {
    poller: Poller,
    schedule: PollSchedule,
    timeout: Duration,
    reports: mpsc::Sender<PollReport>,
    monitoring: watch::Receiver<bool>,
}

impl PollTask {
    async fn run(mut self) {
        tokio::time::sleep(self.schedule.first_delay()).await;
        loop {
            // The other end is dropped when the program stops.
            if self.monitoring.wait_for(|on| *on).await.is_err() {
                return;
            }
            let watch = Stopwatch::start();
            let polled = tokio::time::timeout(self.timeout, self.poller.poll()).await;
            let result = polled.unwrap_or_else(|_| Err(late(self.timeout)));
            let delay = self.schedule.delay_after(result.is_ok(), watch.elapsed());
            let source = Arc::clone(&self.poller.name);
            if self.reports.send(PollReport { source, result }).await.is_err() {
                return;
            }
            tokio::time::sleep(delay).await;
        }
    }
}

fn late(timeout: Duration) -> SourceError {
    let within = duration::exact(timeout);
    failed(
        SourceErrorReason::Timeout,
        &format!("no complete response within {within}; check whether it hangs, or raise `timeout`"),
    )
}

/// Polls one source, and keeps state between polls.
#[derive(Debug)]
pub struct Poller {
    name: Arc<str>,
    project: String,
    clock: Clock,
    client: Arc<SourceClient>,
    kind: PollerKind,
    /// Projects that earlier polls reported, and that have not been reported as removed.
    projects: BTreeSet<String>,
}

#[derive(Debug)]
enum PollerKind {
    OrchestratorCc(OrchestratorCc),
    HttpJson(Arc<HttpJson>),
}

impl Poller {
    /// A poller for `source`; the error is what [`super::validate`] reports, with paths below the source.
    pub fn new(source: &SourceConfig, clock: Clock) -> Result<Self, Vec<Problem>> {
        let kind = match source.kind {
            SourceKind::OrchestratorCc => PollerKind::OrchestratorCc(OrchestratorCc::default()),
            SourceKind::HttpJson => PollerKind::HttpJson(Arc::new(HttpJson::compile(source)?)),
        };
        Ok(Self {
            name: Arc::from(source.name.as_str()),
            project: source.project.clone().unwrap_or_else(|| source.name.clone()),
            clock,
            client: Arc::new(SourceClient::new(source)?),
            kind,
            projects: BTreeSet::new(),
        })
    }

    /// Polls once, without a timeout: one batch for each project. A complete batch lists all agents of its project; for a
    /// project that is no longer reported there is one without agents.
    pub async fn poll(&mut self) -> Result<Vec<Batch<'static>>, SourceError> {
        let batches = match &mut self.kind {
            PollerKind::OrchestratorCc(orchestrator) => {
                orchestrator.poll(&self.client, &self.clock, &self.project).await?
            }
            PollerKind::HttpJson(page) => {
                let (page, clock, project) = (Arc::clone(page), self.clock.clone(), self.project.clone());
                let read = move |text: &str| page.read(text, clock.wall(), &project);
                self.client.fetch(&[], read).await.map_err(|failure| failure.error)?
            }
        };
        self.check(batches)
    }

    fn check(&mut self, mut batches: Vec<Batch<'static>>) -> Result<Vec<Batch<'static>>, SourceError> {
        let rejected: usize = batches.iter().map(|batch| batch.rejected.len()).sum();
        if rejected > 0 && batches.iter().all(|batch| batch.agents.is_empty() && batch.components.is_empty()) {
            // Without a single valid agent, the page itself is wrong, or the configuration of its fields.
            let first = batches.iter().find_map(|batch| batch.rejected.first()).map_or("", |first| &first.error);
            return Err(malformed(&format!("none of {rejected} agents could be read; the first: {first}")));
        }
        let reported: BTreeSet<String> = batches.iter().map(|batch| batch.project.to_string()).collect();
        if reported.len() > MAX_PROJECTS {
            return Err(failed(SourceErrorReason::TooLarge, &format!("more than {MAX_PROJECTS} projects in one page")));
        }
        // A rejected agent may belong to a project that seems to be removed.
        if batches.iter().all(|batch| batch.complete) {
            let gone = self.projects.difference(&reported).cloned();
            let gone: Vec<_> =
                gone.map(|project| Batch { project: project.into(), complete: true, ..Batch::default() }).collect();
            batches.extend(gone);
            self.projects = reported;
        } else {
            let room = MAX_PROJECTS.saturating_sub(self.projects.len());
            self.projects.extend(reported.into_iter().take(room));
        }
        Ok(batches)
    }
}

#[cfg(test)]
mod tests;

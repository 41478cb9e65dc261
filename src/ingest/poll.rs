//! The poll loop: one task for each source, which asks, waits and asks again, and never gives up.
//!
//! Owns the rhythm, the deadline of a poll and what of its outcome is fit to be reported. A failed poll reports why
//! and changes no agent; the next one that succeeds makes up for it. Refuses to know what the answers mean.
//!
//! Batches of polls carry no `ttl`: how long agents of a polled source may stay silent depends on the source's own
//! rhythm and on whether it answers, which the fleet knows from the reports.

pub(super) mod http_json;
pub(super) mod orchestrator_cc;
pub(super) mod request;
mod rhythm;
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
use self::request::Requester;
use self::rhythm::Rhythm;
use super::config::{SourceConfig, SourceKind};
use super::page::{failed, malformed};
use crate::clock::{Clock, Stopwatch};
use crate::model::{Batch, PollReport, Problem, SourceError, SourceErrorReason, duration};

/// Most projects of one source.
const MAX_PROJECTS: usize = 1_000;

/// Starts one task for each of `sources`; outcomes go to `reports`.
///
/// A task that panics cancels the token.
///
/// Polls rest while `monitoring` is false. The tasks end when `stop` is cancelled, in the midst of a poll too, or when
/// nobody reads `reports` any more; the tracker is closed, so that waiting for it waits for all of them. The error is
/// what [`super::validate`] would have found.
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
    let (tracker, broken) = (TaskTracker::new(), CancellationToken::new());
    for (poller, source) in pollers?.into_iter().zip(sources) {
        let task = Task {
            poller,
            rhythm: Rhythm::new(source.interval),
            timeout: source.timeout,
            reports: reports.clone(),
            monitoring: monitoring.clone(),
        };
        let (stop, unless_done) = (stop.clone(), broken.clone().drop_guard());
        tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task.run() => {}
            }
            unless_done.disarm();
        });
    }
    tracker.close();
    Ok((tracker, broken))
}

struct Task {
    poller: Poller,
    rhythm: Rhythm,
    timeout: Duration,
    reports: mpsc::Sender<PollReport>,
    monitoring: watch::Receiver<bool>,
}

impl Task {
    async fn run(mut self) {
        tokio::time::sleep(self.rhythm.phase()).await;
        loop {
            // Without a switch there is nobody left to poll for.
            if self.monitoring.wait_for(|on| *on).await.is_err() {
                return;
            }
            let watch = Stopwatch::start();
            let polled = tokio::time::timeout(self.timeout, self.poller.poll()).await;
            let result = polled.unwrap_or_else(|_| Err(late(self.timeout)));
            let delay = self.rhythm.after(result.is_ok(), watch.elapsed());
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
        &format!("no whole answer within {within}; see whether it hangs, or raise `timeout`"),
    )
}

/// One source, and what is remembered of it between polls.
#[derive(Debug)]
pub struct Poller {
    name: Arc<str>,
    project: String,
    clock: Clock,
    requester: Arc<Requester>,
    kind: Kind,
    /// Projects that earlier polls reported and none reported as gone.
    projects: BTreeSet<String>,
}

#[derive(Debug)]
enum Kind {
    OrchestratorCc(OrchestratorCc),
    HttpJson(Arc<HttpJson>),
}

impl Poller {
    /// A poller for `source`; the error is what [`super::validate`] would have found, with paths from the source on.
    pub fn new(source: &SourceConfig, clock: Clock) -> Result<Self, Vec<Problem>> {
        let kind = match source.kind {
            SourceKind::OrchestratorCc => Kind::OrchestratorCc(OrchestratorCc::default()),
            SourceKind::HttpJson => Kind::HttpJson(Arc::new(HttpJson::compile(source)?)),
        };
        Ok(Self {
            name: Arc::from(source.name.as_str()),
            project: source.project.clone().unwrap_or_else(|| source.name.clone()),
            clock,
            requester: Arc::new(Requester::new(source)?),
            kind,
            projects: BTreeSet::new(),
        })
    }

    /// Asks once, without a deadline of its own: one batch for each project. A complete batch names all agents of its
    /// project; a project that is reported no more gets one without agents.
    pub async fn poll(&mut self) -> Result<Vec<Batch<'static>>, SourceError> {
        let batches = match &mut self.kind {
            Kind::OrchestratorCc(orchestrator) => {
                orchestrator.poll(&self.requester, &self.clock, &self.project).await?
            }
            Kind::HttpJson(page) => {
                let (page, clock, project) = (Arc::clone(page), self.clock.clone(), self.project.clone());
                let read = move |text: &str| page.read(text, clock.wall(), &project);
                self.requester.fetch(&[], read).await.map_err(|failure| failure.error)?
            }
        };
        self.settle(batches)
    }

    fn settle(&mut self, mut batches: Vec<Batch<'static>>) -> Result<Vec<Batch<'static>>, SourceError> {
        let rejected: usize = batches.iter().map(|batch| batch.rejected.len()).sum();
        if rejected > 0 && batches.iter().all(|batch| batch.agents.is_empty() && batch.components.is_empty()) {
            // Not a single one: it is the page that is wrong, or our idea of it.
            let first = batches.iter().find_map(|batch| batch.rejected.first()).map_or("", |first| &first.error);
            return Err(malformed(&format!("none of {rejected} agents could be read; the first: {first}")));
        }
        let reported: BTreeSet<String> = batches.iter().map(|batch| batch.project.to_string()).collect();
        if reported.len() > MAX_PROJECTS {
            return Err(failed(SourceErrorReason::TooLarge, &format!("more than {MAX_PROJECTS} projects in one page")));
        }
        // Somebody who was not read may belong to a project that seems to be gone.
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

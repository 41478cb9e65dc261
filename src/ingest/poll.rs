//! The poll loop: one task for each source, which polls it at its interval, retrying with back-off.
//!
//! A failed poll is reported with its reason and changes no agent. Batches of polls have no `ttl`: when agents of a polled
//! source go stale depends on the source's interval and on whether it responds, which the fleet gets from the reports.

mod autogen_studio;
mod crewx;
mod flowise;
pub(super) mod http_json;
mod langflow;
mod listed;
pub(super) mod orchestrator_cc;
mod process;
pub(super) mod request;
mod schedule;
mod validate;

pub use validate::validate;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::autogen_studio::AutogenStudio;
use self::crewx::Crewx;
use self::flowise::Flowise;
use self::http_json::HttpJson;
use self::langflow::Langflow;
use self::listed::RunList;
use self::orchestrator_cc::OrchestratorCc;
use self::request::SourceClient;
use self::schedule::PollSchedule;
use super::config::{SourceConfig, SourceKind};
use super::page::{failed, malformed};
use crate::clock::{Clock, Stopwatch};
use crate::model::{Batch, PollReport, Problem, SourceError, SourceErrorReason, SpanReport, duration};

/// Most projects of one source.
const MAX_PROJECTS: usize = 1_000;

/// What a poll found.
#[derive(Debug)]
pub struct SourceFindings {
    /// The state of its agents.
    pub report: PollReport,
    /// Spans of its runs that are new.
    pub spans: Vec<SpanReport<'static>>,
    /// Set by the receiver if the spans were lost, so that the source reports its runs again.
    pub lost: Arc<AtomicBool>,
}

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
    reports: &mpsc::Sender<SourceFindings>,
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
    reports: mpsc::Sender<SourceFindings>,
    monitoring: watch::Receiver<bool>,
}

impl PollTask {
    async fn run(mut self) {
        tokio::time::sleep(self.schedule.first_delay()).await;
        let lost = Arc::new(AtomicBool::new(false));
        loop {
            // The other end is dropped when the program stops.
            if self.monitoring.wait_for(|on| *on).await.is_err() {
                return;
            }
            if lost.swap(false, Ordering::Relaxed) {
                self.poller.forget_runs();
            }
            let watch = Stopwatch::start();
            let polled = tokio::time::timeout(self.timeout, self.poller.poll()).await;
            let result = polled.unwrap_or_else(|_| Err(late(self.timeout)));
            let delay = self.schedule.delay_after(result.is_ok(), watch.elapsed());
            let source = Arc::clone(&self.poller.name);
            let (report, spans) = (PollReport { source, result }, self.poller.take_spans());
            if self.reports.send(SourceFindings { report, spans, lost: Arc::clone(&lost) }).await.is_err() {
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
    /// `None` for a file.
    client: Option<Arc<SourceClient>>,
    timeout: Duration,
    kind: PollerKind,
    /// Projects that earlier polls reported, and that have not been reported as removed.
    projects: BTreeSet<String>,
}

#[derive(Debug)]
enum PollerKind {
    OrchestratorCc(OrchestratorCc),
    HttpJson(Arc<HttpJson>),
    Langflow(Langflow),
    Flowise(Flowise),
    AutogenStudio(AutogenStudio),
    Crewx(Crewx),
}

impl PollerKind {
    /// The runs of a source that lists some.
    const fn runs(&mut self) -> Option<&mut RunList> {
        match self {
            Self::Langflow(it) => Some(&mut it.runs),
            Self::Flowise(it) => Some(&mut it.runs),
            Self::AutogenStudio(it) => Some(&mut it.runs),
            Self::Crewx(it) => Some(&mut it.runs),
            Self::OrchestratorCc(_) | Self::HttpJson(_) => None,
        }
    }
}

impl Poller {
    /// A poller for `source`; the error is what [`super::validate`] reports, with paths below the source.
    pub fn new(source: &SourceConfig, clock: Clock) -> Result<Self, Vec<Problem>> {
        let kind = match source.kind {
            SourceKind::OrchestratorCc => PollerKind::OrchestratorCc(OrchestratorCc::default()),
            SourceKind::HttpJson => PollerKind::HttpJson(Arc::new(HttpJson::compile(source)?)),
            SourceKind::Langflow => PollerKind::Langflow(Langflow::default()),
            SourceKind::Flowise => PollerKind::Flowise(Flowise::default()),
            SourceKind::AutogenStudio => {
                PollerKind::AutogenStudio(AutogenStudio::new(&source.name, source.user_id.as_deref()))
            }
            SourceKind::Crewx => {
                let path = source.path.clone().unwrap_or_default();
                PollerKind::Crewx(Crewx::new(&source.name, &path, source.project.is_some()))
            }
        };
        Ok(Self {
            name: Arc::from(source.name.as_str()),
            project: source.project.clone().unwrap_or_else(|| source.name.clone()),
            clock,
            client: match source.kind {
                SourceKind::Crewx => None,
                _ => Some(Arc::new(SourceClient::new(source)?)),
            },
            timeout: source.timeout,
            kind,
            projects: BTreeSet::new(),
        })
    }

    /// Polls once, without a timeout: one batch for each project. A complete batch lists all agents of its project; for a
    /// project that is no longer reported there is one without agents.
    pub async fn poll(&mut self) -> Result<Vec<Batch<'static>>, SourceError> {
        let (clock, project) = (&self.clock, &*self.project);
        let batches = match (&mut self.kind, &self.client) {
            (PollerKind::Crewx(database), _) => database.poll(self.timeout, clock, project).await?,
            (PollerKind::OrchestratorCc(server), Some(client)) => server.poll(client, clock, project).await?,
            (PollerKind::Langflow(server), Some(client)) => server.poll(client, clock, project).await?,
            (PollerKind::Flowise(server), Some(client)) => server.poll(client, clock, project).await?,
            (PollerKind::AutogenStudio(server), Some(client)) => server.poll(client, clock, project).await?,
            (PollerKind::HttpJson(page), Some(client)) => {
                let (page, clock, project) = (Arc::clone(page), clock.clone(), project.to_owned());
                let read = move |text: &str| page.read(text, clock.wall(), &project);
                client.fetch(&[], read).await.map_err(|failure| failure.error)?
            }
            // Each of these has a client.
            (_, None) => Vec::new(),
        };
        self.check(batches)
    }

    /// The spans of runs that polls found since the last call.
    pub fn take_spans(&mut self) -> Vec<SpanReport<'static>> {
        self.kind.runs().map(RunList::take).unwrap_or_default()
    }

    /// Reports all runs again: some were lost.
    pub fn forget_runs(&mut self) {
        if let Some(runs) = self.kind.runs() {
            runs.forget();
        }
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

//! Reports the latest state to the sidecar, and then its runs. States in between are skipped; failed requests are retried with back-off.
//!
//! There is one request at a time. A request that timed out may still be processed later, so each has a sequence number
//! by which the sidecar ignores outdated ones.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::runs::{RunReporter, SharedTurns};
use super::signals::PipeSignals;
use super::{LAST_REPORT, PipeArgs};
use crate::cli::answer;
use crate::cli::client::{Client, ReachArgs};
use crate::cli::pipe::stream::{RunCounts, RunState, StreamReader};
use crate::cli::warn;
use crate::clock::Clock;
use crate::config::Environment;
use crate::ingest::encode_state;
use crate::model::update::Ordinal;
use crate::model::{AgentStatus, Batch, Time};

/// Least time between two reports, except for the last one.
const MIN_INTERVAL: Duration = Duration::from_millis(200);
/// The report interval of an active agent without a change of state.
const ACTIVITY: Duration = Duration::from_secs(5);
/// The report interval of an inactive agent, within [`TTL`].
const HEARTBEAT: Duration = Duration::from_secs(20);
/// The `ttl` of reports, after which the sidecar considers the agent stale.
const TTL: Duration = Duration::from_secs(60);
/// The first delay of a retry, and the longest; it doubles in between.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The latest state of the run.
#[derive(Clone, Debug)]
pub(super) struct RunSnapshot {
    state: RunState,
    agent_type: Option<&'static str>,
    active_at: Option<Time>,
    is_over: bool,
    /// The exit code, once a signal has to end the program.
    exit: Option<u8>,
}

impl RunSnapshot {
    /// The state before the first byte.
    pub(super) fn new(reader: &StreamReader) -> Self {
        Self { state: reader.state().clone(), agent_type: None, active_at: None, is_over: false, exit: None }
    }

    /// Updates this from `reader`.
    pub(super) fn note(&mut self, reader: &StreamReader, active_at: Option<Time>, is_over: bool) {
        if self.state != *reader.state() {
            self.state.clone_from(reader.state());
        }
        self.agent_type = reader.agent_type();
        self.active_at = active_at.or(self.active_at);
        self.is_over |= is_over;
    }

    /// How long after the report of `reported` this must be reported.
    fn due_after(&self, reported: &Self) -> Duration {
        if self.state != reported.state || self.agent_type != reported.agent_type || self.is_final() {
            Duration::ZERO
        } else if self.active_at != reported.active_at {
            ACTIVITY
        } else {
            HEARTBEAT
        }
    }

    /// Whether the state is final.
    fn is_final(&self) -> bool {
        self.is_over || self.exit.is_some()
    }
}

/// Reports the state of one agent.
pub(super) struct StateReporter {
    agent: String,
    project: String,
    agent_type: Option<String>,
    reach: ReachArgs,
    env: Environment,
    quiet: bool,
    /// The counts that the sidecar has accepted.
    reported: RunCounts,
    /// Whether no report of this run was accepted yet.
    is_first: bool,
    /// The id of the run, and the number of reports sent.
    run: String,
    sent: u64,
    /// Reports the runs.
    runs: RunReporter,
    /// Created again after a failure, to read a changed token file.
    client: Option<Client>,
}

impl StateReporter {
    /// A reporter by the arguments and `env`.
    pub(super) fn new(args: &PipeArgs, env: &Environment, turns: SharedTurns) -> Self {
        Self {
            agent: args.agent.clone(),
            project: args.project.clone(),
            agent_type: args.r#type.clone(),
            reach: args.reach.clone(),
            env: env.clone(),
            quiet: args.quiet,
            reported: if args.resumed { RunCounts::resumed() } else { RunCounts::default() },
            is_first: true,
            run: format!("{:x}-{:x}", Clock::system().wall().as_millis(), std::process::id()),
            sent: 0,
            runs: RunReporter::new(args, turns),
            client: None,
        }
    }

    /// Reports until the final state is accepted, or a signal ends the process.
    pub(super) async fn run(
        self,
        seen: watch::Sender<RunSnapshot>,
        updates: watch::Receiver<RunSnapshot>,
        signals: PipeSignals,
    ) -> anyhow::Result<ExitCode> {
        tokio::select! {
            done = self.report(updates) => done,
            error = end_on_signal(signals, seen) => Err(error),
        }
    }

    async fn report(mut self, mut updates: watch::Receiver<RunSnapshot>) -> anyhow::Result<ExitCode> {
        let mut wait = FIRST_WAIT;
        let mut has_warned = self.quiet;
        loop {
            let mut latest = updates.borrow_and_update().clone();
            if latest.exit.is_some() && !latest.state.ended && !latest.state.status.is_over() {
                (latest.state.status, latest.state.reason) = (AgentStatus::Failed, Some("interrupted".to_owned()));
                self.runs.interrupt(Clock::system().wall());
            }
            if self.is_first && (latest.state.ended || latest.state.status.is_over()) {
                // A run that is over before its first report is reported as running first, so that it counts as a run.
                (latest.state.status, latest.state.reason, latest.state.ended) = (AgentStatus::Running, None, false);
            }
            let counts = latest.state.counts.after(&self.reported);
            let is_all = counts == latest.state.counts && !(self.is_first && latest.is_final());
            let failure = self.send(&latest, &counts).await.err();
            let sent = Instant::now();
            if let Some(error) = &failure {
                self.client = None;
                if !has_warned {
                    has_warned = true;
                    warn(&format!("lookout pipe: report of {} failed, retrying: {error:#}", self.agent));
                }
            } else {
                self.reported.note(&counts);
                self.is_first = false;
                self.send_runs(&latest).await;
            }
            if latest.is_final() && (is_all || failure.is_some()) {
                return finish(&latest);
            }
            if failure.is_some() {
                self.pause(&mut updates, wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            } else {
                wait = FIRST_WAIT;
                if is_all {
                    self.pause(&mut updates, MIN_INTERVAL).await;
                    until_due(&mut updates, &latest, sent).await;
                }
            }
        }
    }

    /// Reports the runs, after the state was accepted. The last report is tried again: its process ends soon.
    async fn send_runs(&mut self, seen: &RunSnapshot) {
        while let Some(client) = self.client.as_ref().filter(|_| self.runs.waits(seen.is_final())) {
            let agent_type = self.agent_type.as_deref().or(seen.agent_type);
            let failure = self.runs.send(client, agent_type, seen.is_final()).await.err();
            if let Some(error) = failure.filter(|_| !self.quiet) {
                warn(&format!("lookout pipe: runs of {} are not reported: {error:#}", self.agent));
            }
            if !seen.is_final() {
                return;
            }
            if self.runs.waits(true) {
                sleep(MIN_INTERVAL).await;
            }
        }
        let lost = [(self.runs.dropped, "spans"), (self.runs.dropped_turns, "turns")];
        for (count, what) in lost.into_iter().filter(|(count, _)| seen.is_final() && *count > 0 && !self.quiet) {
            warn(&format!("lookout pipe: {count} {what} of {} were not reported: too many waited", self.agent));
        }
    }

    /// Waits, but not longer than until the state is final.
    async fn pause(&self, updates: &mut watch::Receiver<RunSnapshot>, wait: Duration) {
        tokio::select! {
            () = sleep(wait) => {}
            // An error means that the parser is gone, which the next read of the state shows.
            _ = updates.wait_for(RunSnapshot::is_final) => {}
        }
    }

    /// Sends `seen` with these counts.
    async fn send(&mut self, seen: &RunSnapshot, counts: &RunCounts) -> anyhow::Result<()> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::reaching(&self.reach, &self.env)?),
        };
        let mut update = seen.state.update(&self.agent, counts, seen.active_at);
        update.agent_type = self.agent_type.as_deref().or(seen.agent_type).map(Into::into);
        self.sent += 1;
        let batch = Batch {
            project: self.project.as_str().into(),
            ttl: Some(TTL),
            ordinal: Some(Ordinal { run: self.run.as_str().into(), number: self.sent }),
            agents: vec![update],
            ..Batch::default()
        };
        let answer = client.post_text(&["api", "state"], encode_state(&batch)).await?;
        let answer = answer::parse(&answer)?;
        match answer::list(&answer, "rejected").first() {
            Some(rejected) if answer.get("accepted").and_then(Value::as_u64) == Some(0) => {
                bail!("rejected by the sidecar: {}", crate::text::clean(answer::text(rejected, "error"), 300))
            }
            _ => Ok(()),
        }
    }
}

/// Waits until something must be reported after the report of `reported` at `sent`.
async fn until_due(updates: &mut watch::Receiver<RunSnapshot>, reported: &RunSnapshot, sent: Instant) {
    loop {
        let due = sent + updates.borrow_and_update().due_after(reported);
        if due <= Instant::now() {
            return;
        }
        tokio::select! {
            () = sleep_until(due) => return,
            changed = updates.changed() => if changed.is_err() { return },
        }
    }
}

/// Ends the process if a signal asked for it, else this thread.
fn finish(seen: &RunSnapshot) -> anyhow::Result<ExitCode> {
    match seen.exit {
        Some(code) => std::process::exit(code.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Ends the process after a last report once a signal asks for it. Returns only if signals can't be handled.
async fn end_on_signal(signals: PipeSignals, seen: watch::Sender<RunSnapshot>) -> anyhow::Error {
    let code = match signals.exit_code().await {
        Ok(code) => code,
        Err(error) => return error,
    };
    seen.send_modify(|seen| seen.exit = Some(code));
    sleep(LAST_REPORT).await;
    std::process::exit(code.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pipe::stream::StreamFormat;
    use crate::config::pipe::Pattern;

    #[test]
    fn changes_are_reported_sooner_than_activity() {
        let mut reader =
            StreamReader::new(StreamFormat::Text, vec![Pattern::parse("failed=^panic").expect("pattern")], None);
        let at = |seconds: i64| Some(Time::from_millis(seconds * 1000));
        let reported = RunSnapshot::new(&reader);
        let due = |seen: &RunSnapshot| seen.due_after(&reported);
        assert_eq!(due(&reported), HEARTBEAT, "an inactive agent is reported within its ttl");
        assert!(HEARTBEAT * 2 < TTL);
        let mut active = reported.clone();
        active.note(&reader, at(1), false);
        assert_eq!(due(&active), ACTIVITY);
        reader.lines(Time::from_millis(0), b"panic\n");
        let mut changed = reported.clone();
        changed.note(&reader, at(1), false);
        assert_eq!(due(&changed), Duration::ZERO);
        let mut over = reported.clone();
        over.is_over = true;
        assert_eq!(due(&over), Duration::ZERO);
        assert_eq!(due(&RunSnapshot { exit: Some(130), ..reported.clone() }), Duration::ZERO);
    }
}

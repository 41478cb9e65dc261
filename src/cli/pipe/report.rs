//! Tells the sidecar the latest state: what changed in between is never sent, and a sidecar that is not there, hangs or
//! refuses is tried again ever more slowly.
//!
//! There is one request at a time, and the next one waits for its answer. One that was given up may still be under way,
//! to a sidecar that stands still for example; so each has its number, by which it is known when it comes late.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::signals::Signals;
use super::{LAST_WORD, PipeArgs};
use crate::cli::answer;
use crate::cli::client::{Client, ReachArgs};
use crate::cli::pipe::stream::{Counts, Reader, State};
use crate::cli::warn;
use crate::clock::Clock;
use crate::config::Environment;
use crate::ingest::encode_state;
use crate::model::update::Ordinal;
use crate::model::{AgentStatus, Batch, Time};

/// Two reports are at least so far apart, until the last one.
const PACE: Duration = Duration::from_millis(200);
/// An agent that does something and is in the same state as before is reported so often.
const ACTIVITY: Duration = Duration::from_secs(5);
/// One that does nothing is reported so often, since who goes silent is missed after [`TTL`].
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long the sidecar may go without hearing from us.
const TTL: Duration = Duration::from_secs(60);
/// How long to wait after the first failure, and at most; it doubles in between.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What is known, for whoever reports it: always the latest.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    state: State,
    agent_type: Option<&'static str>,
    active_at: Option<Time>,
    is_over: bool,
    /// The code to end with at once, when a signal said so.
    exit: Option<u8>,
}

impl Seen {
    /// What is known before the first byte.
    pub(super) fn new(reader: &Reader) -> Self {
        Self { state: reader.state().clone(), agent_type: None, active_at: None, is_over: false, exit: None }
    }

    /// Notes what `reader` knows now.
    pub(super) fn note(&mut self, reader: &Reader, active_at: Option<Time>, is_over: bool) {
        if self.state != *reader.state() {
            self.state.clone_from(reader.state());
        }
        self.agent_type = reader.agent_type();
        self.active_at = active_at.or(self.active_at);
        self.is_over |= is_over;
    }

    /// How long after `told` was told this is to be told, unless more is seen until then.
    fn due_after(&self, told: &Self) -> Duration {
        if self.state != told.state || self.agent_type != told.agent_type || self.is_final() {
            Duration::ZERO
        } else if self.active_at != told.active_at {
            ACTIVITY
        } else {
            HEARTBEAT
        }
    }

    /// Whether no more will be known.
    fn is_final(&self) -> bool {
        self.is_over || self.exit.is_some()
    }
}

/// Who is told, and of whom.
pub(super) struct Reporter {
    agent: String,
    project: String,
    agent_type: Option<String>,
    reach: ReachArgs,
    env: Environment,
    quiet: bool,
    /// What the sidecar has heard of this run's counts.
    told: Counts,
    /// Whether it has heard of this run at all.
    is_first: bool,
    /// The run, and how many reports of it were sent.
    run: String,
    sent: u64,
    /// Made anew after a failure, so that a token that was changed is read again.
    client: Option<Client>,
}

impl Reporter {
    /// One that tells as `args` and `env` say.
    pub(super) fn new(args: &PipeArgs, env: &Environment) -> Self {
        Self {
            agent: args.agent.clone(),
            project: args.project.clone(),
            agent_type: args.r#type.clone(),
            reach: args.reach.clone(),
            env: env.clone(),
            quiet: args.quiet,
            told: if args.resumed { Counts::going_on() } else { Counts::default() },
            is_first: true,
            run: format!("{:x}-{:x}", Clock::system().wall().as_millis(), std::process::id()),
            sent: 0,
            client: None,
        }
    }

    /// Reports until what is seen is final and told, or a signal ends the process.
    pub(super) async fn run(
        self,
        seen: watch::Sender<Seen>,
        news: watch::Receiver<Seen>,
        signals: Signals,
    ) -> anyhow::Result<ExitCode> {
        tokio::select! {
            done = self.report(news) => done,
            error = heed(signals, seen) => Err(error),
        }
    }

    async fn report(mut self, mut news: watch::Receiver<Seen>) -> anyhow::Result<ExitCode> {
        let mut wait = FIRST_WAIT;
        let mut has_warned = self.quiet;
        loop {
            let mut latest = news.borrow_and_update().clone();
            if latest.exit.is_some() && !latest.state.ended && !latest.state.status.is_over() {
                (latest.state.status, latest.state.reason) = (AgentStatus::Failed, Some("interrupted".to_owned()));
            }
            if self.is_first && (latest.state.ended || latest.state.status.is_over()) {
                // A run that is over before anybody heard of it has begun all the same: only so does it count as one.
                (latest.state.status, latest.state.reason, latest.state.ended) = (AgentStatus::Running, None, false);
            }
            let counts = latest.state.counts.after(&self.told);
            let is_all = counts == latest.state.counts && !(self.is_first && latest.is_final());
            let failure = self.tell(&latest, &counts).await.err();
            let sent = Instant::now();
            if let Some(error) = &failure {
                self.client = None;
                if !has_warned {
                    has_warned = true;
                    warn(&format!("lookout pipe: {} is not reported, and it is tried again: {error:#}", self.agent));
                }
            } else {
                self.told.note(&counts);
                self.is_first = false;
            }
            if latest.is_final() && (is_all || failure.is_some()) {
                return finish(&latest);
            }
            if failure.is_some() {
                self.pause(&mut news, wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            } else {
                wait = FIRST_WAIT;
                if is_all {
                    self.pause(&mut news, PACE).await;
                    until_due(&mut news, &latest, sent).await;
                }
            }
        }
    }

    /// Waits, but not once what is seen is final.
    async fn pause(&self, news: &mut watch::Receiver<Seen>, wait: Duration) {
        tokio::select! {
            () = sleep(wait) => {}
            // An error says that nobody sees anything any more, which the next look finds out.
            _ = news.wait_for(Seen::is_final) => {}
        }
    }

    /// Tells the sidecar `seen` with these counts.
    async fn tell(&mut self, seen: &Seen, counts: &Counts) -> anyhow::Result<()> {
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
        let said = client.post_text(&["api", "state"], encode_state(&batch)).await?;
        let said = answer::parse(&said)?;
        match answer::list(&said, "rejected").first() {
            Some(rejected) if said.get("accepted").and_then(Value::as_u64) == Some(0) => {
                bail!("the sidecar refused it: {}", crate::text::clean(answer::text(rejected, "error"), 300))
            }
            _ => Ok(()),
        }
    }
}

/// Waits for something worth telling after `told` was told at `sent`.
async fn until_due(news: &mut watch::Receiver<Seen>, told: &Seen, sent: Instant) {
    loop {
        let due = sent + news.borrow_and_update().due_after(told);
        if due <= Instant::now() {
            return;
        }
        tokio::select! {
            () = sleep_until(due) => return,
            changed = news.changed() => if changed.is_err() { return },
        }
    }
}

/// Ends the process when a signal said so, else this thread.
fn finish(seen: &Seen) -> anyhow::Result<ExitCode> {
    match seen.exit {
        Some(code) => std::process::exit(code.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Ends the process when a signal says so, after a last word; or says why it can't.
async fn heed(signals: Signals, seen: watch::Sender<Seen>) -> anyhow::Error {
    let code = match signals.exit_code().await {
        Ok(code) => code,
        Err(error) => return error,
    };
    seen.send_modify(|seen| seen.exit = Some(code));
    sleep(LAST_WORD).await;
    std::process::exit(code.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pipe::stream::Format;
    use crate::config::pipe::Pattern;

    #[test]
    fn what_is_seen_is_due_sooner_the_more_it_says() {
        let mut reader = Reader::new(Format::Text, vec![Pattern::parse("failed=^panic").expect("pattern")], None);
        let at = |seconds: i64| Some(Time::from_millis(seconds * 1000));
        let told = Seen::new(&reader);
        let due = |seen: &Seen| seen.due_after(&told);
        assert_eq!(due(&told), HEARTBEAT, "who is silent is heard of in time");
        assert!(HEARTBEAT * 2 < TTL);
        let mut active = told.clone();
        active.note(&reader, at(1), false);
        assert_eq!(due(&active), ACTIVITY);
        reader.lines(Time::from_millis(0), b"panic\n");
        let mut changed = told.clone();
        changed.note(&reader, at(1), false);
        assert_eq!(due(&changed), Duration::ZERO);
        let mut over = told.clone();
        over.is_over = true;
        assert_eq!(due(&over), Duration::ZERO);
        assert_eq!(due(&Seen { exit: Some(130), ..told.clone() }), Duration::ZERO);
    }
}

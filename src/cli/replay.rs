//! `lookout replay`: replays a recording with other rules and compares the notifications with those before.
//!
//! The recording is replayed on a virtual clock with the new rules. The notifications before are read from the outbox
//! of a ledger, or come from a replay with the rules of the configuration. Nothing is sent, and no file is written.

mod compare;
mod report;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::terminal::{OutputStyle, print};
use super::{ConfigArgs, warn};
use crate::config::{Config, Environment};
use crate::machine::Simulation;
use crate::machine::simulation::{Lasting, Setup};
use crate::model::{Notice, NoticeKind, ReceiverPolicy, RecordedInput, Subject, Time, duration};
use crate::notify::Receiver;
use crate::notify::config::ReceiverConfig;
use crate::rules::RuleSet;
use crate::store::ledger;
use crate::store::record::{EntryContent, RecordingReader};

/// Most notices of one replay.
const MAX_NOTICES: u32 = 1_000_000;
/// Most deadlines processed in one replay.
const MAX_DEADLINES: u64 = 100_000_000;
/// The name of the receiver that stands in if none is configured.
const ANY_RECEIVER: &str = "any";

/// Arguments of `lookout replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// Recording of `lookout run --record`; its predecessor FILE.1, if there is one, is replayed first
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,
    /// File with the new rules; replaces the rule files of the configuration (repeatable)
    #[arg(long, value_name = "FILE", required_unless_present = "store")]
    pub rules: Vec<PathBuf>,
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Ledger (lookout.db) with the notifications that were sent; without it, the configured rules are replayed too
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// Largest difference in time between notifications that count as the same
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub within: Duration,
    /// Also list notifications that are the same in both
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Facts about a replayed recording.
#[derive(Clone, Debug, Default)]
struct ReplaySummary {
    from: Time,
    until: Time,
    arrivals: u64,
    starts: u64,
    /// Inputs that the recording lacks because its buffer was full.
    dropped: u64,
    /// Lines that can't be parsed, and bodies that the sidecar would reject.
    unreadable: u64,
    /// Polled sources that are not configured.
    unknown_sources: BTreeSet<Arc<str>>,
}

/// A replay of the recording with one set of rules.
struct RuleReplay {
    /// What the simulation starts with, until the recording's first entry.
    setup: Option<Setup>,
    /// The simulation, from the first entry on.
    simulation: Option<Simulation>,
}

impl RuleReplay {
    fn new(config: &Config, rules: RuleSet, receivers: &[ReceiverPolicy]) -> Self {
        let (fleet, incidents) = (config.fleet_settings(), config.incidents.policy());
        let settings = Lasting { fleet, receivers: receivers.to_vec(), incidents };
        Self { setup: Some(Setup { rules, settings }), simulation: None }
    }

    /// The simulation, advanced to `now`; starts it at the first call.
    fn at(&mut self, now: Time) -> anyhow::Result<Option<&mut Simulation>> {
        if let Some(setup) = self.setup.take() {
            self.simulation = Some(Simulation::new(now, setup).with_limit(MAX_DEADLINES));
        }
        let Some(simulation) = &mut self.simulation else { return Ok(None) };
        simulation.advance(now)?;
        if simulation.notices().len() > MAX_NOTICES as usize {
            bail!("the replay has more than {MAX_NOTICES} notifications; replay a shorter recording");
        }
        Ok(Some(simulation))
    }
}

/// Replays and prints the comparison; the exit code is 0 whether or not there are differences.
pub(super) fn run(args: &ReplayArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    let receivers = receivers(&config)?;
    let new = if args.rules.is_empty() {
        config.rule_set()?
    } else {
        Config { rules: args.rules.clone(), ..config.clone() }.rule_set()?
    };
    let mut replays = vec![RuleReplay::new(&config, new, &receivers)];
    if args.store.is_none() {
        replays.push(RuleReplay::new(&config, config.rule_set()?, &receivers));
    }
    let played = play(&args.recording, &mut replays)?;
    let mut notices =
        replays.into_iter().map(|replay| replay.simulation.map_or_else(Vec::new, Simulation::into_notices));
    let new = notices.next().unwrap_or_default();
    let before = match &args.store {
        Some(path) => sent_before(path, &played)?,
        None => notices.next().unwrap_or_default(),
    };
    for remark in remarks(&played, &receivers, &before) {
        warn(&format!("note: {remark}"));
    }
    let rows = compare::compare(&before, &new, args.within);
    if args.json {
        print(&report::json(&played, &rows).to_string())?;
    } else {
        print(&report::text(&played, &rows, args.all, OutputStyle::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn receivers(config: &Config) -> anyhow::Result<Vec<ReceiverPolicy>> {
    let any = [ReceiverConfig::nowhere(ANY_RECEIVER)];
    let configs = if config.receivers.is_empty() { &any[..] } else { &config.receivers };
    let built = Receiver::build(configs).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|it| format!("{}: {}", it.path, it.message)).collect();
        anyhow::anyhow!(lines.join("\n"))
    })?;
    Ok(built.iter().map(Receiver::policy).collect())
}

/// Replays the recording at `path` in all of `replays` at once.
fn play(path: &Path, replays: &mut [RuleReplay]) -> anyhow::Result<ReplaySummary> {
    let shown = || path.display().to_string();
    let mut reading = RecordingReader::open(path).with_context(|| format!("open {}", shown()))?;
    let mut played = ReplaySummary::default();
    let mut last: Option<Time> = None;
    while let Some(entry) = reading.next_entry().with_context(|| format!("read {}", shown()))? {
        // The wall clock may have been set back between two runs; a simulation's clock never goes back.
        let now = last.map_or(entry.at, |last| last.max(entry.at));
        let is_first = last.replace(now).is_none();
        if is_first {
            played.from = now;
        }
        match entry.content {
            EntryContent::Start if is_first => played.starts += 1,
            EntryContent::Start => {
                played.starts += 1;
                for replay in &mut *replays {
                    if let Some(simulation) = &mut replay.simulation {
                        simulation.restart(now);
                    }
                }
            }
            EntryContent::Stop => {}
            EntryContent::Dropped(count) => played.dropped += count,
            EntryContent::Input(arrival) => {
                played.arrivals += 1;
                let mut is_read = true;
                for replay in &mut *replays {
                    let Some(simulation) = replay.at(now)? else { continue };
                    is_read &= simulation.feed(&arrival).is_ok();
                    note_source(simulation, &arrival, &mut played.unknown_sources);
                }
                played.unreadable += u64::from(!is_read);
            }
        }
        for replay in &mut *replays {
            replay.at(now)?;
        }
    }
    let Some(until) = last else { bail!("{} has no recorded input; record with `lookout run --record FILE`", shown()) };
    played.until = until;
    played.unreadable += reading.unreadable();
    Ok(played)
}

fn note_source(simulation: &Simulation, arrival: &RecordedInput, unknown: &mut BTreeSet<Arc<str>>) {
    if let RecordedInput::Poll { source, .. } = arrival
        && unknown.len() < 100
        && !simulation.fleet().state().sources.iter().any(|known| known.name == *source)
    {
        unknown.insert(Arc::clone(source));
    }
}

/// The notices in the outbox of a ledger from the time of the recording.
fn sent_before(path: &Path, played: &ReplaySummary) -> anyhow::Result<Vec<Arc<Notice>>> {
    let sent = ledger::read_outbox(path, played.from, played.until, MAX_NOTICES)
        .with_context(|| format!("read the notifications in {}", path.display()))?;
    Ok(sent.into_iter().filter(is_replayable).map(Arc::new).collect())
}

/// Whether a replay can produce it: tests, digests and alerts about lookout itself do not follow from recorded input.
fn is_replayable(notice: &Notice) -> bool {
    match notice.kind {
        NoticeKind::Test | NoticeKind::Digest => false,
        NoticeKind::Announcement => true,
        _ => !matches!(notice.subject, Subject::Receiver { .. } | Subject::Sidecar { .. }),
    }
}

/// Limits of the comparison.
fn remarks(played: &ReplaySummary, receivers: &[ReceiverPolicy], before: &[Arc<Notice>]) -> Vec<String> {
    let mut remarks = Vec::new();
    if played.dropped > 0 {
        remarks.push(format!("{} inputs are missing in the recording, whose buffer was full", played.dropped));
    }
    if played.unreadable > 0 {
        remarks.push(format!("{} lines could not be parsed and were skipped", played.unreadable));
    }
    for source in &played.unknown_sources {
        remarks.push(format!(
            "polls of {source} were skipped, since it is not configured; add it to `sources` in the file of --config"
        ));
    }
    let notified: BTreeSet<&Arc<str>> = before.iter().map(|notice| &notice.receiver).collect();
    for receiver in notified.into_iter().filter(|name| !receivers.iter().any(|known| known.name == **name)) {
        remarks.push(format!(
            "receiver {receiver} was notified and is not configured; add it to `receivers` in the file of --config"
        ));
    }
    remarks
}

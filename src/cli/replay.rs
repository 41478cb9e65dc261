//! `lookout replay`: recorded state against other rules, and what that would have told.
//!
//! The recording is played on a virtual clock with the new rules. What was told before comes from the outbox of a
//! ledger, or from playing the recording with the rules of the configuration as well. Refuses to send anything, and to
//! write anywhere.

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

use super::terminal::{Look, print};
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

/// Most notices of one side.
const MAX_NOTICES: u32 = 1_000_000;
/// Deadlines served at most for one side.
const MAX_DEADLINES: u64 = 100_000_000;
/// Who is told when the configuration names nobody.
const ANYBODY: &str = "anybody";

/// Arguments of `lookout replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The recording; the file before it, with .1 behind its name, is played first
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,
    /// Files of the new rules, over the built-in ones and in place of those that the configuration names
    #[arg(long, value_name = "FILE", required_unless_present = "store")]
    pub rules: Vec<PathBuf>,
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
    /// A ledger such as lookout.db, whose outbox says what was told; without it, what the rules of the configuration say
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// How far apart the same may be told and still be the same
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub within: Duration,
    /// Show what both told as well
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What there is to say of a recording beside what was told.
#[derive(Clone, Debug, Default)]
struct Played {
    from: Time,
    until: Time,
    arrivals: u64,
    starts: u64,
    /// What the recording itself left out.
    dropped: u64,
    /// Lines that can't be read, and bodies that the program would refuse.
    unreadable: u64,
    /// Polled sources that the configuration does not name.
    unknown_sources: BTreeSet<Arc<str>>,
}

/// Rules at work on a recording.
struct Side {
    /// Until the recording begins.
    setup: Option<Setup>,
    /// From then on.
    simulation: Option<Simulation>,
}

impl Side {
    fn new(config: &Config, rules: RuleSet, receivers: &[ReceiverPolicy]) -> Self {
        let (fleet, incidents) = (config.fleet_settings(), config.incidents.policy());
        let settings = Lasting { fleet, receivers: receivers.to_vec(), incidents };
        Self { setup: Some(Setup { rules, settings }), simulation: None }
    }

    /// The simulation, brought to `now`; it begins when it is first asked for.
    fn at(&mut self, now: Time) -> anyhow::Result<Option<&mut Simulation>> {
        if let Some(setup) = self.setup.take() {
            self.simulation = Some(Simulation::new(now, setup).with_limit(MAX_DEADLINES));
        }
        let Some(simulation) = &mut self.simulation else { return Ok(None) };
        simulation.advance(now)?;
        if simulation.notices().len() > MAX_NOTICES as usize {
            bail!("more than {MAX_NOTICES} notifications; replay a shorter recording");
        }
        Ok(Some(simulation))
    }
}

/// Plays and prints; exit code 0 whatever the difference.
pub(super) fn run(args: &ReplayArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    let receivers = receivers(&config)?;
    let new = if args.rules.is_empty() {
        config.rule_set()?
    } else {
        Config { rules: args.rules.clone(), ..config.clone() }.rule_set()?
    };
    let mut sides = vec![Side::new(&config, new, &receivers)];
    if args.store.is_none() {
        sides.push(Side::new(&config, config.rule_set()?, &receivers));
    }
    let played = play(&args.recording, &mut sides)?;
    let mut told = sides.into_iter().map(|side| side.simulation.map_or_else(Vec::new, Simulation::into_notices));
    let new = told.next().unwrap_or_default();
    let before = match &args.store {
        Some(path) => told_before(path, &played)?,
        None => told.next().unwrap_or_default(),
    };
    for remark in remarks(&played, &receivers, &before) {
        warn(&format!("note: {remark}"));
    }
    let rows = compare::compare(&before, &new, args.within);
    if args.json {
        print(&report::json(&played, &rows).to_string())?;
    } else {
        print(&report::text(&played, &rows, args.all, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn receivers(config: &Config) -> anyhow::Result<Vec<ReceiverPolicy>> {
    let anybody = [ReceiverConfig::nowhere(ANYBODY)];
    let configs = if config.receivers.is_empty() { &anybody[..] } else { &config.receivers };
    let built = Receiver::build(configs).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|it| format!("{}: {}", it.path, it.message)).collect();
        anyhow::anyhow!(lines.join("\n"))
    })?;
    Ok(built.iter().map(Receiver::policy).collect())
}

/// Plays the recording at `path` on every side at once.
fn play(path: &Path, sides: &mut [Side]) -> anyhow::Result<Played> {
    let shown = || path.display().to_string();
    let mut reading = RecordingReader::open(path).with_context(|| format!("open {}", shown()))?;
    let mut played = Played::default();
    let mut last: Option<Time> = None;
    while let Some(entry) = reading.next_entry().with_context(|| format!("read {}", shown()))? {
        // Between two runs of the program the wall clock may have been set back; here time only goes on.
        let now = last.map_or(entry.at, |last| last.max(entry.at));
        let is_first = last.replace(now).is_none();
        if is_first {
            played.from = now;
        }
        match entry.content {
            EntryContent::Start if is_first => played.starts += 1,
            EntryContent::Start => {
                played.starts += 1;
                for side in &mut *sides {
                    if let Some(simulation) = &mut side.simulation {
                        simulation.restart(now);
                    }
                }
            }
            EntryContent::Stop => {}
            EntryContent::Dropped(count) => played.dropped += count,
            EntryContent::Input(arrival) => {
                played.arrivals += 1;
                let mut is_read = true;
                for side in &mut *sides {
                    let Some(simulation) = side.at(now)? else { continue };
                    is_read &= simulation.feed(&arrival).is_ok();
                    note_source(simulation, &arrival, &mut played.unknown_sources);
                }
                played.unreadable += u64::from(!is_read);
            }
        }
        for side in &mut *sides {
            side.at(now)?;
        }
    }
    let Some(until) = last else {
        bail!("{} holds nothing that can be replayed; record with `lookout run --record FILE`", shown())
    };
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

/// What the outbox says was told while the recording was made.
fn told_before(path: &Path, played: &Played) -> anyhow::Result<Vec<Arc<Notice>>> {
    let told = ledger::read_outbox(path, played.from, played.until, MAX_NOTICES)
        .with_context(|| format!("read what was told from {}", path.display()))?;
    Ok(told.into_iter().filter(is_of_the_fleet).map(Arc::new).collect())
}

/// Whether it follows from what a recording holds. Lookout's own trouble, tests and digests do not.
fn is_of_the_fleet(notice: &Notice) -> bool {
    match notice.kind {
        NoticeKind::Test | NoticeKind::Digest => false,
        NoticeKind::Announcement => true,
        _ => !matches!(notice.subject, Subject::Receiver { .. } | Subject::Sidecar { .. }),
    }
}

/// What a reader should know before trusting the comparison.
fn remarks(played: &Played, receivers: &[ReceiverPolicy], before: &[Arc<Notice>]) -> Vec<String> {
    let mut remarks = Vec::new();
    if played.dropped > 0 {
        remarks
            .push(format!("{} arrivals are not in the recording, for want of room when it was made", played.dropped));
    }
    if played.unreadable > 0 {
        remarks.push(format!("{} lines could not be read and were passed over", played.unreadable));
    }
    for source in &played.unknown_sources {
        remarks.push(format!("polls of {source} were not played; name it under `sources` in the file of --config"));
    }
    let told: BTreeSet<&Arc<str>> = before.iter().map(|notice| &notice.receiver).collect();
    for receiver in told.into_iter().filter(|name| !receivers.iter().any(|known| known.name == **name)) {
        remarks.push(format!(
            "{receiver} was told and is no receiver now; name it under `receivers` in the file of --config"
        ));
    }
    remarks
}

//! `lookout pipe`: passes an agent's output on, byte for byte, and tells a sidecar what it says of the agent.
//!
//! Three threads, so that nothing that the last one waits for reaches the first: this one copies (`copy`), another
//! one understands ([`crate::cli::pipe::stream`]), a third one reports (`report`). Copying waits for understanding only
//! where tokens would be missed otherwise, and never for reporting, which reads the latest state whenever it is ready.

mod copy;
mod lane;
mod report;
mod signals;
pub mod stream;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::sync::watch;

use self::lane::Channels;
use self::report::{Reporter, Seen};
use self::signals::Signals;
use self::stream::skim::{Keep, Piece, Skimmer};
use self::stream::{Ending, Format, Reader};
use super::client::ReachArgs;
use super::{ConfigArgs, warn};
use crate::clock::{Clock, Stopwatch};
use crate::config::Environment;
use crate::config::pipe::Pattern;
use crate::model::DEFAULT_PROJECT;
use crate::text::is_name;

/// A line that has begun and does not go on for so long is looked at as it stands.
const PAUSE: Duration = Duration::from_millis(100);
/// So long may the last report take once the stream has ended.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Arguments of `lookout pipe`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit codes: 0 when all was passed on, or nobody reads it any more; 1 when reading or writing failed; 2 usage;
130 and 143 when a second SIGINT, or SIGTERM, ended it before the stream did.
Whether the sidecar could be told changes nothing. How the agent itself ended is for the shell: `set -o pipefail`.")]
pub struct PipeArgs {
    /// The agent's name; give each agent that runs at the same time its own
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub agent: String,
    /// Its project
    #[arg(long, value_name = "NAME", default_value = DEFAULT_PROJECT, value_parser = name)]
    pub project: String,
    /// What kind of agent it is [default: as its output shows]
    #[arg(long, value_name = "TYPE", value_parser = name)]
    pub r#type: Option<String>,
    /// What it works on [default: its session's id]
    #[arg(long, value_name = "ID", value_parser = name)]
    pub task: Option<String>,
    /// How its output is written
    #[arg(long, value_enum, default_value_t)]
    pub format: StreamFormat,
    /// What lines of text mean: a status, or requests, errors, rate_limited, retries (counted), or tokens.input (and
    /// output, cache_read, cache_creation, reasoning, total), cost_usd (of this run so far), model, task, phase,
    /// progress, where the first group is what is meant
    #[arg(long = "pattern", value_name = "KEY=REGEX", value_parser = Pattern::parse)]
    pub patterns: Vec<Pattern>,
    /// The run goes on with totals that an earlier run told of, as after `codex exec resume`
    #[arg(long)]
    pub resumed: bool,
    /// Say nothing when the sidecar can't be told
    #[arg(long, short)]
    pub quiet: bool,
    /// Whose `pipe.patterns` are used as well
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Which sidecar is told
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// How a stream is written, as an option says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StreamFormat {
    /// Whatever its first lines look like
    #[default]
    Auto,
    /// `claude -p --output-format stream-json --verbose`, or `json`
    ClaudeCode,
    /// `codex exec --json`
    Codex,
    /// `gemini -p --output-format stream-json`, or `json`
    GeminiCli,
    /// Anything, by patterns
    Text,
}

impl From<StreamFormat> for Format {
    fn from(format: StreamFormat) -> Self {
        match format {
            StreamFormat::Auto => Self::Auto,
            StreamFormat::ClaudeCode => Self::ClaudeCode,
            StreamFormat::Codex => Self::Codex,
            StreamFormat::GeminiCli => Self::GeminiCli,
            StreamFormat::Text => Self::Text,
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    let wrong = || "it must be 1 to 256 bytes of text without control characters".to_owned();
    is_name(text, 256).then(|| text.to_owned()).ok_or_else(wrong)
}

/// Copies until the stream ends, then waits a little for the last report.
pub(super) fn run(args: &PipeArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    args.reach.base(env)?;
    let signals = Signals::heed()?;
    let reader = Reader::new(args.format.into(), patterns(args, env), args.task.as_deref());
    let (keep, documents) = (reader.keep(), reader.reads_documents());
    let (seen, told) = watch::channel(Seen::new(&reader));
    let ending = Arc::new(OnceLock::new());

    let needs = Arc::new(OnceLock::new());
    let (mut lane, incoming, used) = Channels::new(Arc::clone(&needs));
    let understander =
        Understander { reader, seen: seen.clone(), used, needs, signals: signals.clone(), clock: Clock::system() };
    thread::Builder::new().name("understand".to_owned()).spawn({
        let ending = Arc::clone(&ending);
        move || understander.run(&incoming, &ending)
    })?;

    let (over, copier) = (Arc::new(AtomicBool::new(false)), thread::current());
    let is_told = Arc::clone(&over);
    let reporter = Reporter::new(args, env);
    thread::Builder::new().name("report".to_owned()).spawn(move || {
        if let Err(error) = super::wait(reporter.run(seen, told, signals)) {
            warn(&format!("lookout pipe: nothing is reported: {error:#}"));
        }
        over.store(true, Ordering::Release);
        copier.unpark();
    })?;

    let copied = copy::copy(Skimmer::new(keep, documents), &mut lane);
    // Set once, here.
    ending.get_or_init(|| *copied.as_ref().unwrap_or(&Ending::ReaderGone));
    drop(lane);
    let watch = Stopwatch::start();
    while !is_told.load(Ordering::Acquire)
        && let Some(left) = LAST_WORD.checked_sub(watch.elapsed())
    {
        thread::park_timeout(left);
    }
    copied.map(|_| ExitCode::SUCCESS)
}

/// The patterns of the command line, then those of the configuration. A configuration that is broken by now is no
/// reason to end an agent.
fn patterns(args: &PipeArgs, env: &Environment) -> Vec<Pattern> {
    let mut patterns = args.patterns.clone();
    let source = args.config.source(env);
    if source.file.is_some() {
        match source.load() {
            Ok(config) => patterns.extend(config.pipe.read().0),
            Err(error) => warn(&format!("lookout pipe: without the patterns of the configuration: {error}")),
        }
    }
    patterns
}

/// Reads what the agent says and shows what it means.
struct Understander {
    reader: Reader,
    seen: watch::Sender<Seen>,
    used: mpsc::SyncSender<Piece>,
    /// Which lines must be read, once the stream has shown how it is written.
    needs: Arc<OnceLock<Keep>>,
    signals: Signals,
    clock: Clock,
}

impl Understander {
    fn run(mut self, pieces: &mpsc::Receiver<Piece>, ending: &OnceLock<Ending>) {
        let mut open = None;
        loop {
            let piece = match open {
                Some(_) => pieces.recv_timeout(PAUSE),
                None => pieces.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match piece {
                Ok(Piece::Lines(lines)) => {
                    open = None;
                    for part in lines.parts() {
                        self.reader.lines(self.clock.wall(), part);
                    }
                    if self.needs.get().is_none() && self.reader.knows_format() {
                        self.needs.get_or_init(|| self.reader.keep());
                    }
                    self.show(false, true);
                    if lines.has_buffer() {
                        // There are enough of them when it finds no room.
                        drop(self.used.try_send(Piece::Lines(lines)));
                    }
                }
                Ok(Piece::Open(line)) => {
                    open = Some(line);
                    self.show(false, true);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.reader.open_line(&open.take().unwrap_or_default());
                    self.show(false, false);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let how = ending.get().copied().unwrap_or(Ending::Over);
        // A stream that says itself how it ended needs no other cause. Who reads it is reached by signals, too.
        let is_cut = !self.reader.state().status.is_over();
        let how = if is_cut && self.signals.ended_the_stream() { Ending::Interrupted } else { how };
        self.reader.finish(self.clock.wall(), how);
        self.show(true, false);
    }

    fn show(&self, is_over: bool, is_active: bool) {
        let at = is_active.then(|| self.clock.wall());
        self.seen.send_modify(|seen| seen.note(&self.reader, at, is_over));
    }
}

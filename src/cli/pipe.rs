//! `lookout pipe`: passes an agent's output through byte for byte and reports the agent's state and its runs to a
//! sidecar.
//!
//! Three threads, so that a slow sidecar never delays the agent's output: this one copies (`copy`), another one parses
//! ([`crate::cli::pipe::stream`]), a third one reports (`report`). Copying waits for parsing only where token counts
//! would be lost otherwise, and never for reporting, which always takes the latest state.

mod copy;
mod lane;
mod report;
mod runs;
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

use self::lane::LaneChannels;
use self::report::{RunSnapshot, StateReporter};
use self::runs::SharedTurns;
use self::signals::PipeSignals;
use self::stream::skim::{Keep, Piece, Skimmer};
use self::stream::{StreamEnding, StreamFormat, StreamReader};
use super::client::ReachArgs;
use super::{ConfigArgs, warn};
use crate::clock::{Clock, Stopwatch};
use crate::config::Environment;
use crate::config::pipe::Pattern;
use crate::model::DEFAULT_PROJECT;
use crate::text::is_name;

/// An unfinished line is parsed after a pause of this length.
const PAUSE: Duration = Duration::from_millis(100);
/// Timeout of the last report, after the end of the stream.
const LAST_REPORT: Duration = Duration::from_secs(2);

/// Arguments of `lookout pipe`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Example:
  claude -p --output-format stream-json --verbose '…' | lookout pipe --agent builder

Exit codes: 0 all output was passed through, or its reader closed the pipe; 1 reading or writing failed; 2 usage error;
130 and 143 stopped by a second SIGINT or by SIGTERM before the output ended. An unreachable sidecar does not change the
exit code. For the exit code of the agent itself, use the shell's `set -o pipefail`.")]
pub struct PipeArgs {
    /// Name of the agent; agents that run at the same time need different names
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub agent: String,
    /// Project of the agent
    #[arg(long, value_name = "NAME", default_value = DEFAULT_PROJECT, value_parser = name)]
    pub project: String,
    /// Type of the agent [default: detected from the output]
    #[arg(long, value_name = "TYPE", value_parser = name)]
    pub r#type: Option<String>,
    /// Task of the agent [default: its session id]
    #[arg(long, value_name = "ID", value_parser = name)]
    pub task: Option<String>,
    /// Format of the output
    #[arg(long, value_enum, default_value_t)]
    pub format: FormatOption,
    /// Pattern for lines of text (repeatable). KEY is a status (running, failed, …), a counter (requests, errors,
    /// rate_limited, retries), or a value taken from the first group: tokens.input, .output, .cache_read,
    /// .cache_creation, .reasoning, .total and cost_usd (totals of this run), model, task, phase, progress
    #[arg(long = "pattern", value_name = "KEY=REGEX", value_parser = Pattern::parse)]
    pub patterns: Vec<Pattern>,
    /// The run continues the totals of an earlier one, as after `codex exec resume`
    #[arg(long)]
    pub resumed: bool,
    /// Print no warning if the sidecar can't be reached
    #[arg(long, short)]
    pub quiet: bool,
    /// The configuration with more patterns, `pipe.patterns`
    #[command(flatten)]
    pub config: ConfigArgs,
    /// How to reach the sidecar
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatOption {
    /// Detect from the first lines
    #[default]
    Auto,
    /// `claude -p --output-format stream-json --verbose`, or `json`
    ClaudeCode,
    /// `codex exec --json`
    Codex,
    /// `gemini -p --output-format stream-json`, or `json`
    GeminiCli,
    /// Any text, by patterns
    Text,
}

impl From<FormatOption> for StreamFormat {
    fn from(format: FormatOption) -> Self {
        match format {
            FormatOption::Auto => Self::Auto,
            FormatOption::ClaudeCode => Self::ClaudeCode,
            FormatOption::Codex => Self::Codex,
            FormatOption::GeminiCli => Self::GeminiCli,
            FormatOption::Text => Self::Text,
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    let wrong = || "must be 1 to 256 bytes of text without control characters".to_owned();
    is_name(text, 256).then(|| text.to_owned()).ok_or_else(wrong)
}

/// Copies until the stream ends, then waits a short time for the last report.
pub(super) fn run(args: &PipeArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    args.reach.base(env)?;
    let signals = PipeSignals::install_handlers()?;
    let mut reader = StreamReader::new(args.format.into(), patterns(args, env), args.task.as_deref());
    reader.start(Clock::system().wall());
    let turns = SharedTurns::default();
    let (keep, documents) = (reader.keep(), reader.reads_documents());
    let (seen, latest) = watch::channel(RunSnapshot::new(&reader));
    let ending = Arc::new(OnceLock::new());

    let needs = Arc::new(OnceLock::new());
    let (mut lane, incoming, used) = LaneChannels::new(Arc::clone(&needs));
    let parser = StreamParser {
        reader,
        seen: seen.clone(),
        turns: turns.clone(),
        used,
        needs,
        signals: signals.clone(),
        clock: Clock::system(),
    };
    thread::Builder::new().name("parse".to_owned()).spawn({
        let ending = Arc::clone(&ending);
        move || parser.run(&incoming, &ending)
    })?;

    let (is_over, copier) = (Arc::new(AtomicBool::new(false)), thread::current());
    let is_reported = Arc::clone(&is_over);
    let reporter = StateReporter::new(args, env, turns);
    thread::Builder::new().name("report".to_owned()).spawn(move || {
        if let Err(error) = super::wait(reporter.run(seen, latest, signals)) {
            warn(&format!("lookout pipe: state is not reported: {error:#}"));
        }
        is_over.store(true, Ordering::Release);
        copier.unpark();
    })?;

    let copied = copy::copy(Skimmer::new(keep, documents), &mut lane);
    ending.get_or_init(|| *copied.as_ref().unwrap_or(&StreamEnding::ReaderGone));
    drop(lane);
    let watch = Stopwatch::start();
    while !is_reported.load(Ordering::Acquire)
        && let Some(left) = LAST_REPORT.checked_sub(watch.elapsed())
    {
        thread::park_timeout(left);
    }
    copied.map(|_| ExitCode::SUCCESS)
}

/// The patterns of the command line, then those of the configuration. An invalid configuration is only a warning, since
/// an error would end the agent.
fn patterns(args: &PipeArgs, env: &Environment) -> Vec<Pattern> {
    let mut patterns = args.patterns.clone();
    let source = args.config.source(env);
    if source.file.is_some() {
        match source.load() {
            Ok(config) => patterns.extend(config.pipe.read().0),
            Err(error) => warn(&format!("lookout pipe: patterns of the configuration are not used: {error}")),
        }
    }
    patterns
}

/// The thread that parses the output and publishes the state.
struct StreamParser {
    reader: StreamReader,
    seen: watch::Sender<RunSnapshot>,
    turns: SharedTurns,
    used: mpsc::SyncSender<Piece>,
    /// Which lines must be read; set once the format is known.
    needs: Arc<OnceLock<Keep>>,
    signals: PipeSignals,
    clock: Clock,
}

impl StreamParser {
    fn run(mut self, pieces: &mpsc::Receiver<Piece>, ending: &OnceLock<StreamEnding>) {
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
                        // If the queue is full, there are enough buffers already.
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
        let how = ending.get().copied().unwrap_or(StreamEnding::Over);
        // Signals explain the end only if the output itself does not.
        let is_cut = !self.reader.state().status.is_over();
        let how = if is_cut && self.signals.ended_the_stream() { StreamEnding::Interrupted } else { how };
        self.reader.finish(self.clock.wall(), how);
        self.show(true, false);
    }

    fn show(&mut self, is_over: bool, is_active: bool) {
        // Before the state, which wakes the reporter.
        self.turns.add(self.reader.take_turns());
        let at = is_active.then(|| self.clock.wall());
        self.seen.send_modify(|seen| seen.note(&self.reader, at, is_over));
    }
}

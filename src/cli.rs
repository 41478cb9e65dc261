//! The command line, one file per command: arguments, help, tables and exit codes (0 success, 1 failure or not healthy,
//! 2 usage error).
//!
//! `run` and `demo` start [`crate::app`]; commands about a running sidecar use its HTTP API only.

mod ack;
mod agent_runs;
mod agents;
mod alerts;
mod answer;
mod check;
mod client;
pub mod demo;
mod doctor;
mod export;
mod health;
mod ids;
mod logging;
pub mod pipe;
mod replay;
mod run;
mod runs_origin;
mod runs_view;
mod setup;
mod silence;
mod status;
mod table;
mod terminal;
mod test_export;
mod test_notify;
mod test_route;
pub mod test_rules;
mod token;
mod trace;
mod why;

use std::io::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use ack::AckArgs;
pub use agent_runs::{AgentCompareArgs, AgentShowArgs};
pub use agents::{AgentsArgs, AgentsCommand};
pub use alerts::AlertsArgs;
pub use check::CheckArgs;
pub use client::{ClientArgs, ReachArgs};
pub use demo::DemoArgs;
pub use doctor::DoctorArgs;
pub use export::ExportRulesArgs;
pub use health::HealthArgs;
pub use pipe::PipeArgs;
pub use replay::ReplayArgs;
pub use run::RunArgs;
pub use setup::SetupArgs;
pub use silence::SilenceArgs;
pub use status::StatusArgs;
pub use test_export::TestExportArgs;
pub use test_notify::TestNotifyArgs;
pub use test_route::TestRouteArgs;
pub use test_rules::TestRulesArgs;
pub use token::TokenArgs;
pub use trace::{TraceCleanArgs, TraceListArgs, TraceShowArgs, TraceTailArgs};
pub use why::WhyArgs;

use crate::config::{ConfigError, ConfigSource, Environment};

const EXAMPLES: &str = "\
Examples:
  lookout demo                            try it with a simulated fleet
  SLACK_WEBHOOK_URL=https://… lookout     run the sidecar, notify Slack
  lookout --config lookout.yaml           run the sidecar with a configuration file
  lookout check --config lookout.yaml     validate the file
  lookout setup claude-code --agent me    print the settings for Claude Code
  claude -p … | lookout pipe --agent me   report an agent's state from its output
  lookout status                          show an overview of the running sidecar
  lookout alerts --level critical --json  list critical alerts as JSON

Exit codes: 0 success, 1 failure, 2 usage error.";

/// Monitor a fleet of AI agents: serve metrics to Prometheus, notify people by Slack and e-mail
#[derive(Clone, Debug, Parser)]
#[command(name = "lookout", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The command; `run` when none is given.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Arguments of `run`, for when no command is given.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar (the default command)
    Run(RunArgs),
    /// Run the sidecar with a simulated fleet, whose problems fire and resolve within a minute
    Demo(DemoArgs),
    /// Validate the configuration and show who is notified of what
    Check(CheckArgs),
    /// Test receivers, exports, rules and routing
    #[command(subcommand)]
    Test(TestCommand),
    /// Replay recorded state with other rules and compare the notifications
    Replay(ReplayArgs),
    /// Export the rules for other programs
    #[command(subcommand)]
    Export(ExportCommand),
    /// Print the settings with which a tool reports its agents to this sidecar
    Setup(SetupArgs),
    /// Show which telemetry arrives from each agent, and what to fix
    Doctor(DoctorArgs),
    /// Show an overview: projects, components, sources, receivers
    Status(StatusArgs),
    /// List alerts: active ones first, then recently resolved ones
    Alerts(AlertsArgs),
    /// Explain an alert: its timeline, and who was notified or not and why
    Why(WhyArgs),
    /// Silence alerts for some time, list silences, or end one
    Silence(SilenceArgs),
    /// Acknowledge an alert: no repeats until it escalates
    Ack(AckArgs),
    /// List agents, those with problems first
    Agents(AgentsArgs),
    /// List and show runs of agents with their spans
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Pass an agent's output through unchanged and report its state to the sidecar
    Pipe(PipeArgs),
    /// Print the token that lookout made itself, to sign in from another machine
    Token(TokenArgs),
    /// Check whether the sidecar is ready, for health checks: exit code 0 or 1
    Health(HealthArgs),
}

/// The commands under `test`.
#[derive(Clone, Debug, Subcommand)]
pub enum TestCommand {
    /// Send a test notification to the receivers and show their answers
    Notify(TestNotifyArgs),
    /// Try each system that data leaves for, changing nothing there, and show what is wrong
    Export(TestExportArgs),
    /// Run unit tests of rules on a virtual clock: expected alerts, notifications and messages
    Rules(TestRulesArgs),
    /// Show which receivers an alert with these labels would notify, and why not the others
    Route(TestRouteArgs),
}

/// The commands under `trace`.
#[derive(Clone, Debug, Subcommand)]
pub enum TraceCommand {
    /// List runs, newest first
    Ls(TraceListArgs),
    /// Show a run with its spans as a waterfall
    Show(TraceShowArgs),
    /// Delete old runs and their spans; statistics stay
    Clean(TraceCleanArgs),
    /// Follow runs as they begin and end
    Tail(TraceTailArgs),
}

/// The commands under `export`.
#[derive(Clone, Debug, Subcommand)]
pub enum ExportCommand {
    /// Print the active rules as Prometheus alerting rules over lookout's metrics
    PrometheusRules(ExportRulesArgs),
}

/// Which configuration a command reads.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file, YAML or TOML [env: LOOKOUT_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigArgs {
    /// The file given here, else the one in `env`; with `env` on top.
    pub fn source(&self, env: &Environment) -> ConfigSource {
        let file = self.config.clone().or_else(|| env.get("LOOKOUT_CONFIG").map(PathBuf::from));
        ConfigSource { file, env: env.clone() }
    }
}

impl Cli {
    /// Runs the command; an error goes to standard error.
    pub fn execute(self, env: &Environment) -> ExitCode {
        let done = match self.command.unwrap_or(Command::Run(self.run)) {
            Command::Run(args) => run::run(&args, env),
            Command::Demo(args) => demo::run(&args, env),
            Command::Check(args) => check::run(&args, env),
            Command::Test(TestCommand::Notify(args)) => wait(test_notify::run(&args, env)),
            Command::Test(TestCommand::Export(args)) => wait(test_export::run(&args, env)),
            Command::Test(TestCommand::Rules(args)) => test_rules::run(&args),
            Command::Replay(args) => replay::run(&args, env),
            Command::Export(ExportCommand::PrometheusRules(args)) => export::run(&args, env),
            Command::Test(TestCommand::Route(args)) => test_route::run(&args, env),
            Command::Setup(args) => setup::run(&args, env),
            Command::Doctor(args) => wait(doctor::run(&args, env)),
            Command::Status(args) => wait(status::run(&args, env)),
            Command::Alerts(args) => wait(alerts::run(&args, env)),
            Command::Why(args) => wait(why::run(&args, env)),
            Command::Silence(args) => wait(silence::run(&args, env)),
            Command::Ack(args) => wait(ack::run(&args, env)),
            Command::Agents(args) => wait(agents::run(&args, env)),
            Command::Trace(TraceCommand::Ls(args)) => wait(trace::list_runs(&args, env)),
            Command::Trace(TraceCommand::Show(args)) => wait(trace::show(&args, env)),
            Command::Trace(TraceCommand::Clean(args)) => wait(trace::clean(&args, env)),
            Command::Trace(TraceCommand::Tail(args)) => wait(trace::tail(&args, env)),
            Command::Pipe(args) => pipe::run(&args, env),
            Command::Token(args) => token::run(&args, env),
            Command::Health(args) => wait(health::run(&args, env)),
        };
        done.unwrap_or_else(|error| {
            match error.downcast_ref::<ConfigError>() {
                Some(error) => check::report_problems(error),
                None => warn(&format!("error: {error:#}")),
            }
            ExitCode::FAILURE
        })
    }
}

/// The author of a silence or an acknowledgement: the one given, else `user@host`.
fn author(given: Option<&str>) -> String {
    given.map_or_else(default_author, str::to_owned)
}

fn default_author() -> String {
    let user =
        ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let user = user.or_else(|| rustix::process::getuid().is_root().then(|| "root".to_owned()));
    match (user, host_name()) {
        (Some(user), Some(host)) => format!("{user}@{host}"),
        (user, _) => user.unwrap_or_default(),
    }
}

/// The name of this machine, if it is known.
fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = crate::text::clean(name.trim(), 100).into_owned();
    (!name.is_empty()).then_some(name)
}

/// The nice value of helper threads: on a busy processor they get about a third of the event loop's share.
#[cfg(target_os = "linux")]
const HELPER_NICE: i32 = 5;

/// Runs an asynchronous command to its end.
fn wait<'a>(work: impl Future<Output = anyhow::Result<ExitCode>> + 'a) -> anyhow::Result<ExitCode> {
    // Boxed, so that the runtime is instantiated once and not for each command.
    wait_for(Box::pin(work))
}

fn wait_for(work: Pin<Box<dyn Future<Output = anyhow::Result<ExitCode>> + '_>>) -> anyhow::Result<ExitCode> {
    // Helper threads render pages and large answers; the event loop answers every push and must not wait for them.
    // On Linux nice values are per thread. Where lowering the priority fails, the thread keeps the normal one.
    let lower_priority = || {
        #[cfg(target_os = "linux")]
        rustix::process::nice(HELPER_NICE).unwrap_or_default();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_start(lower_priority).build()?;
    let done = runtime.block_on(work);
    // A read that hangs, such as of a pipe without a writer, must not delay the exit.
    runtime.shutdown_background();
    done
}

/// Writes a line to standard error; ignores that it may be closed.
fn warn(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests;

//! The command line: one file per command, and what they share.
//!
//! Owns arguments, help, tables and exit codes: 0 done, 1 failed or not healthy, 2 usage. Refuses to know how the
//! sidecar works: `run` and `demo` hand over to [`crate::app`], the others talk to a sidecar over its API.

mod ack;
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
mod setup;
mod silence;
mod status;
mod table;
mod terminal;
mod test_notify;
mod test_route;
pub mod test_rules;
mod why;

use std::io::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use ack::AckArgs;
pub use agents::AgentsArgs;
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
pub use test_notify::TestNotifyArgs;
pub use test_route::TestRouteArgs;
pub use test_rules::TestRulesArgs;
pub use why::WhyArgs;

use crate::config::{ConfigError, Environment, Source};

const EXAMPLES: &str = "\
Examples:
  lookout demo                            a simulated fleet, to see what it looks like
  SLACK_WEBHOOK_URL=https://… lookout     watch, and tell Slack
  lookout --config lookout.yaml           watch as the file says
  lookout check --config lookout.yaml     is the file valid?
  lookout test rules team.test.yaml       do the rules do what they should?
  claude -p … | lookout pipe --agent a    watch an agent by what it prints
  lookout setup claude-code --agent me    what to paste into Claude Code's settings
  lookout status                          ask the sidecar on this machine
  lookout alerts --level critical --json  for scripts";

/// Keeps watch over a fleet of AI agents: metrics for Prometheus, alerts to Slack and e-mail
#[derive(Clone, Debug, Parser)]
#[command(name = "lookout", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; run the sidecar when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Arguments of `run`, which need no `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar (what happens without a command)
    Run(RunArgs),
    /// Run the sidecar with a simulated fleet: problems appear, alert and resolve within a minute
    Demo(DemoArgs),
    /// Check the configuration, naming every problem at once
    Check(CheckArgs),
    /// Try things out before they matter
    #[command(subcommand)]
    Test(TestCommand),
    /// Play recorded state against other rules: what would have been told, and what was
    Replay(ReplayArgs),
    /// Say what is configured here in the language of another program
    #[command(subcommand)]
    Export(ExportCommand),
    /// Print what to paste into a tool's settings, so that its agents report here
    Setup(SetupArgs),
    /// Say which signals arrive from whom, what is taken from which, and what to change
    Doctor(DoctorArgs),
    /// Show the whole picture: projects, components, sources, receivers
    Status(StatusArgs),
    /// Show what is wrong now, then what was
    Alerts(AlertsArgs),
    /// Explain an alert: every decision about it, and why somebody was told or not
    Why(WhyArgs),
    /// Keep alerts quiet for a while, or list and end such silences
    Silence(SilenceArgs),
    /// Look after an alert: it is not said again until it gets worse
    Ack(AckArgs),
    /// Show every agent, the worst first
    Agents(AgentsArgs),
    /// Pass an agent's output on unchanged, and tell the sidecar what it says of the agent
    Pipe(PipeArgs),
    /// Ask whether the sidecar is ready: exit 0 or 1, for health checks
    Health(HealthArgs),
}

/// What can be tried out.
#[derive(Clone, Debug, Subcommand)]
pub enum TestCommand {
    /// Send a marked test to the receivers and show what they answer
    Notify(TestNotifyArgs),
    /// Run unit tests of rules on a virtual clock: expected alerts, notifications and messages
    Rules(TestRulesArgs),
    /// Show who would be told of an alert with these labels, and who would not, and why
    Route(TestRouteArgs),
}

/// What can be exported.
#[derive(Clone, Debug, Subcommand)]
pub enum ExportCommand {
    /// Print the rules in force as Prometheus alerting rules over lookout's metrics
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
    /// The file that is named here or in `env`, and `env`.
    pub fn source(&self, env: &Environment) -> Source {
        let file = self.config.clone().or_else(|| env.get("LOOKOUT_CONFIG").map(PathBuf::from));
        Source { file, env: env.clone() }
    }
}

impl Cli {
    /// Does what is asked; an error is told on standard error.
    pub fn execute(self, env: &Environment) -> ExitCode {
        let done = match self.command.unwrap_or(Command::Run(self.run)) {
            Command::Run(args) => run::run(&args, env),
            Command::Demo(args) => demo::run(&args, env),
            Command::Check(args) => check::run(&args, env),
            Command::Test(TestCommand::Notify(args)) => wait(test_notify::run(&args, env)),
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
            Command::Pipe(args) => pipe::run(&args, env),
            Command::Health(args) => wait(health::run(&args, env)),
        };
        done.unwrap_or_else(|error| {
            match error.downcast_ref::<ConfigError>() {
                Some(error) => check::refuse(error),
                None => warn(&format!("error: {error:#}")),
            }
            ExitCode::FAILURE
        })
    }
}

/// Who acts: as said, else the user of this machine.
fn who(said: Option<&str>) -> String {
    said.map_or_else(|| std::env::var("USER").unwrap_or_default(), str::to_owned)
}

/// How much less of a busy processor the threads beside the loop get, as a step of `nice`: a third of the loop's share.
#[cfg(target_os = "linux")]
const GIVES_WAY: i32 = 5;

/// Waits for what a command does over the network.
fn wait<'a>(work: impl Future<Output = anyhow::Result<ExitCode>> + 'a) -> anyhow::Result<ExitCode> {
    // One loop for all commands: one for each would be a good part of the program.
    wait_for(Box::pin(work))
}

fn wait_for(work: Pin<Box<dyn Future<Output = anyhow::Result<ExitCode>> + '_>>) -> anyhow::Result<ExitCode> {
    // Pages and answers are built on threads beside the loop, and whoever sends state waits for the loop. On Linux a
    // nice value belongs to a thread; elsewhere, or where it can't be set, the thread competes like any other.
    let give_way = || {
        #[cfg(target_os = "linux")]
        rustix::process::nice(GIVES_WAY).unwrap_or_default();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_start(give_way).build()?;
    let done = runtime.block_on(work);
    // A file that hangs keeps a thread of its own, for which nobody waits.
    runtime.shutdown_background();
    done
}

/// Writes a line to standard error; when that is closed, there is nobody left to tell.
fn warn(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

#[cfg(test)]
mod tests;

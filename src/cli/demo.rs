//! `lookout demo`: runs the sidecar with a simulated fleet.

mod drive;
mod script;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::client::DEFAULT_URL;
use super::terminal::print;
use super::{ConfigArgs, logging};
use crate::app::{self, RunOptions};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::ingest::config::SourceConfig;

/// Built-in rules with short windows, so that alerts fire and resolve within a minute.
const RULES: &str = include_str!("demo/rules.yaml");

/// Arguments of `lookout demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Number of simulated agents
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub agents: u32,
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Runs the sidecar and the simulated fleet until a signal stops them.
pub(super) fn run(args: &DemoArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let source = args.config.source(env);
    let env = env.clone();
    super::wait(async {
        let mut signals = app::Signals::install()?;
        let Some(config) = signals.unless_stopped(super::run::read(&source)).await else {
            return Ok(ExitCode::SUCCESS);
        };
        let config = config?;
        let page = TcpListener::bind("127.0.0.1:0").await?;
        let (orchestrator, has_file) = (orchestrator(page.local_addr()?)?, source.file.is_some());
        let adjust = move |config: &mut Config| {
            if !has_file {
                demo_defaults(config, &env);
            }
            config.sources.push(orchestrator.clone());
        };
        let set_log_level = {
            let mut adjusted = config.clone();
            adjust(&mut adjusted);
            logging::init(&adjusted.log)?
        };
        let world = drive::DemoWorld::new(Clock::system());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(world.clone().serve_page(page, stop.clone()));
        let (agents, driving) = (args.agents, stop.clone());
        let prints = config.receivers.is_empty();
        let options = RunOptions {
            record: None,
            adjust: Some(Arc::new(adjust)),
            set_log_level: Some(Box::new(set_log_level)),
            console: prints,
            rules: vec![("demo rules".to_owned(), RULES.to_owned())],
            started: Some(Box::new(move |address| {
                let url = format!("http://{address}");
                let program = std::env::args().next().unwrap_or_else(|| "lookout".to_owned());
                print(&welcome(&program, &url, agents, prints))?;
                tokio::spawn(world.drive(url, agents, driving));
                Ok(())
            })),
        };
        let done = app::serve(config, source, options, signals).await;
        stop.cancel();
        serving.await??;
        done?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Defaults for a demo without a configuration file: no store on disk, budgets for the story, few logs.
fn demo_defaults(config: &mut Config, env: &Environment) {
    if env.get("LOOKOUT_STORE__PATH").is_none() {
        config.store.path = None;
    }
    config.budgets.tokens_per_task.get_or_insert(200_000.into());
    config.budgets.tokens_per_day.get_or_insert(1_000_000_000.into());
    config.budgets.cost_usd_per_day.get_or_insert(1_000.0.into());
    if env.get("LOOKOUT_LOG__LEVEL").is_none() {
        // The story has failing polls; their warnings would stand between its lines.
        config.log.level = "error".to_owned();
    }
}

/// The configuration of the source that polls the simulated orchestrator.
fn orchestrator(page: SocketAddr) -> anyhow::Result<SourceConfig> {
    let url = format!("http://{page}/fleet");
    Ok(serde_json::from_value(serde_json::json!({
        "name": "orchestrator",
        "kind": "http-json",
        "url": url,
        "interval": "1s",
        "timeout": "1s",
        "fields": {
            "agents": "$.bots[*]", "name": "$.id", "status": "$.state", "last_activity": "$.seen",
            "restart_count": "$.restarts",
        },
        "status_map": {"busy": "running"},
    }))?)
}

/// The lines at start: addresses to open and commands to try, with `program` as it was started.
fn welcome(program: &str, url: &str, agents: u32, prints: bool) -> String {
    let reach = if url == DEFAULT_URL { String::new() } else { format!(" --url {url}") };
    let mut lines = vec![
        format!(
            "Monitoring a simulated fleet: {agents} agents that push their state, 1 that exports OpenTelemetry, 2 that are polled."
        ),
        "Try in another terminal:".to_owned(),
        format!("  {program} agents{reach}"),
        format!("  {program} alerts{reach}"),
        format!("  {program} status{reach}"),
        "Or open:".to_owned(),
        format!("  {url}/            the page: who needs you, alerts, runs"),
        format!("  {url}/metrics     what Prometheus scrapes"),
        format!("  {url}/api/status  the state of the fleet as JSON"),
    ];
    let notified = if prints {
        "No receiver is configured, so notifications are printed here, marked with ►."
    } else {
        "Notifications go to the configured receivers."
    };
    lines.push(format!("{notified} The story repeats every minute; stop it with Ctrl-C."));
    lines.join("\n") + "\n\n"
}

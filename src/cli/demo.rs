//! `lookout demo`: the sidecar with a simulated fleet.

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
use crate::app::{self, Extras};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::ingest::config::SourceConfig;

/// Rules with windows so short that a minute shows their end.
const RULES: &str = include_str!("demo/rules.yaml");

/// Arguments of `lookout demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How many agents are simulated
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub agents: u32,
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Runs the sidecar and the fleet until it is told to stop.
pub(super) fn run(args: &DemoArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let source = args.config.source(env);
    let env = env.clone();
    super::wait(async {
        let mut signals = app::Signals::install()?;
        let Some(config) = signals.unless_ended(super::run::read(&source)).await else { return Ok(ExitCode::SUCCESS) };
        let config = config?;
        let page = TcpListener::bind("127.0.0.1:0").await?;
        let (polled, has_file) = (polled(page.local_addr()?)?, source.file.is_some());
        let adjust = move |config: &mut Config| {
            if !has_file {
                demo_defaults(config, &env);
            }
            config.sources.push(polled.clone());
        };
        let set_log_level = {
            let mut adjusted = config.clone();
            adjust(&mut adjusted);
            logging::init(&adjusted.log)?
        };
        let world = drive::World::new(Clock::system());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(world.clone().serve_page(page, stop.clone()));
        let (agents, driving) = (args.agents, stop.clone());
        let prints = config.receivers.is_empty();
        let extras = Extras {
            record: None,
            adjust: Some(Arc::new(adjust)),
            set_log_level: Some(Box::new(set_log_level)),
            console: prints,
            rules: vec![("demo rules".to_owned(), RULES.to_owned())],
            started: Some(Box::new(move |address| {
                let url = format!("http://{address}");
                let program = std::env::args().next().unwrap_or_else(|| "lookout".to_owned());
                for line in welcome(&program, &url, agents, prints) {
                    print(&line)?;
                }
                tokio::spawn(world.drive(url, agents, driving));
                Ok(())
            })),
        };
        let done = app::serve(config, source, extras, signals).await;
        stop.cancel();
        serving.await??;
        done?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What makes the story visible without a configuration of one's own: nothing is left on disk, and there are budgets.
fn demo_defaults(config: &mut Config, env: &Environment) {
    if env.get("LOOKOUT_STORE__PATH").is_none() {
        config.store.path = None;
    }
    config.budgets.tokens_per_task.get_or_insert(200_000.into());
    config.budgets.tokens_per_day.get_or_insert(1_000_000_000.into());
    config.budgets.cost_usd_per_day.get_or_insert(1_000.0.into());
    if env.get("LOOKOUT_LOG__LEVEL").is_none() {
        config.log.level = "warn".to_owned();
    }
}

/// The source that polls the simulated orchestrator.
fn polled(page: SocketAddr) -> anyhow::Result<SourceConfig> {
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

/// What to open and what to ask, by the name by which `program` was started.
fn welcome(program: &str, url: &str, agents: u32, prints: bool) -> Vec<String> {
    let reach = if url == DEFAULT_URL { String::new() } else { format!(" --url {url}") };
    let mut lines = vec![
        format!(
            "lookout watches {agents} simulated agents that report, one that exports OpenTelemetry, and two that are polled."
        ),
        "Open, or ask in another terminal:".to_owned(),
        format!("  {url}/metrics       what Prometheus scrapes"),
        format!("  {url}/api/status    the whole picture as JSON"),
        format!("  {program} agents{reach}"),
        format!("  {program} alerts{reach}"),
    ];
    if prints {
        lines.push("No receiver is configured, so notifications are printed here. Ctrl-C stops.".to_owned());
    }
    lines
}

//! `lookout test export`: tries each system that data leaves for, by the same code as exports, and changes nothing there.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::ConfigArgs;
use super::answer::count;
use super::terminal::print;
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::store::shared_registry::SharedRegistry;
use crate::text::clean;

/// Longest line about one target, in bytes.
const MAX_LINE: usize = 2_000;
/// The shared registry's name among the targets.
const REGISTRY: &str = "registry.mysql";

/// Arguments of `lookout test export`.
#[derive(Args, Clone, Debug)]
pub struct TestExportArgs {
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Try this one only: otlp, clickhouse or registry.mysql
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
}

/// What trying one target came to.
pub(super) struct TargetTrial {
    pub(super) target: String,
    /// What it takes, else what is wrong and the remedy.
    pub(super) outcome: Result<String, String>,
}

impl TargetTrial {
    /// In one line, without secrets.
    pub(super) fn line(&self) -> String {
        let line = match &self.outcome {
            Ok(what) => format!("{}: {what}", self.target),
            Err(error) => format!("{}: failed: {error}", self.target),
        };
        // The line may quote the target's answer.
        clean(&line, MAX_LINE).into_owned()
    }
}

/// Tries, and prints a line for each target and signal; fails if one fails.
pub(super) async fn run(args: &TestExportArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    let known = names(&config);
    match &args.target {
        _ if known.is_empty() => bail!("nothing is exported; add `export` or `registry` to the file of --config"),
        Some(name) if !known.contains(&&**name) => {
            bail!("no target is named `{name}`; configured: {}", known.join(", "))
        }
        _ => {}
    }
    let trials = try_targets(&config, args.target.as_deref()).await?;
    for trial in &trials {
        print(&trial.line())?;
    }
    let failed = trials.iter().filter(|trial| trial.outcome.is_err()).count();
    if failed > 0 {
        bail!("{failed} of {} failed", count(trials.len(), "trial"));
    }
    Ok(ExitCode::SUCCESS)
}

fn names(config: &Config) -> Vec<&'static str> {
    let configured = [
        ("otlp", config.export.otlp.is_some()),
        ("clickhouse", config.export.clickhouse.is_some()),
        (REGISTRY, config.registry.mysql.is_some()),
    ];
    configured.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
}

/// Tries all targets of a configuration, or the one of this name.
pub(super) async fn try_targets(config: &Config, only: Option<&str>) -> anyhow::Result<Vec<TargetTrial>> {
    let now = Clock::system().wall();
    let is_meant = |name: &str| only.is_none_or(|only| only == name);
    let mut trials = Vec::new();
    for target in config.export.targets()?.iter().filter(|target| is_meant(target.name)) {
        for signal in &target.signals {
            let outcome = target.transport.probe(now, *signal).await;
            let target = format!("{} {} ({})", target.name, signal.as_str(), target.address);
            trials.push(TargetTrial { target, outcome });
        }
    }
    if let Some(mysql) = config.registry.mysql.as_ref().filter(|_| is_meant(REGISTRY)) {
        let outcome = SharedRegistry::probe(mysql).await.map_err(|error| error.to_string());
        trials.push(TargetTrial { target: REGISTRY.to_owned(), outcome });
    }
    Ok(trials)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lookout.yaml");
        std::fs::write(&path, text).expect("a file");
        crate::config::ConfigSource { file: Some(path), env: Environment::default() }.load().expect("valid")
    }

    #[tokio::test]
    async fn each_target_is_tried_and_shown_without_secrets() {
        let config = config(
            "export:\n  otlp: {endpoint: 'http://u:S3CRET@127.0.0.1:1/otlp', signals: [traces, logs]}\n  clickhouse: {url: \
             'http://127.0.0.1:1', password: S3CRET}\nregistry: {mysql: {url: 'mysql://u:S3CRET@127.0.0.1:1/platform'}}\n",
        );
        assert_eq!(names(&config), ["otlp", "clickhouse", "registry.mysql"]);
        let trials = try_targets(&config, None).await.expect("tried");
        let lines: Vec<String> = trials.iter().map(TargetTrial::line).collect();
        for (line, parts) in lines.iter().zip([
            ["otlp traces (http://***@127.0.0.1:1/otlp): failed: ", "check endpoint, and whether it runs"],
            ["otlp logs (", "can't be reached"],
            [
                "clickhouse traces (http://127.0.0.1:1): failed: ClickHouse at 127.0.0.1",
                "check url, and whether it runs",
            ],
            ["registry.mysql: failed: no connection", "check host and port in registry.mysql.url"],
        ]) {
            assert!(parts.iter().all(|part| line.contains(part)) && !line.contains("S3CRET"), "{line}");
        }
        assert_eq!(lines.len(), 4);
        assert_eq!(try_targets(&config, Some("otlp")).await.expect("tried").len(), 2);
    }
}

//! `lookout run`: runs the sidecar.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, logging};
use crate::app;
use crate::config::{Config, ConfigSource, Environment};

/// Arguments of `lookout run`.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Record all input for `lookout replay`; overrides record.path
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Runs the sidecar until a signal stops it.
pub(super) fn run(args: &RunArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let source = args.config.source(env);
    super::wait(async {
        // Before anything else, so that a signal during the reading of the configuration is a clean stop.
        let mut signals = app::Signals::install()?;
        let Some(config) = signals.unless_stopped(read(&source)).await else { return Ok(ExitCode::SUCCESS) };
        let config = config?;
        let set_log_level = logging::init(&config.log)?;
        let options = app::RunOptions {
            record: args.record.clone(),
            set_log_level: Some(Box::new(set_log_level)),
            ..app::RunOptions::default()
        };
        app::serve(config, source, options, signals).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Reads the configuration on another thread, since its file may be a pipe with a slow writer.
pub(super) async fn read(source: &ConfigSource) -> anyhow::Result<Config> {
    let source = source.clone();
    Ok(tokio::task::spawn_blocking(move || source.load()).await??)
}

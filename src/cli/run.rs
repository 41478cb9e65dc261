//! `lookout run`: the sidecar.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{ConfigArgs, logging};
use crate::app;
use crate::config::Environment;

/// Arguments of `lookout run`.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// Which configuration
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Record what comes in, for `lookout replay`; in place of the key record.path
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Runs the sidecar until it is told to stop.
pub(super) fn run(args: &RunArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let source = args.config.source(env);
    let config = source.load()?;
    logging::init(&config.log)?;
    let extras = app::Extras { record: args.record.clone(), ..app::Extras::default() };
    super::wait(async {
        app::serve(config, source, extras).await?;
        Ok(ExitCode::SUCCESS)
    })
}

//! `lookout run`: the sidecar.

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
}

/// Runs the sidecar until it is told to stop.
pub(super) fn run(args: &RunArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let source = args.config.source(env);
    let config = source.load()?;
    logging::init(&config.log)?;
    super::wait(async {
        app::serve(config, source, app::Extras::default()).await?;
        Ok(ExitCode::SUCCESS)
    })
}

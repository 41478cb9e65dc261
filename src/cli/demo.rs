//! `lookout demo`: the sidecar with a simulated fleet.

use clap::Args;

use super::ConfigArgs;

/// Arguments of `lookout demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How many agents are simulated
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub agents: u32,
    /// Which configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Runs the sidecar and the fleet until it is told to stop.
pub(super) fn run(args: &DemoArgs, env: &crate::config::Environment) -> anyhow::Result<std::process::ExitCode> {
    let _ = (args.agents, args.config.source(env));
    anyhow::bail!("the simulated fleet is not there yet")
}

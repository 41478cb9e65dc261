//! `lookout check`: is this configuration valid, what is in force, and who is told of what?

use std::process::ExitCode;

use clap::Args;

use super::answer::count;
use super::terminal::{Look, print};
use super::{ConfigArgs, warn};
use crate::config::{Config, ConfigError, Environment};
use crate::notify::Receiver;

mod receivers;

/// Arguments of `lookout check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Which configuration
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the effective configuration as YAML, secrets masked
    #[arg(long)]
    pub print: bool,
}

/// Checks; all problems go to standard error, one a line.
pub(super) fn run(args: &CheckArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    match args.config.source(env).load() {
        Ok(config) if args.print => {
            print(&config.print())?;
            warn(&summary(&config));
            Ok(ExitCode::SUCCESS)
        }
        Ok(config) => {
            print(&summary(&config))?;
            let receivers = Receiver::build(&config.receivers).unwrap_or_default();
            print(&format!("\n{}", receivers::show(&receivers, &config.rule_set()?, Look::of_stdout())))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            refuse(&error);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Tells all that is wrong with a configuration on standard error.
pub(super) fn refuse(error: &ConfigError) {
    warn(&format!("{error}\nconfiguration is not valid: {}", count(error.problems.len(), "problem")));
}

fn summary(config: &Config) -> String {
    let parts = [
        count(config.sources.len(), "source"),
        count(config.receivers.len(), "receiver"),
        count(config.rule_set().map_or(0, |rules| rules.len()), "rule"),
    ];
    format!("configuration is valid: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts() {
        let rules = Config::default().rule_set().expect("built-in rules").len();
        let expected = format!("configuration is valid: 0 sources, 0 receivers, {rules} rules");
        assert_eq!(summary(&Config::default()), expected);
    }
}

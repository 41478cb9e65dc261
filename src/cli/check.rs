//! `lookout check`: is this configuration valid, what is in force, and who is told of what?

use std::process::ExitCode;

use clap::Args;

use super::answer::count;
use super::terminal::{Look, print};
use super::{ConfigArgs, warn};
use crate::config::{Config, ConfigError, Environment, Origin, Problem};
use crate::notify::{ConfigProblem, Receiver};
use crate::server::Access;

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
    match load(args, env) {
        Ok((config, _)) if args.print => {
            print(&config.print())?;
            warn(&summary(&config));
            Ok(ExitCode::SUCCESS)
        }
        Ok((config, receivers)) => {
            print(&summary(&config))?;
            print(&format!("\n{}", receivers::show(&receivers, &config.rule_set()?, Look::of_stdout())))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            refuse(&error);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The configuration and its receivers, which need files that only they read.
fn load(args: &CheckArgs, env: &Environment) -> Result<(Config, Vec<Receiver>), ConfigError> {
    let config = args.config.source(env).load()?;
    let receivers = Receiver::build(&config.receivers).map_err(|problems| {
        let problem = |it: ConfigProblem| Problem { origin: Origin::Unsaid, key: it.path, message: it.message };
        ConfigError { problems: problems.into_iter().map(problem).collect() }
    })?;
    Access::new(&config, config.listen.0)?;
    Ok((config, receivers))
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
    fn a_receiver_that_would_not_start_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lookout.yaml");
        let email = "{to: [a@example.com], from: b@example.com, smtp: {host: h, ca_file: /nowhere/ca.pem}}";
        std::fs::write(&path, format!("receivers: [{{name: m, email: {email}}}]")).expect("a file");
        let args = CheckArgs { config: ConfigArgs { config: Some(path) }, print: false };
        let error = load(&args, &Environment::default()).expect_err("there is no such file").to_string();
        assert!(error.starts_with("receivers[0].email.smtp.ca_file: ") && error.contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn the_summary_counts() {
        let rules = Config::default().rule_set().expect("built-in rules").len();
        let expected = format!("configuration is valid: 0 sources, 0 receivers, {rules} rules");
        assert_eq!(summary(&Config::default()), expected);
    }
}

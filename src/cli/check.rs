//! `lookout check`: validates the configuration and shows which receiver gets which alerts.

use std::process::ExitCode;

use clap::Args;

use super::answer::count;
use super::terminal::{OutputStyle, print};
use super::{ConfigArgs, warn};
use crate::app;
use crate::config::{ConfigError, Environment, Prepared};

mod exports;
mod receivers;

/// Arguments of `lookout check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the effective configuration as YAML, with secrets masked
    #[arg(long)]
    pub print: bool,
}

/// Validates; all problems go to standard error, one per line.
pub(super) fn run(args: &CheckArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    match load(args, env) {
        Ok(prepared) if args.print => {
            print(&prepared.config.print())?;
            warn(&summary(&prepared));
            Ok(ExitCode::SUCCESS)
        }
        Ok(prepared) => {
            print(&summary(&prepared))?;
            let style = OutputStyle::of_stdout();
            print(&format!("\n{}", receivers::show(&prepared.receivers, &prepared.rules, style)))?;
            // Files of certificates were read before.
            if let Some(exports) = exports::show(&prepared.config.export.targets()?, style) {
                print(&format!("\n{exports}"))?;
            }
            exports::notes(&prepared.config).iter().for_each(|note| warn(note));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            report_problems(&error);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The configuration, with everything built from it that a start needs.
fn load(args: &CheckArgs, env: &Environment) -> Result<Prepared, ConfigError> {
    let source = args.config.source(env);
    app::try_config(source.load()?).map_err(|error| error.found_in(source.file.as_deref()))
}

/// Writes all problems of a configuration to standard error.
pub(super) fn report_problems(error: &ConfigError) {
    warn(&format!("{error}\nconfiguration is not valid: {}", count(error.problems.len(), "problem")));
}

fn summary(prepared: &Prepared) -> String {
    let parts = [
        count(prepared.config.sources.len(), "source"),
        count(prepared.config.receivers.len(), "receiver"),
        count(prepared.rules.len(), "rule"),
    ];
    format!("configuration is valid: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_can_not_start_is_a_problem() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lookout.yaml");
        let email = "{to: [a@example.com], from: b@example.com, smtp: {host: h, ca_file: /nowhere/ca.pem}}";
        std::fs::write(&path, format!("receivers: [{{name: m, email: {email}}}]")).expect("a file");
        let args = CheckArgs { config: ConfigArgs { config: Some(path) }, print: false };
        let error = load(&args, &Environment::default()).expect_err("there is no such file").to_string();
        let file = args.config.config.as_ref().expect("a file").display();
        assert!(error.starts_with(&format!("{file}: receivers[0].email.smtp.ca_file: ")), "{error}");
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }

    fn load_default() -> Prepared {
        let env = [("LOOKOUT_LISTEN", "127.0.0.1:0"), ("LOOKOUT_STORE__PATH", "null")].into_iter().collect();
        load(&CheckArgs { config: ConfigArgs::default(), print: false }, &env).expect("it is valid")
    }

    #[test]
    fn a_missing_or_empty_token_file_is_a_problem() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, token) = (dir.path().join("lookout.yaml"), dir.path().join("token"));
        let auth = format!("auth: {{tokens: [{{name: a, role: admin, token_file: {}}}]}}", token.display());
        std::fs::write(&path, auth).expect("a file");
        let args = CheckArgs { config: ConfigArgs { config: Some(path) }, print: false };
        let check = || load(&args, &Environment::default()).map_err(|error| error.to_string());
        for (text, part) in [(None, "No such file"), (Some("\n"), "the file is empty")] {
            text.into_iter().for_each(|text| std::fs::write(&token, text).expect("a file"));
            let error = check().expect_err(part);
            let named = format!("{}: auth.tokens[0].token_file: ", dir.path().join("lookout.yaml").display());
            assert!(error.starts_with(&named) && error.contains(part), "{error}");
            assert!(error.contains(&token.display().to_string()), "{error}");
        }
        std::fs::write(&token, "s3cret\n").expect("a file");
        check().expect("a token");
    }

    #[test]
    fn the_summary_counts_sources_receivers_and_rules() {
        let prepared = load_default();
        let expected = format!("configuration is valid: 0 sources, 0 receivers, {} rules", prepared.rules.len());
        assert_eq!(summary(&prepared), expected);
    }
}

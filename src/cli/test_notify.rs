//! `lookout test notify`: sends a test notification by the same code as real ones.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::ConfigArgs;
use super::answer::count;
use super::host_name;
use super::terminal::print;
use crate::config::{Config, Environment};
use crate::notify::config::ReceiverConfig;
use crate::notify::deliver_test;

/// Arguments of `lookout test notify`.
#[derive(Args, Clone, Debug)]
pub struct TestNotifyArgs {
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Send to this receiver only
    #[arg(long, value_name = "NAME")]
    pub receiver: Option<String>,
}

/// Sends, and prints each receiver's answer; fails if one delivery failed.
pub(super) async fn run(args: &TestNotifyArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    let receivers = chosen(&config, args.receiver.as_deref())?;
    let host = host_name().unwrap_or_else(|| "this host".to_owned());
    let mut failed = 0;
    for receiver in &receivers {
        let name = &receiver.common.name;
        let line = match deliver_test(receiver, &host).await {
            Ok(None) => format!("{name}: delivered"),
            Ok(Some(warning)) => format!("{name}: delivered, but {warning}"),
            Err(reason) => {
                failed += 1;
                format!("{name}: failed: {reason}")
            }
        };
        // The line may quote the receiver's answer.
        print(&crate::text::clean(&line, MAX_LINE))?;
    }
    if failed > 0 {
        bail!("test notification failed for {failed} of {}", count(receivers.len(), "receiver"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Longest line about one receiver, in bytes.
const MAX_LINE: usize = 2_000;

fn chosen<'c>(config: &'c Config, name: Option<&str>) -> anyhow::Result<Vec<&'c ReceiverConfig>> {
    let names = || config.receivers.iter().map(|receiver| receiver.common.name.as_str()).collect::<Vec<_>>().join(", ");
    let chosen: Vec<_> =
        config.receivers.iter().filter(|one| name.is_none_or(|name| one.common.name == name)).collect();
    match name {
        _ if config.receivers.is_empty() => {
            bail!("no receiver is configured; set SLACK_WEBHOOK_URL, or add `receivers` to the file of --config")
        }
        Some(name) if chosen.is_empty() => bail!("no receiver is named `{name}`; configured: {}", names()),
        _ => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_selected_by_name() {
        let env: Environment = [
            ("SLACK_WEBHOOK_URL", "http://127.0.0.1:1/"),
            ("SMTP_HOST", "127.0.0.1"),
            ("ALERT_EMAIL_TO", "a@b.example"),
        ]
        .into_iter()
        .collect();
        let config = crate::config::ConfigSource { file: None, env }.load().expect("valid");
        assert_eq!(chosen(&config, None).expect("both").len(), 2);
        assert_eq!(chosen(&config, Some("email")).expect("one")[0].common.name, "email");
        assert_eq!(
            chosen(&config, Some("mail")).expect_err("none").to_string(),
            "no receiver is named `mail`; configured: slack, email"
        );
        assert!(chosen(&Config::default(), None).is_err());
    }
}

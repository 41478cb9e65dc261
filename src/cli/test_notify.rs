//! `lookout test notify`: a marked test through the real delivery path.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;

use super::ConfigArgs;
use super::answer::count;
use super::terminal::print;
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::notify::config::ReceiverConfig;
use crate::notify::{Receiver, test_notice};

/// Arguments of `lookout test notify`.
#[derive(Args, Clone, Debug)]
pub struct TestNotifyArgs {
    /// Which configuration
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only this receiver
    #[arg(long, value_name = "NAME")]
    pub receiver: Option<String>,
}

/// Sends, and prints what each receiver answered; fails when one of them did not take it.
pub(super) async fn run(args: &TestNotifyArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    let receivers = chosen(&config, args.receiver.as_deref())?;
    let mut failed = 0;
    for receiver in &receivers {
        let name = &receiver.common.name;
        let line = match deliver(receiver).await {
            Ok(None) => format!("{name}: delivered"),
            Ok(Some(amiss)) => format!("{name}: delivered, but {amiss}"),
            Err(reason) => {
                failed += 1;
                format!("{name}: failed: {reason}")
            }
        };
        // It may quote what the receiver answered.
        print(&crate::text::clean(&line, MAX_LINE))?;
    }
    if failed > 0 {
        bail!("{} of {} did not take the test", failed, count(receivers.len(), "receiver"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Longest line about one receiver, in bytes.
const MAX_LINE: usize = 2_000;

/// Sends a marked test to one receiver; what went wrong beside its taking it. The error is what it answered, or why it
/// could not be reached.
async fn deliver(receiver: &ReceiverConfig) -> Result<Option<String>, String> {
    let built = Receiver::build(std::slice::from_ref(receiver))
        .map_err(|problems| problems.into_iter().map(|it| it.message).collect::<Vec<_>>().join("; "))?;
    let now = Clock::system().now();
    let mut amiss = None;
    for receiver in built {
        let notice = Arc::new(test_notice(&receiver, now, &host()));
        let receipt =
            receiver.send(now, &[notice]).await.map_err(|error| format!("{} ({error})", error.reason.as_str()))?;
        amiss = receipt.amiss.map(|error| error.message);
    }
    Ok(amiss)
}

/// The name of this machine, as far as it is known.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = crate::text::clean(name.trim(), 100).into_owned();
    if name.is_empty() { "this host".to_owned() } else { name }
}

fn chosen<'c>(config: &'c Config, name: Option<&str>) -> anyhow::Result<Vec<&'c ReceiverConfig>> {
    let names = || config.receivers.iter().map(|receiver| receiver.common.name.as_str()).collect::<Vec<_>>().join(", ");
    let chosen: Vec<_> =
        config.receivers.iter().filter(|one| name.is_none_or(|name| one.common.name == name)).collect();
    match name {
        _ if config.receivers.is_empty() => {
            bail!("no receiver is configured; set SLACK_WEBHOOK_URL, or receivers in the file of --config")
        }
        Some(name) if chosen.is_empty() => bail!("no receiver is named `{name}`; there are {}", names()),
        _ => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_chosen_by_name() {
        let env: Environment = [
            ("SLACK_WEBHOOK_URL", "http://127.0.0.1:1/"),
            ("SMTP_HOST", "127.0.0.1"),
            ("ALERT_EMAIL_TO", "a@b.example"),
        ]
        .into_iter()
        .collect();
        let config = crate::config::Source { file: None, env }.load().expect("valid");
        assert_eq!(chosen(&config, None).expect("both").len(), 2);
        assert_eq!(chosen(&config, Some("email")).expect("one")[0].common.name, "email");
        assert_eq!(
            chosen(&config, Some("mail")).expect_err("none").to_string(),
            "no receiver is named `mail`; there are slack, email"
        );
        assert!(chosen(&Config::default(), None).is_err());
    }
}

//! `lookout why`: what was decided about an alert, and why.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::answer::{list, parse, text};
use super::client::{Client, ClientArgs};
use super::ids;
use super::terminal::{Colour, Look, print, print_answer};
use crate::config::Environment;

/// Arguments of `lookout why`.
#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// Which alert: its ID, as `lookout alerts` shows it, or its first digits
    #[arg(value_name = "ID")]
    pub fingerprint: String,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Prints the timeline, then how things stand.
pub(super) async fn run(args: &WhyArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.client, env)?;
    let id = ids::alert(&client, &args.fingerprint).await?;
    let answer = client.get(&format!("/api/alerts/{id}/why"), &[]).await?;
    if args.client.json {
        print_answer(&answer)?;
    } else {
        print(&render(&parse(&answer)?, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(answer: &Value, look: Look) -> String {
    let mut out = String::new();
    if let Some(alert) = answer.get("alert").filter(|alert| !alert.is_null()) {
        let subject = super::alerts::subject(alert);
        let (level, state) = (text(alert, "level"), text(alert, "state"));
        let headline = format!("{} of {subject}: {level}, {state}", text(alert, "rule"));
        out.push_str(&format!("{}\n{}\n\n", look.paint(Colour::of_severity(level), &headline), text(alert, "message")));
    }
    let mut version = "";
    for entry in list(answer, "timeline") {
        let now = text(entry, "rule_version");
        if !now.is_empty() && now != version {
            let said = if version.is_empty() { "rule version" } else { "the rule was changed: version" };
            out.push_str(&look.paint(Some(Colour::Dim), &format!("{said} {now}\n")));
            version = now;
        }
        out.push_str(&format!("{}  {}\n", text(entry, "at"), text(entry, "text")));
    }
    let receivers = list(answer, "receivers");
    if !receivers.is_empty() {
        out.push_str("\nnow\n");
    }
    for receiver in receivers {
        out.push_str(&format!("  {}: {}\n", text(receiver, "receiver"), text(receiver, "text")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_like_an_explanation() {
        let answer = serde_json::json!({
            "alert": {"rule": "AgentIdle", "project": "shop", "agent_name": "worker-1", "level": "warning", "state": "firing", "message": "worker-1 has been idle for 7m"},
            "timeline": [
                {"at": "2026-11-21T02:00:00Z", "rule_version": "0badcafe", "text": "fires at warning: 400 against the threshold 300"},
                {"at": "2026-11-21T02:00:01Z", "rule_version": "", "text": "ops took the message"},
                {"at": "2026-11-21T03:00:00Z", "rule_version": "0badf00d", "text": "rose from warning to error"},
            ],
            "receivers": [{"receiver": "ops", "text": "everything was told; it is said again at 2026-11-21T06:00:00Z"}],
        });
        insta::assert_snapshot!(render(&answer, Look { width: None, colours: false }), @"
        AgentIdle of shop/worker-1: warning, firing
        worker-1 has been idle for 7m

        rule version 0badcafe
        2026-11-21T02:00:00Z  fires at warning: 400 against the threshold 300
        2026-11-21T02:00:01Z  ops took the message
        the rule was changed: version 0badf00d
        2026-11-21T03:00:00Z  rose from warning to error

        now
          ops: everything was told; it is said again at 2026-11-21T06:00:00Z
        ");
        assert_eq!(render(&serde_json::json!({}), Look { width: None, colours: false }), "");
    }
}

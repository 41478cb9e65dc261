//! `lookout why`: the timeline of an alert, and what each receiver was notified of.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::answer::{ago, count, list, parse, text, time, to_second};
use super::client::{Client, ClientArgs};
use super::ids;
use super::terminal::{Colour, OutputStyle, print, print_answer};
use crate::clock::Clock;
use crate::config::Environment;
use crate::model::Time;

/// Arguments of `lookout why`.
#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// ID of the alert, or its first digits, as shown by `lookout alerts`
    #[arg(value_name = "ID")]
    pub fingerprint: String,
    /// Show earlier firings of the alert as well
    #[arg(long)]
    pub all: bool,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Prints the alert, its timeline, and the state of each receiver.
pub(super) async fn run(args: &WhyArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.client, env)?;
    let id = ids::alert(&client, &args.fingerprint).await?;
    let answer = client.get(&format!("/api/alerts/{id}/why"), &[]).await?;
    if args.client.json {
        print_answer(&answer)?;
    } else {
        print(&render(&parse(&answer)?, args.all, Clock::system().now(), OutputStyle::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(answer: &Value, all: bool, now: Time, style: OutputStyle) -> String {
    let mut out = String::new();
    let mut id = "ID";
    if let Some(alert) = answer.get("alert").filter(|alert| !alert.is_null()) {
        let subject = super::alerts::subject(alert);
        let (level, state) = (text(alert, "level"), text(alert, "state"));
        let key = if state == "resolved" { "resolved_at" } else { "fired_at" };
        let time = time(alert, key).or_else(|| time(alert, "started_at"));
        let how_long = time.map(|time| format!(" for {}", ago(now, Some(time)))).unwrap_or_default();
        let headline = format!("{} on {subject}: {level}, {state}{how_long}", text(alert, "rule"));
        out.push_str(&format!("{}\n{}\n", style.paint(Colour::of_severity(level), &headline), text(alert, "message")));
        let action = text(alert, "action");
        if !action.is_empty() && state != "resolved" {
            out.push_str(&format!("{action}\n"));
        }
        out.push('\n');
        id = text(alert, "fingerprint");
    }
    let timeline = list(answer, "timeline");
    let firings = firings(timeline);
    let first = if all { 0 } else { firings.last().copied().unwrap_or(0) };
    if first > 0 {
        let earlier = count(firings.len() - 1, "earlier firing");
        out.push_str(&style.paint(Some(Colour::Dim), &format!("{earlier}; `lookout why {id} --all` shows all\n")));
    }
    let mut version = "";
    for (place, entry) in timeline.iter().enumerate().skip(first) {
        if place > first && firings.contains(&place) {
            out.push('\n');
        }
        let current = text(entry, "rule_version");
        if !current.is_empty() && current != version {
            if !version.is_empty() {
                out.push_str(&style.paint(Some(Colour::Dim), &format!("the rule changed, version {current}\n")));
            }
            version = current;
        }
        let at = time(entry, "at").map_or_else(|| text(entry, "at").to_owned(), to_second);
        out.push_str(&format!("{at}  {}\n", text(entry, "text")));
    }
    let receivers = list(answer, "receivers");
    if !receivers.is_empty() {
        out.push_str("\nreceivers now:\n");
    }
    for receiver in receivers {
        out.push_str(&format!("  {}: {}\n", text(receiver, "receiver"), text(receiver, "text")));
    }
    out
}

/// Where each firing begins in the timeline: at the start, and at the first entry after a resolve that is not about its
/// delivery.
fn firings(timeline: &[Value]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut is_open = false;
    for (place, entry) in timeline.iter().enumerate() {
        match text(entry, "event") {
            "resolved" => is_open = false,
            "pending" | "firing" if !is_open => {
                starts.push(place);
                is_open = true;
            }
            _ => {}
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_firing_is_explained_and_earlier_ones_on_request() {
        let answer = serde_json::json!({
            "alert": {"fingerprint": "0123456789abcdef", "rule": "AgentIdle", "project": "shop", "agent_name": "worker-1", "level": "warning", "state": "firing", "fired_at": "2026-11-21T02:00:00.5Z", "message": "shop/worker-1: no activity for 7m (limit 5m)", "action": "Check its terminal."},
            "timeline": [
                {"at": "2026-11-21T01:00:00Z", "event": "firing", "rule_version": "0badcafe", "text": "firing at warning"},
                {"at": "2026-11-21T01:01:00Z", "event": "resolved", "rule_version": "0badcafe", "text": "resolved"},
                {"at": "2026-11-21T01:01:00.123Z", "event": "delivered", "rule_version": "", "text": "delivered to ops"},
                {"at": "2026-11-21T02:00:00.5Z", "event": "firing", "rule_version": "0badcafe", "text": "firing at warning"},
                {"at": "2026-11-21T02:00:01Z", "event": "delivered", "rule_version": "", "text": "delivered to ops"},
                {"at": "2026-11-21T03:00:00Z", "event": "level", "rule_version": "0badf00d", "text": "escalated from warning to error"},
            ],
            "receivers": [{"receiver": "ops", "text": "notified; repeats at 2026-11-21T06:00:00Z"}],
        });
        let now = Time::parse("2026-11-21T03:10:00Z").expect("a time");
        let style = OutputStyle { width: None, colours: false };
        insta::assert_snapshot!(render(&answer, false, now, style), @"
        AgentIdle on shop/worker-1: warning, firing for 1h9m
        shop/worker-1: no activity for 7m (limit 5m)
        Check its terminal.

        1 earlier firing; `lookout why 0123456789abcdef --all` shows all
        2026-11-21T02:00:00Z  firing at warning
        2026-11-21T02:00:01Z  delivered to ops
        the rule changed, version 0badf00d
        2026-11-21T03:00:00Z  escalated from warning to error

        receivers now:
          ops: notified; repeats at 2026-11-21T06:00:00Z
        ");
        insta::assert_snapshot!(render(&answer, true, now, style), @"
        AgentIdle on shop/worker-1: warning, firing for 1h9m
        shop/worker-1: no activity for 7m (limit 5m)
        Check its terminal.

        2026-11-21T01:00:00Z  firing at warning
        2026-11-21T01:01:00Z  resolved
        2026-11-21T01:01:00Z  delivered to ops

        2026-11-21T02:00:00Z  firing at warning
        2026-11-21T02:00:01Z  delivered to ops
        the rule changed, version 0badf00d
        2026-11-21T03:00:00Z  escalated from warning to error

        receivers now:
          ops: notified; repeats at 2026-11-21T06:00:00Z
        ");
        assert_eq!(render(&serde_json::json!({}), false, now, style), "");
    }
}

//! `lookout alerts`: a table of active alerts, then of recently resolved ones.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::answer::{ago, count, flag, list, number, parse, short_id, text, time, wider};
use super::client::{Client, ClientArgs};
use super::table::{Cell, Table, TableColumn};
use super::terminal::{Colour, OutputStyle, print, print_answer};
use crate::clock::Clock;
use crate::config::Environment;
use crate::model::{Level, Time};

/// Resolved alerts shown unless the arguments ask for more.
const RECENTLY_RESOLVED: usize = 10;

/// Arguments of `lookout alerts`.
#[derive(Args, Clone, Debug)]
pub struct AlertsArgs {
    /// Show only alerts of this level
    #[arg(long, value_name = "LEVEL", value_parser = Level::ALL.map(Level::as_str))]
    pub level: Option<String>,
    /// Show only alerts in this state
    #[arg(long, value_name = "STATE", value_parser = ["pending", "firing", "resolved"])]
    pub state: Option<String>,
    /// Show only alerts of this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Show only alerts about agents that work on this task, and resolved ones that fired while they did
    #[arg(long, value_name = "ID")]
    pub task: Option<String>,
    /// Show only alerts of this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Show at most N alerts [default: 50, of which 10 resolved]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

impl AlertsArgs {
    fn query(&self) -> Vec<(&'static str, String)> {
        let limit = self.limit.map(|limit| limit.to_string());
        [
            ("level", &self.level),
            ("state", &self.state),
            ("agent", &self.agent),
            ("rule", &self.rule),
            ("task", &self.task),
            ("limit", &limit),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
    }
}

/// Prints the alerts.
pub(super) async fn run(args: &AlertsArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.client, env)?.get("/api/alerts", &args.query()).await?;
    if args.client.json {
        print_answer(&answer)?;
    } else {
        print(&render(&parse(&answer)?, args, Clock::system().now(), OutputStyle::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(answer: &Value, args: &AlertsArgs, now: Time, style: OutputStyle) -> String {
    let alerts = list(answer, "alerts");
    if alerts.is_empty() {
        let is_filtered = args.query().iter().any(|(name, _)| *name != "limit");
        return if is_filtered { "no alert matches the filter\n" } else { "no alerts\n" }.to_owned();
    }
    let mut table = Table::new([
        TableColumn::word("LEVEL"),
        TableColumn::word("STATE"),
        TableColumn::text("SUBJECT"),
        TableColumn::text("RULE"),
        TableColumn::number("FOR"),
        TableColumn::word("ID"),
        TableColumn::text("MESSAGE").optional(),
    ]);
    let (resolved, active): (Vec<&Value>, Vec<&Value>) = alerts.iter().partition(|alert| is_resolved(alert));
    let shows_all = args.limit.is_some() || args.state.is_some();
    let shown = if shows_all { resolved.len() } else { resolved.len().min(RECENTLY_RESOLVED) };
    for alert in active.iter().chain(resolved.iter().take(shown)) {
        let level = text(alert, "level");
        let colour = if is_resolved(alert) { Some(Colour::Dim) } else { Colour::of_severity(level) };
        let since = if is_resolved(alert) { ["resolved_at", "timestamp"] } else { ["fired_at", "started_at"] };
        table.push([
            Cell::new(level, colour),
            state(alert).into(),
            subject(alert).into(),
            text(alert, "rule").into(),
            ago(now, since.into_iter().find_map(|key| time(alert, key))).into(),
            short_id(text(alert, "fingerprint")).into(),
            text(alert, "message").into(),
        ]);
    }
    let mut out = format!("{}\n{}", table.render(style), count(active.len(), "active alert"));
    let total = number(answer, "total").unwrap_or(0.0).max(alerts.len() as f64);
    let hidden = total - (active.len() + shown) as f64;
    if hidden > 0.0 {
        out.push_str(&format!(", {shown} resolved shown; {hidden} more with --limit {total}"));
    } else {
        out.push_str(&format!(", {shown} resolved"));
    }
    out.push_str(&wider(&table.left_out(style)));
    out.push_str("\n`lookout why ID` explains an alert\n");
    out
}

fn is_resolved(alert: &Value) -> bool {
    flag(alert, "resolved") == Some(true) || text(alert, "state") == "resolved"
}

/// The state, and why notifications are suppressed; for a firing alert, the cause stands in place of `firing`.
fn state(alert: &Value) -> String {
    let state = text(alert, "state");
    if is_resolved(alert) {
        return state.to_owned();
    }
    let causes = [("silenced_by", "silenced"), ("acked_by", "acked"), ("inhibited_by", "inhibited")];
    let suppressed: Vec<&str> =
        causes.into_iter().filter(|(key, _)| !text(alert, key).is_empty()).map(|(_, word)| word).collect();
    let no_data = (flag(alert, "no_data") == Some(true)).then_some("no data");
    let shows_state = suppressed.is_empty() || state != "firing";
    let parts = shows_state.then_some(state).into_iter().chain(suppressed).chain(no_data);
    parts.collect::<Vec<_>>().join(", ")
}

/// `shop/worker-1`: the project and the agent, component or source.
pub(super) fn subject(alert: &Value) -> String {
    let who = ["agent_name", "component", "source", "receiver", "sidecar"].map(|key| text(alert, key));
    let parts = std::iter::once(text(alert, "project")).chain(who);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: &Value, width: usize) -> String {
        let now = Time::parse("2026-11-21T02:10:00Z").expect("time");
        render(answer, &args(), now, OutputStyle { width: Some(width), colours: false })
    }

    fn args() -> AlertsArgs {
        AlertsArgs {
            level: None,
            state: None,
            agent: None,
            rule: None,
            task: None,
            limit: None,
            client: ClientArgs::default(),
        }
    }

    fn answer() -> Value {
        serde_json::json!({"total": 134, "alerts": [
            {"fingerprint": "f6e28e9b19801295", "level": "error", "state": "resolved", "resolved": true, "project": "shop", "agent_name": "worker-9", "rule": "AgentIdle", "started_at": "2026-11-21T01:00:00Z", "resolved_at": "2026-11-21T02:08:00Z", "message": "worker-9 has been idle for 11m"},
            {"level": "critical", "state": "firing", "project": "shop", "rule": "AgentsDown", "started_at": "2026-11-21T01:00:00Z", "fired_at": "2026-11-21T02:05:00Z", "message": "3 agents are down: grand_boss, worker-1, worker-2", "silenced_by": "s-1"},
            {"level": "warning", "state": "firing", "project": "shop", "component": "DatabaseManager", "rule": "ComponentStatus", "fired_at": "2026-11-21T02:09:30Z", "message": "DatabaseManager is WARNING: pool is full", "no_data": true},
            {"level": "info", "state": "pending", "source": "orchestrator", "rule": "SourceDown", "started_at": "2026-11-20T02:09:30Z"}
        ]})
    }

    #[test]
    fn active_alerts_come_first() {
        insta::assert_snapshot!(shown(&answer(), 120), @"
        LEVEL     STATE            SUBJECT               RULE             FOR  ID        MESSAGE
        critical  silenced         shop                  AgentsDown        5m            3 agents are down: grand_boss, worker-…
        warning   firing, no data  shop/DatabaseManager  ComponentStatus  30s            DatabaseManager is WARNING: pool is fu…
        info      pending          orchestrator          SourceDown        1d
        error     resolved         shop/worker-9         AgentIdle         2m  f6e28e9b  worker-9 has been idle for 11m

        3 active alerts, 1 resolved shown; 130 more with --limit 134
        `lookout why ID` explains an alert
        ");
    }

    #[test]
    fn a_narrow_terminal_shows_no_messages() {
        insta::assert_snapshot!(shown(&answer(), 80), @"
        LEVEL     STATE            SUBJECT               RULE             FOR  ID
        critical  silenced         shop                  AgentsDown        5m
        warning   firing, no data  shop/DatabaseManager  ComponentStatus  30s
        info      pending          orchestrator          SourceDown        1d
        error     resolved         shop/worker-9         AgentIdle         2m  f6e28e9b

        3 active alerts, 1 resolved shown; 130 more with --limit 134 (a wider terminal also shows MESSAGE)
        `lookout why ID` explains an alert
        ");
    }

    #[test]
    fn an_empty_list_is_a_sentence() {
        assert_eq!(shown(&serde_json::json!({"alerts": [], "total": 0}), 80), "no alerts\n");
        assert_eq!(shown(&serde_json::json!({"alerts": "?"}), 80), "no alerts\n");
        assert!(shown(&serde_json::json!({"alerts": [null, 3]}), 80).contains("2 active alerts"));
    }

    #[test]
    fn filters_become_the_query() {
        let args =
            AlertsArgs { level: Some("error".to_owned()), agent: Some("a&b".to_owned()), limit: Some(5), ..args() };
        let expected =
            [("level", "error"), ("agent", "a&b"), ("limit", "5")].map(|(name, value)| (name, value.to_owned()));
        assert_eq!(args.query(), expected);
    }
}

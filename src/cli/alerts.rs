//! `lookout alerts`: what is wrong now, then what was.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::answer::{ago, count, flag, list, number, parse, text, time};
use super::client::{Client, ClientArgs};
use super::table::{Cell, Column, Table};
use super::terminal::{Colour, Look, print, print_answer};
use crate::clock::Clock;
use crate::config::Environment;
use crate::model::{Level, Time};

/// Arguments of `lookout alerts`.
#[derive(Args, Clone, Debug)]
pub struct AlertsArgs {
    /// Only alerts of this level
    #[arg(long, value_name = "LEVEL", value_parser = Level::ALL.map(Level::as_str))]
    pub level: Option<String>,
    /// Only alerts in this state
    #[arg(long, value_name = "STATE", value_parser = ["pending", "firing", "resolved"])]
    pub state: Option<String>,
    /// Only alerts about this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Only alerts of this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// At most so many
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
        let filtered = args.query().iter().any(|(name, _)| *name != "limit");
        print(&render(&parse(&answer)?, filtered, Clock::system().now(), Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(answer: &Value, filtered: bool, now: Time, look: Look) -> String {
    let alerts = list(answer, "alerts");
    if alerts.is_empty() {
        return if filtered { "no alert matches\n" } else { "no alerts\n" }.to_owned();
    }
    let mut table = Table::new([
        Column::word("LEVEL"),
        Column::word("STATE"),
        Column::text("SUBJECT"),
        Column::text("RULE"),
        Column::number("SINCE"),
        Column::word("ID"),
        Column::text("MESSAGE"),
    ]);
    let (over, active): (Vec<&Value>, Vec<&Value>) = alerts.iter().partition(|alert| is_over(alert));
    for alert in active.iter().chain(&over) {
        let level = text(alert, "level");
        let colour = if is_over(alert) { Some(Colour::Dim) } else { Colour::of_severity(level) };
        let since = if is_over(alert) { ["resolved_at", "timestamp"] } else { ["fired_at", "started_at"] };
        table.push([
            Cell::new(level, colour),
            state(alert).into(),
            subject(alert).into(),
            text(alert, "rule").into(),
            ago(now, since.into_iter().find_map(|key| time(alert, key))).into(),
            text(alert, "fingerprint").into(),
            text(alert, "message").into(),
        ]);
    }
    let mut out = format!("{}\n{} active, {} over", table.render(look), active.len(), over.len());
    let total = number(answer, "total").unwrap_or(0.0);
    if total > alerts.len() as f64 {
        out.push_str(&format!("; {} of {total} shown, --limit shows more", count(alerts.len(), "alert")));
    }
    out.push('\n');
    out
}

fn is_over(alert: &Value) -> bool {
    flag(alert, "resolved") == Some(true) || text(alert, "state") == "resolved"
}

/// Its state, and why nobody is told, if so.
fn state(alert: &Value) -> String {
    let mut state = text(alert, "state").to_owned();
    if is_over(alert) {
        return state;
    }
    for (key, word) in [("silenced_by", "silenced"), ("acked_by", "acked"), ("inhibited_by", "inhibited")] {
        if !text(alert, key).is_empty() {
            state.push_str(", ");
            state.push_str(word);
        }
    }
    if flag(alert, "no_data") == Some(true) {
        state.push_str(", no data");
    }
    state
}

/// `shop/worker-1`: the project and who in it.
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
        render(answer, false, now, Look { width: Some(width), colours: false })
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
    fn active_ones_come_first() {
        insta::assert_snapshot!(shown(&answer(), 120), @"
        LEVEL     STATE             SUBJECT               RULE             SINCE  ID                MESSAGE
        critical  firing, silenced  shop                  AgentsDown          5m                    3 agents are down: grand_bo…
        warning   firing, no data   shop/DatabaseManager  ComponentStatus    30s                    DatabaseManager is WARNING:…
        info      pending           orchestrator          SourceDown          1d
        error     resolved          shop/worker-9         AgentIdle           2m  f6e28e9b19801295  worker-9 has been idle for…

        3 active, 1 over; 4 alerts of 134 shown, --limit shows more
        ");
    }

    #[test]
    fn a_narrow_terminal_cuts_text() {
        insta::assert_snapshot!(shown(&answer(), 80), @"
        LEVEL     STATE             SUBJECT   RULE      SINCE  ID                MESSAGE
        critical  firing, silenced  shop      AgentsD…     5m                    3 agen…
        warning   firing, no data   shop/Da…  Compone…    30s                    Databa…
        info      pending           orchest…  SourceD…     1d
        error     resolved          shop/wo…  AgentId…     2m  f6e28e9b19801295  worker…

        3 active, 1 over; 4 alerts of 134 shown, --limit shows more
        ");
    }

    #[test]
    fn nothing_is_said_in_words() {
        assert_eq!(shown(&serde_json::json!({"alerts": [], "total": 0}), 80), "no alerts\n");
        assert_eq!(shown(&serde_json::json!({"alerts": "?"}), 80), "no alerts\n");
        assert!(shown(&serde_json::json!({"alerts": [null, 3]}), 80).contains("2 active"));
    }

    #[test]
    fn filters_become_the_query() {
        let args = AlertsArgs {
            level: Some("error".to_owned()),
            state: None,
            agent: Some("a&b".to_owned()),
            rule: None,
            limit: Some(5),
            client: ClientArgs::default(),
        };
        let expected =
            [("level", "error"), ("agent", "a&b"), ("limit", "5")].map(|(name, value)| (name, value.to_owned()));
        assert_eq!(args.query(), expected);
    }
}

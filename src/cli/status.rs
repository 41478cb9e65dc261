//! `lookout status`: an overview of projects, unhealthy components, sources and receivers.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::answer::{
    NO_AGENTS, NO_RECEIVERS, count, dollars, flag, list, number, parse, progress, relative, seconds, short, text, time,
};
use super::client::{Client, ClientArgs};
use super::table::{Cell, Table, TableColumn};
use super::terminal::{Colour, OutputStyle, print, print_answer};
use crate::clock::Clock;
use crate::config::Environment;
use crate::model::{AgentStatus, Time};

/// Agents at work that are listed.
const MAX_TASKS: usize = 10;

/// Arguments of `lookout status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Prints the overview.
pub(super) async fn run(args: &StatusArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.client, env)?;
    let answer = client.get("/api/status", &[]).await?;
    if args.client.json {
        print_answer(&answer)?;
    } else {
        print(&render(&parse(&answer)?, &client.address(), Clock::system().now(), OutputStyle::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(answer: &Value, address: &str, now: Time, style: OutputStyle) -> String {
    let mut parts = vec![summary(answer, address, style)];
    parts.extend([
        projects(answer, style),
        tasks(answer, style),
        components(answer, style),
        sources(answer, now, style),
        receivers(answer, style),
        exports(answer, style),
    ]);
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn summary(answer: &Value, address: &str, style: OutputStyle) -> String {
    let health = text(answer, "health");
    let mut first = vec![format!("lookout at {address}")];
    if !health.is_empty() {
        first.push(style.paint(Colour::of_severity(health), health));
    }
    if flag(answer, "monitoring") == Some(false) {
        first.push(style.paint(Some(Colour::Warn), "monitoring stopped"));
    }
    if let Some(unresolved) = number(answer, "unresolved_alerts") {
        let colour = (unresolved > 0.0).then_some(Colour::Warn);
        first.push(style.paint(colour, &count(unresolved as usize, "active alert")));
    }
    let metrics = answer.get("last_metrics").unwrap_or(&Value::Null);
    // Unknown is not zero: without any token count the sum is left out.
    let types = metrics.get("tokens").and_then(Value::as_object).into_iter().flatten();
    let total = types.filter_map(|(_, count)| count.as_f64()).reduce(|sum, count| sum + count);
    let facts = [
        number(metrics, "total_agents").map(|total| count(total as usize, "agent")),
        number(metrics, "running_agents").map(|up| format!("{up} up")),
        number(metrics, "idle_agents").map(|idle| format!("{idle} idle")),
        number(metrics, "unhealthy_agents").map(|unhealthy| format!("{unhealthy} unhealthy")),
        total.map(|tokens| format!("{} tokens", short(Some(tokens)))),
        number(metrics, "cost_usd").map(|cost| dollars(Some(cost))),
    ];
    let second: Vec<String> = facts.into_iter().flatten().collect();
    let mut out = format!("{}\n", first.join(" · "));
    if !second.is_empty() {
        out.push_str(&format!("{}\n", second.join(" · ")));
    }
    out
}

fn projects(answer: &Value, style: OutputStyle) -> String {
    let projects = list(answer, "projects");
    if projects.is_empty() {
        return format!("{NO_AGENTS}\n");
    }
    let mut table = Table::new([
        TableColumn::text("PROJECT"),
        TableColumn::word("HEALTH"),
        TableColumn::number("AGENTS"),
        TableColumn::number("UP"),
        TableColumn::text("STATUS").optional(),
    ]);
    for project in projects {
        let agents = list(project, "agents");
        let up = agents.iter().filter(|agent| flag(agent, "up") == Some(true)).count();
        let missing =
            agents.iter().any(|agent| flag(agent, "up") == Some(false) && flag(agent, "expected") == Some(true));
        let health = text(project, "health");
        let by_status: Vec<String> = AgentStatus::ALL
            .into_iter()
            .filter_map(|status| {
                let count = agents.iter().filter(|agent| text(agent, "status") == status.as_str()).count();
                (count > 0).then(|| format!("{count} {}", status.as_str()))
            })
            .collect();
        table.push([
            text(project, "name").into(),
            Cell::new(health, Colour::of_severity(health)),
            agents.len().to_string().into(),
            Cell::new(up.to_string(), missing.then_some(Colour::Bad)),
            by_status.join(", ").into(),
        ]);
    }
    table.render(style)
}

/// Agents at work on a task or a run, and how far each is; the nearest to its end first.
fn tasks(answer: &Value, style: OutputStyle) -> String {
    let mut working: Vec<(f64, [String; 3])> = Vec::new();
    for project in list(answer, "projects") {
        for agent in list(project, "agents").iter().filter(|agent| flag(agent, "up") == Some(true)) {
            let shown = progress(agent);
            if text(agent, "task_id").is_empty() && shown == "–" {
                continue;
            }
            let estimated = agent.get("progress_estimate").and_then(|estimate| number(estimate, "progress"));
            let percent = number(agent, "progress").or(estimated).unwrap_or(-1.0);
            let name = format!("{}/{}", text(project, "name"), text(agent, "name"));
            working.push((percent, [name, text(agent, "task_id").to_owned(), shown]));
        }
    }
    if working.is_empty() {
        return String::new();
    }
    working.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    let mut table = Table::new([TableColumn::text("AGENT"), TableColumn::text("TASK"), TableColumn::text("PROGRESS")]);
    for (_, [name, task, shown]) in working.iter().take(MAX_TASKS).cloned() {
        table.push([name.into(), task.into(), shown.into()]);
    }
    let more = working.len().saturating_sub(MAX_TASKS);
    let more = if more > 0 { format!("{more} more in `lookout agents`\n") } else { String::new() };
    format!("{}{more}", table.render(style))
}

/// Components that are not OK.
fn components(answer: &Value, style: OutputStyle) -> String {
    let mut table = Table::new([
        TableColumn::text("PROJECT"),
        TableColumn::text("COMPONENT"),
        TableColumn::word("STATUS"),
        TableColumn::text("DETAILS").optional(),
    ]);
    let mut any = false;
    for project in list(answer, "projects") {
        for component in list(project, "components").iter().filter(|component| text(component, "status") != "OK") {
            any = true;
            let status = text(component, "status");
            table.push([
                text(project, "name").into(),
                text(component, "name").into(),
                Cell::new(status, Colour::of_severity(status)),
                text(component, "details").into(),
            ]);
        }
    }
    if any { table.render(style) } else { String::new() }
}

fn sources(answer: &Value, now: Time, style: OutputStyle) -> String {
    let sources = list(answer, "sources");
    if sources.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        TableColumn::text("SOURCE"),
        TableColumn::text("KIND"),
        TableColumn::word("STATE"),
        TableColumn::number("LAST SUCCESS"),
        TableColumn::text("LAST ERROR").optional(),
    ]);
    for source in sources {
        let state = match flag(source, "up") {
            Some(true) => Cell::new("up", Some(Colour::Good)),
            Some(false) => Cell::new("down", Some(Colour::Bad)),
            None => "unknown".into(),
        };
        let success = match relative(now, time(source, "last_success")) {
            age if age.is_empty() => "never".to_owned(),
            age => age,
        };
        table.push([
            text(source, "name").into(),
            text(source, "kind").into(),
            state,
            success.into(),
            error_of(source).into(),
        ]);
    }
    table.render(style)
}

fn receivers(answer: &Value, style: OutputStyle) -> String {
    let receivers = list(answer, "receivers");
    if receivers.is_empty() {
        return format!("{NO_RECEIVERS}\n");
    }
    let mut table = Table::new([
        TableColumn::text("RECEIVER"),
        TableColumn::number("PENDING"),
        TableColumn::number("OLDEST").optional(),
        TableColumn::text("LAST ERROR").optional(),
    ]);
    for receiver in receivers {
        let pending = number(receiver, "pending").unwrap_or(0.0);
        let oldest = number(receiver, "oldest_age_seconds").filter(|_| pending > 0.0);
        table.push([
            text(receiver, "name").into(),
            short(Some(pending)).into(),
            seconds(oldest).into(),
            Cell::new(error_of(receiver), Some(Colour::Bad)),
        ]);
    }
    table.render(style)
}

/// Where telemetry goes on to; empty without an export.
fn exports(answer: &Value, style: OutputStyle) -> String {
    let exports = list(answer, "exports");
    if exports.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        TableColumn::text("EXPORT"),
        TableColumn::text("SIGNAL"),
        TableColumn::number("SENT"),
        TableColumn::number("PENDING"),
        TableColumn::number("OLDEST").optional(),
        TableColumn::text("LAST ERROR").optional(),
    ]);
    for export in exports {
        let pending = number(export, "pending").unwrap_or(0.0);
        table.push([
            text(export, "name").into(),
            text(export, "signal").into(),
            short(number(export, "sent")).into(),
            short(Some(pending)).into(),
            seconds(number(export, "oldest_age_seconds").filter(|_| pending > 0.0)).into(),
            Cell::new(error_of(export), Some(Colour::Bad)),
        ]);
    }
    table.render(style)
}

/// The last error; the answer has it as a text, or as an object with a reason.
fn error_of(value: &Value) -> String {
    match value.get("last_error") {
        Some(Value::String(error)) => error.clone(),
        Some(Value::Object(error)) => {
            let parts = ["reason", "message", "detail"].into_iter().filter_map(|key| error.get(key)?.as_str());
            parts.collect::<Vec<_>>().join(": ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: &Value, width: usize) -> String {
        let now = Time::parse("2026-11-21T02:10:00Z").expect("time");
        render(answer, "http://127.0.0.1:9797", now, OutputStyle { width: Some(width), colours: false })
    }

    fn answer() -> Value {
        serde_json::json!({
            "monitoring": false, "health": "WARNING", "total_alerts": 12, "unresolved_alerts": 1,
            "last_metrics": {"total_agents": 3, "running_agents": 2, "idle_agents": 0, "unhealthy_agents": 1, "tokens": {"input": 1_200_000, "output": 34_000}, "cost_usd": 3.4},
            "projects": [
                {"name": "shop", "health": "WARNING",
                 "agents": [{"name": "a", "status": "running", "up": true}, {"name": "b", "status": "running", "up": true}, {"name": "c", "status": "failed", "up": false, "expected": true}],
                 "components": [{"name": "DatabaseManager", "status": "WARNING", "details": "pool is full: 10 of 10 connections are in use"}, {"name": "Cache", "status": "OK"}]},
                {"name": "lab", "health": "OK", "agents": []}],
            "sources": [
                {"name": "orchestrator", "kind": "orchestrator-cc", "up": false, "last_success": "2026-11-21T02:05:00Z", "last_error": "connection refused"},
                {"name": "flows", "kind": "http-json", "up": null}],
            "receivers": [
                {"name": "slack", "pending": 2, "oldest_age_seconds": 75.3, "last_error": "429: try again in 30s"},
                {"name": "email", "pending": 0, "oldest_age_seconds": 0}],
            "exports": [
                {"name": "otlp", "signal": "traces", "sent": 1200, "pending": 17, "oldest_age_seconds": 330, "last_error": "collector answered 503"}]})
    }

    #[test]
    fn everything_is_shown() {
        insta::assert_snapshot!(shown(&answer(), 120), @"
        lookout at http://127.0.0.1:9797 · WARNING · monitoring stopped · 1 active alert
        3 agents · 2 up · 0 idle · 1 unhealthy · 1.2M tokens · $3.40

        PROJECT  HEALTH   AGENTS  UP  STATUS
        shop     WARNING       3   2  2 running, 1 failed
        lab      OK            0   0

        PROJECT  COMPONENT        STATUS   DETAILS
        shop     DatabaseManager  WARNING  pool is full: 10 of 10 connections are in use

        SOURCE        KIND             STATE    LAST SUCCESS  LAST ERROR
        orchestrator  orchestrator-cc  down           5m ago  connection refused
        flows         http-json        unknown         never

        RECEIVER  PENDING  OLDEST  LAST ERROR
        slack           2   1m15s  429: try again in 30s
        email           0

        EXPORT  SIGNAL  SENT  PENDING  OLDEST  LAST ERROR
        otlp    traces  1.2k       17   5m30s  collector answered 503
        ");
    }

    #[test]
    fn everything_fits_a_narrow_terminal() {
        insta::assert_snapshot!(shown(&answer(), 80), @"
        lookout at http://127.0.0.1:9797 · WARNING · monitoring stopped · 1 active alert
        3 agents · 2 up · 0 idle · 1 unhealthy · 1.2M tokens · $3.40

        PROJECT  HEALTH   AGENTS  UP  STATUS
        shop     WARNING       3   2  2 running, 1 failed
        lab      OK            0   0

        PROJECT  COMPONENT        STATUS   DETAILS
        shop     DatabaseManager  WARNING  pool is full: 10 of 10 connections are in use

        SOURCE        KIND             STATE    LAST SUCCESS  LAST ERROR
        orchestrator  orchestrator-cc  down           5m ago  connection refused
        flows         http-json        unknown         never

        RECEIVER  PENDING  OLDEST  LAST ERROR
        slack           2   1m15s  429: try again in 30s
        email           0

        EXPORT  SIGNAL  SENT  PENDING  OLDEST  LAST ERROR
        otlp    traces  1.2k       17   5m30s  collector answered 503
        ");
    }

    #[test]
    fn an_empty_sidecar_shows_the_next_steps() {
        insta::assert_snapshot!(shown(&serde_json::json!({"monitoring": true, "health": "OK", "unresolved_alerts": 0, "projects": []}), 80), @"
        lookout at http://127.0.0.1:9797 · OK · 0 active alerts

        no agents yet; `lookout setup TOOL` prints the settings with which a tool reports its agents

        no receivers: alerts are logged and served, but no notifications are sent; set SLACK_WEBHOOK_URL, or add `receivers` to the configuration file
        ");
    }

    #[test]
    fn unexpected_answers_cause_no_panic() {
        for odd in [
            Value::Null,
            serde_json::json!({"projects": [1], "sources": ["x"], "receivers": [null], "last_metrics": 3}),
        ] {
            assert!(shown(&odd, 0).starts_with("lookout at"));
        }
    }
}

//! `lookout agents`: a table of all agents, those with the worst alerts first, then by status.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::Value;

use super::agent_runs::{self, AgentCompareArgs, AgentShowArgs};
use super::answer::{NO_AGENTS, count, dollars, flag, list, number, parse, progress, seconds, short, text, wider};
use super::client::{Client, ClientArgs};
use super::table::{Cell, Table, TableColumn};
use super::terminal::{Colour, OutputStyle, print, print_answer};
use crate::clock::Clock;
use crate::config::Environment;
use crate::model::{AgentStatus, Level, Time, TokenType};
use crate::text::number::fixed;

/// Arguments of `lookout agents`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentsArgs {
    /// One agent, or several side by side
    #[command(subcommand)]
    pub command: Option<AgentsCommand>,
    /// Show only agents of this project
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Show only agents with this status
    #[arg(long, value_name = "STATUS", value_parser = AgentStatus::ALL.map(AgentStatus::as_str))]
    pub status: Option<String>,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// The commands under `agents`.
#[derive(Clone, Debug, Subcommand)]
pub enum AgentsCommand {
    /// Show an agent: its registration, statistics and last runs
    Show(AgentShowArgs),
    /// Compare agents side by side by the statistics of their runs
    Compare(AgentCompareArgs),
}

/// Prints the agents, or what the subcommand asks for.
pub(super) async fn run(args: &AgentsArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(AgentsCommand::Show(args)) => return agent_runs::show(args, env).await,
        Some(AgentsCommand::Compare(args)) => return agent_runs::compare(args, env).await,
        None => {}
    }
    let client = Client::new(&args.client, env)?;
    let answer = client.get("/api/status", &[]).await?;
    if args.client.json {
        print_answer(&answer)?;
    } else {
        // The API sorts by level and limits the answer: beyond the limit only the mildest alerts are missing.
        let firing = [("state", "firing".to_owned()), ("limit", "1000".to_owned())];
        let firing = parse(&client.get("/api/alerts", &firing).await?)?;
        let local = LocalTime { now: Clock::system().wall(), zone: TimeZone::system() };
        print(&render(&parse(&answer)?, &firing, args, OutputStyle::of_stdout(), &local))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The firing alerts of each agent, by project and name, the worst first: level and rule.
type FiringByAgent<'v> = HashMap<(&'v str, &'v str), Vec<(Level, &'v str)>>;

fn by_agent(alerts: &Value) -> FiringByAgent<'_> {
    let mut firing = FiringByAgent::new();
    for alert in list(alerts, "alerts").iter().filter(|alert| !text(alert, "agent_name").is_empty()) {
        let of_agent = firing.entry((text(alert, "project"), text(alert, "agent_name"))).or_default();
        of_agent.extend(Level::parse(text(alert, "level")).map(|level| (level, text(alert, "rule"))));
    }
    for of_agent in firing.values_mut() {
        of_agent.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
    }
    firing
}

/// The order among agents with the same alert level: lower ranks need attention more.
fn rank(agent: &Value) -> usize {
    let up = flag(agent, "up");
    match text(agent, "status") {
        _ if up == Some(false) && flag(agent, "expected") == Some(true) => 0,
        "failed" => 1,
        "completed" => 9,
        "paused" => 8,
        _ if up == Some(false) => 2,
        "waiting_question" => 3,
        "waiting_review" => 4,
        "waiting_dependency" => 5,
        "idle" => 6,
        "running" | "starting" => 7,
        _ => 8,
    }
}

/// The clock and time zone for times of day.
struct LocalTime {
    now: Time,
    zone: TimeZone,
}

fn render(answer: &Value, firing: &Value, args: &AgentsArgs, style: OutputStyle, local: &LocalTime) -> String {
    let mut agents: Vec<(&str, &Value)> = list(answer, "projects")
        .iter()
        .flat_map(|project| list(project, "agents").iter().map(move |agent| (text(project, "name"), agent)))
        .filter(|(project, _)| args.project.as_deref().is_none_or(|wanted| wanted == *project))
        .filter(|(_, agent)| args.status.as_deref().is_none_or(|wanted| wanted == text(agent, "status")))
        .collect();
    if agents.is_empty() {
        let is_filtered = args.project.is_some() || args.status.is_some();
        return if is_filtered { "no agent matches the filter\n".to_owned() } else { format!("{NO_AGENTS}\n") };
    }
    let firing = by_agent(firing);
    let of_agent = |project, agent| firing.get(&(project, text(agent, "name"))).map(Vec::as_slice).unwrap_or_default();
    agents.sort_unstable_by_key(|(project, agent)| {
        let worst = of_agent(project, agent).first().map(|(level, _)| *level);
        (Reverse(worst), rank(agent), *project, text(agent, "name"))
    });
    let mut table = Table::new([
        TableColumn::text("AGENT"),
        TableColumn::text("STATUS"),
        TableColumn::word("LEVEL").optional(),
        TableColumn::text("ALERT").optional(),
        TableColumn::number("IDLE").optional(),
        TableColumn::number("TOKENS").optional(),
        TableColumn::number("COST").optional(),
        TableColumn::number("RESTARTS").optional(),
        TableColumn::text("TASK").optional(),
        TableColumn::text("TYPE").optional(),
    ]);
    for (project, agent) in &agents {
        table.push([
            format!("{project}/{}", text(agent, "name")).into(),
            status(agent, local),
            level(of_agent(project, agent)),
            rule(of_agent(project, agent)).into(),
            seconds(number(agent, "idle_seconds")).into(),
            short(tokens(agent)).into(),
            dollars(cost(agent)).into(),
            short(restarts(agent)).into(),
            task(agent).into(),
            text(agent, "type").into(),
        ]);
    }
    format!("{}\n{}{}\n", table.render(style), count(agents.len(), "agent"), wider(&table.left_out(style)))
}

fn level(firing: &[(Level, &str)]) -> Cell {
    let level = firing.first().map_or("", |(level, _)| level.as_str());
    Cell::new(level, Colour::of_severity(level))
}

/// `AgentIdle +1`: the rule of the worst alert, and how many more fire.
fn rule(firing: &[(Level, &str)]) -> String {
    match firing {
        [] => String::new(),
        [(_, rule)] => (*rule).to_owned(),
        [(_, rule), more @ ..] => format!("{rule} +{}", more.len()),
    }
}

fn status(agent: &Value, local: &LocalTime) -> Cell {
    let word = match text(agent, "status") {
        "" => "unknown",
        word => word,
    };
    let mut shown = word.to_owned();
    if flag(agent, "stale") == Some(true) {
        shown.push_str(", stale");
    }
    if let Some(limited) = agent.get("limited").filter(|limited| limited.is_object()) {
        shown.push_str(", rate-limited");
        if let Some(until) = Time::parse(text(limited, "until")) {
            shown.push_str(&format!(" until {}", until.on_clock(local.now, &local.zone)));
        }
    }
    if !text(agent, "reason").is_empty() {
        shown = format!("{shown}: {}", text(agent, "reason"));
    }
    let colour = match (rank(agent), word) {
        (0 | 1, _) => Some(Colour::Bad),
        (2..=4, _) => Some(Colour::Warn),
        (_, "running") => Some(Colour::Good),
        (8 | 9, _) => Some(Colour::Dim),
        _ => None,
    };
    Cell::new(shown, colour)
}

/// `task_123 implement 42%, context 80%`, as far as it is known.
fn task(agent: &Value) -> String {
    let shown = progress(agent);
    let is_at_work = !text(agent, "task_id").is_empty();
    let context = number(agent, "context_window_ratio").filter(|ratio| ratio.is_finite());
    let parts = [
        text(agent, "task_id").to_owned(),
        text(agent, "phase").to_owned(),
        if is_at_work || shown != "–" { shown } else { String::new() },
    ];
    let task = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let context = context.map(|ratio| format!("context {}%", fixed(ratio * 100.0, 0)));
    let parts = Some(task).filter(|task| !task.is_empty()).into_iter().chain(context);
    parts.collect::<Vec<_>>().join(", ")
}

/// The sum of all tokens; the answer has the sum or tokens by type.
fn tokens(agent: &Value) -> Option<f64> {
    match agent.get("tokens")? {
        Value::Object(types) => {
            let known: Vec<f64> =
                TokenType::ALL.into_iter().filter_map(|kind| types.get(kind.as_str())?.as_f64()).collect();
            (!known.is_empty()).then(|| known.iter().sum())
        }
        total => total.as_f64(),
    }
}

fn cost(agent: &Value) -> Option<f64> {
    number(agent, "cost_usd").or_else(|| number(agent.get("tokens")?, "cost_usd"))
}

fn restarts(agent: &Value) -> Option<f64> {
    ["restarts", "restart_count", "restarts_total"].into_iter().find_map(|key| number(agent, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        serde_json::json!({"projects": [
            {"name": "shop", "agents": [
                {"name": "worker-1", "type": "custom", "status": "running", "up": true, "expected": true, "idle_seconds": 3.2, "task_id": "task_123", "phase": "implement", "progress": 42.5, "progress_estimate": null, "tokens": {"input": 100_000, "output": 23_456, "cost_usd": 9.0}, "cost_usd": 1.5, "restart_count": 1},
                {"name": "grand_boss", "type": "claude-code", "status": "failed", "reason": "exit status 137: out of memory", "up": false, "expected": true, "restarts": 12, "tokens": 4_500_000, "cost_usd": 0.0042},
                {"name": "worker-2", "status": "idle", "up": true, "idle_seconds": 700.0},
                {"name": "worker-3", "status": "idle", "up": true, "idle_seconds": 70.0, "limited": {"until": "2026-11-21T16:00:00Z"}},
                {"name": "asker", "status": "waiting_question", "up": true, "progress_estimate": {"progress": 60.0, "seconds_left": 240.0}},
                {"name": "done", "status": "completed", "up": false, "expected": false}
            ]},
            {"name": "lab", "agents": [{"name": "日本語エージェント", "status": "paused", "up": true}, {"name": 7}]}
        ]})
    }

    /// A running agent with an alert comes before one that waits without.
    fn firing() -> Value {
        serde_json::json!({"alerts": [
            {"project": "shop", "agent_name": "worker-3", "level": "warning", "rule": "AgentIdle"},
            {"project": "shop", "agent_name": "worker-1", "level": "warning", "rule": "RateLimited"},
            {"project": "shop", "agent_name": "worker-1", "level": "critical", "rule": "AgentRestarting"},
            {"project": "lab", "agent_name": "worker-2", "level": "critical", "rule": "AgentIdle"},
            {"project": "shop", "component": "worker-2", "level": "error", "rule": "ComponentStatus"},
            {"project": "shop", "agent_name": "grand_boss", "level": "error", "rule": "AgentDown"},
            7,
        ]})
    }

    fn local() -> LocalTime {
        LocalTime { now: Time::parse("2026-11-21T12:00:00Z").expect("a time"), zone: TimeZone::UTC }
    }

    fn shown(width: usize, project: Option<&str>, status: Option<&str>) -> String {
        let args = AgentsArgs {
            command: None,
            project: project.map(str::to_owned),
            status: status.map(str::to_owned),
            client: ClientArgs::default(),
        };
        render(&answer(), &firing(), &args, OutputStyle { width: Some(width), colours: false }, &local())
    }

    #[test]
    fn agents_with_the_worst_alerts_come_first() {
        insta::assert_snapshot!(shown(120, None, None), @"
        AGENT                   STATUS                           LEVEL     ALERT                 IDLE  TOKENS     COST  RESTARTS
        shop/worker-1           running                          critical  AgentRestarting +1      3s  123.5k    $1.50         1
        shop/grand_boss         failed: exit status 137: out o…  error     AgentDown                     4.5M  $0.0042        12
        shop/worker-3           idle, rate-limited until 16:00   warning   AgentIdle            1m10s
        shop/asker              waiting_question
        shop/worker-2           idle                                                           11m40s
        lab/                    unknown
        lab/日本語エージェント  paused
        shop/done               completed

        8 agents (a wider terminal also shows TASK, TYPE)
        ");
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns() {
        insta::assert_snapshot!(shown(80, None, None), @"
        AGENT                 STATUS                LEVEL     ALERT                 IDLE
        shop/worker-1         running               critical  AgentRestarting +1      3s
        shop/grand_boss       failed: exit status…  error     AgentDown
        shop/worker-3         idle, rate-limited…   warning   AgentIdle            1m10s
        shop/asker            waiting_question
        shop/worker-2         idle                                                11m40s
        lab/                  unknown
        lab/日本語エージェ…   paused
        shop/done             completed

        8 agents (a wider terminal also shows TOKENS, COST, RESTARTS, TASK, TYPE)
        ");
    }

    #[test]
    fn filters_select_agents() {
        insta::assert_snapshot!(shown(80, Some("shop"), Some("idle")), @"
        AGENT          STATUS                          LEVEL    ALERT        IDLE
        shop/worker-3  idle, rate-limited until 16:00  warning  AgentIdle   1m10s
        shop/worker-2  idle                                                11m40s

        2 agents
        ");
        assert_eq!(shown(80, Some("nowhere"), None), "no agent matches the filter\n");
    }

    #[test]
    fn unexpected_answers_cause_no_panic() {
        let args = AgentsArgs { command: None, project: None, status: None, client: ClientArgs::default() };
        for odd in [
            Value::Null,
            serde_json::json!({"projects": [1, {"agents": [null, "x", {"tokens": "many", "progress": {}}]}]}),
        ] {
            assert!(render(&odd, &odd, &args, OutputStyle { width: Some(0), colours: true }, &local()).ends_with('\n'));
        }
    }
}

//! `lookout agents show` and `lookout agents compare`: agents by the statistics of their runs.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::answer::{parse, text};
use super::runs_origin::{RunsArgs, RunsOrigin, now};
use super::runs_view;
use super::terminal::{OutputStyle, print, print_answer};
use crate::config::Environment;

/// Arguments of `lookout agents show`.
#[derive(Args, Clone, Debug)]
pub struct AgentShowArgs {
    /// Name, PROJECT/NAME or id
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Range of the statistics
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub range: String,
    /// From where
    #[command(flatten)]
    pub from: RunsArgs,
}

/// Arguments of `lookout agents compare`.
#[derive(Args, Clone, Debug)]
pub struct AgentCompareArgs {
    /// Names or PROJECT/NAMEs
    #[arg(value_name = "NAME", required = true, num_args = 1..)]
    pub names: Vec<String>,
    /// Range of the statistics
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub range: String,
    /// From where
    #[command(flatten)]
    pub from: RunsArgs,
}

/// `lookout agents compare`.
pub(super) async fn compare(args: &AgentCompareArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let origin = RunsOrigin::new(&args.from, env)?;
    let query = [("agents", args.names.join(",")), ("range", args.range.clone()), ("by", "total".to_owned())];
    let answer = origin.stats(&query).await?;
    if args.from.client.json {
        print_answer(&answer)?;
    } else {
        print(&runs_view::comparison(&parse(&answer)?, OutputStyle::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `lookout agents show`.
pub(super) async fn show(args: &AgentShowArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let origin = RunsOrigin::new(&args.from, env)?;
    let agent = origin.agent(&args.name).await?;
    let name = format!("{}/{}", text(&agent, "project"), text(&agent, "name"));
    let mut stats = Vec::new();
    for by in ["total", "model", "tool"] {
        let advice = if by == "total" { "1" } else { "0" };
        let query = [
            ("agents", name.clone()),
            ("range", args.range.clone()),
            ("by", by.to_owned()),
            ("advice", advice.to_owned()),
        ];
        stats.push(parse(&origin.stats(&query).await?)?);
    }
    let runs = parse(&origin.list(&[("agent", name), ("limit", "5".to_owned())]).await?)?;
    if args.from.client.json {
        let [total, models, tools] = &stats[..] else { bail!("no statistics") };
        let answer =
            json!({"agent": agent, "stats": total, "by_model": models, "by_tool": tools, "runs": runs["runs"]});
        print_answer(&answer.to_string())?;
    } else {
        print(&runs_view::agent_card(&agent, &stats, &runs, &args.range, now(), OutputStyle::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

//! `lookout trace`: runs of agents, from a running sidecar or from its file.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::answer::{count, list, parse, text};
use super::client::Client;
use super::runs_origin::{RunsArgs, RunsOrigin, now};
use super::runs_view;
use super::terminal::{OutputStyle, print, print_answer};
use crate::config::Environment;
use crate::model::TraceId;
use crate::store::traces::{TraceLimits, TraceStore};

/// How often `tail` asks.
const TAIL_EVERY: Duration = Duration::from_secs(1);
/// How far back `tail` looks for runs that ended meanwhile.
const TAIL_RANGE: &str = "12h";

/// Which runs are listed.
#[derive(Args, Clone, Debug, Default)]
pub struct RunFilterArgs {
    /// Only runs of this agent: NAME or PROJECT/NAME
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Only runs of this project
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Only runs with this status: running, ok, error or abandoned
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Only runs of this task
    #[arg(long, value_name = "ID")]
    pub task: Option<String>,
    /// Only runs of this session
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only runs that called this model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Only runs that called models of this provider
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Only runs that used this tool
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// Only runs of this platform, such as slack
    #[arg(long, value_name = "NAME")]
    pub platform: Option<String>,
    /// Only runs that began since: a time, or a duration such as 2h
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only runs that began before: a time, or a duration such as 2h
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only runs of at least this duration
    #[arg(long, value_name = "DURATION")]
    pub min_duration: Option<String>,
    /// Only runs that cost at least this many US dollars
    #[arg(long, value_name = "USD")]
    pub min_cost: Option<String>,
    /// Only runs whose name or error contains this text
    #[arg(long = "grep", value_name = "TEXT")]
    pub text: Option<String>,
    /// Most runs
    #[arg(long, value_name = "NUMBER", default_value = "50")]
    pub limit: String,
}

impl RunFilterArgs {
    /// The parameters of a request.
    fn query(&self) -> Vec<(&'static str, String)> {
        let given = [
            ("agent", &self.agent),
            ("project", &self.project),
            ("status", &self.status),
            ("task", &self.task),
            ("session", &self.session),
            ("model", &self.model),
            ("provider", &self.provider),
            ("tool", &self.tool),
            ("platform", &self.platform),
            ("since", &self.since),
            ("until", &self.until),
            ("min_duration", &self.min_duration),
            ("min_cost", &self.min_cost),
            ("q", &self.text),
        ];
        let given = given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        given.chain([("limit", self.limit.clone())]).collect()
    }
}

/// Arguments of `lookout trace ls`.
#[derive(Args, Clone, Debug)]
pub struct TraceListArgs {
    /// Which runs
    #[command(flatten)]
    pub filter: RunFilterArgs,
    /// From where
    #[command(flatten)]
    pub from: RunsArgs,
}

/// Arguments of `lookout trace show`.
#[derive(Args, Clone, Debug)]
pub struct TraceShowArgs {
    /// Id of the run or of one of its traces, or its first digits
    #[arg(value_name = "ID")]
    pub id: String,
    /// Show all spans, not only those of agents, calls, tools and waits and those that failed
    #[arg(long)]
    pub all: bool,
    /// From where
    #[command(flatten)]
    pub from: RunsArgs,
}

/// Arguments of `lookout trace clean`.
#[derive(Args, Clone, Debug)]
pub struct TraceCleanArgs {
    /// Delete runs that began before: a time, or a duration such as 7d
    #[arg(long, value_name = "TIME")]
    pub before: String,
    /// Where
    #[command(flatten)]
    pub from: RunsArgs,
}

/// Arguments of `lookout trace tail`.
#[derive(Args, Clone, Debug)]
pub struct TraceTailArgs {
    /// Which runs
    #[command(flatten)]
    pub filter: RunFilterArgs,
    /// From where
    #[command(flatten)]
    pub from: RunsArgs,
}

/// `lookout trace ls`.
pub(super) async fn list_runs(args: &TraceListArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let answer = RunsOrigin::new(&args.from, env)?.list(&args.filter.query()).await?;
    if args.from.client.json {
        print_answer(&answer)?;
    } else {
        print(&runs_view::table(&parse(&answer)?, now(), OutputStyle::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `lookout trace show`.
pub(super) async fn show(args: &TraceShowArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let origin = RunsOrigin::new(&args.from, env)?;
    let id = resolve(&origin, &args.id).await?;
    let answer = origin.show(id).await?;
    if args.from.client.json {
        print_answer(&answer)?;
    } else {
        print(&runs_view::waterfall(&parse(&answer)?, args.all, now(), OutputStyle::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The id, or the only recent one that begins with the digits.
async fn resolve(origin: &RunsOrigin, given: &str) -> anyhow::Result<TraceId> {
    if let Some(id) = TraceId::parse(given) {
        return Ok(id);
    }
    let is_prefix = given.len() >= 4 && given.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_prefix {
        bail!(
            "`{given}` is no id; use the 32 digits of a run or trace, or at least its first 4, as `lookout trace ls` shows"
        );
    }
    let recent = parse(&origin.list(&[("limit", "1000".to_owned())]).await?)?;
    let given = given.to_ascii_lowercase();
    let mut found: Vec<&str> = list(&recent, "runs")
        .iter()
        .flat_map(|run| {
            let traces = list(run, "trace_ids").iter().filter_map(Value::as_str);
            [text(run, "run_id")].into_iter().chain(traces)
        })
        .filter(|id| id.starts_with(&given))
        .collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [id] => TraceId::parse(id).ok_or_else(|| anyhow::anyhow!("`{id}` is no id")),
        [] => bail!("none of the last 1,000 runs has an id that begins with {given}; give all 32 digits"),
        _ => bail!("{} ids begin with {given}; give more digits", found.len()),
    }
}

/// `lookout trace clean`.
pub(super) async fn clean(args: &TraceCleanArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let deleted = match &args.from.store {
        Some(path) => {
            let before =
                crate::store::traces::query::time("--before", &args.before, now()).map_err(anyhow::Error::msg)?;
            if !path.is_file() {
                bail!("{} is no file", path.display());
            }
            let limits = TraceLimits { retention: Duration::MAX, max_size: u64::MAX };
            let mut store = TraceStore::open(Some(path), limits, now())?;
            let mut total = 0;
            loop {
                let (deleted, has_more) = store.delete_before(before)?;
                total += deleted;
                if !has_more {
                    break total;
                }
            }
        }
        None => {
            let client = Client::new(&args.from.client, env)?;
            let answer = client.delete_with("/api/traces", &[("before", args.before.clone())]).await?;
            parse(&answer)?["deleted"].as_u64().unwrap_or(0)
        }
    };
    if args.from.client.json {
        print_answer(&json!({"deleted": deleted}).to_string())?;
    } else {
        print(&format!("deleted {}", count(usize::try_from(deleted).unwrap_or(usize::MAX), "run")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `lookout trace tail`: a line for each run that begins and that ends, until it is interrupted.
pub(super) async fn tail(args: &TraceTailArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let origin = RunsOrigin::new(&args.from, env)?;
    let mut query = args.filter.query();
    if args.filter.since.is_none() {
        query.push(("since", TAIL_RANGE.to_owned()));
    }
    let mut shown: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    let mut is_first = true;
    loop {
        let answer = parse(&origin.list(&query).await?)?;
        for run in list(&answer, "runs").iter().rev() {
            let (id, status) = (text(run, "run_id"), text(run, "status"));
            let is_new = shown.insert(id.to_owned(), status.to_owned()).is_none_or(|known| known != status);
            // What ended before the start is history.
            if is_new && !(is_first && status != "running") {
                if args.from.client.json {
                    print_answer(&run.to_string())?;
                } else {
                    print(&runs_view::line(run, OutputStyle::of_stdout()))?;
                }
            }
        }
        is_first = false;
        tokio::time::sleep(TAIL_EVERY).await;
    }
}

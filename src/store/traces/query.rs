//! Queries of runs and statistics, and how the parameters of a request give them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::registry::project_of_id;
use crate::model::run_stats::hour_of;
use crate::model::{DEFAULT_PROJECT, RunStatus, StatGroup, Time, TraceId, duration};

/// Runs on a page unless another number is asked for, and at most.
const PAGE: [usize; 2] = [50, 1_000];
/// The range of statistics unless another is asked for, and at most.
const RANGE: [Duration; 2] = [Duration::from_secs(24 * 3600), Duration::from_secs(400 * 24 * 3600)];

/// Which runs a list has; `None` matches all.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Name of the agent.
    pub agent: Option<String>,
    /// Its project.
    pub project: Option<String>,
    /// Task.
    pub task: Option<String>,
    /// State.
    pub status: Option<RunStatus>,
    /// Through what the agent was reached.
    pub platform: Option<String>,
    /// A provider of any of its calls.
    pub provider: Option<String>,
    /// A model of any of its calls.
    pub model: Option<String>,
    /// A tool that it used.
    pub tool: Option<String>,
    /// Begun at or after this time.
    pub since: Option<Time>,
    /// Begun before this time.
    pub until: Option<Time>,
    /// At least this long, in milliseconds.
    pub min_duration_ms: Option<u64>,
    /// At least this dear, in US dollars.
    pub min_cost: Option<f64>,
    /// Session.
    pub session: Option<String>,
    /// Part of its name or error, in any case.
    pub text: Option<String>,
    /// The run that started it.
    pub parent: Option<TraceId>,
    /// Maximum number of runs.
    pub limit: usize,
    /// Where the last page ended.
    pub after: Option<RunCursor>,
}

/// A place in the list of runs: those after it began earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunCursor {
    /// When the last run of the page began.
    pub started_at: Time,
    /// Its row.
    pub key: i64,
}

impl RunCursor {
    /// The text of a cursor, for the API.
    pub fn to_text(self) -> String {
        format!("{:x}-{:x}", self.started_at.as_millis(), self.key)
    }

    /// The cursor of that text.
    pub fn parse(text: &str) -> Option<Self> {
        let (started_at, key) = text.split_once('-')?;
        let number = |text: &str| i64::from_str_radix(text, 16).ok();
        Some(Self { started_at: Time::from_millis(number(started_at)?), key: number(key)? })
    }
}

/// Times: RFC 3339, Unix seconds, or a duration before now such as `2h`.
pub fn time(key: &str, text: &str, now: Time) -> Result<Time, String> {
    let absolute = || Time::parse(text).or_else(|| Time::from_secs_f64(text.parse().ok()?));
    let relative = || duration::parse(text).ok().map(|ago| now.minus(ago));
    relative().or_else(absolute).ok_or_else(|| {
        format!("invalid {key} `{text}`; use RFC 3339, Unix seconds, or a duration before now such as 2h")
    })
}

impl RunFilter {
    /// By the parameters of a request. An unknown one is an error, since it would be a filter that does not filter.
    pub fn new(query: BTreeMap<String, String>, now: Time) -> Result<Self, String> {
        let mut filter = Self { limit: PAGE[0], ..Self::default() };
        for (key, value) in query {
            let number = || value.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
            match &*key {
                "agent" => match value.split_once('/') {
                    Some((project, agent)) => {
                        filter.project = Some(project_of_id(project).to_owned());
                        filter.agent = Some(agent.to_owned());
                    }
                    None => filter.agent = Some(value),
                },
                "project" => filter.project = Some(project_of_id(&value).to_owned()),
                "task" => filter.task = Some(value),
                "status" => {
                    let words = "running, ok, error or abandoned";
                    let status = RunStatus::parse(&value);
                    filter.status = Some(status.ok_or_else(|| format!("unknown status `{value}`; use {words}"))?);
                }
                "platform" => filter.platform = Some(value),
                "provider" => filter.provider = Some(value),
                "model" => filter.model = Some(value),
                "tool" => filter.tool = Some(value),
                "session" => filter.session = Some(value),
                "q" => filter.text = Some(value),
                "since" => filter.since = Some(time("since", &value, now)?),
                "until" => filter.until = Some(time("until", &value, now)?),
                "min_duration" => {
                    let min = duration::parse(&value).map_err(|error| format!("min_duration: {error}"))?;
                    filter.min_duration_ms = Some(u64::try_from(min.as_millis()).unwrap_or(u64::MAX));
                }
                "min_cost" => {
                    let min =
                        number().ok_or_else(|| format!("invalid min_cost `{value}`; use US dollars such as 0.5"))?;
                    filter.min_cost = Some(min);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE[1]).contains(limit));
                    let max = PAGE[1];
                    filter.limit =
                        limit.ok_or_else(|| format!("invalid limit `{value}`; use a number from 1 to {max}"))?;
                }
                "cursor" => {
                    let cursor = RunCursor::parse(&value);
                    filter.after = Some(cursor.ok_or("invalid cursor; use `next_cursor` of the page before")?);
                }
                _ => {
                    return Err(format!(
                        "unknown parameter `{key}`; use agent, project, task, status, platform, provider, model, tool, session, \
                     q, since, until, min_duration, min_cost, limit or cursor"
                    ));
                }
            }
        }
        Ok(filter)
    }
}

/// Which statistics are asked for.
#[derive(Clone, Debug)]
pub struct StatsQuery {
    /// The agents (project, name); `None` for all.
    pub agents: Option<Vec<(String, String)>>,
    /// Hours since 1970.
    pub hours: std::ops::Range<u32>,
    /// Hours to a point; `None` for one point over all.
    pub step: Option<u32>,
    /// What points are grouped by.
    pub group: StatGroup,
    /// Whether to add what could have been saved.
    pub advice: bool,
}

impl StatsQuery {
    /// Most agents of one request.
    pub const MAX_AGENTS: usize = 100;

    /// By the parameters of a request.
    pub fn new(query: BTreeMap<String, String>, now: Time) -> Result<Self, String> {
        let (mut range, mut step, mut group, mut by_hour, mut agents) = (RANGE[0], 1, StatGroup::Total, true, None);
        let mut advice = false;
        for (key, value) in query {
            match &*key {
                "agents" | "agent" => {
                    let names: Vec<(String, String)> = value
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(|name| name.split_once('/').unwrap_or((DEFAULT_PROJECT, name)))
                        .map(|(project, name)| (project_of_id(project).to_owned(), name.to_owned()))
                        .collect();
                    if names.len() > Self::MAX_AGENTS {
                        return Err(format!(
                            "{} agents are too many; ask for at most {}",
                            names.len(),
                            Self::MAX_AGENTS
                        ));
                    }
                    agents = Some(names);
                }
                "range" => {
                    range = duration::parse(&value).map_err(|error| format!("range: {error}"))?.min(RANGE[1]);
                }
                "step" => {
                    let parsed = duration::parse(&value).map_err(|error| format!("step: {error}"))?;
                    step = u32::try_from(parsed.as_secs() / 3600).unwrap_or(1).max(1);
                }
                "by" => {
                    by_hour = value == "hour";
                    group = if by_hour {
                        StatGroup::Total
                    } else {
                        let words = "hour, total, model, provider, platform or tool";
                        StatGroup::parse(&value).ok_or_else(|| format!("unknown by `{value}`; use {words}"))?
                    };
                }
                "advice" => {
                    advice = match &*value {
                        "1" | "true" => true,
                        "0" | "false" => false,
                        _ => return Err(format!("invalid advice `{value}`; use 1 or 0")),
                    };
                }
                _ => return Err(format!("unknown parameter `{key}`; use agents, range, step, by or advice")),
            }
        }
        let end = hour_of(now.as_millis()) + 1;
        let hours = u32::try_from(range.as_secs().div_ceil(3600)).unwrap_or(1).max(1);
        Ok(Self { agents, hours: end.saturating_sub(hours)..end, step: by_hour.then_some(step), group, advice })
    }
}

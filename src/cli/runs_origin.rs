//! Where commands read runs from: a running sidecar, or its file.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::answer::{list, parse, text};
use super::client::{Client, ClientArgs};
use crate::clock::Clock;
use crate::config::Environment;
use crate::model::{StatGroup, Time, TraceId};
use crate::runs::view;
use crate::store::traces::{RunCursor, RunFilter, StatsQuery, TraceReader};

/// Where runs are read from.
#[derive(Args, Clone, Debug, Default)]
pub struct RunsArgs {
    /// Read this file (lookout.traces.db) in place of asking a sidecar, which may run meanwhile
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Reads runs from a sidecar or from a file; the answers are the same.
pub(super) enum RunsOrigin {
    Sidecar(Client),
    File(TraceReader),
}

impl RunsOrigin {
    pub(super) fn new(args: &RunsArgs, env: &Environment) -> anyhow::Result<Self> {
        Ok(match &args.store {
            Some(path) => Self::File(TraceReader::open_file(path)?),
            None => Self::Sidecar(Client::new(&args.client, env)?),
        })
    }

    pub(super) async fn list(&self, query: &[(&'static str, String)]) -> anyhow::Result<String> {
        match self {
            Self::Sidecar(client) => client.get("/api/traces", query).await,
            Self::File(reader) => {
                let parameters = query.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
                let filter = RunFilter::new(parameters, now()).map_err(anyhow::Error::msg)?;
                let (runs, cursor) = reader.runs(&filter)?;
                let runs: Vec<Value> = runs.iter().map(view::run).collect();
                Ok(json!({"runs": runs, "next_cursor": cursor.map(RunCursor::to_text)}).to_string())
            }
        }
    }

    pub(super) async fn show(&self, id: TraceId) -> anyhow::Result<String> {
        match self {
            Self::Sidecar(client) => client.get(&format!("/api/traces/{id}"), &[]).await,
            Self::File(reader) => {
                let stored = reader.run(id)?;
                match view::run_with_spans(id, &stored.runs, &stored.spans) {
                    Some(shown) => Ok(shown.to_string()),
                    None => bail!("no run or trace has the id {id}"),
                }
            }
        }
    }

    /// An agent of the registry by id, `project/name`, or a name that is unique.
    pub(super) async fn agent(&self, name: &str) -> anyhow::Result<Value> {
        let matches = |agent: &Value| {
            let full = format!("{}/{}", text(agent, "project"), text(agent, "name"));
            [text(agent, "id"), text(agent, "name"), &full].contains(&name)
        };
        let agents: Vec<Value> = match self {
            Self::Sidecar(client) => {
                let bare = name.rsplit('/').next().unwrap_or(name);
                let query = [("q", bare.to_owned()), ("limit", "1000".to_owned())];
                let mut found = list(&parse(&client.get("/agents", &query).await?)?, "agents").to_vec();
                if found.is_empty() && name.len() == 36 {
                    found.push(parse(&client.get(&format!("/agents/{name}"), &[]).await?)?);
                }
                found
            }
            Self::File(reader) => reader.agents()?.iter().map(view::agent).collect(),
        };
        let mut found: Vec<Value> = agents.into_iter().filter(matches).collect();
        match (found.pop(), found.len()) {
            (Some(agent), 0) => Ok(agent),
            (Some(_), _) => bail!("several projects have an agent `{name}`; give PROJECT/NAME"),
            (None, _) => bail!("no agent `{name}` is registered; `lookout agents` lists those that are known"),
        }
    }

    /// Statistics, by the parameters of `GET /api/agents/stats`.
    pub(super) async fn stats(&self, query: &[(&'static str, String)]) -> anyhow::Result<String> {
        match self {
            Self::Sidecar(client) => client.get("/api/agents/stats", query).await,
            Self::File(reader) => {
                let parameters = query.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
                let query = StatsQuery::new(parameters, now()).map_err(anyhow::Error::msg)?;
                let agents = match query.agents {
                    Some(agents) => agents,
                    None => reader.agents_since(query.hours.start, StatsQuery::MAX_AGENTS)?,
                };
                let rows = reader.stats(&agents, query.hours.clone(), query.group)?;
                let facts = reader.stats(&agents, query.hours.clone(), StatGroup::Fact)?;
                Ok(view::stats(&agents, &rows, &facts, &query.hours, query.group, query.step).to_string())
            }
        }
    }
}

/// The time by the wall clock.
pub(super) fn now() -> Time {
    Clock::system().wall()
}

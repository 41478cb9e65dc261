//! The readers of polled pages by themselves, for the targets in `fuzz/`; built with nothing else.

use super::config::SourceConfig;
use super::poll::http_json::HttpJson;
use super::poll::orchestrator_cc;
use crate::model::{Batch, Problem, SourceError, Time};

/// What a page is read as.
pub type Read = Result<Vec<Batch<'static>>, SourceError>;

/// A page as `source`, of the kind `http-json`, reads it; the error lists the paths that can't be compiled.
pub fn http_json(source: &SourceConfig, page: &str, now: Time) -> Result<Read, Vec<Problem>> {
    Ok(HttpJson::compile(source)?.read(page, now, &source.name))
}

/// A page as the older list of agents of orchestrator-cc.
pub fn orchestrator_cc_agents(page: &str, now: Time) -> Read {
    orchestrator_cc::older(page, now, "polled").map(|batch| vec![batch])
}

/// Pages as the teams, tasks, messages and heartbeats of orchestrator-cc.
pub fn orchestrator_cc_teams(pages: [&str; 4], now: Time) -> Read {
    orchestrator_cc::newer(pages, now)
}

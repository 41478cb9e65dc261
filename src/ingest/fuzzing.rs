//! The decoders of polled pages, for the targets in `fuzz/`; built for these only.

use super::config::SourceConfig;
use super::poll::http_json::HttpJson;
use super::poll::orchestrator_cc;
use crate::model::{Batch, Problem, SourceError, Time};

/// The result of decoding a page.
pub type PageResult = Result<Vec<Batch<'static>>, SourceError>;

/// Decodes a page as the `source` of kind `http-json` does; the error lists invalid paths.
pub fn http_json(source: &SourceConfig, page: &str, now: Time) -> Result<PageResult, Vec<Problem>> {
    Ok(HttpJson::compile(source)?.read(page, now, &source.name))
}

/// Decodes a page as the list of agents of older versions of orchestrator-cc.
pub fn orchestrator_cc_agents(page: &str, now: Time) -> PageResult {
    orchestrator_cc::older(page, now, "polled").map(|batch| vec![batch])
}

/// Decodes pages as the teams, tasks, messages and heartbeats of newer versions of orchestrator-cc.
pub fn orchestrator_cc_teams(pages: [&str; 4], now: Time) -> PageResult {
    orchestrator_cc::newer(pages, now)
}

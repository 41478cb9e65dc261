//! Bodies of `POST /api/state` and `POST /api/usage`, one after the other, from the body to the exposition.
//!
//! A body that begins with `u` is of usage; one that begins with `t` advances time.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lookout::ingest::{decode_state, decode_usage, encode_state};
use lookout::model::telemetry::Telemetry;
use lookout::model::{AgentUpdate, Batch, ComponentUpdate, CustomUpdate, Patch, UsageUpdate};
use lookout_fuzz::bodies;
use lookout_fuzz::watch::Watch;

fuzz_target!(|input: &[u8]| {
    let mut watch = Watch::new(input.len() % 2 == 0);
    for body in bodies(input) {
        match body.split_first() {
            Some((b't', seconds)) => {
                // Agents expire during long waits, after which their counters may reset.
                let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse::<u16>().ok());
                watch.wait(Duration::from_secs(seconds.unwrap_or_default().into()));
            }
            Some((b'u', usage)) => push_usage(&mut watch, usage),
            _ => push_state(&mut watch, body),
        }
        watch.evaluate();
        watch.show(&Telemetry::default());
    }
});

fn push_state(watch: &mut Watch, body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok(batch) = decode_state(text, watch.now) else { return };
    // Absent fields stay unknown: nothing is set without a key in the body.
    if let Some(words) = Words::of(text) {
        batch.agents.iter().for_each(|agent| words.cover_agent(agent));
    }
    // An encoded batch decodes to the same.
    let written = encode_state(&batch);
    let again = decode_state(&written, watch.now).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(content(&again), content(&batch), "{written}");
    let (known, sent) = (batch.agents.len() + batch.components.len(), batch.rejected.len());
    let outcome = watch.fleet.push(watch.now, batch);
    assert!(outcome.accepted <= known && sent <= outcome.reasons.iter().map(|(_, count)| *count as usize).sum());
    for agent in watch.fleet.state().agents.iter() {
        assert!(agent.progress.is_none_or(|progress| (0.0..=1.0).contains(&progress)));
        assert!(agent.cost_usd.total().is_finite() && agent.day_cost_usd.is_finite());
        // The totals that are exposed must hold for any input.
        agent.total_tokens();
    }
}

fn push_usage(watch: &mut Watch, body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok(batch) = decode_usage(text) else { return };
    if let Some(words) = Words::of(text) {
        batch.usage.iter().for_each(|usage| words.cover_usage(usage));
    }
    let outcome = watch.fleet.usage(watch.now, &batch.project, &batch.usage);
    assert!(outcome.accepted <= batch.usage.len());
}

/// A batch without its rejections, and without what they leave behind: gaps in indices, and times that can't be read.
fn content(batch: &Batch<'_>) -> String {
    let Batch { project, complete, ttl, .. } = batch;
    let agents = batch.agents.iter().cloned();
    let agents = agents.map(|agent| AgentUpdate { index: 0, is_last_activity_unreadable: false, ..agent });
    let components = batch.components.iter().cloned().map(|component| {
        let custom = component.custom.into_iter().map(|metric| CustomUpdate { index: 0, ..metric }).collect();
        ComponentUpdate { index: 0, custom, ..component }
    });
    let (agents, components): (Vec<_>, Vec<_>) = (agents.collect(), components.collect());
    format!("{project:?} {complete} {ttl:?} {agents:?} {components:?}")
}

/// A body without the characters in which spellings of keys differ.
struct Words(String);

impl Words {
    /// `None` if the body has escapes, which keys may consist of.
    fn of(text: &str) -> Option<Self> {
        (!text.contains('\\')).then(|| Self(text.to_lowercase().replace(['_', '-', ' '], "")))
    }

    /// Panics if something is set although none of `words` is part of a key.
    fn cover(&self, is_known: bool, words: &[&str]) {
        assert!(
            !is_known || words.iter().any(|word| self.0.contains(word)),
            "{words:?} is not in the body: {}",
            self.0
        );
    }

    fn cover_tokens(&self, tokens: &[Option<u64>; 5], cost: Option<f64>) {
        let names: [&[&str]; 5] =
            [&["input", "tokens"], &["output"], &["cacheread"], &["cachecreation"], &["reasoning"]];
        for (count, names) in tokens.iter().zip(names) {
            self.cover(count.is_some(), names);
        }
        self.cover(cost.is_some(), &["cost"]);
    }

    fn cover_agent(&self, agent: &AgentUpdate<'_>) {
        let is_said = |patch: &Patch<_>| !matches!(patch, Patch::Keep);
        self.cover_tokens(&agent.tokens, agent.cost_usd);
        self.cover(agent.status.is_some(), &["status"]);
        self.cover(agent.running.is_some(), &["running"]);
        self.cover(is_said(&agent.reason), &["reason"]);
        self.cover(is_said(&agent.task_id), &["task"]);
        self.cover(is_said(&agent.phase), &["phase"]);
        self.cover(!matches!(agent.progress, Patch::Keep), &["progress"]);
        self.cover(agent.restart_count.is_some(), &["restart"]);
        self.cover(agent.last_activity.is_some(), &["activity", "idle", "elapsed"]);
        self.cover(agent.model.is_some(), &["model"]);
        self.cover(agent.requests.is_some(), &["request", "total"]);
        self.cover(agent.request_errors.is_some(), &["error"]);
        self.cover(agent.rate_limit_hits.is_some(), &["rate"]);
        self.cover(agent.retries.is_some(), &["retr"]);
        self.cover(agent.reviews_passed.is_some(), &["passed"]);
        self.cover(agent.reviews_failed.is_some(), &["failed"]);
        self.cover(agent.rate_limits.is_some(), &["ratelimits", "retryafter"]);
    }

    fn cover_usage(&self, usage: &UsageUpdate<'_>) {
        self.cover_tokens(&usage.tokens, usage.cost_usd);
        self.cover(usage.agent.is_some(), &["agent", "name"]);
        self.cover(usage.model.is_some(), &["model"]);
        self.cover(usage.id.is_some(), &["id"]);
    }
}

//! The section `otlp`: where it is listened for, what is kept of it and what is dropped on arrival.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::{Problem, duration};
use crate::text::glob::glob;
use crate::text::names;

/// The receiver of OpenTelemetry's protocol.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// Where OTLP over HTTP is received besides the main listener; null switches it off.
    #[serde(deserialize_with = "address")]
    pub http: Option<SocketAddr>,
    /// Where OTLP over gRPC is received; null switches it off.
    #[serde(deserialize_with = "address")]
    pub grpc: Option<SocketAddr>,
    /// Series that are kept at most, buckets counted singly.
    pub max_series: usize,
    /// Series of one metric that are kept at most.
    pub max_series_per_metric: usize,
    /// Labels that a series may have; a point with more is rejected.
    pub max_labels: usize,
    /// Longest value of a label, in bytes; what is longer is cut.
    pub max_label_length: usize,
    /// How long a series is kept after it was last heard of.
    #[serde(with = "crate::model::duration")]
    pub forget_after: Duration,
    /// Globs of attributes that never become labels. Given, it replaces the default list.
    pub drop_attributes: Vec<String>,
    /// Whose telemetry it is where it does not say so itself; the first rule that fits counts.
    pub agents: Vec<AgentRule>,
    /// Prices by model, a glob, where telemetry has none.
    pub prices: BTreeMap<String, ModelPrice>,
}

/// Telemetry with these attributes belongs to that agent.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRule {
    /// Attributes and globs of their values.
    pub r#match: BTreeMap<String, String>,
    /// The agent's name.
    pub agent: String,
    /// Its project; `default` when nothing else says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// US dollars for a million tokens of each type.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// Sent and not read from a cache.
    pub input: f64,
    /// Written, and thought where `reasoning` is not given.
    pub output: f64,
    /// Read from a cache; as `input` when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// Written to a cache; as `input` when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_creation: Option<f64>,
    /// Thought; as `output` when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<f64>,
}

impl ModelPrice {
    /// Prices in the order of every `tokens` array.
    fn by_type(&self) -> [f64; 5] {
        let Self { input, output, cache_read, cache_creation, reasoning } = *self;
        [input, output, cache_read.unwrap_or(input), cache_creation.unwrap_or(input), reasoning.unwrap_or(output)]
    }
}

/// What the tokens cost by the longest pattern that fits the model; `None` when none does. Patterns may name a provider
/// before the model, as models may by other routes.
pub(crate) fn price_of(prices: &BTreeMap<String, ModelPrice>, model: &str, tokens: &[u64; 5]) -> Option<f64> {
    let fitting = prices.iter().filter(|(pattern, _)| glob(&names::model(pattern), model));
    let (_, price) = fitting.max_by_key(|(pattern, _)| pattern.len())?;
    Some(price.by_type().iter().zip(tokens).map(|(price, count)| price * *count as f64 / 1e6).sum())
}

/// Where OTLP is sent when nothing else is said.
pub const DEFAULT_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4318);
/// The same over gRPC.
pub const DEFAULT_GRPC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);

/// Attributes that name a person, a session or a single request, or that hold what was said: each value would be a
/// series of its own, and nobody asked to have it kept.
const DROPPED: [&str; 61] = [
    // Sessions, conversations, threads, tasks.
    "session.id",
    "session_id",
    "*conversation.id",
    "conversation_id",
    "thread.id",
    "thread_id",
    "task.id",
    "task_id",
    "run_id",
    "installation.id",
    // People and accounts.
    "user.*",
    "user_*",
    "enduser.*",
    "organization.*",
    "organization_id",
    "account.*",
    "account_*",
    "*email*",
    "client.address",
    "process.owner",
    // Single requests.
    "*request_id",
    "*request.id",
    "*response.id",
    "*response_id",
    "*message.id",
    "*call.id",
    "*call_id",
    "*trace_id",
    "*trace.id",
    "*span_id",
    "*span.id",
    "prompt.id",
    "*cache_key",
    // What was asked, said and done.
    "prompt",
    "*.prompt",
    "*prompt.*",
    "*completion",
    "*completion.*",
    "completion.*",
    "*messages",
    "*system_instructions",
    "*arguments",
    "*tool.call.result",
    "input",
    "output",
    "*.input",
    "*.output",
    "body",
    "error.message",
    "*exception.message",
    "*stacktrace",
    "*reasoning",
    "process.command*",
    "process.executable.path",
    "process.pid",
    // LiteLLM's per-request notes.
    "metadata.*",
    "hidden_params",
    "requester_metadata",
    // Measurements that some tools put into attributes.
    "cpu_usage_*",
    "*custom_base_url",
    "*api_key*",
];

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            http: Some(DEFAULT_HTTP),
            grpc: Some(DEFAULT_GRPC),
            max_series: 200_000,
            max_series_per_metric: 100_000,
            max_labels: 40,
            max_label_length: 256,
            forget_after: Duration::from_secs(24 * 3600),
            drop_attributes: DROPPED.map(str::to_owned).to_vec(),
            agents: Vec::new(),
            prices: BTreeMap::new(),
        }
    }
}

fn address<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SocketAddr>, D::Error> {
    let Some(text) = Option::<String>::deserialize(input)? else { return Ok(None) };
    let wrong = || {
        let message = format!("`{text}` is not an address with a port; write it like 127.0.0.1:4318, or null for none");
        serde::de::Error::custom(message)
    };
    text.trim().parse().map(Some).map_err(|_| wrong())
}

/// What is wrong with the section.
pub fn validate(config: &OtlpConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |key: &str, message: String| problems.push(Problem::new(key, message).under("otlp"));
    if config.http.is_some() && config.http == config.grpc && config.http.is_some_and(|address| address.port() != 0) {
        report("grpc", "is the same address as otlp.http; give each its own".to_owned());
    }
    for (key, count, most) in [
        ("max_series", config.max_series, 10_000_000),
        ("max_series_per_metric", config.max_series_per_metric, 10_000_000),
        ("max_labels", config.max_labels, 1_000),
        ("max_label_length", config.max_label_length, 65_536),
    ] {
        if !(1..=most).contains(&count) {
            report(key, format!("is {count}; write a number from 1 to {most}"));
        }
    }
    if config.forget_after < Duration::from_secs(600) {
        let given = duration::exact(config.forget_after);
        report("forget_after", format!("is {given}; idle streams would begin anew, write at least 10m"));
    }
    for (place, pattern) in config.drop_attributes.iter().enumerate() {
        if pattern.trim_matches(['*', '?']).is_empty() {
            let message = format!("`{pattern}` is no pattern; write a name, with `*` for any letters");
            report(&format!("drop_attributes[{place}]"), message);
        }
    }
    for (place, rule) in config.agents.iter().enumerate() {
        if rule.r#match.is_empty() {
            report(&format!("agents[{place}].match"), "is empty; name an attribute, such as service.name".to_owned());
        }
        for (key, name) in [("agent", Some(&rule.agent)), ("project", rule.project.as_ref())] {
            if let Some(name) = name.filter(|name| !crate::text::is_name(name, 256)) {
                report(&format!("agents[{place}].{key}"), format!("`{name}` is no name; write a short text"));
            }
        }
    }
    for (model, price) in &config.prices {
        if price.by_type().iter().any(|price| !(price.is_finite() && *price >= 0.0)) {
            report(&format!("prices.{model}"), "has a price below 0; write US dollars for a million tokens".to_owned());
        }
    }
    problems
}

/// Whether an attribute is dropped on arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct DropPatterns(Vec<String>);

impl DropPatterns {
    pub(super) fn new(patterns: &[String]) -> Self {
        Self(patterns.to_vec())
    }

    pub(super) fn matches(&self, key: &str) -> bool {
        self.0.iter().any(|pattern| glob(pattern, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_sessions_and_contents_are_dropped_and_models_are_not() {
        let dropped = DropPatterns::new(&OtlpConfig::default().drop_attributes);
        for key in [
            "session.id",
            "user.email",
            "user.account_uuid",
            "organization.id",
            "gen_ai.conversation.id",
            "gen_ai.response.id",
            "gen_ai.tool.call.id",
            "gen_ai.input.messages",
            "gen_ai.prompt",
            "gen_ai.prompt.0.content",
            "llm.completions.0.completion",
            "request_id",
            "x_request_id",
            "arguments",
            "metadata.requester_metadata",
            "process.command_args",
            "routing.reasoning",
        ] {
            assert!(dropped.matches(key), "{key}");
        }
        for key in [
            "model",
            "gen_ai.request.model",
            "gen_ai.token.type",
            "gen_ai.agent.name",
            "agent.id",
            "type",
            "token_type",
            "error.type",
            "status_code",
            "team",
            "input_type",
            "http.response.status_code",
        ] {
            assert!(!dropped.matches(key), "{key}");
        }
    }

    #[test]
    fn what_can_not_be_meant_is_told() {
        let keys = |config: OtlpConfig| validate(&config).into_iter().map(|problem| problem.path).collect::<Vec<_>>();
        assert!(keys(OtlpConfig::default()).is_empty());
        let config = OtlpConfig {
            grpc: Some(DEFAULT_HTTP),
            max_series: 0,
            forget_after: Duration::from_secs(60),
            drop_attributes: vec!["a*b?".to_owned(), String::new(), "*".to_owned()],
            ..OtlpConfig::default()
        };
        let expected = ["grpc", "max_series", "forget_after", "drop_attributes[1]", "drop_attributes[2]"]
            .map(|key| format!("otlp.{key}"));
        assert_eq!(keys(config), expected);
    }
}

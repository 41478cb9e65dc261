//! The section `otlp` of the configuration: listeners, limits, dropped attributes, and rules that name agents.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::{Problem, duration};
use crate::text::glob::glob;
use crate::text::names;

/// The section `otlp`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// Address of the OTLP/HTTP listener; null disables it. The main listener receives OTLP/HTTP as well.
    #[serde(deserialize_with = "address")]
    pub http: Option<SocketAddr>,
    /// Address of the OTLP/gRPC listener; null disables it.
    #[serde(deserialize_with = "address")]
    pub grpc: Option<SocketAddr>,
    /// Most series, counting each bucket.
    pub max_series: usize,
    /// Most series of one metric.
    pub max_series_per_metric: usize,
    /// Most labels of a series; points with more are rejected.
    pub max_labels: usize,
    /// Longest label value, in bytes; longer ones are cut.
    pub max_label_length: usize,
    /// How long a series is kept after its last point.
    #[serde(with = "crate::model::duration")]
    pub forget_after: Duration,
    /// Globs of attributes that never become labels. Replaces the default list.
    pub drop_attributes: Vec<String>,
    /// Rules that name the agent of telemetry that names none; the first match applies.
    pub agents: Vec<AgentRule>,
    /// Prices of tokens for telemetry without cost, by a glob of the model.
    pub prices: BTreeMap<String, ModelPrice>,
}

/// Assigns telemetry with certain attributes to an agent.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRule {
    /// Attributes, and globs that their values must match.
    pub r#match: BTreeMap<String, String>,
    /// The agent's name.
    pub agent: String,
    /// Its project; `default` where telemetry names none either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Prices in US dollars for a million tokens of each type.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// Input that was not read from a cache.
    pub input: f64,
    /// Output.
    pub output: f64,
    /// Input that was read from a cache; by default the price of `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// Input that was written to a cache; by default the price of `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_creation: Option<f64>,
    /// Reasoning; by default the price of `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<f64>,
}

impl ModelPrice {
    /// The prices in the order of [`crate::model::TokenType::ALL`].
    pub fn by_type(&self) -> [f64; 5] {
        let Self { input, output, cache_read, cache_creation, reasoning } = *self;
        [input, output, cache_read.unwrap_or(input), cache_creation.unwrap_or(input), reasoning.unwrap_or(output)]
    }
}

/// The price of the longest pattern that matches the model.
pub fn find_price<'a>(prices: &'a BTreeMap<String, ModelPrice>, model: &str) -> Option<&'a ModelPrice> {
    let matching = prices.iter().filter(|(pattern, _)| glob(&names::model(pattern), model));
    matching.max_by_key(|(pattern, _)| pattern.len()).map(|(_, price)| price)
}

/// The cost of tokens by the longest pattern that matches the model; `None` when none does. Patterns may have the prefix
/// of a provider, as names of models may.
pub(crate) fn price_of(prices: &BTreeMap<String, ModelPrice>, model: &str, tokens: &[u64; 5]) -> Option<f64> {
    Some(
        find_price(prices, model)?.by_type().iter().zip(tokens).map(|(price, count)| price * *count as f64 / 1e6).sum(),
    )
}

/// The default address of OTLP/HTTP.
pub const DEFAULT_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4318);
/// The default address of OTLP/gRPC.
pub const DEFAULT_GRPC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);

/// Attributes that identify a person, a session or a request, or that hold prompts and outputs. They are private, and each
/// value would become a series of its own.
const DROPPED_BY_DEFAULT: [&str; 61] = [
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
    // Prompts, outputs and commands.
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
    // LiteLLM's metadata of requests.
    "metadata.*",
    "hidden_params",
    "requester_metadata",
    // Measurements and addresses that some tools export as attributes.
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
            drop_attributes: DROPPED_BY_DEFAULT.map(str::to_owned).to_vec(),
            agents: Vec::new(),
            prices: BTreeMap::new(),
        }
    }
}

fn address<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SocketAddr>, D::Error> {
    let Some(text) = Option::<String>::deserialize(input)? else { return Ok(None) };
    let invalid = || {
        let message = format!("`{text}` is not an address with a port; write it like 127.0.0.1:4318, or null for none");
        serde::de::Error::custom(message)
    };
    text.trim().parse().map(Some).map_err(|_| invalid())
}

/// The problems of the section.
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
        report("forget_after", format!("is {given}; the counters of idle streams would reset, write at least 10m"));
    }
    for (place, pattern) in config.drop_attributes.iter().enumerate() {
        if pattern.trim_matches(['*', '?']).is_empty() {
            let message =
                format!("`{pattern}` matches every attribute or none; write a name, with `*` for any characters");
            report(&format!("drop_attributes[{place}]"), message);
        }
    }
    for (place, rule) in config.agents.iter().enumerate() {
        if rule.r#match.is_empty() {
            report(&format!("agents[{place}].match"), "is empty; name an attribute, such as service.name".to_owned());
        }
        for (key, name) in [("agent", Some(&rule.agent)), ("project", rule.project.as_ref())] {
            if let Some(name) = name.filter(|name| !crate::text::is_name(name, 256)) {
                report(
                    &format!("agents[{place}].{key}"),
                    format!("`{name}` is not a valid name; write 1 to 256 bytes of printable text"),
                );
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

/// Globs of attributes that never become labels.
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
    fn private_attributes_are_dropped_and_models_are_not() {
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
    fn invalid_settings_are_reported() {
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

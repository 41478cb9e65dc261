//! What the sections must hold together and beyond their types. Each part's own section is checked by its part;
//! what is checked here is what no part owns.

use std::collections::BTreeSet;
use std::time::Duration;

use super::reader::Found;
use super::{Config, server};
use crate::fleet::config::{Action, Limit};
use crate::store::config::{RecordConfig, StoreConfig};
use crate::text::is_name;
use crate::{ingest, notify, otlp};

/// The longest name of a project or expected agent, in bytes.
const MAX_NAME: usize = 256;

/// Reports everything that is wrong with `config`.
pub(super) fn check(config: &Config, found: &mut Found<'_>) {
    if let Err(message) = config.log.check_level() {
        found.report("log.level", message);
    }
    for (key, message) in config.auth.validate() {
        found.report(&format!("auth.{key}"), message);
    }
    if let Err((key, message)) = config.tls.files() {
        found.report(&format!("tls.{key}"), message.to_owned());
    }
    for (place, host) in config.allowed_hosts.iter().enumerate() {
        if let Err(message) = server::host_and_port(host) {
            found.report(&format!("allowed_hosts[{place}]"), message);
        }
    }
    if config.limits.connections == 0 {
        found.report("limits.connections", "is 0; nobody could connect".to_owned());
    }
    if config.store.retention.is_zero() {
        found.report("store.retention", "is 0s; history needs a time, such as 30d".to_owned());
    }
    let (size, smallest) = (config.store.max_size, StoreConfig::SMALLEST);
    if size < smallest {
        found.report(
            "store.max_size",
            format!("{size} is too small for the state of a fleet; give at least {smallest} bytes"),
        );
    }
    let (size, smallest) = (config.record.max_size, RecordConfig::SMALLEST);
    if size < smallest {
        found.report(
            "record.max_size",
            format!("{size} is too small to record anything; give at least {smallest} bytes"),
        );
    }
    for (key, message) in ingest::validate(&config.sources) {
        found.report(&format!("sources{key}"), message);
    }
    for (key, message) in otlp::config::validate(&config.otlp) {
        found.report(&format!("otlp.{key}"), message);
    }
    for (key, message) in config.pipe.read().1 {
        found.report(&format!("pipe.{key}"), message);
    }
    agents(config, found);
    expected(config, found);
    budgets(config, found);
    if let Some((key, message)) = config.digest.problem() {
        found.report(&format!("digest.{key}"), message);
    }
    for (place, name) in config.digest.receivers.iter().enumerate() {
        if !config.receivers.iter().any(|receiver| receiver.name == *name) {
            let message = format!("there is no receiver `{name}`; name one of `receivers`");
            found.report(&format!("digest.receivers[{place}]"), message);
        }
    }
    for problem in config.heartbeat.validate() {
        found.report(&problem.path, problem.message);
    }
    for problem in notify::config::validate(&config.receivers) {
        found.report(&problem.path, problem.message);
    }
    if let Err(error) = config.rule_set() {
        error.problems.into_iter().for_each(|problem| found.push(problem));
    }
}

fn agents(config: &Config, found: &mut Found<'_>) {
    let agents = &config.agents;
    positive(found, "agents.timeout", agents.timeout);
    positive(found, "agents.max_ttl", agents.max_ttl);
    positive(found, "agents.max_idle", agents.max_idle);
    if agents.forget_after < agents.timeout {
        let [forget, timeout] = [agents.forget_after, agents.timeout].map(crate::model::duration::exact);
        let message =
            format!("{forget} is less than agents.timeout, {timeout}; an agent would be forgotten before it is missed");
        found.report("agents.forget_after", message);
    }
}

fn expected(config: &Config, found: &mut Found<'_>) {
    let mut projects = BTreeSet::new();
    for (index, expected) in config.expected.iter().enumerate() {
        let key = |name: &str| format!("expected[{index}].{name}");
        name(found, &key("project"), &expected.project);
        if !projects.insert(&expected.project) {
            found.report(&key("project"), format!("`{}` is there twice; merge the two", expected.project));
        }
        if expected.agents.is_empty() && expected.count.unwrap_or(0) == 0 {
            found.report(&format!("expected[{index}]"), "expects nobody; give agents, count or both".to_owned());
        }
        let mut agents = BTreeSet::new();
        for (place, agent) in expected.agents.iter().enumerate() {
            let key = format!("expected[{index}].agents[{place}]");
            name(found, &key, agent);
            if !agents.insert(agent) {
                found.report(&key, format!("`{agent}` is there twice; keep one"));
            }
        }
    }
}

fn budgets(config: &Config, found: &mut Found<'_>) {
    let budgets = &config.budgets;
    for (key, tokens) in
        [("budgets.tokens_per_task", budgets.tokens_per_task), ("budgets.tokens_per_day", budgets.tokens_per_day)]
    {
        if let Some(Limit { limit: 0, action }) = tokens {
            let message = "is 0; write null for no budget".to_owned();
            found.report(&limit_key(key, action), message);
        }
    }
    let is_amount = |usd: f64| usd.is_finite() && usd > 0.0;
    if let Some(Limit { limit, action }) = budgets.cost_usd_per_day.filter(|usd| !is_amount(usd.limit)) {
        let message = format!("is {limit}; write an amount above 0, or null for no budget");
        found.report(&limit_key("budgets.cost_usd_per_day", action), message);
    }
    if budgets.zone().is_none() {
        let message =
            format!("`{}` is not a time zone; write its IANA name, such as Europe/Berlin or UTC", budgets.time_zone);
        found.report("budgets.time_zone", message);
    }
}

/// Where the limit of a budget is written: one that stops is written with keys.
fn limit_key(key: &str, action: Action) -> String {
    if action == Action::Stop { format!("{key}.limit") } else { key.to_owned() }
}

fn name(found: &mut Found<'_>, key: &str, name: &str) {
    if name.is_empty() {
        found.report(key, "is empty; give it a name".to_owned());
    } else if !is_name(name, MAX_NAME) {
        found.report(key, format!("holds control characters or more than {MAX_NAME} bytes; choose a plainer name"));
    }
}

fn positive(found: &mut Found<'_>, key: &str, duration: Duration) {
    if duration.is_zero() {
        found.report(key, "is 0s; it must be longer".to_owned());
    }
}

//! Validates a configuration beyond the types of its keys: each section by itself, and conditions across sections.

use super::reader::ConfigProblems;
use super::{Config, flows, server};
use crate::fleet::config::ExpectedConfig;
use crate::runs::config::RunsReadFrom;
use crate::{ingest, notify, otlp};

/// Reports all problems of `config`, in the order of the documentation.
pub(super) fn check(config: &Config, found: &mut ConfigProblems<'_>) {
    found.extend(config.log.validate());
    found.extend(config.auth.validate());
    found.extend(config.tls.validate());
    for (index, host) in config.allowed_hosts.iter().enumerate() {
        if let Err(message) = server::host_and_port(host) {
            found.report(&format!("allowed_hosts[{index}]"), message);
        }
    }
    found.extend(config.limits.validate());
    found.extend(config.store.validate());
    found.extend(config.runs.validate());
    if config.runs.read_from == RunsReadFrom::ClickHouse && config.export.clickhouse.is_none() {
        let message = "needs the section `export.clickhouse`; add it, or set `local`";
        found.report("runs.read_from", message.to_owned());
    }
    found.extend(config.registry.validate());
    found.extend(config.record.validate());
    found.extend(ingest::validate(&config.sources));
    found.extend(flows::validate(&config.flows));
    found.extend(otlp::config::validate(&config.otlp));
    found.extend(config.export.validate());
    found.extend(config.pipe.validate());
    found.extend(config.agents.validate());
    found.extend(ExpectedConfig::validate(&config.expected));
    found.extend(config.budgets.validate());
    found.extend(config.digest.validate());
    for (index, name) in config.digest.receivers.iter().enumerate() {
        if !config.receivers.iter().any(|receiver| receiver.common.name == *name) {
            let message = format!("unknown receiver `{name}`; use one from `receivers`");
            found.report(&format!("digest.receivers[{index}]"), message);
        }
    }
    found.extend(config.heartbeat.validate());
    found.extend(notify::config::validate(&config.receivers));
    found.extend(config.rule_set().err().into_iter().flat_map(|error| error.problems));
}

//! Validates a configuration beyond the types of its keys: each section by itself, and conditions across sections.

use std::net::SocketAddr;

use super::reader::ConfigProblems;
use super::{Config, flows, server};
use crate::fleet::config::ExpectedConfig;
use crate::model::Problem;
use crate::otlp::config::{DEFAULT_GRPC, DEFAULT_HTTP};
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
    if let Some((key, address)) = own_listener(config)
        && !is_default(address)
    {
        let message = format!("is lookout's own `{key}`, so that everything came back; name the collector's address");
        found.report("export.otlp.endpoint", message);
    }
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

/// What is valid and yet likely a mistake, by key.
pub(super) fn notes(config: &Config) -> Vec<Problem> {
    let mut notes = config.export.notes();
    if let Some((key, _)) = own_listener(config) {
        let message =
            format!("is the default address of lookout's own `{key}`; keep it only if a collector has that port");
        notes.push(Problem::new("export.otlp.endpoint", message));
    }
    notes
}

/// The listener of this configuration that it exports to, with its key.
fn own_listener(config: &Config) -> Option<(&'static str, SocketAddr)> {
    let port = config.export.local_port()?;
    let listeners =
        [("listen", Some(config.listen.0)), ("otlp.http", config.otlp.http), ("otlp.grpc", config.otlp.grpc)];
    let listeners = listeners.into_iter().filter_map(|(key, address)| Some((key, address?)));
    listeners.into_iter().find(|(_, address)| address.port() == port)
}

/// Whether a listener is left out where another program has its address.
fn is_default(address: SocketAddr) -> bool {
    [DEFAULT_HTTP, DEFAULT_GRPC].contains(&address)
}

//! What is wrong with a configuration beyond the types of its keys: what each section finds wrong with itself, and what
//! sections must hold together.

use super::reader::Found;
use super::{Config, server};
use crate::fleet::config::ExpectedConfig;
use crate::{ingest, notify, otlp};

/// Reports everything that is wrong with `config`, in the order in which the sections are documented.
pub(super) fn check(config: &Config, found: &mut Found<'_>) {
    found.extend(config.log.validate());
    found.extend(config.auth.validate());
    found.extend(config.tls.validate());
    for (place, host) in config.allowed_hosts.iter().enumerate() {
        if let Err(message) = server::host_and_port(host) {
            found.report(&format!("allowed_hosts[{place}]"), message);
        }
    }
    found.extend(config.limits.validate());
    found.extend(config.store.validate());
    found.extend(config.record.validate());
    found.extend(ingest::validate(&config.sources));
    found.extend(otlp::config::validate(&config.otlp));
    found.extend(config.pipe.validate());
    found.extend(config.agents.validate());
    found.extend(ExpectedConfig::validate(&config.expected));
    found.extend(config.budgets.validate());
    found.extend(config.digest.validate());
    for (place, name) in config.digest.receivers.iter().enumerate() {
        if !config.receivers.iter().any(|receiver| receiver.common.name == *name) {
            let message = format!("there is no receiver `{name}`; name one of `receivers`");
            found.report(&format!("digest.receivers[{place}]"), message);
        }
    }
    found.extend(config.heartbeat.validate());
    found.extend(notify::config::validate(&config.receivers));
    found.extend(config.rule_set().err().into_iter().flat_map(|error| error.problems));
}

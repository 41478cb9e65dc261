//! Sets up logging: to standard error, as text on a terminal and as JSON elsewhere.

use std::io::{self, IsTerminal as _};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context as _, anyhow};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::log::{LogConfig, LogFormat};

/// Sets up logging for this process and returns a function that changes the level; an error when called twice.
pub(super) fn init(config: &LogConfig) -> anyhow::Result<impl Fn(&str) -> anyhow::Result<()> + Send + Sync + use<>> {
    let terminal = io::stderr().is_terminal();
    let (filter, handle) = reload::Layer::new(targets(&config.level)?);
    let lines = layer().with_writer(io::stderr);
    let lines = if is_json(config.format, terminal) {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        lines.with_ansi(AutoStream::choice(&io::stderr()) != ColorChoice::Never).boxed()
    };
    let started = tracing_subscriber::registry().with(lines).with(filter).try_init();
    started.map_err(|error| anyhow!("set up logging: {error}"))?;
    Ok(move |level: &str| handle.reload(targets(level)?).context("set log.level"))
}

fn targets(level: &str) -> anyhow::Result<Targets> {
    level.parse().context("log.level")
}

const fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_default_unless_on_a_terminal() {
        assert!(is_json(LogFormat::Auto, false) && is_json(LogFormat::Json, true));
        assert!(!is_json(LogFormat::Auto, true) && !is_json(LogFormat::Text, false));
    }
}

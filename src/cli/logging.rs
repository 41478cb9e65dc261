//! Starts the log: to standard error, as text on a terminal and JSON elsewhere.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, anyhow};
use tracing_subscriber::EnvFilter;

use crate::config::log::{LogConfig, LogFormat};

/// Starts the log of this process; an error when it was started before.
pub(super) fn init(config: &LogConfig) -> anyhow::Result<()> {
    let terminal = io::stderr().is_terminal();
    let filter: EnvFilter = config.level.parse().context("log.level")?;
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    let started = if is_json(config.format, terminal) {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        builder.with_ansi(terminal && !no_color).try_init()
    };
    started.map_err(|error| anyhow!("start the log: {error}"))
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
    fn json_is_for_programs() {
        assert!(is_json(LogFormat::Auto, false) && is_json(LogFormat::Json, true));
        assert!(!is_json(LogFormat::Auto, true) && !is_json(LogFormat::Text, false));
    }
}

//! The section `log`.

use serde::{Deserialize, Serialize};

use crate::model::Problem;

/// The log levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The format of log lines.
    pub format: LogFormat,
    /// The level: `off`, `error`, `warn`, `info`, `debug` or `trace`; or a comma-separated list of levels and
    /// `module=level`, such as `info,lookout::ingest=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogConfig {
    /// Returns the problems of the section.
    pub fn validate(&self) -> Vec<Problem> {
        self.check_level().err().map(|message| Problem::new("log.level", message)).into_iter().collect()
    }

    /// Checks the level. The filter would take a typo such as `inof` for a module name and log nothing else.
    fn check_level(&self) -> Result<(), String> {
        for directive in self.level.split(',').map(str::trim) {
            let word = directive.rsplit_once('=').map_or(directive, |(_, word)| word);
            if !LEVELS.contains(&word.to_lowercase().as_str()) {
                return Err(format!("`{word}` is not a level; use one of {}", LEVELS.join(", ")));
            }
        }
        match self.level.parse::<tracing_subscriber::filter::Targets>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!(
                "invalid filter `{}`; use a level, or a list such as info,lookout::ingest=debug",
                self.level
            )),
        }
    }
}

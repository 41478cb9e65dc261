//! The section `log`: how and how much is logged.

use serde::{Deserialize, Serialize};

use crate::model::Problem;

/// The words for how much is logged.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What goes to the log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How lines are written.
    pub format: LogFormat,
    /// How much is logged: `off`, `error`, `warn`, `info`, `debug`, `trace`, or a comma list of such words and
    /// of `part=word`, such as `info,lookout::sources=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogConfig {
    /// What is wrong with the section.
    pub fn validate(&self) -> Vec<Problem> {
        self.check_level().err().map(|message| Problem::new("log.level", message)).into_iter().collect()
    }

    /// The filter itself would read a slip like `inof` as the name of a part, and log nothing else.
    fn check_level(&self) -> Result<(), String> {
        for directive in self.level.split(',').map(str::trim) {
            let word = directive.rsplit_once('=').map_or(directive, |(_, word)| word);
            if !LEVELS.contains(&word.to_lowercase().as_str()) {
                return Err(format!("`{word}` is not a level; use one of {}", LEVELS.join(", ")));
            }
        }
        match self.level.parse::<tracing_subscriber::filter::Targets>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("`{}` can't be read; write it like info,lookout::sources=debug", self.level)),
        }
    }
}

//! The section `pipe`: patterns by which `lookout pipe` understands text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text::{MAX_PATTERNS, Pattern};

/// What `lookout pipe` reads out of text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipeConfig {
    /// Regular expressions by what a line that fits one of them means.
    pub patterns: BTreeMap<String, Vec<String>>,
}

impl PipeConfig {
    /// The patterns that can be used, and what is wrong with the others: key below `pipe`, and message.
    pub fn read(&self) -> (Vec<Pattern>, Vec<(String, String)>) {
        let (mut patterns, mut problems) = (Vec::new(), Vec::new());
        for (key, regexes) in &self.patterns {
            for (place, regex) in regexes.iter().enumerate() {
                match Pattern::new(key, regex) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(error) => problems.push((format!("patterns.{key}[{place}]"), error.to_string())),
                }
            }
        }
        if patterns.len() > MAX_PATTERNS {
            problems
                .push(("patterns".to_owned(), format!("has more than {MAX_PATTERNS} patterns; join some with `|`")));
        }
        (patterns, problems)
    }
}

//! Environment variables that configure lookout: `LOOKOUT_…` with `__` for nesting, and the shorthand variables.
//!
//! Passed as a value, so that tests never touch the environment of the process. Other variables are not kept, and values
//! are never printed.

use std::collections::BTreeMap;
use std::fmt;

use figment::value::Value;

use crate::written::yaml;

/// The prefix of variables that override keys.
const PREFIX: &str = "LOOKOUT_";

/// Variables with the prefix that are options of commands rather than keys.
const OPTIONS: [&str; 3] = ["LOOKOUT_CONFIG", "LOOKOUT_URL", "LOOKOUT_TOKEN_FILE"];

// The shorthand variables; see `shorthand`.
pub(super) const SLACK_WEBHOOK_URL: &str = "SLACK_WEBHOOK_URL";
pub(super) const SLACK_WEBHOOK_URL_FILE: &str = "SLACK_WEBHOOK_URL_FILE";
pub(super) const SMTP_HOST: &str = "SMTP_HOST";
pub(super) const SMTP_PORT: &str = "SMTP_PORT";
pub(super) const SMTP_USER: &str = "SMTP_USER";
pub(super) const SMTP_PASSWORD: &str = "SMTP_PASSWORD";
pub(super) const SMTP_PASSWORD_FILE: &str = "SMTP_PASSWORD_FILE";
pub(super) const ALERT_EMAIL_TO: &str = "ALERT_EMAIL_TO";

/// All shorthand variables.
const SHORTHAND: [&str; 8] = [
    SLACK_WEBHOOK_URL,
    SLACK_WEBHOOK_URL_FILE,
    SMTP_HOST,
    SMTP_PORT,
    SMTP_USER,
    SMTP_PASSWORD,
    SMTP_PASSWORD_FILE,
    ALERT_EMAIL_TO,
];

/// The configuration variables by name. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of the process.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect()
    }

    /// The value of `name`. An empty one counts as unset, since compose files pass unset variables as empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// The raw value that overrides the key at `path`.
    pub(super) fn raw(&self, path: &[String]) -> Option<&str> {
        self.get(&variable(path))
    }

    /// The name of the variable that sets the key at `path`: its own, or that of an enclosing section.
    pub(super) fn variable_for(&self, path: &[String]) -> String {
        let prefixes = (1..=path.len()).rev().filter_map(|length| path.get(..length));
        prefixes.map(variable).find(|name| self.get(name).is_some()).unwrap_or_else(|| variable(path))
    }

    /// The overrides as path and value.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (Vec<String>, Value)> {
        self.0.iter().filter(|(name, value)| !value.trim().is_empty() && !OPTIONS.contains(&name.as_str())).filter_map(
            |(name, value)| {
                let key = name.strip_prefix(PREFIX).filter(|key| !is_service_link(key))?;
                let path = key.to_lowercase().split("__").map(str::to_owned).collect();
                Some((path, yaml::of_variable(value)))
            },
        )
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let all = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(all.filter(|(name, _)| name.starts_with(PREFIX) || SHORTHAND.contains(&name.as_str())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

/// The variable that overrides the key at `path`.
fn variable(path: &[String]) -> String {
    format!("{PREFIX}{}", path.join("__").to_uppercase())
}

/// Whether it is a variable that Kubernetes sets in every pod for a service named `lookout…`.
fn is_service_link(key: &str) -> bool {
    ["SERVICE_HOST", "SERVICE_PORT", "PORT"].iter().any(|end| key == *end || key.ends_with(&format!("_{end}")))
        || ["SERVICE_PORT_", "PORT_"]
            .iter()
            .any(|part| key.find(part).is_some_and(|at| at == 0 || key.as_bytes().get(at - 1) == Some(&b'_')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_of_kubernetes_are_not_configuration() {
        for key in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "PORT",
            "PORT_9797_TCP",
            "PORT_9797_TCP_ADDR",
            "WEB_SERVICE_HOST",
            "WEB_PORT_80_TCP_PROTO",
        ] {
            assert!(is_service_link(key), "{key}");
        }
        for key in ["LISTEN", "REPORT", "AGENTS__TIMEOUT", "SUPPORT_LEVEL"] {
            assert!(!is_service_link(key), "{key}");
        }
    }

    #[test]
    fn debug_shows_only_names_and_other_variables_are_not_kept() {
        let env: Environment = [("SLACK_WEBHOOK_URL", "hunter2"), ("HOME", "/root")].into_iter().collect();
        assert_eq!(format!("{env:?}"), r#"{"SLACK_WEBHOOK_URL"}"#);
    }
}

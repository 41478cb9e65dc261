//! The shipped dashboards, Prometheus rules and built-in rules: each name in them must exist.

mod dashboards;
mod families;
mod promql;
mod rules;

use crate::Case;

pub(crate) fn trials() -> Vec<Case> {
    [dashboards::trials(), promql::trials(), rules::trials()].into_iter().flatten().collect()
}

/// Every query of all dashboards as Prometheus sees it, with its panel's title.
pub(crate) fn panel_queries() -> Vec<(String, String)> {
    dashboards::filled()
}

/// A file of the project, read as YAML or JSON.
fn document(path: &str) -> serde_json::Value {
    let text = crate::tidy::text(path).expect("a bundle is text");
    if path.ends_with(".json") {
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
    } else {
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// The list under a key; empty if there is none.
fn list<'a>(value: &'a serde_json::Value, key: &str) -> &'a [serde_json::Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The text under a key; empty if there is none.
fn word<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

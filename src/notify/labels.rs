//! Alerts as labels and annotations, as programs of Prometheus' kind know them.

use std::collections::BTreeMap;

use crate::model::{Level, Notice};

/// The labels of an alert at `level`: who it is, and never a value.
pub(super) fn of(notice: &Notice, level: Level) -> BTreeMap<String, String> {
    let mut labels =
        BTreeMap::from([("alertname".to_owned(), notice.rule.to_string()), ("severity".to_owned(), level.to_string())]);
    if let Some(project) = notice.subject.project() {
        labels.insert("project".to_owned(), project.to_string());
    }
    labels.insert(notice.subject.label().to_owned(), notice.subject.name().to_string());
    labels
}

/// What there is to say of it.
pub(super) fn annotations(notice: &Notice) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([("summary".to_owned(), notice.message.to_string())]);
    if !notice.action.is_empty() {
        annotations.insert("action".to_owned(), notice.action.to_string());
    }
    if let Some(value) = notice.value.filter(|value| value.is_finite()) {
        annotations.insert("value".to_owned(), value.to_string());
    }
    if let Some(ending) = notice.ending {
        annotations.insert("ending".to_owned(), ending.as_str().to_owned());
    }
    annotations
}

/// Where somebody can look it up.
pub(super) fn link(notice: &Notice, external_url: &str) -> String {
    if external_url.is_empty() || !notice.kind.is_of_alert() {
        return external_url.to_owned();
    }
    format!("{}/api/alerts/{}/why", external_url.trim_end_matches('/'), notice.fingerprint)
}

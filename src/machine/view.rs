//! Alerts as the API shows them.

use std::sync::Arc;

use serde::Serialize;

use crate::alerts::NotificationStatus;
use crate::alerts::timeline;
use crate::model::{Alert, AlertState, Fingerprint, Level, Subject, Time, WallClock};

/// Which alerts to list; `None` matches all.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    /// Of this level.
    pub level: Option<Level>,
    /// In this state: `pending`, `firing`, `resolved`.
    pub state: Option<String>,
    /// This one.
    pub fingerprint: Option<Fingerprint>,
    /// About something of this project.
    pub project: Option<String>,
    /// About this agent.
    pub agent: Option<String>,
    /// Of this rule.
    pub rule: Option<String>,
    /// About an agent that works on this task, or worked on it when the alert fired.
    pub task: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// An alert as `/api/alerts` shows it.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct AlertView {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// The rule's name.
    pub rule: Arc<str>,
    /// Its level.
    pub level: Level,
    /// Its state.
    pub state: AlertState,
    /// Its project; a source has none.
    pub project: Option<Arc<str>>,
    /// The agent it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<Arc<str>>,
    /// The task that the agent works on; of a resolved alert, the one that it worked on when it fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Arc<str>>,
    /// The component it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<Arc<str>>,
    /// The source it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// The receiver it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<Arc<str>>,
    /// The sidecar, when it is about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Arc<str>>,
    /// The value last seen.
    pub value: Option<f64>,
    /// The threshold it broke.
    pub threshold: Option<f64>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub action: String,
    /// When the rule was first broken, RFC 3339.
    pub started_at: String,
    /// When it began to fire, RFC 3339.
    pub fired_at: Option<String>,
    /// When it was resolved, RFC 3339.
    pub resolved_at: Option<String>,
    /// Unix seconds of the last change.
    pub timestamp: f64,
    /// Whether it is resolved.
    pub resolved: bool,
    /// Whether its value is unknown at present.
    pub no_data: bool,
    /// The rule whose alert inhibits it.
    pub inhibited_by: Option<Arc<str>>,
    /// Who acknowledged it.
    pub acked_by: Option<String>,
    /// The id of the silence that matches it.
    pub silenced_by: Option<String>,
}

/// RFC 3339 of an optional time.
fn rfc3339(time: Option<Time>) -> Option<String> {
    time.map(|time| time.to_string())
}

/// What a receiver was notified of an alert, and why it is not notified now, as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct NotificationStatusView {
    /// Its name.
    pub receiver: Arc<str>,
    /// The level that it was last notified of; `None` when that was a resolve, or it was not notified.
    pub notified: Option<&'static str>,
    /// Why it is not notified now, as a word.
    pub reason: Option<&'static str>,
    /// The same in a sentence.
    pub text: String,
}

/// An alert and what each receiver was notified of it.
#[derive(Clone, Debug)]
pub struct AlertExplanation {
    /// The alert.
    pub alert: AlertView,
    /// The receivers, in the order of the configuration.
    pub receivers: Vec<NotificationStatusView>,
}

impl AlertFilter {
    /// Whether it matches `alert`.
    pub fn covers(&self, alert: &Alert) -> bool {
        let is_agent =
            |name: &String| matches!(&alert.subject, Subject::Agent { name: agent, .. } if **agent == **name);
        self.level.is_none_or(|level| alert.level == level)
            && self.state.as_ref().is_none_or(|state| alert.state.as_str() == state)
            && self.rule.as_ref().is_none_or(|rule| *alert.rule == **rule)
            && self.agent.as_ref().is_none_or(is_agent)
            && self.fingerprint.is_none_or(|fingerprint| alert.fingerprint == fingerprint)
            && self.project.as_ref().is_none_or(|project| alert.subject.project().is_some_and(|own| **own == **project))
    }
}

impl AlertView {
    /// `alert` with these texts and the wall clock's times.
    pub fn of(wall: &WallClock, alert: &Alert, message: String, action: String) -> Self {
        let named = |label: &str| (alert.subject.label() == label).then(|| Arc::clone(alert.subject.name()));
        Self {
            fingerprint: alert.fingerprint,
            rule: Arc::clone(&alert.rule),
            level: alert.level,
            state: alert.state,
            project: alert.subject.project().cloned(),
            agent_name: named("agent_name"),
            task_id: None,
            component: named("component"),
            source: named("source"),
            receiver: named("receiver"),
            sidecar: named("sidecar"),
            value: alert.value,
            threshold: alert.threshold,
            message,
            action,
            started_at: wall.to_wall(alert.started_at).to_string(),
            fired_at: rfc3339(alert.fired_at.map(|at| wall.to_wall(at))),
            resolved_at: rfc3339(alert.resolved_at.map(|at| wall.to_wall(at))),
            timestamp: wall.to_wall(alert.changed_at).as_secs_f64(),
            resolved: alert.state == AlertState::Resolved,
            no_data: alert.no_data,
            inhibited_by: alert.inhibited_by.clone(),
            acked_by: alert.ack.as_ref().map(|ack| ack.by.to_string()),
            silenced_by: None,
        }
    }
}

impl From<NotificationStatus> for NotificationStatusView {
    fn from(status: NotificationStatus) -> Self {
        let text = match (&status.suppressed, status.notified) {
            (Some(suppressed), _) => timeline::suppressed(suppressed),
            (None, Some(level)) => format!("notified at {level}; nothing is due"),
            (None, None) => "nothing is due".to_owned(),
        };
        Self {
            receiver: status.receiver,
            notified: status.notified.map(crate::model::Level::as_str),
            reason: status.suppressed.map(|suppressed| suppressed.as_str()),
            text,
        }
    }
}

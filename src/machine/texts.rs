//! The texts of alerts: the templates of their rules, filled with what is known of their subjects.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{AlertExplanation, AlertFilter, AlertView, Machine, NotificationStatusView};
use crate::alerts;
use crate::model::{
    ActiveRateLimit, Agent, Alert, AlertState, Class, ClosedAlert, Fingerprint, Level, Notice, Subject, Time, Worst,
};
use crate::rules::TemplateData;

/// The most agents that the text of one alert names.
const MAX_NAMED_AGENTS: usize = 20;

/// The part of an alert or notice that its texts need.
struct TextInput<'a> {
    rule: &'a str,
    subject: &'a Subject,
    level: Level,
    value: Option<f64>,
    threshold: Option<f64>,
    /// Whether the text lists the agents that it is about.
    lists_agents: bool,
}

impl<'a> From<&'a Alert> for TextInput<'a> {
    fn from(alert: &'a Alert) -> Self {
        let lists_agents = alert.state != AlertState::Resolved;
        let Worst { level, value, threshold } = match alert.worst {
            // A resolved alert reports its peak, not its last value.
            Some(worst) if !lists_agents => worst,
            _ => Worst { level: alert.level, value: alert.value, threshold: alert.threshold },
        };
        Self { rule: &alert.rule, subject: &alert.subject, level, value, threshold, lists_agents }
    }
}

impl<'a> From<&'a Notice> for TextInput<'a> {
    fn from(notice: &'a Notice) -> Self {
        let Notice { rule, subject, value, threshold, .. } = notice;
        let level = notice.peak.unwrap_or(notice.level);
        Self { rule, subject, level, value: *value, threshold: *threshold, lists_agents: notice.kind.is_firing() }
    }
}

impl Machine {
    /// The pending and firing alerts that match `filter`, highest level first, then newest first.
    pub fn list(&self, now: Time, filter: &AlertFilter) -> Vec<AlertView> {
        let mut found: Vec<&Alert> = self.alerts.open().filter(|alert| filter.covers(alert)).collect();
        found.sort_unstable_by_key(|alert| (Reverse(alert.level), Reverse(alert.started_at), alert.fingerprint));
        found.truncate(filter.limit);
        found.into_iter().map(|alert| self.alert_view(now, alert)).collect()
    }

    /// An alert and what each receiver was notified of it; `None` when it is not known.
    pub fn explain_alert(&self, now: Time, fingerprint: Fingerprint) -> Option<AlertExplanation> {
        let (alert, notification_statuses) = self.alerts.notification_statuses(now, fingerprint)?;
        let receivers = notification_statuses.into_iter().map(NotificationStatusView::from).collect();
        Some(AlertExplanation { alert: self.alert_view(now, alert), receivers })
    }

    /// All firing alerts that `receiver` was notified of, as repeat notices with texts.
    pub fn firing_for(&self, now: Time, receiver: &str) -> Vec<Arc<Notice>> {
        self.with_texts(now, self.alerts.firing_for(now, receiver).into_iter())
    }

    fn alert_view(&self, now: Time, alert: &Alert) -> AlertView {
        let (message, action) = self.texts(now, &TextInput::from(alert));
        let silence = self.alerts.silence_of(now, alert).map(|silence| silence.id.to_string());
        AlertView { silenced_by: silence, ..AlertView::of(&self.fleet.state().wall, alert, message, action) }
    }

    /// `notices` with their texts, which are rendered once per alert.
    pub(super) fn with_texts(&self, now: Time, notices: impl Iterator<Item = Notice>) -> Vec<Arc<Notice>> {
        let mut worded: Vec<Arc<Notice>> = Vec::with_capacity(notices.size_hint().0);
        let mut last: Option<(Fingerprint, Arc<str>, Arc<str>)> = None;
        for mut notice in notices {
            if !notice.kind.is_of_alert() {
                worded.push(Arc::new(notice));
                continue;
            }
            let (message, action) = match last.take() {
                Some((fingerprint, message, action)) if fingerprint == notice.fingerprint => (message, action),
                _ => {
                    let (message, action) = self.texts(now, &TextInput::from(&notice));
                    (Arc::from(message), Arc::from(action))
                }
            };
            last = Some((notice.fingerprint, Arc::clone(&message), Arc::clone(&action)));
            (notice.message, notice.action) = (message, action);
            worded.push(Arc::new(notice));
        }
        worded
    }

    /// `alert` with its texts.
    pub(super) fn closed_with_texts(&self, now: Time, alert: Alert) -> ClosedAlert {
        let (message, action) = self.texts(now, &TextInput::from(&alert));
        ClosedAlert { alert, message: message.into(), action: action.into() }
    }

    /// The changed alerts that began to fire at `now`, with their texts.
    pub(super) fn firing_since(&self, now: Time, ledger: &alerts::AlertChanges) -> Vec<ClosedAlert> {
        let begins = |alert: &&Alert| alert.state == AlertState::Firing && alert.changed_at == now;
        ledger.changed.iter().filter(begins).map(|alert| self.closed_with_texts(now, alert.clone())).collect()
    }

    /// The texts of an alert: summary and action.
    fn texts(&self, now: Time, described: &TextInput<'_>) -> (String, String) {
        let state = self.fleet.state();
        let mut agents = Vec::new();
        let mut reason = None;
        let mut limits = Vec::new();
        match described.subject {
            Subject::Cluster { project } if described.lists_agents => {
                let is_about: fn(&Agent) -> bool = match self.rules.class(described.rule) {
                    Some(Class::AgentsLimited) => |agent| agent.limited.is_some(),
                    _ => Agent::is_down,
                };
                let about: Vec<&Agent> =
                    state.agents.iter().filter(|agent| *agent.project == **project && is_about(agent)).collect();
                agents = named(&about);
                limits = about.iter().filter_map(|agent| agent.limited.as_ref()).collect();
            }
            Subject::Agent { project, name } => {
                let agent = self.fleet.find(project, name);
                reason = agent.and_then(|agent| agent.reason.as_deref());
                limits.extend(agent.and_then(|agent| agent.limited.as_ref()));
            }
            _ => {}
        }
        // When the last of them is no longer rate-limited, if that is known of all.
        let until = limits.iter().map(|limit| limit.until).collect::<Option<Vec<Time>>>();
        let until = until.and_then(|ends| ends.into_iter().max()).map(|end| state.wall.to_wall(end));
        let provider = shared(&limits);
        let TextInput { rule, subject, level, value, threshold, .. } = *described;
        let (at, zone) = (now, self.fleet.time_zone());
        let facts =
            TemplateData { subject, level, value, threshold, reason, agents: &agents, until, provider, at, zone };
        self.rules.describe(rule, &facts)
    }
}

/// The provider of all of them, if it is the same.
fn shared<'a>(limits: &[&'a ActiveRateLimit]) -> Option<&'a str> {
    let first = limits.first()?.provider.as_deref()?;
    limits.iter().all(|limit| limit.provider.as_deref() == Some(first)).then_some(first)
}

fn named(agents: &[&Agent]) -> Vec<String> {
    let mut names: Vec<String> = agents.iter().take(MAX_NAMED_AGENTS).map(|agent| agent.name.to_string()).collect();
    let more = agents.len().saturating_sub(MAX_NAMED_AGENTS);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names
}

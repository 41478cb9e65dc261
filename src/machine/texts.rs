//! The texts of alerts: the templates of their rules, filled with what is known of their subjects.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{AlertExplanation, AlertFilter, AlertView, Machine, NotificationStatusView};
use crate::alerts;
use crate::model::{
    ActiveRateLimit, Agent, AgentStatus, Alert, AlertState, Budget, Class, ClosedAlert, Component, ComponentStatus,
    DescribedRun, Ending, Fingerprint, Level, Notice, Project, Subject, Time, Worst,
};
use crate::rules::{AlertTexts, Indicator, TemplateData};

/// The most agents that the text of one alert names.
const MAX_NAMED_AGENTS: usize = 20;

/// The part of an alert or notice that its texts need.
struct TextInput<'a> {
    rule: &'a str,
    subject: &'a Subject,
    level: Level,
    value: Option<f64>,
    threshold: Option<f64>,
    /// Whether the alert is not over, so that what is known now is what it is about.
    is_current: bool,
}

impl<'a> TextInput<'a> {
    /// That of `alert` as it is at `now`.
    fn of(alert: &'a Alert, now: Time) -> Self {
        let is_current = alert.state != AlertState::Resolved;
        let Worst { level, value, threshold } = match alert.worst {
            // A resolved alert reports its peak, not its last value.
            Some(worst) if !is_current => worst,
            _ => Worst { level: alert.level, value: alert.value_at(now), threshold: alert.threshold },
        };
        Self { rule: &alert.rule, subject: &alert.subject, level, value, threshold, is_current }
    }
}

impl<'a> From<&'a Notice> for TextInput<'a> {
    fn from(notice: &'a Notice) -> Self {
        let Notice { rule, subject, value, threshold, .. } = notice;
        let level = notice.peak.unwrap_or(notice.level);
        Self { rule, subject, level, value: *value, threshold: *threshold, is_current: notice.kind.is_firing() }
    }
}

/// What the fleet knows of the subject of an alert.
#[derive(Default)]
struct Known<'a> {
    status: Option<&'a str>,
    reason: Option<&'a str>,
    agent: Option<&'a Agent>,
    agents: Vec<String>,
    components: Vec<String>,
    project: Option<&'a Project>,
    limits: Vec<&'a ActiveRateLimit>,
    total: Option<u32>,
}

impl Machine {
    /// The pending and firing alerts that match `filter`, highest level first, then newest first.
    pub fn list(&self, now: Time, filter: &AlertFilter) -> Vec<AlertView> {
        let is_of_task = |alert: &&Alert| {
            filter.task.as_ref().is_none_or(|task| self.task_of(alert).is_some_and(|known| **known == **task))
        };
        let mut found: Vec<&Alert> =
            self.alerts.open().filter(|alert| filter.covers(alert)).filter(is_of_task).collect();
        found.sort_unstable_by_key(|alert| (Reverse(alert.level), Reverse(alert.started_at), alert.fingerprint));
        found.truncate(filter.limit);
        found.into_iter().map(|alert| self.alert_view(now, alert)).collect()
    }

    /// Up to `limit` of the pending and firing alerts, highest level first, then newest first.
    pub fn worst_alerts(&self, limit: usize) -> Vec<Fingerprint> {
        let mut found: Vec<_> = self
            .alerts
            .open()
            .map(|alert| (Reverse(alert.level), Reverse(alert.started_at), alert.fingerprint))
            .collect();
        found.sort_unstable();
        found.into_iter().take(limit).map(|(.., fingerprint)| fingerprint).collect()
    }

    /// An alert and what each receiver was notified of it; `None` when it is not known.
    pub fn explain_alert(&self, now: Time, fingerprint: Fingerprint) -> Option<AlertExplanation> {
        let (alert, notification_statuses) = self.alerts.notification_statuses(now, fingerprint)?;
        let receivers = notification_statuses.into_iter().map(NotificationStatusView::from).collect();
        Some(AlertExplanation { alert: self.alert_view(now, alert), receivers })
    }

    /// These alerts as the API shows them.
    pub fn alert_views<'a>(&self, now: Time, alerts: impl Iterator<Item = &'a Alert>) -> Vec<AlertView> {
        alerts.map(|alert| self.alert_view(now, alert)).collect()
    }

    /// All firing alerts that `receiver` was notified of, as repeat notices with texts.
    pub fn firing_for(&self, now: Time, receiver: &str) -> Vec<Arc<Notice>> {
        self.with_texts(now, self.alerts.firing_for(now, receiver).into_iter())
    }

    fn alert_view(&self, now: Time, alert: &Alert) -> AlertView {
        let AlertTexts { summary, action } = self.texts(now, &TextInput::of(alert, now), None);
        let silence = self.alerts.silence_of(now, alert).map(|silence| silence.id.to_string());
        let view = AlertView::of(&self.fleet.state().wall, alert, summary, action);
        let task_id = self.task_of(alert).map(Arc::clone);
        AlertView { silenced_by: silence, value: alert.value_at(now), task_id, ..view }
    }

    /// The task of the agent that `alert` is about.
    fn task_of(&self, alert: &Alert) -> Option<&Arc<str>> {
        let Subject::Agent { project, name } = &alert.subject else { return None };
        self.fleet.find(project, name)?.task.as_ref().map(|task| &task.id)
    }

    /// `notices` with their texts; receivers of one alert get the same ones.
    pub(super) fn with_texts(&self, now: Time, notices: impl Iterator<Item = Notice>) -> Vec<Arc<Notice>> {
        let mut worded: Vec<Arc<Notice>> = Vec::with_capacity(notices.size_hint().0);
        let mut last: Option<Arc<Notice>> = None;
        for mut notice in notices {
            if !notice.kind.is_of_alert() {
                worded.push(Arc::new(notice));
                continue;
            }
            notice.unit = self.rules.unit(&notice.rule);
            let is_same = |last: &&Arc<Notice>| {
                last.fingerprint == notice.fingerprint
                    && last.kind.is_firing() == notice.kind.is_firing()
                    && last.now_at == notice.now_at
            };
            (notice.message, notice.action) = match last.as_ref().filter(is_same) {
                Some(last) => (Arc::clone(&last.message), Arc::clone(&last.action)),
                None => {
                    let texts = self.texts(now, &TextInput::from(&notice), ending(&notice));
                    (texts.summary.into(), texts.action.into())
                }
            };
            let notice = Arc::new(notice);
            last = Some(Arc::clone(&notice));
            worded.push(notice);
        }
        worded
    }

    /// `alert` with its texts.
    pub(super) fn closed_with_texts(&self, now: Time, alert: Alert) -> ClosedAlert {
        let texts = self.texts(now, &TextInput::of(&alert, now), None);
        let task_id = self.alert_tasks.get(&alert.fingerprint).or_else(|| self.task_of(&alert)).map(Arc::clone);
        ClosedAlert { alert, message: texts.summary.into(), action: texts.action.into(), task_id }
    }

    /// Remembers the tasks of alerts that fire: by the time that one resolves, its agent may work on another.
    pub(super) fn note_tasks(&mut self, ledger: &alerts::AlertChanges) {
        for alert in ledger.changed.iter().filter(|alert| alert.state == AlertState::Firing) {
            if !self.alert_tasks.contains_key(&alert.fingerprint)
                && let Some(task) = self.task_of(alert).map(Arc::clone)
            {
                self.alert_tasks.insert(alert.fingerprint, task);
            }
        }
    }

    /// Of what changed, the alerts that began to fire at `now`, with their texts.
    pub(super) fn firing_since(&self, now: Time, ledger: &alerts::AlertChanges) -> Vec<ClosedAlert> {
        let begins = |alert: &&Alert| alert.state == AlertState::Firing && alert.changed_at == now;
        ledger.changed.iter().filter(begins).map(|alert| self.closed_with_texts(now, alert.clone())).collect()
    }

    /// The texts of an alert; with `resolved`, how its resolve reads in place of the summary.
    fn texts(&self, now: Time, described: &TextInput<'_>, resolved: Option<Resolved>) -> AlertTexts {
        let known = self.known(described);
        let state = self.fleet.state();
        // When the last of them may go on, if that is known of all.
        let until = known.limits.iter().map(|limit| limit.until).collect::<Option<Vec<Time>>>();
        let until = until.and_then(|ends| ends.into_iter().max()).map(|end| state.wall.to_wall(end));
        let (used, budget) = self.budget(described.rule, known.agent);
        let TextInput { rule, subject, level, value, threshold, .. } = *described;
        let data = TemplateData {
            value,
            threshold,
            status: known.status,
            // What is given now is not why an alert fired that is over.
            reason: known.reason.filter(|reason| !reason.is_empty() && described.is_current),
            down: known.agent.is_some_and(Agent::is_down),
            task: known.agent.and_then(|agent| agent.task.as_ref()).map(|task| &*task.id),
            progress: known.agent.and_then(|agent| agent.progress),
            used,
            budget,
            stop: known.agent.map_or("", |agent| self.stop_of(agent)),
            agents: &known.agents,
            components: &known.components,
            total: known.total,
            up: known.project.map(|project| project.up),
            expected: known.project.map(|project| project.wanted.unwrap_or(project.expected)),
            until,
            provider: shared(&known.limits),
            run: self.run_of(now, rule, known.agent).filter(|_| described.is_current),
            ..TemplateData::new(subject, level, now, self.fleet.time_zone())
        };
        match resolved {
            Some(Resolved(ending)) => {
                let summary = self.rules.resolution(rule, &data, ending.as_deref());
                AlertTexts { summary, action: String::new() }
            }
            None => self.rules.describe(rule, &data),
        }
    }

    /// What is known of the subject of an alert.
    fn known(&self, described: &TextInput<'_>) -> Known<'_> {
        let state = self.fleet.state();
        match described.subject {
            Subject::Agent { project, name } => {
                let agent = self.fleet.find(project, name);
                Known {
                    status: agent.and_then(|agent| agent.status).map(AgentStatus::as_str),
                    reason: agent.and_then(|agent| agent.reason.as_deref()),
                    agent,
                    limits: agent.and_then(|agent| agent.limited.as_ref()).into_iter().collect(),
                    ..Known::default()
                }
            }
            Subject::Component { project, name } => {
                let component = state.components.iter().find(|it| it.project == *project && it.name == *name);
                Known {
                    status: component.map(|component| component.status.as_str()),
                    reason: component.and_then(|component| component.details.as_deref()),
                    ..Known::default()
                }
            }
            Subject::Source { name } => {
                let source = state.sources.iter().find(|source| source.name == *name);
                let reason = source.and_then(|source| source.last_error.as_deref());
                let total = state.agents.iter().filter(|agent| agent.source == *name).count();
                Known { reason, total: Some(u32::try_from(total).unwrap_or(u32::MAX)), ..Known::default() }
            }
            Subject::Receiver { name } => Known { reason: self.sidecar.last_error(name), ..Known::default() },
            Subject::Cluster { project } => {
                let project = state.projects.iter().find(|known| known.name == *project).map(|known| &**known);
                let known = Known { project, total: project.map(|project| project.agents), ..Known::default() };
                if described.is_current { self.with_lists(described, known) } else { known }
            }
            Subject::Sidecar { .. } => {
                let is_export = self.rules.indicator(described.rule) == Some(Indicator::ExportWaitingSeconds);
                Known { reason: self.sidecar.waiting_for().filter(|_| is_export), ..Known::default() }
            }
        }
    }

    /// `known` of a project with those that the alert is about.
    fn with_lists<'a>(&'a self, described: &TextInput<'_>, known: Known<'a>) -> Known<'a> {
        let (state, name) = (self.fleet.state(), described.subject.name());
        let is_about: fn(&Agent) -> bool = match self.rules.class(described.rule) {
            Some(Class::AgentsLimited) => |agent| agent.limited.is_some(),
            _ => Agent::is_down,
        };
        let about: Vec<&Agent> = state.agents.iter().filter(|it| it.project == *name && is_about(it)).collect();
        let failed = |it: &&Component| it.project == *name && it.status == ComponentStatus::Error;
        let components = state.components.iter().filter(failed).take(MAX_NAMED_AGENTS).map(|component| {
            let details = component.details.as_deref().filter(|details| !details.is_empty());
            details.map_or_else(|| component.name.to_string(), |details| format!("{}: {details}", component.name))
        });
        Known {
            agents: named(&about),
            components: components.collect(),
            limits: about.iter().filter_map(|agent| agent.limited.as_ref()).collect(),
            ..known
        }
    }

    /// What `agent` has used of the budget that `rule` is about, and that budget.
    fn budget(&self, rule: &str, agent: Option<&Agent>) -> (Option<f64>, Option<f64>) {
        let budgets = &self.fleet.state().budgets;
        let (used, budget) = match self.rules.indicator(rule) {
            Some(Indicator::TaskBudgetRatio) => (
                agent.and_then(|agent| agent.task.as_ref()).map(|task| task.tokens as f64),
                budgets.tokens_per_task.map(|budget| budget as f64),
            ),
            Some(Indicator::DayBudgetRatio | Indicator::DayBudgetGoneInSeconds) => {
                (agent.map(|agent| agent.day_tokens as f64), budgets.tokens_per_day.map(|budget| budget as f64))
            }
            Some(Indicator::DayCostRatio | Indicator::DayCostGoneInSeconds) => {
                (agent.map(|agent| agent.day_cost_usd), budgets.cost_usd_per_day)
            }
            _ => (None, None),
        };
        (used, budget)
    }

    /// The run of `agent` that `rule` is about.
    fn run_of<'a>(&self, now: Time, rule: &str, agent: Option<&'a Agent>) -> Option<DescribedRun<'a>> {
        let runs = agent?.runs.as_ref()?;
        match self.rules.indicator(rule)? {
            Indicator::RunSeconds => runs.slowest(now),
            Indicator::RunCostUsd => runs.costliest(),
            Indicator::Runs | Indicator::RunErrors => runs.failure(),
            _ => None,
        }
    }

    /// Whether a budget stopped `agent`: `stopped`, `ordered` while it has yet to obey, else nothing.
    fn stop_of(&self, agent: &Agent) -> &'static str {
        if agent.reason.as_deref().is_some_and(|reason| Budget::ALL.iter().any(|budget| reason == budget.reason())) {
            return "stopped";
        }
        if self.enforcement.orders().has(&agent.project, &agent.name) { "ordered" } else { "" }
    }
}

/// That an alert is over, and why when it is not that things are well again.
struct Resolved(Option<String>);

/// Why the alert of a resolve ended; `None` for a notice that is no resolve.
fn ending(notice: &Notice) -> Option<Resolved> {
    if notice.kind.is_firing() {
        return None;
    }
    Some(Resolved(match (notice.now_at, notice.ending) {
        (Some(level), _) => Some(format!("is only at {level} now")),
        (None, Some(Ending::Removed)) => Some("was removed".to_owned()),
        (None, Some(Ending::Expired)) => Some("is no longer watched".to_owned()),
        (None, Some(Ending::NewDay)) => Some("has a new day's budget".to_owned()),
        (None, Some(Ending::RuleGone)) => Some(format!("is no longer covered by the rule {}", notice.rule)),
        (None, None) => None,
    }))
}

/// The provider of them all.
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

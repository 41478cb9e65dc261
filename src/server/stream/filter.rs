//! Which events a viewer wants.

use std::collections::BTreeSet;

use super::event::{EventKind, EventTarget};
use crate::model::Level;

/// The parameter that a client sends in place of the header `Last-Event-ID`.
const LAST_EVENT_ID: &str = "last_event_id";

/// In which form a viewer gets events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StreamForm {
    /// JSON, for programs.
    #[default]
    Json,
    /// HTML, for the page. It has no filters: the page applies its own.
    Page,
}

/// A filter; an empty list matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct StreamFilter {
    form: StreamForm,
    kinds: Vec<EventKind>,
    projects: BTreeSet<String>,
    agents: BTreeSet<String>,
    levels: Vec<Level>,
}

impl StreamFilter {
    /// The filter of a request's parameters, and the id after which it resumes. The error names the wrong value.
    pub(super) fn parse(parameters: Vec<(String, String)>) -> Result<(Self, Option<String>), String> {
        let mut filter = Self::default();
        let mut last_event_id = None;
        for (key, value) in parameters {
            match key.as_str() {
                "events" => {
                    for word in value.split(',') {
                        let known = EventKind::CHOICES.into_iter().find(|kind| kind.as_str() == word);
                        let choices = EventKind::CHOICES.map(EventKind::as_str).join(", ");
                        filter.kinds.push(known.ok_or_else(|| format!("unknown event `{word}`; use {choices}"))?);
                    }
                }
                "level" => {
                    for word in value.split(',') {
                        let level = Level::parse(word);
                        let message = || format!("unknown level `{word}`; use info, warning, error or critical");
                        filter.levels.push(level.ok_or_else(message)?);
                    }
                }
                // A name may contain a comma: several are several parameters.
                "project" => drop(filter.projects.insert(value)),
                "agent" => drop(filter.agents.insert(value)),
                "as" if value == "page" => filter.form = StreamForm::Page,
                "as" => return Err(format!("unknown form `{value}`; use page, or leave `as` out for JSON")),
                LAST_EVENT_ID => last_event_id = Some(value),
                _ => {
                    return Err(format!(
                        "unknown parameter `{key}`; use events, project, agent, level or {LAST_EVENT_ID}"
                    ));
                }
            }
        }
        if filter.form == StreamForm::Page && filter != (Self { form: StreamForm::Page, ..Self::default() }) {
            return Err("the page's form has no filters; leave them out".to_owned());
        }
        Ok((filter, last_event_id))
    }

    /// The form of its events.
    pub(super) const fn form(&self) -> StreamForm {
        self.form
    }

    /// Whether an event about `target` is sent. `project` and `agent` do not concern totals, and `level` only alerts.
    pub(super) fn matches(&self, target: &EventTarget) -> bool {
        let is_of = |project: Option<&str>, agent: Option<&str>| {
            (self.projects.is_empty() || project.is_some_and(|name| self.projects.contains(name)))
                && (self.agents.is_empty() || agent.is_some_and(|name| self.agents.contains(name)))
        };
        let is_wanted = match target {
            EventTarget::All | EventTarget::Row | EventTarget::Part | EventTarget::Hint(_) => return true,
            EventTarget::Fleet => true,
            EventTarget::Agent { project, name, .. } => is_of(Some(project), Some(name)),
            EventTarget::Run { project, agent, .. } => is_of(Some(project), Some(agent)),
            // A viewer of one level is also sent the change to another one.
            EventTarget::Alert { levels, project, agent, .. } => {
                is_of(project.as_deref(), agent.as_deref())
                    && (self.levels.is_empty() || levels.iter().any(|level| self.levels.contains(level)))
            }
        };
        is_wanted && (self.kinds.is_empty() || self.kinds.contains(&target.kind()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fingerprint, Subject, TraceId};

    fn parse(query: &str) -> Result<StreamFilter, String> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into()));
        StreamFilter::parse(pairs.collect()).map(|(filter, _)| filter)
    }

    fn targets() -> Vec<EventTarget> {
        let subject = Subject::Agent { project: "shop".into(), name: "ann".into() };
        let alert = |project: Option<&str>, agent: Option<&str>, levels| EventTarget::Alert {
            fingerprint: Fingerprint::of("r", &subject),
            levels,
            project: project.map(Into::into),
            agent: agent.map(Into::into),
        };
        vec![
            EventTarget::Agent { project: "shop".into(), name: "ann".into(), is_removed: false },
            EventTarget::Agent { project: "lab".into(), name: "a,b".into(), is_removed: true },
            EventTarget::Fleet,
            alert(Some("shop"), Some("ann"), [Level::Warning, Level::Error]),
            alert(None, None, [Level::Critical; 2]),
            EventTarget::Run {
                id: TraceId::parse(&"1".repeat(32)).expect("an id"),
                project: "shop".into(),
                agent: "bob".into(),
            },
            EventTarget::All,
        ]
    }

    #[test]
    fn each_parameter_filters_what_it_concerns() {
        for (query, expected) in [
            ("", "1111111"),
            ("events=status", "1100001"),
            ("events=alert,run", "0001111"),
            ("events=metrics&events=run", "0010011"),
            ("project=shop", "1011011"),
            ("project=lab&project=shop", "1111011"),
            ("agent=ann", "1011001"),
            ("agent=a,b", "0110001"),
            ("level=error", "1111011"),
            ("level=warning,info&events=alert", "0001001"),
            ("level=critical&agent=ann&events=alert", "0000001"),
        ] {
            let filter = parse(query).expect(query);
            let sent: String = targets().iter().map(|target| if filter.matches(target) { '1' } else { '0' }).collect();
            assert_eq!(sent, expected, "{query}");
        }
    }

    #[test]
    fn unknown_values_are_named() {
        for (query, error) in [
            ("events=status,issues", "unknown event `issues`; use status, metrics, alert, run"),
            ("events=resync", "unknown event `resync`; use status, metrics, alert, run"),
            ("events=", "unknown event ``; use status, metrics, alert, run"),
            ("as=html", "unknown form `html`; use page, or leave `as` out for JSON"),
            ("as=page&project=shop", "the page's form has no filters; leave them out"),
            ("level=high", "unknown level `high`; use info, warning, error or critical"),
            ("event=run", "unknown parameter `event`; use events, project, agent, level or last_event_id"),
        ] {
            assert_eq!(parse(query), Err(error.to_owned()), "{query}");
        }
    }
}

//! Changes as the JSON of events: what `/api/status`, `/api/alerts` and `/api/traces` show of them.

use serde_json::{Value, json};

use super::changes::AgentChange;
use super::event::{EventKind, EventTarget};
use crate::engine::AlertView;
use crate::model::{Level, Run, Snapshot};
use crate::runs::view;
use crate::server::api::status;
use crate::server::page::PageChange;

/// An event that has no number yet: what it is about, and its JSON.
pub(super) type Draft = (EventTarget, String);

/// The event of a changed agent.
pub(super) fn agent(change: &AgentChange<'_>, fleet: &Snapshot) -> Draft {
    let (project, name, mut shown) = match change {
        AgentChange::Updated(agent) => (&agent.project, &agent.name, status::agent(agent, fleet)),
        AgentChange::Removed(agent) => (&agent.project, &agent.name, json!({"name": &*agent.name, "removed": true})),
    };
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("project".to_owned(), json!(&**project));
    }
    let is_removed = matches!(change, AgentChange::Removed(..));
    (EventTarget::Agent { project: project.clone(), name: name.clone(), is_removed }, shown.to_string())
}

/// The event of new totals.
pub(super) fn totals(totals: &Value) -> Draft {
    (EventTarget::Fleet, totals.to_string())
}

/// The event of a changed alert; `before` is the level of its last event.
pub(super) fn alert(alert: &AlertView, before: Option<Level>) -> Draft {
    let target = EventTarget::Alert {
        fingerprint: alert.fingerprint,
        levels: [alert.level, before.unwrap_or(alert.level)],
        project: alert.project.clone(),
        agent: alert.agent_name.clone(),
    };
    // Serializing this type does not fail.
    (target, serde_json::to_string(alert).unwrap_or_default())
}

/// The event of a run that began or ended.
pub(super) fn run(run: &Run) -> Draft {
    let target = EventTarget::Run { id: run.id, project: run.project.clone(), agent: run.agent.clone() };
    (target, view::run(run).to_string())
}

/// What follows a change on the page.
pub(super) fn page(change: PageChange) -> Draft {
    match change {
        PageChange::Row(data) => (EventTarget::Row, data),
        PageChange::Part(data) => (EventTarget::Part, data),
    }
}

/// That an alert changed, for pages that show more of it than rows.
pub(super) fn alert_hint(alert: &AlertView) -> Draft {
    let agent = alert.project.as_deref().zip(alert.agent_name.as_deref());
    let agent = agent.map(|(project, name)| format!("{project}/{name}"));
    let data = json!({"id": alert.fingerprint.to_string(), "agent": agent});
    (EventTarget::Hint(EventKind::Alert), data.to_string())
}

/// That silences changed.
pub(super) fn silences_hint() -> Draft {
    (EventTarget::Hint(EventKind::Alert), json!({"silences": true}).to_string())
}

/// That a run began or ended.
pub(super) fn run_hint(run: &Run) -> Draft {
    let data = json!({"id": run.id.to_string(), "agent": format!("{}/{}", run.project, run.agent)});
    (EventTarget::Hint(EventKind::Run), data.to_string())
}

/// The event after which viewers fetch everything again.
pub(super) fn resync(reason: &str) -> Draft {
    (EventTarget::All, json!({"reason": reason}).to_string())
}

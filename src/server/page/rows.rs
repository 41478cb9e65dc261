//! Agents as rows and squares. Written by hand rather than from templates: there are ten thousand of them, and each change
//! is rendered as one.

use std::fmt::Write as _;

use super::filter::Facet;
use super::shown::{Shown, Standing};
use super::words::{agent_href, ago, escape};
use super::{board::DayChanges, svg};
use crate::model::Time;

/// The id of an agent's element. A slot has another agent only after this one was removed.
pub(super) fn id(standing: &Standing<'_>) -> String {
    format!("a{}", standing.agent.slot)
}

/// A row of the queue. What only an admin may do has the class `admin`.
pub(super) fn row(now: Time, standing: &Standing<'_>, day: Option<&DayChanges>, is_admin: bool) -> String {
    let Standing { agent, shown, alert, is_by_alert, since, ref reason, .. } = *standing;
    let mut out = String::with_capacity(1_600);
    let (project, name) = (escape(&agent.project), escape(&agent.name));
    let level = alert.map(|alert| alert.level.as_str());
    // Writing into a string does not fail.
    write!(out, r#"<li class="row s-{}"#, shown.key()).ok();
    if let Some(level) = level {
        write!(out, " l-{level}").ok();
    }
    write!(
        out,
        r#"" id="{}" tabindex="-1" data-agent="{project}/{name}" data-project="{project}" data-name="{name}" data-rank="{}""#,
        id(standing),
        escape(&standing.rank()),
    )
    .ok();
    if let Some(alert) = alert {
        write!(out, r#" data-alert="{}" data-rule="{}""#, alert.fingerprint, escape(&alert.rule)).ok();
    }
    let glyph = if is_by_alert && shown == Shown::NeedsYou { "alert" } else { shown.key() };
    write!(
        out,
        r##"><svg class="g" role="img" aria-label="{}"><use href="#g-{glyph}"></use></svg><a class="name" href="{}"><span class="project">{project}/</span><b>{name}</b></a>"##,
        shown.word(),
        escape(&agent_href(&agent.project, &agent.name)),
    )
    .ok();
    let reason = escape(reason);
    write!(out, r#"<span class="reason" title="{reason}">"#).ok();
    if let (Some(alert), Some(level)) = (alert, level) {
        write!(out, r#"<span class="level l-{level}">{} {level}</span> "#, escape(&alert.rule)).ok();
    }
    write!(out, "{reason}</span>{}", ago(now, since, "since")).ok();
    match day {
        Some(changes) => out.push_str(&svg::band(&svg::day(now, changes, (shown, since), since), false)),
        None => out.push_str(r#"<span class="band"></span>"#),
    }
    let host = standing.labels.host.as_deref().map(escape).unwrap_or_default();
    write!(out, r#"<span class="host">{host}</span><span class="acts">"#).ok();
    if let Some(id) = alert.and_then(|alert| alert.silenced_by.as_deref()) {
        write!(out, r#"<span class="tag" title="by silence {}">silenced</span>"#, escape(id)).ok();
    }
    if let Some(by) = alert.and_then(|alert| alert.acked_by.as_deref()) {
        write!(out, r#"<span class="tag" title="by {}">acknowledged</span>"#, escape(by)).ok();
    }
    out.push_str(r#"<button type="button" class="js peek-open">peek</button>"#);
    if is_admin && let Some(alert) = alert {
        if alert.acked_by.is_none() {
            out.push_str(r#"<button type="button" class="js admin ack">ack</button>"#);
        }
        out.push_str(r#"<button type="button" class="js admin silence">silence</button>"#);
    }
    out.push_str("</span></li>");
    out
}

/// A square of those who need nothing.
pub(super) fn square(out: &mut String, standing: &Standing<'_>) {
    let agent = standing.agent;
    let dash = if standing.reason.is_empty() { "" } else { " · " };
    write!(
        out,
        r#"<a id="{}" href="{}" title="{} · {}{dash}{}"></a>"#,
        id(standing),
        escape(&agent_href(&agent.project, &agent.name)),
        escape(&agent.name),
        standing.shown.word().to_lowercase(),
        escape(&standing.reason),
    )
    .ok();
}

/// A changed agent for the page: what the script places it by as JSON, and its element on the next line.
pub(super) fn fragment(now: Time, standing: &Standing<'_>, day: Option<&DayChanges>) -> String {
    let agent = standing.agent;
    let facets: serde_json::Map<String, serde_json::Value> =
        Facet::ALL.into_iter().map(|facet| (facet.key().to_owned(), facet.of(standing).into())).collect();
    let task = agent.task.as_ref().map_or("", |task| &*task.id);
    let placed = serde_json::json!({
        "id": id(standing),
        "key": standing.key(),
        "state": standing.shown.key(),
        "facets": facets,
        "find": format!("{} {task} {}", agent.model.as_deref().unwrap_or_default(), standing.reason),
    });
    if standing.shown.is_urgent() {
        return format!("{placed}\n{}", row(now, standing, day, true));
    }
    let mut out = format!("{placed}\n");
    square(&mut out, standing);
    out
}

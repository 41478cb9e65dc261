//! Every message that people get: each built-in rule in each state, as each receiver formats it. The snapshots are for
//! reading: who, what, why, and what to do.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::model::{Incident, Notice, NoticeKind, Subject};
use crate::notify::{Receiver, Rehearsal};
use crate::rules::ForEach;

/// A fleet with a reason for each alert. Of the day's budgets nothing is left, unless that is yet to come.
fn fleet(is_forecast: bool) -> Machine {
    let mut settings = settings();
    let (tokens, cost) = if is_forecast { (250_000, 25.0) } else { (200_000, 20.0) };
    let budgets = json!({"tokens_per_task": 200_000, "tokens_per_day": tokens, "cost_usd_per_day": cost});
    settings.budgets = serde_json::from_value(budgets).expect("budgets");
    settings.expected = serde_json::from_value(json!([{"project": "shop", "count": 10}])).expect("what is expected");
    let rules = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
    let mut machine = Machine::new(
        at(0),
        super::super::MachineSettings {
            fleet: settings,
            rules: crate::rules::built_in(rules).expect("good rules"),
            incidents: IncidentPolicy::default(),
            digest: DigestConfig::default(),
            receivers: vec![ReceiverPolicy::new("ops", Level::Info)],
        },
    );
    let limits = json!([{"provider": "anthropic", "remaining": 0, "reset_at": at(4 * 3600).to_string()}]);
    let body = json!({"project": "shop", "agents": [
        {"name": "ida", "status": "running", "task_id": "task-1-0", "progress": 17, "tokens": {"input": 0}, "cost_usd": 0.0},
        {"name": "fay", "status": "failed", "reason": "exit code 137, out of memory", "task_id": "task-3-0"},
        {"name": "ann", "status": "waiting_question", "reason": "permission to run Bash", "task_id": "task-4-2"},
        {"name": "lee", "status": "running", "rate_limits": limits},
        {"name": "kim", "status": "running", "rate_limits": limits},
        {"name": "bob", "status": "failed", "reason": "exit code 1"},
        {"name": "eve", "status": "failed", "reason": "exit code 1"},
    ], "components": [{"name": "DatabaseManager", "status": "ERROR", "details": "connection pool exhausted"}]});
    machine.step(at(0), MachineEvent::State(crate::ingest::decode_state(&body.to_string(), at(0)).expect("a state")));
    let body = json!({"project": "shop", "agents": [
        {"name": "ida", "status": "running", "task_id": "task-1-0", "progress": 17, "tokens": {"input": 204_200}, "cost_usd": 20.42},
    ]});
    machine.step(at(9), MachineEvent::State(crate::ingest::decode_state(&body.to_string(), at(9)).expect("a state")));
    let polled = ["x1", "x2"].map(|name| AgentUpdate { status: Some(AgentStatus::Running), ..named(name) });
    let polled = Batch { project: "depot".into(), agents: polled.into(), ..Batch::default() };
    machine.step(at(9), MachineEvent::Poll(PollReport { source: "orch".into(), result: Ok(vec![polled]) }));
    let error = SourceError { reason: SourceErrorReason::Status, message: "HTTP 500".to_owned() };
    machine.step(at(10), MachineEvent::Poll(PollReport { source: "orch".into(), result: Err(error) }));
    let error = crate::model::SendError::limited(
        crate::model::SendReason::Refused,
        "slack answered 404 (no_service)".to_owned(),
    );
    machine.step(
        at(10),
        MachineEvent::Delivery(&crate::model::DeliveryReport::Failed {
            receiver: "ops".into(),
            notices: Vec::new(),
            error,
            at: at(10),
        }),
    );
    machine
}

fn subject(rule: &str, for_each: ForEach) -> Subject {
    let project: Arc<str> = "shop".into();
    let agent = match rule {
        "AgentDown" | "ErrorRepeating" => "fay",
        "AgentIdle" | "IdleButSpending" => "ann",
        "AgentMissing" => "nightly",
        "RateLimited" => "lee",
        _ => "ida",
    };
    match for_each {
        ForEach::Agent => Subject::Agent { project, name: agent.into() },
        ForEach::Component => Subject::Component { project, name: "DatabaseManager".into() },
        ForEach::Source => Subject::Source { name: "orch".into() },
        ForEach::Cluster => Subject::Cluster { project },
        ForEach::Receiver => Subject::Receiver { name: "ops".into() },
        ForEach::Sidecar => Subject::Sidecar { name: "lookout".into() },
    }
}

/// A notice of each built-in rule at its highest level, beyond its threshold.
fn firing() -> Vec<Notice> {
    let rules =
        crate::rules::built_in(RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) });
    let rules = rules.expect("good rules");
    let notice = |rule: crate::rules::Description<'_>| {
        let (level, threshold) = *rule.levels.last().expect("a level");
        let value = match (rule.unit, rule.name) {
            (crate::model::Unit::Word, _) | (_, "AgentDown" | "AgentsDown" | "AgentsLimited") => threshold,
            (crate::model::Unit::Count, _) if threshold < 1_000.0 => threshold + 1.0,
            _ if rule.when == crate::rules::Comparison::AtMost => threshold * 0.8,
            _ => threshold * 1.021,
        };
        Notice {
            value: Some(value),
            threshold: Some(threshold),
            started_at: at(-740),
            fired_at: at(-105),
            ..Notice::new(
                &"ops".into(),
                NoticeKind::Firing,
                level,
                rule.name.into(),
                subject(rule.name, rule.for_each),
                at(20),
            )
        }
    };
    rules.descriptions().map(notice).collect()
}

/// `notice` in another state.
fn of_kind(notice: &Notice, kind: NoticeKind) -> Notice {
    let previous = (kind != NoticeKind::Firing).then_some(Level::Warning);
    let resolved_at = (kind == NoticeKind::Resolved).then_some(at(10));
    Notice { kind, previous, resolved_at, ..notice.clone() }
}

/// The texts of a message to `section`, a line each.
fn sent(section: &Value, notices: Vec<Notice>) -> String {
    let is_forecast = notices.iter().any(|notice| notice.rule.ends_with("Forecast"));
    let notices = fleet(is_forecast).with_texts(at(20), notices.into_iter());
    let mut config = section.clone();
    config["name"] = json!("ops");
    let config = serde_json::from_value(config).expect("a receiver");
    let receivers = Receiver::build(&[config]).expect("a receiver");
    let mut lines = Vec::new();
    for sent in Rehearsal::new(receivers).deliver(&notices) {
        let body = String::from_utf8(sent.body.expect("a body")).expect("text");
        match serde_json::from_str::<Value>(&body) {
            Ok(value) => texts(&value, &mut lines),
            Err(_) => lines.extend(body.lines().map(str::to_owned)),
        }
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n    ")
}

/// What of a body people read.
fn texts(value: &Value, lines: &mut Vec<String>) {
    const NOT_READ: [&str; 30] = [
        "type",
        "color",
        "fallback",
        "contentType",
        "$schema",
        "version",
        "width",
        "size",
        "weight",
        "username",
        "chat_id",
        "routing_key",
        "event_action",
        "dedup_key",
        "client",
        "severity",
        "timestamp",
        "source",
        "component",
        "group",
        "topic",
        "priority",
        "tags",
        "fingerprint",
        "idempotencyKey",
        "startsAt",
        "endsAt",
        "groupKey",
        "receiver",
        "generatorURL",
    ];
    match value {
        Value::String(text) => lines.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| texts(value, lines)),
        Value::Object(fields) => {
            fields.iter().filter(|(name, _)| !NOT_READ.contains(&&***name)).for_each(|(_, value)| texts(value, lines));
        }
        _ => {}
    }
}

fn section(kind: &str) -> Value {
    let url = "https://x.invalid/";
    match kind {
        "telegram" => json!({"telegram": {"bot_token": "t", "chat_id": "42"}}),
        "pagerduty" => json!({"pagerduty": {"routing_key": "k"}}),
        "ntfy" => json!({"ntfy": {"topic": "alerts"}}),
        "webhook" => json!({"webhook": {"url": url}}),
        "bot" => json!({"slack": {"bot_token": "t", "channel": "#ops"}}),
        kind => json!({kind: {"webhook_url": url}}),
    }
}

#[test]
fn every_rule_reads_well_in_every_state() {
    const KINDS: [NoticeKind; 6] = [
        NoticeKind::Firing,
        NoticeKind::Escalated,
        NoticeKind::Deescalated,
        NoticeKind::Repeat,
        NoticeKind::Flapping,
        NoticeKind::Resolved,
    ];
    let mut sheet = Vec::new();
    for notice in firing() {
        sheet.push(format!("{}:", notice.rule));
        for kind in KINDS {
            sheet.push(format!("    {}", sent(&section("telegram"), vec![of_kind(&notice, kind)])));
        }
    }
    let parts = |kind| {
        let notice = firing().into_iter().find(|notice| &*notice.rule == "AgentIdle").expect("a rule");
        let part = |n: usize| {
            let subject = Subject::Agent { project: "shop".into(), name: format!("w{n}").into() };
            let new = Notice::new(&"ops".into(), kind, notice.level, "AgentIdle".into(), subject, at(20));
            let Notice { key, fingerprint, incident, subject, .. } = new;
            let firing = if kind == NoticeKind::Resolved { 0 } else { 12 };
            let part_of = Some(Incident { firing, agents: 20 });
            let value = notice.value.map(|value| value + n as f64 * 60.0);
            Notice { key, fingerprint, incident, subject, part_of, value, ..of_kind(&notice, kind) }
        };
        (0..12).map(part).collect::<Vec<_>>()
    };
    sheet.push("incident:".to_owned());
    sheet.push(format!("    {}", sent(&section("telegram"), parts(NoticeKind::Firing))));
    sheet.push(format!("    {}", sent(&section("telegram"), parts(NoticeKind::Resolved))));
    sheet.push("grouped:".to_owned());
    sheet.push(format!("    {}", sent(&section("telegram"), grouped())));
    insta::assert_snapshot!("sheet", sheet.join("\n"));
}

fn grouped() -> Vec<Notice> {
    let all = firing();
    let of = |rule: &str, kind| of_kind(all.iter().find(|notice| &*notice.rule == rule).expect("a rule"), kind);
    // A first one leaves alone; what follows within a second is grouped.
    let first = of("SourceDown", NoticeKind::Firing);
    let later = [
        of("AgentDown", NoticeKind::Firing),
        of("AgentIdle", NoticeKind::Escalated),
        of("TaskTokenBudget", NoticeKind::Resolved),
    ];
    let later = later.map(|notice| Notice { at: at(20).plus(Duration::from_millis(300)), ..notice });
    std::iter::once(first).chain(later).collect()
}

#[test]
fn every_receiver_shows_who_what_why_and_what_to_do() {
    for kind in ["slack", "bot", "teams", "discord", "telegram", "pagerduty", "ntfy", "mattermost", "webhook"] {
        let mut sheet = Vec::new();
        for notice in firing() {
            if ["AgentIdle", "AgentDown", "SourceDown", "TaskTokenBudget", "AgentsDown"].contains(&&*notice.rule) {
                sheet.push(format!("{}:\n    {}", notice.rule, sent(&section(kind), vec![notice.clone()])));
                sheet.push(format!("    {}", sent(&section(kind), vec![of_kind(&notice, NoticeKind::Resolved)])));
            }
        }
        sheet.push(format!("grouped:\n    {}", sent(&section(kind), grouped())));
        insta::assert_snapshot!(kind, sheet.join("\n"));
    }
}

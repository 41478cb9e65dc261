//! Polls AutoGen Studio: each team is an agent, and each run of its sessions is a run.
//!
//! Its times have no time zone and are taken for local ones. Messages have texts, of which nothing is kept. Nothing is
//! posted.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::listed::{self, AgentSketch, RunList, SpanTimes, count_of, text_of};
use super::request::SourceClient;
use crate::clock::Clock;
use crate::ingest::MAX_AGENTS;
use crate::ingest::page::{self, failed, malformed};
use crate::model::{
    AgentIdentity, AgentStatus, Batch, SourceError, SourceErrorReason, SpanField, SpanId, SpanKind, SpanReport,
    SpanStatus, Time, TokenCounts, TokenType, TraceId,
};

/// The routes of teams and of sessions. Both have a slash at their end.
const TEAMS: [&str; 3] = ["api", "teams", ""];
const SESSIONS: [&str; 3] = ["api", "sessions", ""];
/// The user of an installation without users.
pub(super) const DEFAULT_USER: &str = "guestuser@gmail.com";
/// Sessions whose runs are read in one poll: the newest, and in turn the others.
const NEWEST: usize = 5;
const SESSIONS_PER_POLL: usize = 10;

/// The state that is kept between polls.
#[derive(Debug)]
pub(super) struct AutogenStudio {
    pub(super) runs: RunList,
    /// The source's name, which is part of ids: its runs are numbered.
    source: String,
    user: String,
    zone: TimeZone,
    /// The position of the session to continue with.
    next: usize,
    /// What is known of each team from its last run, and when that began.
    last: BTreeMap<String, (u64, AgentSketch)>,
}

/// A team: its name, and the model of each of its members.
#[derive(Debug, Default)]
struct StudioTeam {
    name: String,
    models: BTreeMap<String, String>,
}

/// A session: its id, and that of its team.
#[derive(Clone, Debug)]
struct StudioSession {
    id: String,
    team: String,
}

impl AutogenStudio {
    pub(super) fn new(source: &str, user: Option<&str>) -> Self {
        Self {
            runs: RunList::default(),
            source: source.to_owned(),
            user: user.unwrap_or(DEFAULT_USER).to_owned(),
            zone: TimeZone::system(),
            next: 0,
            last: BTreeMap::new(),
        }
    }

    pub(super) async fn poll(
        &mut self,
        client: &Arc<SourceClient>,
        clock: &Clock,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        let user = self.user.clone();
        let parameters = [("user_id", user.as_str())];
        let teams = client.fetch_page(&TEAMS, &parameters, |text| rows(text, "/api/teams/")).await;
        let mut errors = Vec::new();
        let teams = read_teams(teams.map_err(|failure| failure.error)?, &mut errors);
        match client.fetch_page(&SESSIONS, &parameters, |text| rows(text, "/api/sessions/")).await {
            Ok(listed) => {
                let sessions = read_sessions(listed, &mut errors);
                let now = clock.wall();
                // The whole poll has the source's timeout; what is not read in time is read by the next poll.
                let reading = self.sessions(client, &parameters, &sessions, (&teams, project, now), &mut errors);
                drop(tokio::time::timeout(client.timeout().mul_f64(0.6), reading).await);
            }
            Err(failure) => errors.push(failure.error.message),
        }
        let agents = teams.into_iter().map(|(id, team)| {
            let sketch = self.last.get(&id).map(|(_, sketch)| sketch.clone()).unwrap_or_default();
            let model = sketch.model.clone().or_else(|| team.models.values().next().cloned());
            (team.name, AgentSketch { status: sketch.status.or(Some(AgentStatus::Idle)), model, ..sketch })
        });
        Ok(vec![listed::batch(project, "autogen", agents.collect(), errors)])
    }

    async fn sessions(
        &mut self,
        client: &Arc<SourceClient>,
        parameters: &[(&str, &str)],
        sessions: &[StudioSession],
        (teams, project, now): (&BTreeMap<String, StudioTeam>, &str, Time),
        errors: &mut Vec<String>,
    ) {
        let (newest, others) = sessions.split_at(sessions.len().min(NEWEST));
        let turn = others.iter().cycle().skip(self.next).take(others.len().min(SESSIONS_PER_POLL - NEWEST));
        self.next = if others.is_empty() { 0 } else { (self.next + SESSIONS_PER_POLL - NEWEST) % others.len() };
        for session in newest.iter().chain(turn) {
            let route = ["api", "sessions", &session.id, "runs"];
            match client.fetch_page(&route, parameters, read_runs).await {
                Ok(runs) => {
                    let team = teams.get(&session.team);
                    for run in runs {
                        if self.take(&run, session, team, project, now).is_none() {
                            errors.push(format!("{}: a run without a valid id, status or time", route.join("/")));
                        }
                    }
                }
                Err(failure) => errors.push(failure.error.message),
            }
        }
    }

    /// Takes a run; `None` if it can't be read.
    fn take(
        &mut self,
        run: &Value,
        session: &StudioSession,
        team: Option<&StudioTeam>,
        project: &str,
        now: Time,
    ) -> Option<()> {
        let id = id_of(run, "id")?;
        let created = text_of(run, "created_at")?;
        let status = text_of(run, "status")?;
        let from = self.nanos(created)?;
        if listed::time_of(from) < now.minus(listed::MAX_AGE) {
            return Some(());
        }
        let trace = listed::trace_id(&format!("autogen-studio {}", self.source), &format!("{id} {created}"))?;
        let root = listed::span_id("autogen-studio")?;
        let messages = run.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let version = u64::from_be_bytes(*listed::span_id(&format!("{status} {}", messages.len()))?.as_bytes());
        if self.runs.has((trace, root), version) {
            return Some(());
        }
        let unknown = StudioTeam { name: "team".to_owned(), ..StudioTeam::default() };
        let team = team.unwrap_or(&unknown);
        let agent = listed::identity(project, &team.name, "autogen");
        let result = run.get("team_result");
        let is_over = !matches!(status, "created" | "active");
        let took = result.and_then(|it| it.get("duration")).and_then(Value::as_f64).unwrap_or(0.0);
        let beneath = self.messages((trace, root), from, messages, team, &agent);
        let last = beneath.iter().map(|it| it.span.ended_at()).max().unwrap_or(from);
        let end = listed::nanos_of_millis(took * 1e3).map_or(last, |took| last.max(from.saturating_add(took)));
        let times = SpanTimes { from, to: is_over.then_some(end) };
        let mut top = listed::span((trace, root), None, SpanKind::Agent, &team.name, times);
        // The sessions of a user are numbered.
        listed::with(&mut top, SpanField::Session, Some(&format!("{}-{}", self.source, session.id)));
        top.tokens = result.and_then(tokens_of_result);
        let reason = || text_of(result?.get("task_result")?, "stop_reason");
        match status {
            "complete" => top.status = SpanStatus::Ok,
            "error" => listed::fail(&mut top, text_of(run, "error_message").or_else(reason).or(Some("an error"))),
            "stopped" => listed::fail(&mut top, reason().or(Some("stopped"))),
            "created" | "active" => {}
            _ => return None,
        }
        let known = self.last.entry(session.team.clone()).or_default();
        if from >= known.0 {
            let model = beneath.iter().rev().find_map(|it| it.span.field(SpanField::Model)).map(str::to_owned);
            let sketch = AgentSketch {
                status: Some(if is_over { AgentStatus::Idle } else { AgentStatus::Running }),
                task: (!is_over).then(|| format!("run-{id}")),
                task_started_at: (!is_over).then(|| listed::time_of(from)),
                model: model.or_else(|| known.1.model.take()),
                last_activity: Some(listed::time_of(end)),
                ..AgentSketch::default()
            };
            *known = (from, sketch);
        }
        let mut spans = vec![listed::begin_run(top, &agent)];
        spans.extend(beneath);
        self.runs.add((trace, root), version, spans);
        Some(())
    }

    /// The spans of messages: calls of models, and uses of tools.
    fn messages(
        &self,
        (trace, root): (TraceId, SpanId),
        begin: u64,
        messages: &[Value],
        team: &StudioTeam,
        agent: &Arc<AgentIdentity>,
    ) -> Vec<SpanReport<'static>> {
        let mut spans = Vec::new();
        let mut before = begin;
        let mut asked: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for message in messages.iter().take(listed::MAX_SPANS) {
            let Some((at, id)) = text_of(message, "created_at").and_then(|at| self.nanos(at)).zip(id_of(message, "id"))
            else {
                continue;
            };
            let Some(config) = message.get("config") else { continue };
            let member = text_of(config, "source").unwrap_or("agent");
            if let Some((tokens, call)) =
                config.get("models_usage").and_then(tokens_of).zip(listed::span_id(&format!("message {id}")))
            {
                let times = SpanTimes { from: before.min(at), to: Some(at) };
                let mut span = listed::span((trace, call), Some(root), SpanKind::Llm, member, times);
                span.status = SpanStatus::Ok;
                span.tokens = Some(tokens);
                listed::with_model(&mut span, team.models.get(member).map(String::as_str));
                spans.push(listed::report(span, agent));
            }
            for part in config.get("content").and_then(Value::as_array).into_iter().flatten() {
                let Some(call) = text_of(part, "id").or_else(|| text_of(part, "call_id")) else { continue };
                match (text_of(config, "type"), text_of(part, "name")) {
                    (Some("ToolCallRequestEvent"), Some(tool)) => {
                        asked.insert(call.to_owned(), (at, tool.to_owned()));
                    }
                    (Some("ToolCallExecutionEvent"), _) => {
                        let Some((from, tool)) = asked.remove(call) else { continue };
                        let Some(id) = listed::span_id(&format!("tool {call}")) else { continue };
                        let times = SpanTimes { from, to: Some(at.max(from)) };
                        let mut span = listed::span((trace, id), Some(root), SpanKind::Tool, &tool, times);
                        if part.get("is_error").and_then(Value::as_bool) == Some(true) {
                            listed::fail(&mut span, None);
                        }
                        spans.push(listed::report(span, agent));
                    }
                    _ => {}
                }
            }
            before = at;
        }
        spans
    }

    /// A time without a zone, in nanoseconds since 1970.
    fn nanos(&self, text: &str) -> Option<u64> {
        listed::nanos(text).or_else(|| {
            let local: jiff::civil::DateTime = text.parse().ok()?;
            u64::try_from(self.zone.to_timestamp(local).ok()?.as_nanosecond()).ok()
        })
    }
}

/// An id, which is a number here and a text there.
fn id_of(value: &Value, key: &str) -> Option<String> {
    match value.get(key)? {
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            Some(text.clone()).filter(|text| !text.is_empty())
        }
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `{"status": true, "data": …}`.
fn data(text: &str, route: &str) -> Result<Value, SourceError> {
    let mut page = page::tree(text)?;
    if page.get("status").and_then(Value::as_bool) == Some(false) {
        let message = text_of(&page, "message").unwrap_or("its status is false");
        return Err(failed(SourceErrorReason::Upstream, &format!("{route}: {message}")));
    }
    let wrong = || malformed(&format!("{route}: expected `data`; set `url` to the root of AutoGen Studio"));
    page.get_mut("data").map(Value::take).ok_or_else(wrong)
}

fn rows(text: &str, route: &str) -> Result<Vec<Value>, SourceError> {
    match data(text, route)? {
        Value::Array(rows) if rows.len() <= MAX_AGENTS => Ok(rows),
        Value::Array(_) => {
            Err(failed(SourceErrorReason::TooLarge, &format!("{route}: more than {MAX_AGENTS} entries")))
        }
        _ => Err(malformed(&format!("{route}: expected a list `data`"))),
    }
}

fn read_runs(text: &str) -> Result<Vec<Value>, SourceError> {
    match data(text, "runs of a session")?.get_mut("runs").map(Value::take) {
        Some(Value::Array(runs)) => Ok(runs),
        _ => Err(malformed("runs of a session: expected a list `runs`")),
    }
}

/// The teams by id.
fn read_teams(rows: Vec<Value>, errors: &mut Vec<String>) -> BTreeMap<String, StudioTeam> {
    let mut models: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut named = Vec::new();
    for row in &rows {
        let component = row.get("component");
        let name = component.and_then(|it| text_of(it, "label"));
        let Some((id, name)) = id_of(row, "id").zip(name) else {
            errors.push("/api/teams/: a team without `id` and `component.label`".to_owned());
            continue;
        };
        let participants = component.and_then(|it| it.get("config")?.get("participants")?.as_array());
        let members = participants.into_iter().flatten().filter_map(|member| {
            let config = member.get("config")?;
            let model = text_of(config.get("model_client")?.get("config")?, "model")?;
            Some((text_of(config, "name")?.to_owned(), model.to_owned()))
        });
        models.insert(id.clone(), members.collect());
        named.push((id, name.to_owned()));
    }
    let named = listed::named_apart(named).into_iter();
    named.map(|(id, name)| (id.clone(), StudioTeam { name, models: models.remove(&id).unwrap_or_default() })).collect()
}

/// The sessions, the newest first.
fn read_sessions(rows: Vec<Value>, errors: &mut Vec<String>) -> Vec<StudioSession> {
    let mut sessions = Vec::new();
    for row in &rows {
        match id_of(row, "id") {
            Some(id) => {
                let updated = text_of(row, "updated_at").or_else(|| text_of(row, "created_at")).unwrap_or_default();
                let team = id_of(row, "team_id").unwrap_or_default();
                sessions.push((updated.to_owned(), StudioSession { id, team }));
            }
            None => errors.push("/api/sessions/: a session without a valid `id`".to_owned()),
        }
    }
    sessions.sort_by(|one, other| other.0.cmp(&one.0));
    sessions.into_iter().map(|(_, session)| session).collect()
}

fn tokens_of(usage: &Value) -> Option<TokenCounts> {
    let mut tokens = [0; TokenType::ALL.len()];
    tokens[TokenType::Input as usize] = count_of(usage, "prompt_tokens")?;
    tokens[TokenType::Output as usize] = count_of(usage, "completion_tokens").unwrap_or(0);
    Some(tokens)
}

/// The tokens of a whole run, used where its messages are not listed.
fn tokens_of_result(result: &Value) -> Option<TokenCounts> {
    let messages = result.get("task_result")?.get("messages")?.as_array()?;
    messages.iter().filter_map(|message| tokens_of(message.get("models_usage")?)).reduce(|mut sum, more| {
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        sum
    })
}

#[cfg(test)]
mod tests;

//! Runs that hooks report: a prompt to the end of its turn is a run, with its tools, its waits for a person and its
//! subagents as spans.
//!
//! Ids follow from the session and the time, and those of spans from their number, so that the same hooks give the same
//! run.

use std::borrow::Cow;
use std::sync::Arc;

use super::{RunEnd, RunStart};
use crate::model::hook::{Hook, SessionEvent, TurnFailure};
use crate::model::{
    AgentIdentity, BoundedMap, RunFacts, RunSource, RunStatus, Span, SpanField, SpanId, SpanKind, SpanReport,
    SpanStatus, Time, TraceId,
};

/// Sessions whose turn is open.
const MAX_SESSIONS: usize = 50_000;
/// Tools and subagents of a turn that are open at once.
const MAX_OPEN: usize = 256;

/// What hooks do to runs.
#[derive(Clone, Debug)]
pub enum TurnChange {
    /// A run began.
    Begin(Box<RunStart>),
    /// A part of it ended.
    Part(Box<SpanReport<'static>>),
    /// The run ended.
    End(TraceId, RunEnd),
    /// The run of this session ended; it began before a restart.
    EndOfSession(Arc<str>, RunEnd),
}

/// The open turns of all sessions.
#[derive(Debug)]
pub struct Turns(BoundedMap<u64, Option<Turn>>);

#[derive(Debug)]
struct Turn {
    run: TraceId,
    agent: Arc<AgentIdentity>,
    /// The number of the last span.
    spans: u64,
    /// Tools and subagents: what it is, its name, and when it began.
    open: Vec<(OpenPart, Time)>,
    /// Since when it waits for a person.
    waits: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum OpenPart {
    Tool(Arc<str>),
    Subagent(u64),
}

/// The session of a hook, by the hash of its id, as the session of a run.
pub fn session_name(hash: u64) -> Arc<str> {
    Arc::from(format!("hook:{hash:016x}"))
}

/// Whether the session of a run is only known by its hash.
pub(super) fn is_hook_session(session: &str) -> bool {
    session.starts_with("hook:")
}

impl Default for Turns {
    fn default() -> Self {
        Self(BoundedMap::new(MAX_SESSIONS))
    }
}

impl Turns {
    /// What a hook that arrived at `at` does to runs.
    pub fn apply(&mut self, at: Time, hook: &Hook) -> Vec<TurnChange> {
        let mut changes = Vec::new();
        match (&hook.event, hook.subagent) {
            (SessionEvent::Prompted, None) => {
                self.end(at, hook, RunStatus::Ok, None, &mut changes);
                self.begin(at, hook, &mut changes);
            }
            (SessionEvent::TurnEnded { in_background: false }, None) => {
                self.end(at, hook, RunStatus::Ok, None, &mut changes);
            }
            (SessionEvent::TurnFailed(failure), None) => {
                self.end(at, hook, RunStatus::Error, Some(failure), &mut changes);
            }
            (SessionEvent::Ended(_), None) => self.end(at, hook, RunStatus::Abandoned, None, &mut changes),
            _ => self.part(at, hook, &mut changes),
        }
        changes
    }

    fn begin(&mut self, at: Time, hook: &Hook, changes: &mut Vec<TurnChange>) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&hook.session.to_be_bytes());
        id[8..].copy_from_slice(&at.as_millis().to_be_bytes());
        let (Some(run), Some(span)) = (TraceId::from_slice(&id), SpanId::from_slice(&1_u64.to_be_bytes())) else {
            return;
        };
        let agent = Arc::new(AgentIdentity {
            project: Arc::clone(&hook.project),
            agent: Arc::clone(&hook.agent),
            agent_type: Arc::clone(&hook.agent_type),
            is_named: true,
        });
        changes.push(TurnChange::Begin(Box::new(RunStart {
            id: run,
            trace: run,
            span,
            above: None,
            agent: Arc::clone(&agent),
            name: Arc::from("prompt"),
            source: RunSource::Hook,
            parent: None,
            session: Some(session_name(hook.session)),
            task: None,
            platform: None,
            facts: RunFacts::default(),
            at,
        })));
        let turn = Some(Turn { run, agent, spans: 1, open: Vec::new(), waits: None });
        match self.0.get_mut(&hook.session) {
            Some(known) => *known = turn,
            None => {
                self.0.insert(hook.session, turn, ());
            }
        }
    }

    fn end(
        &mut self,
        at: Time,
        hook: &Hook,
        status: RunStatus,
        failure: Option<&TurnFailure>,
        changes: &mut Vec<TurnChange>,
    ) {
        let end = RunEnd { status, error: failure.map(TurnFailure::reason), at, ..RunEnd::default() };
        let Some(mut turn) = self.0.get_mut(&hook.session).and_then(Option::take) else {
            // A prompt without an earlier one ends nothing.
            if !matches!(hook.event, SessionEvent::Prompted) {
                changes.push(TurnChange::EndOfSession(session_name(hook.session), end));
            }
            return;
        };
        turn.end_wait(at, changes);
        while let Some((part, from)) = turn.open.pop() {
            turn.report(part, from, at, changes);
        }
        changes.push(TurnChange::End(turn.run, end));
    }

    /// A part of a turn began or ended.
    fn part(&mut self, at: Time, hook: &Hook, changes: &mut Vec<TurnChange>) {
        let Some(Some(turn)) = self.0.get_mut(&hook.session) else { return };
        match &hook.event {
            SessionEvent::ToolBegan { tool, asks } => {
                turn.open(OpenPart::Tool(Arc::clone(tool)), at);
                match asks {
                    Some(_) => turn.waits = turn.waits.or(Some(at)),
                    None => turn.end_wait(at, changes),
                }
            }
            SessionEvent::ToolEnded(tool) => {
                turn.end_wait(at, changes);
                turn.close(&OpenPart::Tool(Arc::clone(tool)), at, changes);
            }
            SessionEvent::ToolsEnded => {
                turn.end_wait(at, changes);
                let (tools, others) = std::mem::take(&mut turn.open)
                    .into_iter()
                    .partition(|(part, _)| matches!(part, OpenPart::Tool(_)) && hook.subagent.is_none());
                turn.open = others;
                for (part, from) in tools {
                    turn.report(part, from, at, changes);
                }
            }
            SessionEvent::PermissionRequested(_) | SessionEvent::InputRequested => turn.waits = turn.waits.or(Some(at)),
            SessionEvent::InputGiven => turn.end_wait(at, changes),
            SessionEvent::SubagentBegan => turn.open(OpenPart::Subagent(hook.subagent.unwrap_or(0)), at),
            SessionEvent::SubagentEnded => {
                turn.close(&OpenPart::Subagent(hook.subagent.unwrap_or(0)), at, changes);
            }
            _ => {}
        }
    }
}

impl Turn {
    fn open(&mut self, part: OpenPart, at: Time) {
        if self.open.len() < MAX_OPEN {
            self.open.push((part, at));
        }
    }

    fn close(&mut self, part: &OpenPart, at: Time, changes: &mut Vec<TurnChange>) {
        if let Some(place) = self.open.iter().position(|(open, _)| open == part) {
            let (part, from) = self.open.remove(place);
            self.report(part, from, at, changes);
        }
    }

    fn end_wait(&mut self, at: Time, changes: &mut Vec<TurnChange>) {
        if let Some(from) = self.waits.take() {
            self.span(SpanKind::Wait, "waiting for a person".into(), None, from, at, changes);
        }
    }

    fn report(&mut self, part: OpenPart, from: Time, at: Time, changes: &mut Vec<TurnChange>) {
        match part {
            OpenPart::Tool(tool) => {
                let name: Cow<'static, str> = Cow::Owned(tool.to_string());
                self.span(SpanKind::Tool, name.clone(), Some((SpanField::Tool, name)), from, at, changes);
            }
            OpenPart::Subagent(_) => self.span(SpanKind::Agent, "subagent".into(), None, from, at, changes),
        }
    }

    fn span(
        &mut self,
        kind: SpanKind,
        name: Cow<'static, str>,
        field: Option<(SpanField, Cow<'static, str>)>,
        from: Time,
        at: Time,
        changes: &mut Vec<TurnChange>,
    ) {
        self.spans += 1;
        let root = SpanId::from_slice(&1_u64.to_be_bytes());
        let Some(id) = SpanId::from_slice(&self.spans.to_be_bytes()) else { return };
        let nanos = |time: Time| u64::try_from(time.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
        let mut span = Span::new(self.run, id, name, nanos(from));
        span.parent = root;
        span.kind = kind;
        span.source = RunSource::Hook;
        span.status = SpanStatus::Unset;
        span.duration = Some(nanos(at).saturating_sub(nanos(from)));
        span.fields.extend(field);
        let agent = Some(Arc::clone(&self.agent));
        changes.push(TurnChange::Part(Box::new(SpanReport {
            span,
            agent,
            caller: None,
            run: None,
            response: None,
            call: None,
            facts: None,
        })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hook::SessionEnd;

    fn at(seconds: i64) -> Time {
        Time::from_millis(1_800_000_000_000 + seconds * 1000)
    }

    fn hook(event: SessionEvent) -> Hook {
        Hook {
            project: "shop".into(),
            agent: "builder".into(),
            agent_type: "claude-code".into(),
            session: 7,
            subagent: None,
            event,
            retry_at: None,
            stop: None,
        }
    }

    fn began(tool: &str, asks: Option<&str>) -> SessionEvent {
        SessionEvent::ToolBegan { tool: tool.into(), asks: asks.map(Arc::from) }
    }

    /// What the events, a second after each other, do to runs, in words.
    fn in_words(events: Vec<SessionEvent>) -> Vec<String> {
        let mut turns = Turns::default();
        let changes = events.into_iter().zip(0..).flat_map(|(event, second)| turns.apply(at(second), &hook(event)));
        let word = |change: TurnChange| match change {
            TurnChange::Begin(start) => format!("begin at {}", start.at.since(at(0)).as_secs()),
            TurnChange::Part(part) => {
                let seconds = |nanos: u64| nanos / 1_000_000_000;
                let from = seconds(part.span.started_at) - 1_800_000_000;
                format!("{:?} {} {from}+{}", part.span.kind, part.span.name, seconds(part.span.duration.unwrap_or(0)))
            }
            TurnChange::End(_, end) => format!("{} at {}", end.status.as_str(), end.at.since(at(0)).as_secs()),
            TurnChange::EndOfSession(_, end) => format!("session: {}", end.status.as_str()),
        };
        changes.map(word).collect()
    }

    #[test]
    fn a_prompt_to_its_end_is_a_run_with_tools_and_waits() {
        let events = vec![
            SessionEvent::Began,
            SessionEvent::Prompted,
            began("Bash", None),
            SessionEvent::PermissionRequested("Bash".into()),
            SessionEvent::ToolEnded("Bash".into()),
            began("AskUserQuestion", Some("a question")),
            SessionEvent::ToolsEnded,
            SessionEvent::TurnEnded { in_background: true },
            SessionEvent::TurnEnded { in_background: false },
        ];
        let expected = [
            "begin at 1",
            "Wait waiting for a person 3+1",
            "Tool Bash 2+2",
            "Wait waiting for a person 5+1",
            "Tool AskUserQuestion 5+1",
            "ok at 8",
        ];
        assert_eq!(in_words(events), expected);
    }

    #[test]
    fn a_turn_that_fails_is_replaced_or_left_ends_as_such() {
        let failed = SessionEvent::TurnFailed(TurnFailure::Overload);
        assert_eq!(in_words(vec![SessionEvent::Prompted, failed]), ["begin at 0", "error at 1"]);
        let again = vec![SessionEvent::Prompted, began("Read", None), SessionEvent::Prompted];
        assert_eq!(in_words(again), ["begin at 0", "Tool Read 1+1", "ok at 2", "begin at 2"]);
        let left = vec![SessionEvent::Prompted, SessionEvent::Ended(SessionEnd::Exited)];
        assert_eq!(in_words(left), ["begin at 0", "abandoned at 1"]);
        // After a restart the turn is only known to the store.
        let ended = SessionEvent::TurnEnded { in_background: false };
        assert_eq!(in_words(vec![began("Read", None), ended]), ["session: ok"]);
    }
}

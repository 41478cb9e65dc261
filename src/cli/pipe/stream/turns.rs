//! The turns of a stream as runs: when each began and ended, with calls of models, tools and waits as spans. Names, numbers
//! and times only.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use super::state::{RunCounts, RunState};
use crate::model::{AgentStatus, SpanId, SpanKind, Time, TokenCounts};

/// Tools, subagents and requests that are open at once; more are not reported.
const MAX_OPEN: usize = 256;
/// Spans that wait to be reported; more are dropped and counted.
const MAX_SPANS: usize = 2_000;
/// Turns that wait to be reported; of more the oldest are dropped.
const MAX_TURNS: usize = 1_000;

/// The number of the topmost span of a turn.
pub const ROOT: u64 = u64::from_be_bytes(*SpanId::REPORTED_ROOT.as_bytes());

/// What is new of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnReport {
    /// Its number in the stream.
    pub number: u32,
    /// When it began.
    pub started_at: Time,
    /// The agent's session.
    pub session: Option<String>,
    /// Spans that ended.
    pub spans: Vec<TurnSpan>,
    /// Spans that were dropped.
    pub dropped: u64,
    /// Its end.
    pub end: Option<TurnEnd>,
}

/// A span of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnSpan {
    /// Its number in the turn.
    pub number: u64,
    /// The number of the span above it.
    pub above: u64,
    /// What it is.
    pub kind: SpanKind,
    /// Its name: that of the tool.
    pub name: String,
    /// The model that was called.
    pub model: Option<String>,
    /// When it began.
    pub started_at: Time,
    /// When it ended.
    pub ended_at: Time,
    /// Why it failed.
    pub error: Option<String>,
}

/// The end of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnEnd {
    /// When.
    pub at: Time,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// What it used.
    pub tokens: Option<TokenCounts>,
    /// US dollars.
    pub cost_usd: Option<f64>,
}

/// Turns that wait to be reported.
#[derive(Debug, Default)]
pub struct TurnQueue {
    turns: Vec<TurnReport>,
    /// Turns that were dropped because too many waited.
    dropped: u64,
}

impl TurnQueue {
    /// Adds what is new of turns to what waits.
    pub fn add(&mut self, news: Vec<TurnReport>) {
        for mut turn in news {
            let waiting: usize = self.turns.iter().map(|turn| turn.spans.len()).sum();
            let room = MAX_SPANS.saturating_sub(waiting);
            turn.dropped += turn.spans.len().saturating_sub(room) as u64;
            turn.spans.truncate(room);
            match self.turns.iter_mut().find(|known| known.number == turn.number) {
                Some(known) => known.merge(turn),
                None => self.turns.push(turn),
            }
        }
        self.turns.sort_by_key(|turn| turn.number);
        let excess = self.turns.len().saturating_sub(MAX_TURNS);
        let lost: u64 = self.turns.drain(..excess).map(|turn| turn.spans.len() as u64 + turn.dropped).sum();
        self.dropped += excess as u64;
        if let Some(oldest) = self.turns.first_mut() {
            oldest.dropped += lost;
        }
    }

    /// Whether turns wait, other than with more spans of the turn `open`.
    pub fn waits(&self, open: Option<u32>) -> bool {
        self.turns.iter().any(|turn| turn.end.is_some() || open != Some(turn.number))
    }

    /// Takes all that waits.
    pub fn take(&mut self) -> Vec<TurnReport> {
        std::mem::take(&mut self.turns)
    }

    /// How many turns were dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

impl TurnReport {
    fn merge(&mut self, newer: Self) {
        self.started_at = newer.started_at;
        self.session = newer.session.or(self.session.take());
        self.spans.extend(newer.spans);
        self.dropped += newer.dropped;
        self.end = newer.end.or(self.end.take());
    }
}

/// Records the turns of one stream.
#[derive(Debug, Default)]
pub(super) struct TurnRecorder {
    session: Option<String>,
    turn: Option<OpenTurn>,
    /// The number of the next turn.
    next: u32,
    /// The first moment that the next turn may have begun.
    since: Option<Time>,
    /// What the agent had used by the end of the turn before.
    before: RunCounts,
    news: Vec<TurnReport>,
}

#[derive(Debug)]
struct OpenTurn {
    number: u32,
    started_at: Time,
    /// The number of the next span.
    next: u64,
    open: Vec<OpenTool>,
    requests: Vec<Requester>,
    /// Since when it waits for a person.
    waits: Option<Time>,
    spans: Vec<TurnSpan>,
    dropped: u64,
    is_new: bool,
}

#[derive(Debug)]
struct OpenTool {
    key: u64,
    number: u64,
    above: u64,
    name: String,
    started_at: Time,
}

/// The agent itself or a subagent, which calls its model.
#[derive(Debug)]
struct Requester {
    /// The hash of the subagent's call, that of nothing for the agent.
    key: u64,
    /// Since when it has all that its next request needs.
    ready_at: Time,
    /// The call whose answer is being printed: the answer, its model, and when it was last printed.
    call: Option<(u64, Option<String>, Time)>,
}

impl TurnRecorder {
    /// Sets the time at which the stream began.
    pub(super) fn start(&mut self, now: Time) {
        self.since = Some(now);
    }

    /// Sets the session.
    pub(super) fn set_session(&mut self, session: &str) {
        if !session.is_empty() && self.session.as_deref() != Some(session) {
            self.session = Some(session.to_owned());
        }
    }

    /// Begins and ends turns by the state of the agent. `took_ms`: how long the turn took, where its end says that.
    /// `is_text`: the stream has no sign of a turn's beginning.
    pub(super) fn note(&mut self, now: Time, was_over: bool, took_ms: Option<f64>, is_text: bool, state: &RunState) {
        let is_over = state.ended || state.status.is_over();
        let is_idle = state.status == AgentStatus::Starting && !state.ended;
        if self.turn.is_none() && !is_idle && (!is_over || !was_over) {
            let is_whole = is_over || is_text && self.next == 0;
            let from = self.since.filter(|_| is_whole).unwrap_or(now);
            self.begin(from);
        }
        if is_over && let Some(turn) = &mut self.turn {
            if let Some(took) = took_ms.and_then(|took| Duration::try_from_secs_f64(took / 1e3).ok()) {
                let began = now.minus(took).max(self.since.unwrap_or(turn.started_at));
                turn.started_at = turn.started_at.min(began);
            }
            self.end(now, state);
        }
    }

    fn begin(&mut self, now: Time) -> &mut OpenTurn {
        if self.turn.is_none() {
            self.next = self.next.saturating_add(1);
        }
        self.turn.get_or_insert_with(|| OpenTurn {
            number: self.next.saturating_sub(1),
            started_at: now,
            next: ROOT + 1,
            open: Vec::new(),
            requests: Vec::new(),
            waits: None,
            spans: Vec::new(),
            dropped: 0,
            is_new: true,
        })
    }

    fn end(&mut self, now: Time, state: &RunState) {
        let Some(mut turn) = self.turn.take() else { return };
        turn.close_all(now);
        self.since = Some(now);
        let used = |place: usize| {
            let count = |counts: &RunCounts| counts.whole.get(place).copied().flatten();
            count(&state.counts).map(|count_now| count_now.saturating_sub(count(&self.before).unwrap_or(0)))
        };
        let tokens: [Option<u64>; 5] = std::array::from_fn(used);
        let tokens = tokens.iter().any(Option::is_some).then(|| tokens.map(Option::unwrap_or_default));
        let before = self.before.cost_usd.unwrap_or(0.0);
        let cost_usd = state.counts.cost_usd.map(|cost| (cost - before).max(0.0));
        let failed = !state.ended && state.status != AgentStatus::Completed;
        let error = failed.then(|| state.reason.clone().unwrap_or_else(|| "failed".to_owned()));
        let report = turn.report(self.session.clone(), Some(TurnEnd { at: now, error, tokens, cost_usd }));
        self.before.clone_from(&state.counts);
        self.news.push(report);
    }

    /// What is new since the last call.
    pub(super) fn take(&mut self) -> Vec<TurnReport> {
        let mut news = std::mem::take(&mut self.news);
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.is_new || !turn.spans.is_empty()) {
            news.push(turn.report(self.session.clone(), None));
        }
        news
    }

    /// An answer of a model is printed, or a part of it. `parent`: the call of the subagent, empty for the agent.
    pub(super) fn answered(&mut self, now: Time, parent: &str, answer: &str, model: &str) {
        let turn = self.begin(now);
        let (answer, model) = (hash(answer), (!model.is_empty()).then(|| super::name(model)));
        turn.end_wait(now);
        let Some(place) = turn.requester(parent) else { return };
        if let Some(requester) = turn.requests.get_mut(place)
            && let Some((known, of_known, last)) = &mut requester.call
        {
            if *known == answer {
                *last = now;
                *of_known = model.or(of_known.take());
                return;
            }
            turn.close_call(place);
        }
        if let Some(requester) = turn.requests.get_mut(place) {
            requester.call = Some((answer, model, now));
        }
    }

    /// A request failed; the next is sent at `retry_at`.
    pub(super) fn failed(
        &mut self,
        now: Time,
        model: Option<&str>,
        error: String,
        is_limit: bool,
        retry_at: Option<Time>,
    ) {
        let turn = self.begin(now);
        let Some(place) = turn.requester("") else { return };
        turn.close_call(place);
        let from = turn.requests.get(place).map_or(now, |requester| requester.ready_at);
        if let Some(span) = turn.span(SpanKind::Llm, request_name(model), ROOT, (from, now)) {
            (span.error, span.model) = (Some(error), model.map(str::to_owned));
        }
        let next = retry_at.unwrap_or(now).max(now);
        if is_limit && next > now {
            turn.span(SpanKind::Wait, "waiting for a rate limit".to_owned(), ROOT, (now, next));
        }
        if let Some(requester) = turn.requests.get_mut(place) {
            requester.ready_at = next;
        }
    }

    /// Something failed that is no call of which more is known.
    pub(super) fn noted_failure(&mut self, now: Time, error: String) {
        let Some(turn) = &mut self.turn else { return };
        if let Some(span) = turn.span(SpanKind::Other, "request".to_owned(), ROOT, (now, now)) {
            span.error = Some(error);
        }
    }

    /// A tool is called.
    pub(super) fn tool_began(&mut self, now: Time, parent: &str, id: &str, name: &str) {
        let turn = self.begin(now);
        let key = hash(id);
        if turn.open.len() >= MAX_OPEN || turn.open.iter().any(|tool| tool.key == key) {
            return;
        }
        let above = turn.above(parent);
        let number = turn.next_number();
        turn.open.push(OpenTool { key, number, above, name: super::name(name), started_at: now });
        if matches!(name, "AskUserQuestion" | "ExitPlanMode") {
            turn.waits = turn.waits.or(Some(now));
        }
    }

    /// A tool has its result. `name`: that of a tool whose beginning is not printed.
    pub(super) fn tool_ended(&mut self, now: Time, parent: &str, id: &str, name: Option<&str>, error: Option<String>) {
        let Some(turn) = &mut self.turn else { return };
        turn.end_wait(now);
        let key = hash(id);
        if let Some(place) = turn.open.iter().position(|tool| tool.key == key) {
            let tool = turn.open.remove(place);
            if let Some(subagent) = turn.requests.iter().position(|requester| requester.key == key) {
                turn.close_call_above(subagent, tool.number);
                turn.requests.remove(subagent);
            }
            turn.close(tool, now, error);
        } else if let Some(name) = name {
            let above = turn.above(parent);
            if let Some(span) = turn.span(SpanKind::Tool, super::name(name), above, (now, now)) {
                span.error = error;
            }
        }
        if let Some(place) = turn.requester(parent) {
            turn.close_call(place);
            if let Some(requester) = turn.requests.get_mut(place) {
                requester.ready_at = now;
            }
        }
    }

    /// A person is asked.
    pub(super) fn asked(&mut self, now: Time) {
        if let Some(turn) = &mut self.turn {
            turn.waits = turn.waits.or(Some(now));
        }
    }

    /// No person is asked any longer.
    pub(super) fn is_answered(&mut self, now: Time) {
        if let Some(turn) = &mut self.turn {
            turn.end_wait(now);
        }
    }
}

impl OpenTurn {
    fn report(&mut self, session: Option<String>, end: Option<TurnEnd>) -> TurnReport {
        self.is_new = false;
        let (spans, dropped) = (std::mem::take(&mut self.spans), std::mem::take(&mut self.dropped));
        TurnReport { number: self.number, started_at: self.started_at, session, spans, dropped, end }
    }

    fn next_number(&mut self) -> u64 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    /// The number of the span that a subagent's spans are beneath.
    fn above(&self, parent: &str) -> u64 {
        let key = hash(parent);
        self.open.iter().find(|tool| !parent.is_empty() && tool.key == key).map_or(ROOT, |tool| tool.number)
    }

    /// Where the requests of the agent or of a subagent are noted.
    fn requester(&mut self, parent: &str) -> Option<usize> {
        let key = hash(parent);
        let known = self.requests.iter().position(|requester| requester.key == key);
        if known.is_none() && self.requests.len() < MAX_OPEN {
            let tool = self.open.iter().find(|tool| !parent.is_empty() && tool.key == key);
            let ready_at = tool.map_or(self.started_at, |tool| tool.started_at);
            self.requests.push(Requester { key, ready_at, call: None });
            return Some(self.requests.len() - 1);
        }
        known
    }

    fn close_call(&mut self, place: usize) {
        let Some(key) = self.requests.get(place).map(|requester| requester.key) else { return };
        let above = self.open.iter().find(|tool| tool.key == key).map_or(ROOT, |tool| tool.number);
        self.close_call_above(place, above);
    }

    fn close_call_above(&mut self, place: usize, above: u64) {
        let Some(requester) = self.requests.get_mut(place) else { return };
        let Some((_, model, last)) = requester.call.take() else { return };
        let from = std::mem::replace(&mut requester.ready_at, last);
        if let Some(span) = self.span(SpanKind::Llm, request_name(model.as_deref()), above, (from, last)) {
            span.model = model;
        }
    }

    fn close(&mut self, tool: OpenTool, now: Time, error: Option<String>) {
        let OpenTool { number, above, name, started_at, .. } = tool;
        let span =
            TurnSpan { number, above, kind: SpanKind::Tool, name, model: None, started_at, ended_at: now, error };
        self.push(span);
    }

    fn close_all(&mut self, now: Time) {
        self.end_wait(now);
        for place in 0..self.requests.len() {
            self.close_call(place);
        }
        for tool in std::mem::take(&mut self.open) {
            self.close(tool, now, None);
        }
    }

    fn end_wait(&mut self, now: Time) {
        if let Some(from) = self.waits.take() {
            self.span(SpanKind::Wait, "waiting for a person".to_owned(), ROOT, (from, now));
        }
    }

    /// Adds a span; `None` if there are too many.
    fn span(&mut self, kind: SpanKind, name: String, above: u64, (from, to): (Time, Time)) -> Option<&mut TurnSpan> {
        let number = self.next_number();
        let ended_at = to.max(from);
        self.push(TurnSpan { number, above, kind, name, model: None, started_at: from, ended_at, error: None })
    }

    fn push(&mut self, span: TurnSpan) -> Option<&mut TurnSpan> {
        if self.spans.len() >= MAX_SPANS {
            self.dropped += 1;
            return None;
        }
        self.spans.push(span);
        self.spans.last_mut()
    }
}

fn request_name(model: Option<&str>) -> String {
    model.map_or_else(|| "chat".to_owned(), |model| format!("chat {model}"))
}

fn hash(text: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

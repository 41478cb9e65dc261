//! Reports the turns of the agent as runs, next to its state: what waits is sent with the next report of that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::PipeArgs;
use crate::cli::client::{Client, is_refusal};
use crate::cli::pipe::stream::turns::{ROOT, TurnEnd, TurnQueue, TurnReport, TurnSpan};
use crate::model::{Time, TokenType};

/// Spans of one request.
const MAX_SPANS: usize = 1_000;
/// Least time between reports that only add spans.
const SPANS_INTERVAL: Duration = Duration::from_secs(2);
/// Reports in a row that may be refused although the state of the agent is accepted.
const MAX_REFUSALS: u32 = 5;
/// How long the last report is tried again after the stream has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Turns that wait to be reported, between the parser and the reporter.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedTurns(Arc<Mutex<TurnQueue>>);

impl SharedTurns {
    /// Adds what is new.
    pub(super) fn add(&self, news: Vec<TurnReport>) {
        if !news.is_empty() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).add(news);
        }
    }

    fn take(&self) -> Vec<TurnReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn take_dropped(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_dropped()
    }

    /// Whether turns wait; those that only add spans to the turn `open` may wait longer.
    fn waits(&self, open: Option<u32>, is_patient: bool) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waits(open.filter(|_| is_patient))
    }
}

/// Reports the turns of one stream.
#[derive(Debug)]
pub(super) struct RunReporter {
    agent: String,
    project: String,
    task: Option<String>,
    /// Whether the first turn's totals are not its own.
    is_resumed: bool,
    turns: SharedTurns,
    /// What ids of runs begin with.
    seed: String,
    /// The last turn whose beginning was reported and that goes on.
    open: Option<(u32, Time)>,
    /// Refusals in a row; after [`MAX_REFUSALS`] nothing is reported any more.
    refusals: u32,
    sent_at: Option<Instant>,
    /// Until when the last report is tried again, once the stream has ended.
    ends_at: Option<Instant>,
    /// Spans that were dropped because too many waited.
    pub(super) dropped: u64,
    /// Turns that were dropped because too many waited.
    pub(super) dropped_turns: u64,
}

impl RunReporter {
    /// A reporter of `turns`.
    pub(super) fn new(args: &PipeArgs, turns: SharedTurns) -> Self {
        let mut seed = [0; 12];
        // Without the system's random numbers nothing is reported: ids would repeat.
        let is_random = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed).is_ok();
        Self {
            agent: args.agent.clone(),
            project: args.project.clone(),
            task: args.task.clone(),
            is_resumed: args.resumed,
            turns,
            seed: hex::encode(seed),
            open: None,
            refusals: if is_random { 0 } else { MAX_REFUSALS },
            sent_at: None,
            ends_at: None,
            dropped: 0,
            dropped_turns: 0,
        }
    }

    /// Whether something must be reported now.
    pub(super) fn waits(&self, is_final: bool) -> bool {
        let is_early = self.sent_at.is_some_and(|sent| sent.elapsed() < SPANS_INTERVAL);
        self.refusals < MAX_REFUSALS && self.turns.waits(self.open.map(|(number, _)| number), is_early && !is_final)
    }

    /// Reports what waits. What fails is sent with the next call; an error is returned once, when it is given up: after
    /// refusals in a row, and at the end when the sidecar takes it for too long to answer.
    pub(super) async fn send(
        &mut self,
        client: &Client,
        agent_type: Option<&str>,
        is_final: bool,
    ) -> anyhow::Result<()> {
        let mut waiting = self.turns.take();
        self.dropped_turns += self.turns.take_dropped();
        let now = Instant::now();
        self.sent_at = Some(now);
        let ends_at = is_final.then(|| *self.ends_at.get_or_insert(now + PATIENCE));
        while let Some(turn) = waiting.first() {
            let more = turn.spans.len() > MAX_SPANS;
            let spans = turn.spans.get(..turn.spans.len().min(MAX_SPANS)).unwrap_or_default();
            let body = self.body(turn, spans, turn.end.as_ref().filter(|_| !more), agent_type);
            if let Err(error) = client.post_text(&["api", "traces"], body.to_string()).await {
                self.turns.add(waiting);
                let is_late = ends_at.is_some_and(|ends_at| Instant::now() >= ends_at);
                if is_late {
                    self.refusals = MAX_REFUSALS;
                } else if is_refusal(&error) {
                    self.refusals += 1;
                }
                return if self.refusals == MAX_REFUSALS { Err(error) } else { Ok(()) };
            }
            self.refusals = 0;
            self.open = turn.end.is_none().then_some((turn.number, turn.started_at));
            match waiting.first_mut() {
                Some(turn) if more => drop(turn.spans.drain(..MAX_SPANS)),
                _ => self.dropped += waiting.remove(0).dropped,
            }
        }
        Ok(())
    }

    /// Ends a turn whose end was not read, since a signal ends the program.
    pub(super) fn interrupt(&mut self, now: Time) {
        let mut waiting = self.turns.take();
        let end = TurnEnd { at: now, error: Some("interrupted".to_owned()), tokens: None, cost_usd: None };
        let (number, started_at) = match (waiting.last(), self.open) {
            (Some(last), _) if last.end.is_some() => return self.turns.add(waiting),
            (Some(last), _) => (last.number, last.started_at),
            (None, Some(open)) => open,
            (None, None) => return,
        };
        waiting.push(TurnReport { number, started_at, session: None, spans: Vec::new(), dropped: 0, end: Some(end) });
        self.turns.add(waiting);
    }

    fn body(&self, turn: &TurnReport, spans: &[TurnSpan], end: Option<&TurnEnd>, agent_type: Option<&str>) -> Value {
        let mut body = json!({
            "run_id": format!("{}{:08x}", self.seed, u64::from(turn.number) + 1),
            "project": self.project,
            "agent_name": self.agent,
            "type": agent_type,
            "name": "prompt",
            "session_id": turn.session,
            "task_id": self.task,
            "started_at": turn.started_at.to_string(),
            "spans": spans.iter().map(span).collect::<Vec<Value>>(),
        });
        if let (Some(fields), Some(end)) = (body.as_object_mut(), end) {
            let has_own_totals = !(self.is_resumed && turn.number == 0);
            let by_type = |counts: [u64; 5]| -> Value {
                TokenType::ALL
                    .iter()
                    .zip(counts)
                    .map(|(kind, count)| (kind.as_str().to_owned(), json!(count)))
                    .collect()
            };
            fields.insert("ended_at".to_owned(), json!(end.at.to_string()));
            fields.insert("status".to_owned(), json!(if end.error.is_some() { "error" } else { "ok" }));
            fields.insert("error".to_owned(), json!(end.error));
            fields.insert("tokens".to_owned(), json!(end.tokens.filter(|_| has_own_totals).map(by_type)));
            fields.insert("cost_usd".to_owned(), json!(end.cost_usd.filter(|_| has_own_totals)));
        }
        body
    }
}

fn span(span: &TurnSpan) -> Value {
    json!({
        "span_id": format!("{:016x}", span.number),
        "parent_span_id": (span.above != ROOT).then(|| format!("{:016x}", span.above)),
        "kind": span.kind.as_str(),
        "name": span.name,
        "model": span.model,
        "started_at": span.started_at.to_string(),
        "duration_ms": span.ended_at.since(span.started_at).as_millis() as u64,
        "error": span.error,
    })
}

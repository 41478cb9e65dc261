//! A provider of models as agents call it: Anthropic's Messages, OpenAI's Responses and chats, Gemini's contents. It
//! answers, asks for a tool or fails on command, and sums up the tokens of its answers.
//!
//! Every answer is the same sentence.

mod anthropic;
mod chat;
mod gemini;
mod openai;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::Value;

use crate::program::PATIENCE;

/// What is answered to the calls by which an agent works; other calls are answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelBehavior {
    /// A sentence.
    Answers,
    /// The shell is to be used, and then a sentence. Claude Code's alone.
    UsesShell,
    /// The shell is to be used, again and again. Claude Code's alone.
    NeverEnds,
    /// This status, again and again.
    Fails(u16),
    /// No answer until the behavior changes.
    Waits,
}

/// Tokens, each counted in one field only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cache_read: u64,
    /// Anthropic's alone.
    pub(crate) cache_creation: u64,
    /// OpenAI's and Gemini's.
    pub(crate) reasoning: u64,
}

impl Usage {
    /// What one answer uses unless the test sets it.
    const USUAL: Self = Self { input: 7, output: 3, cache_read: 0, cache_creation: 0, reasoning: 0 };

    /// Applies `with` to each kind of two.
    fn each(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            input: with(self.input, other.input),
            output: with(self.output, other.output),
            cache_read: with(self.cache_read, other.cache_read),
            cache_creation: with(self.cache_creation, other.cache_creation),
            reasoning: with(self.reasoning, other.reasoning),
        }
    }
}

/// What was answered so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelTotals {
    /// The tokens of answers, by model.
    pub(crate) tokens: BTreeMap<String, Usage>,
    /// The answers.
    pub(crate) answers: u64,
    /// The errors.
    pub(crate) errors: u64,
}

impl ModelTotals {
    /// The tokens of all models.
    pub(crate) fn sum(&self) -> Usage {
        self.tokens.values().fold(Usage::default(), |sum, usage| sum.each(*usage, |a, b| a + b))
    }
}

/// A provider on a free port of this machine.
pub(crate) struct Model {
    address: SocketAddr,
    state: Arc<(Mutex<ProviderState>, Condvar)>,
}

/// Its behavior, and what it answered so far.
struct ProviderState {
    behavior: ModelBehavior,
    /// The status of this many further calls, whatever the behavior.
    transient: (u16, u32),
    /// What the first answer uses, and by how much more each one after it.
    first: Usage,
    more: Usage,
    totals: ModelTotals,
    /// How many calls by which an agent works have come.
    calls: usize,
}

impl Model {
    /// Starts one; its threads end with the test's process.
    pub(crate) fn start(behavior: ModelBehavior) -> Self {
        Self::with_usage(behavior, Usage::USUAL, Usage::default())
    }

    /// Starts one whose first answer uses `first`, the second twice as much, and so on: no two can be taken for one
    /// another.
    pub(crate) fn using(behavior: ModelBehavior, first: Usage) -> Self {
        Self::with_usage(behavior, first, first)
    }

    fn with_usage(behavior: ModelBehavior, first: Usage, more: Usage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state =
            ProviderState { behavior, transient: (0, 0), first, more, totals: ModelTotals::default(), calls: 0 };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                // A client may close its connection.
                thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { address, state }
    }

    /// Its root.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the behavior from now on.
    pub(crate) fn set(&self, behavior: ModelBehavior) {
        self.state.0.lock().unwrap().behavior = behavior;
        self.state.1.notify_all();
    }

    /// Fails the next `times` calls by which an agent works, to be tried again after a second.
    pub(crate) fn fail_next(&self, status: u16, times: u32) {
        self.state.0.lock().unwrap().transient = (status, times);
    }

    /// How often it was called by which an agent works.
    pub(crate) fn calls(&self) -> usize {
        self.state.0.lock().unwrap().calls
    }

    /// What it has answered so far.
    pub(crate) fn totals(&self) -> ModelTotals {
        self.state.0.lock().unwrap().totals.clone()
    }
}

/// A call: its path and body.
struct Call {
    path: String,
    body: Value,
}

/// The format of one provider.
struct Provider {
    /// The model that is called.
    model: fn(&Call) -> String,
    /// Whether it is a call by which an agent works.
    is_work: fn(&Call) -> bool,
    /// An answer's content type and body, in this behavior.
    answer: fn(&Call, Usage, ModelBehavior) -> (&'static str, String),
    /// An error's body, with the seconds to wait.
    error: fn(u16, u32) -> Value,
}

fn provider(path: &str) -> Option<&'static Provider> {
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    match path {
        "/v1/messages" => Some(&anthropic::PROVIDER),
        "/v1/responses" => Some(&openai::PROVIDER),
        "/v1/chat/completions" => Some(&chat::PROVIDER),
        _ if path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent") => Some(&gemini::PROVIDER),
        _ => None,
    }
}

fn serve(stream: TcpStream, state: &(Mutex<ProviderState>, Condvar)) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if path.is_empty() {
            line.split(' ').nth(1).unwrap_or("/").clone_into(&mut path);
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let Some(provider) = provider(&path) else {
        return (&stream).write_all(response(404, "application/json", "{}", 0).as_bytes());
    };
    let call = Call { path, body: serde_json::from_slice(&body).unwrap_or_default() };
    let answer = match decide(provider, &call, state) {
        Ok((usage, behavior)) => {
            let (kind, body) = (provider.answer)(&call, usage, behavior);
            response(200, kind, &body, 0)
        }
        Err((status, wait)) => response(status, "application/json", &(provider.error)(status, wait).to_string(), wait),
    };
    (&stream).write_all(answer.as_bytes())
}

/// The tokens of an answer and its behavior, or an error's status and the seconds to wait.
fn decide(
    provider: &Provider,
    call: &Call,
    (state, turned): &(Mutex<ProviderState>, Condvar),
) -> Result<(Usage, ModelBehavior), (u16, u32)> {
    let is_work = (provider.is_work)(call);
    let waits = |state: &mut ProviderState| is_work && state.behavior == ModelBehavior::Waits;
    let mut state = state.lock().unwrap();
    state.calls += usize::from(is_work);
    let mut state = turned.wait_timeout_while(state, PATIENCE, waits).unwrap().0;
    let error = match (state.behavior, state.transient) {
        _ if !is_work => None,
        (_, (status, left @ 1..)) => {
            state.transient.1 = left - 1;
            Some((status, 1))
        }
        (ModelBehavior::Fails(status), _) => Some((status, 0)),
        _ => None,
    };
    if let Some(error) = error {
        state.totals.errors += 1;
        return Err(error);
    }
    state.totals.answers += 1;
    let times = state.totals.answers - 1;
    let usage = state.first.each(state.more, |first, more| first + more * times);
    let sum = state.totals.tokens.entry((provider.model)(call)).or_default();
    *sum = sum.each(usage, |a, b| a + b);
    Ok((usage, if is_work { state.behavior } else { ModelBehavior::Answers }))
}

fn response(status: u16, kind: &str, body: &str, wait: u32) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nretry-after: {wait}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// Events of a stream; those with a `type` are named after it.
fn stream(events: &[Value]) -> (&'static str, String) {
    let event = |event: &Value| match event["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\n\n"),
    };
    ("text/event-stream", events.iter().map(event).collect())
}

/// An answer at once.
fn whole(body: &Value) -> (&'static str, String) {
    ("application/json", body.to_string())
}

/// What kind of error a status is, in the words of `kinds`.
fn error_kind<'k>(kinds: &[(u16, &'k str)], status: u16) -> &'k str {
    kinds.iter().find(|(of, _)| *of == status).map_or("error", |(_, kind)| kind)
}

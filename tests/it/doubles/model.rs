//! A model's provider as agents talk to it: Anthropic's Messages, OpenAI's Responses and chats, Gemini's contents. It
//! answers, asks for a tool or refuses on command, and sums up the tokens that it hands out.
//!
//! Refuses to be a model: it says one sentence, whatever it is asked.

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

/// What is answered to the calls by which an agent works; those that it makes beside them are answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// A sentence.
    Speaks,
    /// The shell is to be used, and then a sentence. Claude Code's alone.
    UsesShell,
    /// The shell is to be used, again and again. Claude Code's alone.
    NeverEnds,
    /// This status, again and again.
    Refuses(u16),
    /// Nothing, until the mood is another one.
    Thinks,
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
    /// What one answer uses when nobody says.
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
pub(crate) struct Handed {
    /// The tokens of answers, by model.
    pub(crate) tokens: BTreeMap<String, Usage>,
    /// The answers.
    pub(crate) answers: u64,
    /// The refusals.
    pub(crate) refusals: u64,
}

impl Handed {
    /// The tokens of all models.
    pub(crate) fn sum(&self) -> Usage {
        self.tokens.values().fold(Usage::default(), |sum, usage| sum.each(*usage, |a, b| a + b))
    }
}

/// A provider on a free port of this machine.
pub(crate) struct Model {
    address: SocketAddr,
    desk: Arc<(Mutex<Desk>, Condvar)>,
}

/// What it goes by, and what it has done.
struct Desk {
    mood: Mood,
    /// The status of so many calls to come, whatever the mood.
    passing: (u16, u32),
    /// What the first answer uses, and by how much more each one after it.
    first: Usage,
    more: Usage,
    handed: Handed,
    /// How many calls by which an agent works have come.
    calls: usize,
}

impl Model {
    /// Starts one; its threads end with the test's process.
    pub(crate) fn start(mood: Mood) -> Self {
        Self::handing_out(mood, Usage::USUAL, Usage::default())
    }

    /// Starts one whose first answer uses `first`, the second twice as much, and so on: no two can be taken for one
    /// another.
    pub(crate) fn using(mood: Mood, first: Usage) -> Self {
        Self::handing_out(mood, first, first)
    }

    fn handing_out(mood: Mood, first: Usage, more: Usage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let desk = Desk { mood, passing: (0, 0), first, more, handed: Handed::default(), calls: 0 };
        let desk = Arc::new((Mutex::new(desk), Condvar::new()));
        let shared = Arc::clone(&desk);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let desk = Arc::clone(&shared);
                // A client that goes away has its reasons.
                thread::spawn(move || drop(serve(stream, &desk)));
            }
        });
        Self { address, desk }
    }

    /// Its root.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers otherwise from now on.
    pub(crate) fn turn(&self, mood: Mood) {
        self.desk.0.lock().unwrap().mood = mood;
        self.desk.1.notify_all();
    }

    /// Refuses the next `times` calls by which an agent works, to be tried again after a second.
    pub(crate) fn refuse(&self, status: u16, times: u32) {
        self.desk.0.lock().unwrap().passing = (status, times);
    }

    /// How often it was called by which an agent works.
    pub(crate) fn calls(&self) -> usize {
        self.desk.0.lock().unwrap().calls
    }

    /// What it has answered so far.
    pub(crate) fn handed(&self) -> Handed {
        self.desk.0.lock().unwrap().handed.clone()
    }
}

/// A call, as its path and body say.
struct Call {
    path: String,
    body: Value,
}

/// What a provider has to say, in its own words.
struct Provider {
    /// The model that is called.
    model: fn(&Call) -> String,
    /// Whether it is a call by which an agent works.
    is_work: fn(&Call) -> bool,
    /// An answer's content type and body, in this mood.
    answer: fn(&Call, Usage, Mood) -> (&'static str, String),
    /// A refusal's body, with the seconds to wait.
    refusal: fn(u16, u32) -> Value,
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

fn serve(stream: TcpStream, desk: &(Mutex<Desk>, Condvar)) -> std::io::Result<()> {
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
    let answer = match decide(provider, &call, desk) {
        Ok((usage, mood)) => {
            let (kind, body) = (provider.answer)(&call, usage, mood);
            response(200, kind, &body, 0)
        }
        Err((status, wait)) => {
            response(status, "application/json", &(provider.refusal)(status, wait).to_string(), wait)
        }
    };
    (&stream).write_all(answer.as_bytes())
}

/// The tokens of an answer and its mood, or a refusal's status and the seconds to wait.
fn decide(
    provider: &Provider,
    call: &Call,
    (desk, turned): &(Mutex<Desk>, Condvar),
) -> Result<(Usage, Mood), (u16, u32)> {
    let is_work = (provider.is_work)(call);
    let thinks = |desk: &mut Desk| is_work && desk.mood == Mood::Thinks;
    let mut desk = desk.lock().unwrap();
    desk.calls += usize::from(is_work);
    let mut desk = turned.wait_timeout_while(desk, PATIENCE, thinks).unwrap().0;
    let refusal = match (desk.mood, desk.passing) {
        _ if !is_work => None,
        (_, (status, left @ 1..)) => {
            desk.passing.1 = left - 1;
            Some((status, 1))
        }
        (Mood::Refuses(status), _) => Some((status, 0)),
        _ => None,
    };
    if let Some(refusal) = refusal {
        desk.handed.refusals += 1;
        return Err(refusal);
    }
    desk.handed.answers += 1;
    let times = desk.handed.answers - 1;
    let usage = desk.first.each(desk.more, |first, more| first + more * times);
    let sum = desk.handed.tokens.entry((provider.model)(call)).or_default();
    *sum = sum.each(usage, |a, b| a + b);
    Ok((usage, if is_work { desk.mood } else { Mood::Speaks }))
}

fn response(status: u16, kind: &str, body: &str, wait: u32) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nretry-after: {wait}\r\nconnection: close\r\n\r\n{body}"
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

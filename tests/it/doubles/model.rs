//! A model's provider as Claude Code talks to it: Anthropic's Messages, streamed, with a tool call or a refusal on command.
//!
//! Refuses to be a model: it says one sentence, whatever it is asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::program::PATIENCE;

/// What is answered to a call that has tools at hand; others are answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// A sentence.
    Speaks,
    /// The shell is to be used, and then a sentence.
    UsesShell,
    /// The shell is to be used, again and again.
    NeverEnds,
    /// 429, again and again.
    Refuses,
    /// 429 once, and then the shell is to be used.
    RefusesOnce,
    /// Nothing, until the mood is another one.
    Thinks,
}

/// A provider on a free port of this machine.
pub(crate) struct Model {
    address: SocketAddr,
    mood: Arc<(Mutex<Mood>, Condvar)>,
    tally: Arc<Tally>,
}

/// What it was asked and gave.
#[derive(Default)]
struct Tally {
    calls: AtomicUsize,
    answers: AtomicU32,
}

/// Tokens of each answer, in and out.
pub(crate) const TOKENS: [u32; 2] = [7, 3];

impl Model {
    /// Starts one; its threads end with the test's process.
    pub(crate) fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let mood = Arc::new((Mutex::new(mood), Condvar::new()));
        let tally = Arc::new(Tally::default());
        let shared = (Arc::clone(&mood), Arc::clone(&tally));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (mood, tally) = shared.clone();
                // A client that goes away has its reasons.
                thread::spawn(move || drop(serve(stream, &mood, &tally)));
            }
        });
        Self { address, mood, tally }
    }

    /// How often it was called with tools at hand.
    pub(crate) fn calls(&self) -> usize {
        self.tally.calls.load(Ordering::SeqCst)
    }

    /// Its root.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many answers it gave, refusals not counted.
    pub(crate) fn answers(&self) -> u32 {
        self.tally.answers.load(Ordering::SeqCst)
    }

    /// Answers otherwise from now on.
    pub(crate) fn turn(&self, mood: Mood) {
        *self.mood.0.lock().unwrap() = mood;
        self.mood.1.notify_all();
    }
}

fn serve(stream: TcpStream, mood: &(Mutex<Mood>, Condvar), tally: &Tally) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
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
    let call: Value = serde_json::from_slice(&body).unwrap_or_default();
    let has_tools = call["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "Bash"));
    tally.calls.fetch_add(usize::from(has_tools), Ordering::SeqCst);
    let now = if has_tools { thought_through(mood) } else { Mood::Speaks };
    let used = call["messages"].to_string().contains("\"tool_result\"");
    let id = || format!("msg_{}", tally.answers.fetch_add(1, Ordering::SeqCst));
    let answer = match now {
        Mood::Refuses | Mood::RefusesOnce => {
            let error = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "too many requests"}});
            response("429 Too Many Requests", "application/json", &error.to_string())
        }
        _ if call["stream"] == true => {
            let uses_shell = now == Mood::UsesShell && !used || now == Mood::NeverEnds && has_tools;
            response("200 OK", "text/event-stream", &events(&id(), uses_shell))
        }
        _ => {
            let said = message(&id(), &[json!({"type": "text", "text": "Three."})]);
            response("200 OK", "application/json", &said.to_string())
        }
    };
    (&stream).write_all(answer.as_bytes())
}

/// The mood, once it is one that answers.
fn thought_through((mood, turned): &(Mutex<Mood>, Condvar)) -> Mood {
    let waited = turned.wait_timeout_while(mood.lock().unwrap(), PATIENCE, |mood| *mood == Mood::Thinks);
    let mut mood = waited.unwrap().0;
    let now = *mood;
    if now == Mood::RefusesOnce {
        *mood = Mood::UsesShell;
    }
    now
}

fn response(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nretry-after: 0\r\nconnection: close\r\n\r\n{body}"
    )
}

fn message(id: &str, content: &[Value]) -> Value {
    let [input, output] = TOKENS;
    json!({"id": id, "type": "message", "role": "assistant", "model": "claude", "content": content,
        "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": input, "output_tokens": output}})
}

/// The events of a streamed answer.
fn events(id: &str, uses_shell: bool) -> String {
    let (block, delta, stop) = if uses_shell {
        let input = json!({"command": "echo >> made-by-the-model", "description": "Make a file"}).to_string();
        let tool = json!({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}});
        (tool, json!({"type": "input_json_delta", "partial_json": input}), "tool_use")
    } else {
        (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": "Three."}), "end_turn")
    };
    let mut start = message(id, &[]);
    start["stop_reason"] = Value::Null;
    let events = [
        json!({"type": "message_start", "message": start}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": {"output_tokens": TOKENS[1]}}),
        json!({"type": "message_stop"}),
    ];
    let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    events.iter().map(event).collect()
}

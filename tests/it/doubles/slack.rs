//! Slack's incoming webhooks: `ok` for a message within their limits, and failures on command.
//!
//! Strict: a body that Slack would reject gets 400, and its reason is recorded in place of the body.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use lookout::clock::Stopwatch;
use serde_json::Value;

use crate::program::PATIENCE;

/// What the path of every webhook here ends with, as a secret would.
pub(crate) const SECRET: &str = "T0SECRET/B0SECRET/hunter2hunter2";

/// What is done with a request once it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// 200 `ok`, if Slack would accept the body.
    Take,
    /// No answer, until the sender goes away or [`Slack::release`].
    Hang,
    /// The connection is cut without an answer.
    Cut,
    /// This status with this body, and `Retry-After` if there is one.
    Answer(u16, &'static str, Option<u64>),
}

/// A request that came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// What was done with it.
    pub(crate) act: Act,
    /// Its body.
    pub(crate) body: Value,
    /// How long after the start of the double it came in.
    pub(crate) at: Duration,
}

/// An alert in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// `WARNING`, `ERROR`, …, `RESOLVED`, `NOTE`.
    pub(crate) word: String,
    /// The subject: an agent, a source, a receiver.
    pub(crate) name: String,
    /// Its rule.
    pub(crate) rule: String,
}

impl Seen {
    /// Whether it was accepted; the sender may not have received the response.
    pub(crate) fn was_taken(&self) -> bool {
        self.act == Act::Take
    }

    fn attachment(&self) -> &Value {
        &self.body["attachments"][0]
    }

    /// The colour of its bar.
    pub(crate) fn colour(&self) -> &str {
        self.attachment()["color"].as_str().unwrap_or_default()
    }

    /// Every text in it, a line each.
    pub(crate) fn text(&self) -> String {
        let mut lines = Vec::new();
        texts(&self.attachment()["blocks"], &mut lines);
        lines.join("\n")
    }

    /// Its first line.
    pub(crate) fn headline(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// `[LEVEL] name` of the alert that it is about; the whole first line of one about several, and of a note.
    pub(crate) fn title(&self) -> String {
        let headline = self.headline();
        let is_note = headline.starts_with("[NOTE]") || headline.starts_with("[TEST]");
        let is_incident = headline.contains(" recovered from ") || headline.contains(" agents (");
        if is_note || is_incident || self.is_grouped() { headline } else { headed(&headline) }
    }

    fn is_grouped(&self) -> bool {
        self.text().lines().skip(1).any(|line| line.starts_with('['))
    }

    /// `[LEVEL] name` of each alert in it.
    pub(crate) fn alerts(&self) -> Vec<String> {
        if !self.is_grouped() {
            return vec![self.title()];
        }
        let text = self.text();
        text.lines().skip(1).filter(|line| line.starts_with('[')).map(headed).collect()
    }
}

impl Seen {
    /// Every alert in it.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let text = self.text();
        if self.is_grouped() {
            return listed(&text);
        }
        let rule = text.lines().find_map(|line| line.strip_prefix("Rule: ")).unwrap_or_default();
        titled(&self.headline(), rule.split(" · ").next().unwrap_or_default()).into_iter().collect()
    }
}

/// `[LEVEL] name` of `[LEVEL] project/name: what is wrong`.
pub(crate) fn headed(line: &str) -> String {
    let Some((word, rest)) = line.split_once("] ") else { return line.to_owned() };
    let rest = rest.strip_prefix("Source ").or_else(|| rest.strip_prefix("Receiver ")).unwrap_or(rest);
    let who = rest.split(' ').next().unwrap_or_default().trim_end_matches([':', '.']);
    format!("{word}] {}", who.rsplit('/').next().unwrap_or_default())
}

/// The alert of `rule` that a line such as `[WARNING] project/name: what is wrong` is about.
pub(crate) fn titled(line: &str, rule: &str) -> Option<Line> {
    let headed = headed(line);
    let (word, name) = headed.strip_prefix('[')?.split_once("] ")?;
    Some(Line { word: word.to_owned(), name: name.to_owned(), rule: rule.to_owned() })
}

/// The alerts that a message of several lists, below its title.
pub(crate) fn listed(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let (sentence, rule) = line.rsplit_once(" · ")?;
        titled(sentence, rule)
    };
    text.lines().skip(1).filter(|line| line.starts_with('[')).filter_map(line).collect()
}

fn texts(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, out)),
        Value::Object(fields) => {
            if let Some(text) = fields.get("text").and_then(Value::as_str) {
                out.push(text.to_owned());
            }
            fields.values().for_each(|field| texts(field, out));
        }
        _ => {}
    }
}

/// A webhook on a free port of this machine.
pub(crate) struct Slack {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    started: Stopwatch,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    script: VecDeque<Act>,
    otherwise: Option<Act>,
    /// Connections that hang.
    hanging: Vec<TcpStream>,
    /// The least time between two messages; an earlier one gets 429.
    pace: Option<Duration>,
    /// Since the last accepted message.
    last: Option<Stopwatch>,
    /// Connections that are being served.
    open: usize,
    /// Fences that were reached.
    fences: usize,
    /// The test ended; the listener stops.
    has_ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }
}

impl Slack {
    /// A webhook that accepts everything.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared { started: Stopwatch::start(), state: Mutex::default(), changed: Condvar::new() });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&server);
                let mut state = server.state();
                if state.has_ended {
                    break;
                }
                state.open += 1;
                drop(state);
                thread::spawn(move || {
                    let served = serve(&server, stream);
                    let mut state = server.state();
                    state.open -= 1;
                    state.fences +=
                        usize::from(served.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
                    server.changed.notify_all();
                });
            }
        });
        Self { address, shared }
    }

    /// Its URL, which is a secret.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/services/{SECRET}", self.address)
    }

    /// Does this with the next requests, one each.
    pub(crate) fn next(&self, acts: &[Act]) {
        self.shared.state().script.extend(acts);
    }

    /// Does this with every request that [`Self::next`] sets nothing for.
    pub(crate) fn always(&self, act: Act) {
        self.shared.state().otherwise = Some(act);
    }

    /// The time since its start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Cuts every connection that hangs.
    pub(crate) fn release(&self) {
        for stream in self.shared.state().hanging.drain(..) {
            // Its sender may be gone already.
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }

    /// Clears what [`Self::next`] and [`Self::always`] set: all further requests are accepted.
    pub(crate) fn behave(&self) {
        let mut state = self.shared.state();
        state.script.clear();
        state.otherwise = None;
        drop(state);
        self.release();
    }

    /// Accepts one message per `pace`, and answers 429 to earlier ones, as Slack does with one per second.
    pub(crate) fn paced(&self, pace: Duration) {
        self.shared.state().pace = Some(pace);
    }

    /// Waits until everything that was sent before is dealt with, also by a sender that is gone.
    pub(crate) fn fence(&self) {
        let before = self.shared.state().fences;
        // Connections are accepted in their order; this one, which sends nothing, is the last.
        drop(TcpStream::connect(self.address).expect("a connection"));
        let state = self.shared.state();
        let is_behind = |state: &mut State| state.fences == before || state.open > 0;
        let wait = self.shared.changed.wait_timeout_while(state, PATIENCE, is_behind);
        assert!(!wait.expect("no panic while it is held").1.timed_out(), "slack is still busy");
    }

    /// Everything that came in so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// The messages accepted so far.
    pub(crate) fn taken(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(Seen::was_taken).collect()
    }

    /// `[LEVEL] name` of each alert in accepted messages, in order.
    pub(crate) fn delivered(&self) -> Vec<String> {
        self.taken().iter().flat_map(Seen::alerts).collect()
    }

    /// Waits until `count` requests came in, and returns all.
    pub(crate) fn wait(&self, count: usize) -> Vec<Seen> {
        self.wait_for(&format!("{count} requests"), |seen| seen.len() >= count)
    }

    /// Waits until `is_there` of all that came in, and returns it.
    pub(crate) fn wait_for(&self, what: &str, mut is_there: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
        let state = self.shared.state();
        let wait = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !is_there(&state.seen));
        let (state, timeout) = wait.expect("no panic while it is held");
        let titles: Vec<String> = state.seen.iter().map(|seen| format!("{} ({:?})", seen.title(), seen.act)).collect();
        assert!(!timeout.timed_out(), "slack waited for {what} in vain; there were {titles:?}");
        state.seen.clone()
    }
}

impl Drop for Slack {
    fn drop(&mut self) {
        self.shared.state().has_ended = true;
        self.release();
        // Wakes the listener, which then ends and frees its port.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    let body = read_request(&mut stream)?;
    let parsed: Result<Value, String> = serde_json::from_slice(&body).map_err(|error| error.to_string());
    let problem = parsed.as_ref().map_or_else(|error| Some(error.clone()), |body| rejection(body, &body.to_string()));
    let act = {
        let mut state = shared.state();
        let otherwise = state.otherwise.unwrap_or(Act::Take);
        let act = state.script.pop_front().unwrap_or(otherwise);
        let act = if problem.is_some() { Act::Answer(400, "invalid_blocks", None) } else { act };
        let is_early = state.pace.zip(state.last).is_some_and(|(pace, last)| last.elapsed() < pace);
        let act = if act == Act::Take && is_early { Act::Answer(429, "rate_limited", Some(1)) } else { act };
        if act == Act::Take {
            state.last = Some(Stopwatch::start());
        }
        let body = problem.map_or_else(|| parsed.unwrap_or_default(), Value::String);
        state.seen.push(Seen { act, body, at: shared.started.elapsed() });
        if act == Act::Hang {
            state.hanging.push(stream.try_clone()?);
        }
        shared.changed.notify_all();
        act
    };
    match act {
        Act::Take => answer(&mut stream, 200, "ok", None),
        Act::Answer(status, body, wait) => answer(&mut stream, status, body, wait),
        Act::Hang => stream.read_to_end(&mut Vec::new()).map(drop),
        Act::Cut => Ok(()),
    }
}

fn answer(stream: &mut TcpStream, status: u16, body: &str, wait: Option<u64>) -> io::Result<()> {
    let wait = wait.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{wait}connection: close\r\n\r\n{body}")
}

fn read_request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

/// Why Slack would reject `body`, by its documented limits; `None` if it would accept it.
fn rejection(body: &Value, raw: &str) -> Option<String> {
    let attachment = match body["attachments"].as_array().map(Vec::as_slice) {
        Some([one]) => one,
        _ => return Some(format!("not one attachment: {raw}")),
    };
    let Some(blocks) = attachment["blocks"].as_array() else { return Some(format!("no blocks: {raw}")) };
    if attachment["fallback"].as_str().is_none_or(str::is_empty) {
        return Some(format!("no fallback: {raw}"));
    }
    if blocks.is_empty() || blocks.len() > 50 {
        return Some(format!("{} blocks", blocks.len()));
    }
    let length = |text: &Value| text["text"].as_str().map_or(usize::MAX, |text| text.chars().count());
    let mut total = 0;
    for block in blocks {
        let (texts, limit): (Vec<&Value>, usize) = match block["type"].as_str() {
            Some("section") if block["fields"].is_array() => {
                let fields: Vec<&Value> = block["fields"].as_array().into_iter().flatten().collect();
                if fields.is_empty() || fields.len() > 10 {
                    return Some(format!("{} fields", fields.len()));
                }
                (fields, 2_000)
            }
            Some("section") => (vec![&block["text"]], 3_000),
            Some("header") => (vec![&block["text"]], 150),
            Some("context") => (block["elements"].as_array().into_iter().flatten().collect(), 2_000),
            _ => return Some(format!("an unknown block: {block}")),
        };
        for text in texts {
            let length = length(text);
            if length == 0 || length > limit {
                return Some(format!("a text of {length} characters: {block}"));
            }
            total += length;
        }
    }
    (total > 13_000).then(|| format!("msg_blocks_too_long: {total} characters"))
}

//! A collector of OpenTelemetry over HTTP: it keeps what it gets, and answers by a script.

use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flate2::read::GzDecoder;
use lookout::clock::Stopwatch;
use lookout::otlp::wire::{
    ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest, Resource, Span, Value, value,
};
use prost::Message as _;

use crate::program::eventually;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Its path.
    pub(crate) path: String,
    /// Its headers, with their names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body, without compression.
    pub(crate) body: Vec<u8>,
    /// The status that it was answered with.
    pub(crate) status: u16,
    /// When it came, after the start of the double.
    pub(crate) at: Duration,
}

impl Received {
    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Its spans with their resources.
    pub(crate) fn spans(&self) -> Vec<(Resource, Span)> {
        if !self.path.ends_with("/v1/traces") {
            return Vec::new();
        }
        let request = ExportTraceServiceRequest::decode(&*self.body).expect("spans");
        let of_resource = |resource: lookout::otlp::wire::ResourceSpans| {
            let about = resource.resource.unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.map(|span| (about.clone(), span)).collect::<Vec<_>>()
        };
        request.resource_spans.into_iter().flat_map(of_resource).collect()
    }

    /// What was decoded, as text.
    pub(crate) fn text(&self) -> String {
        let body = &*self.body;
        match self.path.rsplit('/').next().unwrap_or_default() {
            "traces" => format!("{:?}", ExportTraceServiceRequest::decode(body).expect("spans")),
            "metrics" => format!("{:?}", ExportMetricsServiceRequest::decode(body).expect("data points")),
            _ => format!("{:?}", ExportLogsServiceRequest::decode(body).expect("log records")),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// More headers, each with its line end.
    pub(crate) headers: String,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// How long it takes.
    pub(crate) after: Duration,
}

impl Answer {
    /// An answer of nothing but this status.
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: String::new(), body: Vec::new(), after: Duration::ZERO }
    }
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    next: VecDeque<Answer>,
    standing: Option<Answer>,
    token: Option<String>,
    /// It answers 413 to larger bodies.
    limit: Option<usize>,
}

/// The collector.
pub(crate) struct Collector {
    /// Its address.
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Collector {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        Self::on(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// A port that is free now.
    pub(crate) fn reserve() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
    }

    /// Starts it on `address`.
    pub(crate) fn on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State::default()));
        let kept = Arc::clone(&state);
        let watch = Stopwatch::start();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&kept);
                thread::spawn(move || while exchange(&stream, &state, watch).is_some() {});
            }
        });
        Self { address, state }
    }

    /// Its root.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the next requests are answered with; after them it takes everything, or does as it always does.
    pub(crate) fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().next.extend(answers);
    }

    /// What every request is answered with.
    pub(crate) fn always(&self, answer: Answer) {
        self.state.lock().unwrap().standing = Some(answer);
    }

    /// It answers 401 to requests without this value of `authorization`.
    pub(crate) fn require(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.to_owned());
    }

    /// It answers 413 to bodies that are larger.
    pub(crate) fn take_at_most(&self, bytes: usize) {
        self.state.lock().unwrap().limit = Some(bytes);
    }

    /// All requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// The spans that it took.
    pub(crate) fn spans(&self) -> Vec<(Resource, Span)> {
        let received = self.received();
        received.iter().filter(|request| request.status == 200).flat_map(Received::spans).collect()
    }

    /// The names of the spans that it took.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.spans().into_iter().map(|(_, span)| span.name).collect()
    }

    /// Waits for so many requests.
    pub(crate) fn wait(&self, count: usize) -> Vec<Received> {
        eventually("requests at the collector", || Some(self.received()).filter(|it| it.len() >= count))
    }

    /// Waits until it took a span of each of these names.
    pub(crate) fn wait_for(&self, names: &[&str]) {
        eventually("spans at the collector", || {
            let known = self.names();
            names.iter().all(|name| known.contains(*name)).then_some(())
        });
    }
}

/// The text of an attribute.
pub(crate) fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match value(found)? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// One request and its answer; `None` once the client is gone.
fn exchange(stream: &TcpStream, state: &Mutex<State>, watch: Stopwatch) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut sent = vec![0; header("content-length")?.parse().ok()?];
    reader.read_exact(&mut sent).ok()?;
    let mut body = Vec::new();
    if header("content-encoding").as_deref() == Some("gzip") {
        GzDecoder::new(&*sent).read_to_end(&mut body).expect("gzip");
    } else {
        body = sent;
    }
    let answer = {
        let mut state = state.lock().unwrap();
        let is_known = state.token.is_none() || state.token == header("authorization");
        let next = state.next.pop_front().or_else(|| state.standing.clone());
        let is_large = state.limit.is_some_and(|limit| body.len() > limit);
        let next = if is_large { Some(Answer::status(413)) } else { next };
        let answer = if is_known { next.unwrap_or_else(|| Answer::status(200)) } else { Answer::status(401) };
        state.received.push(Received { path, headers, body, status: answer.status, at: watch.elapsed() });
        answer
    };
    thread::sleep(answer.after);
    let Answer { status, headers, body, .. } = answer;
    let head = format!("HTTP/1.1 {status} -\r\n{headers}content-length: {}\r\n\r\n", body.len());
    (&mut &*stream).write_all(&[head.as_bytes(), &body].concat()).ok()
}

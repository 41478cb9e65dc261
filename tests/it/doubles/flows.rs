//! A flow server that answers with recorded pages, by path, and records what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lookout::clock::Clock;

/// The day on which the pages were recorded, in days since 1970, and how they write it.
const RECORDED: (u64, &str) = (20_786, "2026-11-29");

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// Names are in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// How a path is answered.
#[derive(Clone, Debug)]
pub(crate) enum Page {
    /// JSON.
    Json(String),
    /// A status, a content type, and the pieces of a chunked body, with a pause after each.
    Pieces(u16, &'static str, Vec<String>, Duration),
    Status(u16, String),
    Hang,
}

#[derive(Debug, Default)]
pub(crate) struct FlowState {
    /// By path without its query.
    pub(crate) pages: BTreeMap<String, Page>,
    pub(crate) asked: Vec<Asked>,
    /// A header and its value that every request needs; others get 403.
    pub(crate) key: Option<(&'static str, String)>,
    /// Connections whose client went away before the answer was written.
    pub(crate) left: usize,
}

/// A flow server on a port.
pub(crate) struct FlowServer {
    address: SocketAddr,
    state: Arc<Mutex<FlowState>>,
}

impl FlowServer {
    pub(crate) fn start(pages: &[(&str, Page)]) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").expect("a port"), pages)
    }

    fn listen(listener: TcpListener, pages: &[(&str, Page)]) -> Self {
        let address = listener.local_addr().expect("its address");
        let pages = pages.iter().map(|(path, page)| ((*path).to_owned(), page.clone())).collect();
        let state = Arc::new(Mutex::new(FlowState { pages, ..FlowState::default() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || while serve(&stream, &shared).is_some() {});
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes its state.
    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut FlowState) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// The requests so far whose path begins like this.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        self.set(|it| it.asked.iter().filter(|asked| asked.path.starts_with(path)).cloned().collect())
    }
}

/// One request and its answer; `None` once the client is gone.
fn serve(mut stream: &TcpStream, state: &Mutex<FlowState>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let page = {
        let mut state = state.lock().unwrap();
        let is_known = state.key.as_ref().is_none_or(|(name, value)| headers.get(*name) == Some(value));
        let page = match state.pages.get(path.split('?').next().unwrap_or_default()) {
            _ if !is_known => Page::Status(403, r#"{"detail":"Invalid or missing API key"}"#.to_owned()),
            Some(page) => page.clone(),
            None => Page::Status(404, r#"{"detail":"Not Found"}"#.to_owned()),
        };
        state.asked.push(Asked { method, path, headers, body });
        page
    };
    let whole = |status: u16, body: &str| {
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let written = match page {
        Page::Hang => {
            let mut byte = [0; 1];
            let gone = stream.read(&mut byte).is_ok_and(|read| read == 0);
            state.lock().unwrap().left += usize::from(gone);
            return None;
        }
        Page::Json(body) => stream.write_all(whole(200, &body).as_bytes()),
        Page::Status(status, body) => stream.write_all(whole(status, &body).as_bytes()),
        Page::Pieces(status, kind, pieces, pause) => {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
            let mut written = stream.write_all(head.as_bytes());
            for piece in pieces {
                let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                written = written.and_then(|()| stream.write_all(chunk.as_bytes()));
                thread::sleep(pause);
            }
            written.and_then(|()| stream.write_all(b"0\r\n\r\n"))
        }
    };
    if written.is_err() {
        state.lock().unwrap().left += 1;
    }
    written.ok()
}

/// A recorded page, as if it had been recorded yesterday: older runs are not read.
pub(crate) fn recorded(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/samples/flows").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    since_yesterday(&text)
}

/// Days since 1970 of yesterday, and its date.
fn yesterday() -> (u64, String) {
    let at = Clock::system().wall().minus(Duration::from_secs(86_400));
    let date = at.to_jiff().to_string()[..10].to_owned();
    (at.as_millis().unsigned_abs() / 86_400_000, date)
}

/// With its times moved to yesterday: dates, and milliseconds since 1970.
pub(crate) fn since_yesterday(text: &str) -> String {
    let (day, date) = yesterday();
    let moved = day - RECORDED.0;
    let text = text.replace(RECORDED.1, &date);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    // The milliseconds of the recorded days begin like this.
    while let Some(at) = rest.find("17959") {
        let digits = rest[at..].bytes().take_while(u8::is_ascii_digit).count();
        out.push_str(&rest[..at]);
        let number = &rest[at..at + digits];
        if digits == 13 {
            out.push_str(&(number.parse::<u64>().expect("a number") + moved * 86_400_000).to_string());
        } else {
            out.push_str(number);
        }
        rest = &rest[at + digits..];
    }
    out + rest
}

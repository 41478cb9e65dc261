//! A service that accepts JSON by POST, with scripted answers. Bodies are not checked.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::program::eventually;

/// A status and a body.
type Answer = (u16, &'static str);

/// A request: its `Authorization` header and its body.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) authorization: String,
    pub(crate) body: Value,
}

/// The service, on a free port of this machine.
pub(crate) struct Service {
    /// Its address.
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    requests: Vec<Request>,
    script: VecDeque<Answer>,
    usual: Answer,
}

impl Service {
    /// Answers with `script` first, and then always with `usual`.
    pub(crate) fn start(script: &[Answer], usual: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = State { requests: Vec::new(), script: script.iter().copied().collect(), usual };
        let state = Arc::new(Mutex::new(state));
        let kept = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&kept);
                thread::spawn(move || while exchange(&stream, &state).is_some() {});
            }
        });
        Self { address, state }
    }

    /// All requests received so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Waits until `count` requests came in, and returns all.
    pub(crate) fn wait(&self, count: usize) -> Vec<Request> {
        eventually("requests", || Some(self.requests()).filter(|requests| requests.len() >= count))
    }
}

/// One request and its answer; `None` once the client is gone.
fn exchange(mut stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut authorization) = (String::new(), 0, String::new());
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match &*name.to_ascii_lowercase() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, answer) = {
        let mut state = state.lock().unwrap();
        state.requests.push(Request { authorization, body: serde_json::from_slice(&body).unwrap_or_default() });
        state.script.pop_front().unwrap_or(state.usual)
    };
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).ok()
}

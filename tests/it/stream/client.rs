//! A client of server-sent events over a plain socket, as the standard describes it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use lookout::clock::Stopwatch;
use serde_json::Value;

use crate::program::PATIENCE;

/// An event with data.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: Value,
    /// Its lines; of the page's events the first one is JSON.
    pub(crate) text: String,
}

/// An answer that is no stream.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
}

/// An open stream.
#[derive(Debug)]
pub(crate) struct EventSource {
    socket: TcpStream,
    headers: Vec<(String, String)>,
    /// Bytes as they came, chunked.
    raw: Vec<u8>,
    /// Text without chunks.
    text: String,
    preface: String,
    events: VecDeque<Event>,
    last_id: String,
    /// Whether the last chunk came, and whether the connection ended.
    is_complete: bool,
    is_closed: bool,
}

impl EventSource {
    /// Opens a stream, and waits for its first lines.
    pub(crate) fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        Self::on(socket, address, path, headers)
    }

    /// The same with a receive buffer of a few kilobytes.
    pub(crate) fn open_with_small_buffer(address: SocketAddr, path: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let socket = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(4096).expect("a small buffer");
            socket.connect(address).await.expect("a connection").into_std().expect("a socket")
        });
        socket.set_nonblocking(false).expect("a blocking socket");
        Self::on(socket, address, path, &[]).expect("a stream")
    }

    fn on(mut socket: TcpStream, address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let mut head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        socket.write_all(head.as_bytes()).expect("a request");
        let mut source = Self {
            socket,
            headers: Vec::new(),
            raw: Vec::new(),
            text: String::new(),
            preface: String::new(),
            events: VecDeque::new(),
            last_id: String::new(),
            is_complete: false,
            is_closed: false,
        };
        let end = loop {
            if let Some(end) = source.raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(source.receive(PATIENCE), "no answer");
        };
        let head = String::from_utf8(source.raw[..end].to_vec()).expect("a head");
        source.raw.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        if status != 200 {
            return Err(Refused { status });
        }
        let pair =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        source.headers = lines.filter_map(pair).collect();
        while source.preface.is_empty() {
            source.parse();
            assert!(!source.preface.is_empty() || source.receive(PATIENCE), "no first lines");
        }
        Ok(source)
    }

    /// The value of a header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first block.
    pub(crate) fn preface(&self) -> &str {
        &self.preface
    }

    /// The id that a browser would resume from.
    pub(crate) fn last_id(&self) -> &str {
        &self.last_id
    }

    /// The next event; `None` if none arrives in time, or the stream ends.
    pub(crate) fn next(&mut self, patience: Duration) -> Option<Event> {
        let watch = Stopwatch::start();
        loop {
            self.parse();
            if let Some(event) = self.events.pop_front() {
                self.last_id.clone_from(&event.id);
                return Some(event);
            }
            let left = patience.saturating_sub(watch.elapsed());
            if left.is_zero() || self.is_closed || self.is_complete || !self.receive(left) {
                return None;
            }
        }
    }

    /// Whether the stream ends properly in time.
    pub(crate) fn ends(&mut self, patience: Duration) -> bool {
        let watch = Stopwatch::start();
        while !self.is_complete && !self.is_closed && watch.elapsed() < patience {
            self.receive(patience);
            self.parse();
        }
        self.is_complete
    }

    /// Receives what there is; `false` at the end or when nothing comes in time.
    fn receive(&mut self, patience: Duration) -> bool {
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).expect("a timeout");
        let mut buffer = [0; 16 * 1024];
        match self.socket.read(&mut buffer) {
            Ok(0) => {
                self.is_closed = true;
                false
            }
            Ok(count) => {
                self.raw.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(_) => {
                self.is_closed = true;
                false
            }
        }
    }

    fn parse(&mut self) {
        while let Some(chunk) = self.chunk() {
            self.is_complete |= chunk.is_empty();
            self.text += &String::from_utf8(chunk).expect("text");
        }
        while let Some(end) = self.text.find("\n\n") {
            let block: String = self.text.drain(..end + 2).collect();
            self.block(&block);
        }
    }

    /// The next complete chunk.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = self.raw.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&self.raw[..end]).ok()?, 16).expect("a size");
        let whole = end + 2 + size + 2;
        if self.raw.len() < whole {
            return None;
        }
        let chunk = self.raw[end + 2..end + 2 + size].to_vec();
        self.raw.drain(..whole);
        Some(chunk)
    }

    fn block(&mut self, block: &str) {
        if self.preface.is_empty() {
            self.preface = block.to_owned();
        }
        let (mut kind, mut data, mut id) = (String::new(), Vec::new(), None);
        for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
            let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("a field: {line:?}"));
            match field {
                "event" => value.clone_into(&mut kind),
                "data" => data.push(value),
                "id" => id = Some(value.to_owned()),
                "retry" => assert_eq!(value, "2000"),
                _ => panic!("an unknown field: {line:?}"),
            }
        }
        let id = id.expect("an id in each block");
        if data.is_empty() {
            // Events before it may still wait to be taken.
            if self.events.is_empty() {
                self.last_id = id;
            }
            return;
        }
        let text = data.join("\n");
        let json = if ["row", "part"].contains(&&*kind) { data[0] } else { &*text };
        let data = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {block}"));
        self.events.push_back(Event { id, kind, data, text });
    }
}

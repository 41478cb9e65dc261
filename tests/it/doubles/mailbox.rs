//! A mail server without TLS that keeps accepted mails, and on command answers late, not at all or with an error.
//!
//! Tests of TLS, logins and several recipients use a real mail server.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use lookout::clock::Stopwatch;

use super::slack::{Line, listed, titled};
use crate::program::PATIENCE;

/// How often a late answer checks whether the client is still connected.
const LOOK: Duration = Duration::from_millis(50);

/// The answer to a mail that was received whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Accepted.
    Take,
    /// Accepted, with the answer delayed by this much, as by a server that scans mails first.
    Late(Duration),
    /// Rejected with this code.
    Refuse(u16),
    /// The connection is closed, and the mail is not accepted.
    Cut,
}

/// A mail that was received whole.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) verdict: Verdict,
    /// The text of it, decoded.
    pub(crate) text: String,
    /// How long after the start of the server it was answered, or its sender was gone.
    pub(crate) at: Duration,
}

impl Letter {
    /// Whether it is in the mailbox: also when its sender did not wait for the answer.
    pub(crate) const fn was_taken(&self) -> bool {
        matches!(self.verdict, Verdict::Take | Verdict::Late(_))
    }

    /// Every alert in it.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let title = self.text.lines().next().unwrap_or_default();
        if self.text.lines().skip(1).any(|line| line.starts_with('[')) {
            return listed(&self.text);
        }
        let rule = self.text.lines().find_map(|line| line.strip_prefix("Rule:")).unwrap_or_default();
        titled(title, rule.trim()).into_iter().collect()
    }
}

/// The server.
pub(crate) struct Mailbox {
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
    letters: Vec<Letter>,
    script: VecDeque<Verdict>,
    /// Late answers are sent at once.
    hurries: bool,
    /// Connections that are being served.
    open: usize,
    has_ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }
}

impl Mailbox {
    /// A mail server that accepts everything.
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
                    // Some tests close the connection midway.
                    drop(serve(&server, &stream));
                    server.state().open -= 1;
                    server.changed.notify_all();
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Does this with the next mails, one each.
    pub(crate) fn next(&self, verdicts: impl IntoIterator<Item = Verdict>) {
        self.shared.state().script.extend(verdicts);
    }

    /// Clears what [`Self::next`] set for further mails. A late answer stays late.
    pub(crate) fn behave(&self) {
        self.shared.state().script.clear();
    }

    /// Whether late answers are sent at once from now on.
    pub(crate) fn hurry(&self, hurries: bool) {
        self.shared.state().hurries = hurries;
        self.shared.changed.notify_all();
    }

    /// The time since its start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Waits until no connection is open: everything sent before is processed then.
    pub(crate) fn fence(&self) {
        let state = self.shared.state();
        let wait = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| state.open > 0);
        assert!(!wait.expect("no panic while it is held").1.timed_out(), "the mail server is still busy");
    }

    /// Every mail received so far.
    pub(crate) fn letters(&self) -> Vec<Letter> {
        self.shared.state().letters.clone()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.shared.state().has_ended = true;
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut out = stream;
    out.write_all(b"220 mailbox\r\n")?;
    loop {
        let mut command = String::new();
        if reader.read_line(&mut command)? == 0 {
            return Ok(());
        }
        match command.trim_end().to_ascii_uppercase().as_str() {
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                let letter = receive(&mut reader)?;
                answer(shared, stream, &letter)?;
            }
            "QUIT" => return out.write_all(b"221 bye\r\n"),
            _ => out.write_all(b"250 mailbox\r\n")?,
        }
    }
}

/// A mail as it comes, without the dot that ends it.
fn receive(reader: &mut impl io::BufRead) -> io::Result<String> {
    let mut letter = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(letter);
        }
        letter += line.strip_prefix('.').unwrap_or(&line);
    }
}

fn answer(shared: &Shared, mut stream: &TcpStream, letter: &str) -> io::Result<()> {
    let mut state = shared.state();
    let verdict = state.script.pop_front().unwrap_or(Verdict::Take);
    let place = state.letters.len();
    state.letters.push(Letter { verdict, text: text_of(letter), at: shared.started.elapsed() });
    drop(state);
    if let Verdict::Late(late) = verdict {
        let waits = wait(shared, stream, late);
        // A mail that was received whole is accepted, even if its sender closed the connection.
        shared.state().letters[place].at = shared.started.elapsed();
        waits?;
    }
    shared.changed.notify_all();
    match verdict {
        Verdict::Take | Verdict::Late(_) => stream.write_all(b"250 taken\r\n"),
        Verdict::Refuse(code) => write!(stream, "{code} not now\r\n"),
        Verdict::Cut => stream.shutdown(std::net::Shutdown::Both),
    }
}

/// Waits for `late`; an error if the client closes the connection before.
fn wait(shared: &Shared, mut stream: &TcpStream, late: Duration) -> io::Result<()> {
    let watch = Stopwatch::start();
    stream.set_read_timeout(Some(LOOK))?;
    while watch.elapsed() < late && !shared.state().hurries {
        match stream.read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // A client sends nothing before the response: it closed the connection.
            Ok(_) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(error),
        }
    }
    stream.set_read_timeout(Some(PATIENCE))
}

/// The part of a mail that is text, decoded.
fn text_of(letter: &str) -> String {
    let part = letter.split("Content-Type: text/plain").nth(1).unwrap_or_default();
    let body = part.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body = body.split("\r\n--=_").next().unwrap_or_default();
    let mut bytes = Vec::new();
    let mut rest = body.replace("=\r\n", "");
    while let Some((before, after)) = rest.split_once('=') {
        bytes.extend_from_slice(before.as_bytes());
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).expect("quoted-printable");
        bytes.push(byte);
        rest = after[2..].to_owned();
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).expect("text").replace("\r\n", "\n")
}

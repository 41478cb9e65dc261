//! One server that accepts what every kind of receiver sends, answers as that receiver's own service does, and keeps it.
//!
//! Nothing is checked: tests compare the bytes of two programs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lookout::clock::Stopwatch;

/// One message as it arrived: where, and its body or the whole mail.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The request's path, or `mail`.
    pub(crate) path: String,
    /// Headers that a receiver gives a meaning to, then the body.
    pub(crate) text: String,
}

/// The server: HTTP on one port, SMTP on another.
pub(crate) struct Sink {
    /// Where HTTP is served.
    pub(crate) http: SocketAddr,
    /// Where mail is accepted.
    pub(crate) smtp: SocketAddr,
    messages: Arc<Mutex<(Vec<Message>, Stopwatch)>>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        let messages = Arc::new(Mutex::new((Vec::new(), Stopwatch::start())));
        let http = serve(&messages, http_exchange);
        let smtp = serve(&messages, smtp_dialogue);
        Self { http, smtp, messages }
    }

    /// Takes the messages that arrived since the last call, once none has arrived for `quiet`.
    pub(crate) fn drain_when_quiet(&self, quiet: Duration) -> Vec<Message> {
        self.messages.lock().unwrap().1 = Stopwatch::start();
        loop {
            let mut messages = self.messages.lock().unwrap();
            let waited = messages.1.elapsed();
            if waited >= quiet {
                return std::mem::take(&mut messages.0);
            }
            drop(messages);
            thread::sleep(quiet.saturating_sub(waited).max(Duration::from_millis(1)));
        }
    }
}

type Messages = Arc<Mutex<(Vec<Message>, Stopwatch)>>;

fn keep(messages: &Messages, path: &str, text: String) {
    let mut messages = messages.lock().unwrap();
    messages.0.push(Message { path: path.to_owned(), text });
    messages.1 = Stopwatch::start();
}

fn serve(messages: &Messages, exchange: fn(&TcpStream, &Messages) -> Option<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let messages = Arc::clone(messages);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let messages = Arc::clone(&messages);
            thread::spawn(move || while exchange(&stream, &messages).is_some() {});
        }
    });
    address
}

/// One request and its answer; `None` once the client is gone.
fn http_exchange(stream: &TcpStream, messages: &Messages) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut headers) = (0, Vec::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match &*name.to_ascii_lowercase() {
            "content-length" => length = value.trim().parse().ok()?,
            "content-type" | "authorization" | "title" | "priority" | "tags" => {
                headers.push(format!("{}:{value}", name.to_ascii_lowercase()));
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    headers.sort();
    keep(messages, &path, format!("{}\n{}", headers.join("\n"), String::from_utf8_lossy(&body)));
    let (status, answer) = match path.split('/').nth(1).unwrap_or_default() {
        "slack" | "webhook" => ("200 OK", "ok"),
        "teams" => ("200 OK", "1"),
        "discord" => ("204 No Content", ""),
        "pagerduty" => ("202 Accepted", r#"{"status":"success","message":"Event processed","dedup_key":"k"}"#),
        "telegram" => ("200 OK", r#"{"ok":true,"result":{"message_id":7}}"#),
        "bot" => ("200 OK", r#"{"ok":true,"channel":"C1","ts":"1.000100"}"#),
        _ => ("200 OK", "{}"),
    };
    write!(&mut &*stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).ok()
}

/// One connection of a mail client, from the greeting to its end.
fn smtp_dialogue(mut stream: &TcpStream, messages: &Messages) -> Option<()> {
    let mut reader = BufReader::new(stream);
    stream.write_all(b"220 sink ESMTP\r\n").ok()?;
    let mut line = Vec::new();
    let mut recipients = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line).ok().filter(|read| *read > 0)?;
        let command = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match &*verb {
            "DATA" => {
                stream.write_all(b"354 go on\r\n").ok()?;
                let mut mail = recipients.join("\n");
                loop {
                    line.clear();
                    reader.read_until(b'\n', &mut line).ok().filter(|read| *read > 0)?;
                    if line == b".\r\n" {
                        break;
                    }
                    mail += &String::from_utf8_lossy(&line);
                }
                recipients.clear();
                keep(messages, "mail", mail);
                stream.write_all(b"250 accepted\r\n").ok()?;
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").ok()?;
                return None;
            }
            _ => {
                if verb == "MAIL" || verb == "RCPT" {
                    recipients.push(command);
                }
                stream.write_all(b"250 ok\r\n").ok()?;
            }
        }
    }
}

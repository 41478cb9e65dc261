//! One conversation with a mail server (RFC 5321): connect, TLS, login, and one transaction or more.
//!
//! The words of the dialogue are lettre's; the dialogue itself is held here, because each recipient's answer is
//! wanted, a reply is read up to a bound however long the server goes on, and nothing that was reply before TLS
//! is believed after it. Refuses to send a password in the clear, and to wait for a reply without end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Starttls};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::ServerName;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::SmtpTls;
use crate::model::{Retry, SendError, SendReason, duration};
use crate::secret::SecretSource;
use crate::text;

/// Longest reply read, in bytes, over all its lines.
const REPLY: u64 = 32 * 1024;
/// Most of a reply's text that an error repeats, in bytes.
const REPEATED: usize = 200;

/// How long the server is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// With each step of the dialogue.
    pub(super) step: Duration,
    /// With its reply to the end of a mail, which it may scan first.
    pub(super) mail: Duration,
    /// With its reply to QUIT.
    pub(super) quit: Duration,
}

impl Patience {
    /// Of the end of a mail it is the ten minutes of RFC 5321, 4.5.3.2.6: who waits less sends a mail again that was
    /// taken.
    pub(super) const DEFAULT: Self =
        Self { step: Duration::from_secs(60), mail: Duration::from_secs(600), quit: Duration::from_secs(5) };
}

/// How a server is reached.
#[derive(Debug)]
pub(super) struct Server {
    /// Its name, which its certificate must bear.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// Whether TLS comes first, later or never.
    pub(super) tls: SmtpTls,
    /// The roots and the rest.
    pub(super) tls_config: Arc<rustls::ClientConfig>,
    /// User and password; never sent without TLS.
    pub(super) login: Option<(String, SecretSource)>,
}

/// A conversation that is ready for transactions.
pub(super) struct Session {
    wire: BufReader<Wire>,
    patience: Patience,
    /// Whether a transaction was begun that has to be forgotten before the next.
    used: bool,
}

/// A reply: its code, and its lines without it.
struct Reply {
    code: u16,
    lines: Vec<String>,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Session {
    /// Connects, and logs in when there is a login.
    pub(super) async fn open(server: &Server, patience: Patience) -> Result<Self, SendError> {
        let unreachable =
            |error| SendError::transient(SendReason::Connect, format!("{}:{}: {error}", server.host, server.port));
        let connecting = TcpStream::connect((&*server.host, server.port));
        let stream = within(patience.step, "the connection", connecting).await?.map_err(unreachable)?;
        let hello = Ehlo::new(match stream.local_addr().map_err(unreachable)?.ip() {
            std::net::IpAddr::V4(address) => ClientId::Ipv4(address),
            std::net::IpAddr::V6(address) => ClientId::Ipv6(address),
        });
        let encrypt = |stream| within(patience.step, "the TLS handshake", server.encrypt(stream));
        let wire = if server.tls == SmtpTls::Implicit { encrypt(stream).await?? } else { Wire::Plain(stream) };
        let mut session = Self { wire: BufReader::new(wire), patience, used: false };
        session.read("greeting").await?.expect(2, "greeting", SendReason::Refused, Retry::Limited)?;
        let mut offers = session.ask(&hello, "EHLO", 2, Retry::Limited).await?;
        if server.tls == SmtpTls::Starttls {
            let tls = |message| SendError::transient(SendReason::Tls, message);
            if !offers.offer("STARTTLS") {
                return Err(tls(format!("{} does not offer STARTTLS", server.host)));
            }
            session.ask(&Starttls, "STARTTLS", 2, Retry::Limited).await?;
            if !session.wire.buffer().is_empty() {
                return Err(tls(format!("{} went on in the clear after STARTTLS", server.host)));
            }
            let Wire::Plain(stream) = session.wire.into_inner() else {
                return Err(tls("the connection is encrypted already".to_owned()));
            };
            session = Self { wire: BufReader::new(encrypt(stream).await??), patience, used: false };
            offers = session.ask(&hello, "EHLO", 2, Retry::Limited).await?;
        }
        if let Some((user, password)) = &server.login {
            session.log_in(&offers, user, password).await?;
        }
        Ok(session)
    }

    /// Logs in by PLAIN, else by LOGIN: some servers offer what they do not take.
    async fn log_in(&mut self, offers: &Reply, user: &str, password: &SecretSource) -> Result<(), SendError> {
        if matches!(self.wire.get_ref(), Wire::Plain(_)) {
            let message = "a password is not sent in the clear; use starttls or implicit TLS".to_owned();
            return Err(SendError::limited(SendReason::Auth, message));
        }
        let mechanisms = offers.mechanisms();
        let password =
            password.read().await.map_err(|error| SendError::transient(SendReason::Secret, error.in_full()))?;
        let credentials = Credentials::new(user.to_owned(), password.expose().to_owned());
        let message = "the mail server offers neither AUTH PLAIN nor AUTH LOGIN".to_owned();
        let mut outcome = Err(SendError::limited(SendReason::Auth, message));
        for (name, mechanism) in [("PLAIN", Mechanism::Plain), ("LOGIN", Mechanism::Login)] {
            if !mechanisms.iter().any(|offered| offered == name) {
                continue;
            }
            outcome = self.authenticate(mechanism, &credentials).await;
            match &outcome {
                Err(error) if error.retry == Retry::Limited => {}
                _ => break,
            }
        }
        outcome
    }

    async fn authenticate(&mut self, mechanism: Mechanism, credentials: &Credentials) -> Result<(), SendError> {
        let challenges: &[Option<&str>] = match mechanism {
            Mechanism::Login => &[None, Some("Username"), Some("Password")],
            _ => &[None],
        };
        for (place, challenge) in challenges.iter().enumerate() {
            let step = Auth::new(mechanism, credentials.clone(), challenge.map(str::to_owned))
                .map_err(|_| SendError::limited(SendReason::Auth, "the login can't be encoded".to_owned()))?;
            self.write(step.to_string().as_bytes(), "AUTH").await?;
            let class = if place + 1 == challenges.len() { 2 } else { 3 };
            let mut reply = self.read("AUTH").await?;
            // A server may repeat in its answer what it was sent.
            reply.lines.clear();
            reply.expect(class, "AUTH", SendReason::Auth, Retry::Limited)?;
        }
        Ok(())
    }

    /// Hands over one mail; what is answered is, for each of `to` in its order, `None` or why it was not taken.
    /// An error is about the mail or the session as a whole: no recipient got it.
    pub(super) async fn deliver(
        &mut self,
        from: &Address,
        to: &[&Address],
        mail: &[u8],
    ) -> Result<Vec<Option<SendError>>, SendError> {
        if std::mem::replace(&mut self.used, true) {
            self.ask(&"RSET\r\n", "RSET", 2, Retry::Limited).await?;
        }
        self.write(Mail::new(Some(from.clone()), Vec::new()).to_string().as_bytes(), "MAIL").await?;
        let reply = self.read("MAIL").await?;
        // 530: the server wants a login, which is about us and not about the mail.
        let retry = if matches!(reply.code, 530 | 535) { Retry::Limited } else { Retry::Never };
        reply.expect(2, "MAIL", SendReason::Refused, retry)?;
        let mut answers = Vec::with_capacity(to.len());
        for address in to {
            self.write(Rcpt::new((*address).clone(), Vec::new()).to_string().as_bytes(), "RCPT").await?;
            let reply = self.read("RCPT").await?;
            let closing = reply.code == 421;
            let answer = reply.expect(2, &format!("RCPT {address}"), SendReason::Refused, Retry::Never).err();
            if let (true, Some(error)) = (closing, &answer) {
                return Err(error.clone());
            }
            answers.push(answer);
        }
        if answers.iter().all(Option::is_some) {
            return Ok(answers);
        }
        self.ask(&Data, "DATA", 3, Retry::Never).await?;
        self.write(&stuffed(mail), "the mail").await?;
        let reply = within(self.patience.mail, "the mail", self.read_reply("the mail")).await??;
        reply.expect(2, "the mail", SendReason::Refused, Retry::Never)?;
        Ok(answers)
    }

    /// Ends the dialogue; the server's answer, which is of no matter to the mail, is waited for in the background.
    pub(super) async fn close(mut self) {
        let quit = Quit.to_string();
        let sent = tokio::time::timeout(self.patience.quit, self.write(quit.as_bytes(), "QUIT")).await;
        if matches!(sent, Ok(Ok(()))) {
            tokio::spawn(async move { drop(tokio::time::timeout(self.patience.quit, self.read("QUIT")).await) });
        }
    }

    /// A command and its reply of `class`; on 5xx it is tried again as `retry` has it.
    async fn ask(&mut self, command: &impl ToString, step: &str, class: u16, retry: Retry) -> Result<Reply, SendError> {
        self.write(command.to_string().as_bytes(), step).await?;
        self.read(step).await?.expect(class, step, SendReason::Refused, retry)
    }

    async fn write(&mut self, bytes: &[u8], step: &str) -> Result<(), SendError> {
        let writing = async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        };
        let broken = |error| SendError::transient(SendReason::Network, format!("the connection broke: {error}"));
        within(self.patience.step, step, writing).await?.map_err(broken)
    }

    async fn read(&mut self, step: &str) -> Result<Reply, SendError> {
        within(self.patience.step, step, self.read_reply(step)).await?
    }

    async fn read_reply(&mut self, step: &str) -> Result<Reply, SendError> {
        let broken = |what: &str| SendError::transient(SendReason::Network, format!("{what} in answer to {step}"));
        let mut limited = (&mut self.wire).take(REPLY);
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = limited.read_until(b'\n', &mut line).await;
            read.map_err(|error| broken(&format!("the connection broke: {error}")))?;
            if line.last() != Some(&b'\n') {
                let full = limited.limit() == 0;
                return Err(broken(if full { "the server goes on and on" } else { "the server hung up" }));
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            let (code, rest) = line.split_at_checked(3).ok_or_else(|| broken("the server does not speak SMTP"))?;
            let code: u16 = code.parse().map_err(|_| broken("the server does not speak SMTP"))?;
            lines.push(rest.chars().skip(1).collect());
            if !rest.starts_with('-') {
                return Ok(Reply { code, lines });
            }
        }
    }
}

impl Server {
    async fn encrypt(&self, stream: TcpStream) -> Result<Wire, SendError> {
        let wrong = |error: &dyn std::fmt::Display| {
            SendError::transient(SendReason::Tls, format!("TLS with {}: {error}", self.host))
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| wrong(&error))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls_config));
        let stream = connector.connect(name, stream).await.map_err(|error| wrong(&error))?;
        Ok(Wire::Tls(Box::new(stream)))
    }
}

impl Reply {
    /// Itself when its code is of `class`; else 4xx is transient, and what is left is tried again as `retry` has it.
    fn expect(self, class: u16, step: &str, reason: SendReason, retry: Retry) -> Result<Self, SendError> {
        if self.code / 100 == class {
            return Ok(self);
        }
        let reply = self.lines.join(" ");
        let reply = text::clean(&reply, REPEATED);
        let message = format!("the mail server answered {step} with {} {reply}", self.code);
        let message = message.trim_end().to_owned();
        if self.code / 100 == 4 {
            let reason = if reason == SendReason::Auth { reason } else { SendReason::Server };
            return Err(SendError::transient(reason, message));
        }
        Err(SendError { retry, ..SendError::transient(reason, message) })
    }

    /// Whether an EHLO reply names the extension `name`.
    fn offer(&self, name: &str) -> bool {
        self.lines
            .iter()
            .skip(1)
            .any(|line| line.split_whitespace().next().is_some_and(|keyword| keyword.eq_ignore_ascii_case(name)))
    }

    /// The login mechanisms that an EHLO reply names, in upper case; `AUTH=` is an old spelling of it.
    fn mechanisms(&self) -> Vec<String> {
        let lines = self.lines.iter().skip(1).map(|line| line.to_ascii_uppercase().replacen("AUTH=", "AUTH ", 1));
        lines
            .filter_map(|line| line.strip_prefix("AUTH ").map(str::to_owned))
            .flat_map(|names| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

/// What comes of `step` in time.
async fn within<T>(patience: Duration, step: &str, doing: impl Future<Output = T>) -> Result<T, SendError> {
    tokio::time::timeout(patience, doing).await.map_err(|_| {
        let message = format!("the mail server did not answer {step} within {}", duration::display(patience));
        SendError::transient(SendReason::Timeout, message)
    })
}

/// `mail` with a dot more before each line that begins with one, and the dot that ends it (RFC 5321, 4.5.2).
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(mail.len() + 64);
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    if !stuffed.ends_with(b"\r\n") {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

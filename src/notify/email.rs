//! Mail: text and HTML, one thread for each incident, TLS required unless switched off.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use super::config::{EmailConfig, SmtpConfig, SmtpTls};
use super::message;
use crate::model::{Notice, SendError, SendReason};
use crate::secret::{Secret, SecretSource};

/// How long a whole send may take; the library's own timeout covers the connect alone.
const DEADLINE: Duration = Duration::from_secs(30);
/// Alerts listed in one mail.
const LISTED: usize = 200;
/// Recipients remembered as done while others of the same mail are tried again.
const MAX_DONE: usize = 10_000;

/// Mail to some people through one server.
#[derive(Debug)]
pub(super) struct Email {
    from: Mailbox,
    to: Vec<Mailbox>,
    smtp: SmtpConfig,
    login: Option<(String, SecretSource)>,
    /// (message id, recipient) pairs that were delivered while another recipient of the mail was not.
    done: Mutex<HashSet<(String, String)>>,
}

impl SmtpConfig {
    /// User and password; `None` is no login.
    pub(super) fn login(&self) -> Result<Option<(String, SecretSource)>, String> {
        let password = SecretSource::from_pair(self.password.as_ref(), self.password_file.as_deref())?;
        match (&self.username, password) {
            (None, None) => Ok(None),
            (Some(_), None) => Err("username is given without password or password_file; add one of them".to_owned()),
            (None, Some(_)) => Err("a password is given without username; add it".to_owned()),
            (Some(_), Some(_)) if self.security() == SmtpTls::None => Err(
                "a password would travel in the clear with `tls: none`; use starttls or implicit, or remove the login"
                    .to_owned(),
            ),
            (Some(user), Some(password)) => Ok(Some((user.clone(), password))),
        }
    }

    fn security(&self) -> SmtpTls {
        self.tls.unwrap_or(if self.port == Some(465) { SmtpTls::Implicit } else { SmtpTls::Starttls })
    }
}

impl Email {
    pub(super) fn new(config: &EmailConfig) -> Result<Self, String> {
        let mailbox = |text: &String| text.parse().map_err(|_| format!("`{text}` is not a mail address"));
        Ok(Self {
            from: mailbox(&config.from)?,
            to: config.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            login: config.smtp.login()?,
            smtp: config.smtp.clone(),
            done: Mutex::new(HashSet::new()),
        })
    }

    /// Sends one mail to each recipient. One who is refused does not stop the others, and those who have it
    /// do not get it again when the others are tried again.
    pub(super) async fn send(&self, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        let deadline = tokio::time::timeout(DEADLINE, self.send_all(notices)).await;
        deadline.unwrap_or_else(|_| {
            Err(failure(
                SendReason::Timeout,
                true,
                format!("{} did not finish within {} s", self.smtp.host, DEADLINE.as_secs()),
            ))
        })
    }

    async fn send_all(&self, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        let transport = self.transport()?;
        let id = message_id(notices);
        let mut worst: Option<SendError> = None;
        let mut delivered = 0;
        for to in &self.to {
            let done = (id.clone(), to.email.to_string());
            if self.done().contains(&done) {
                delivered += 1;
                continue;
            }
            let mail = self.mail(to, notices, &id)?;
            match transport.send(mail).await {
                Ok(_) => {
                    delivered += 1;
                    let mut all = self.done();
                    if all.len() >= MAX_DONE {
                        all.clear();
                    }
                    all.insert(done);
                }
                Err(error) => {
                    let error = classify(&self.smtp.host, &error);
                    // With no connection or no login, nobody else can be reached either.
                    let hopeless = !matches!(error.reason, SendReason::Refused);
                    if worst.as_ref().is_none_or(|worst| error.retryable && !worst.retryable) {
                        worst = Some(error);
                    }
                    if hopeless {
                        break;
                    }
                }
            }
        }
        match worst {
            // Somebody has it, and trying again can't help the others: it was told.
            Some(error) if !error.retryable && delivered > 0 => {
                tracing::error!(error = %error, "a recipient was refused for good; the others have the mail");
                Ok(())
            }
            Some(error) => Err(error),
            None => {
                self.done().retain(|(of, _)| *of != id);
                Ok(())
            }
        }
    }

    fn done(&self) -> std::sync::MutexGuard<'_, HashSet<(String, String)>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, SendError> {
        let smtp = &self.smtp;
        let security = smtp.security();
        let tls = || -> Result<TlsParameters, SendError> {
            let mut parameters =
                TlsParameters::builder(smtp.host.clone()).certificate_store(CertificateStore::WebpkiRoots);
            for certificate in smtp.ca_file.as_ref().map(certificates).transpose()?.unwrap_or_default() {
                parameters = parameters.add_root_certificate(certificate);
            }
            parameters.build_rustls().map_err(|error| failure(SendReason::Tls, true, error.to_string()))
        };
        let (port, tls) = match security {
            SmtpTls::Starttls => (587, Tls::Required(tls()?)),
            SmtpTls::Implicit => (465, Tls::Wrapper(tls()?)),
            SmtpTls::None => (587, Tls::None),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host)
            .port(smtp.port.unwrap_or(port))
            .tls(tls)
            .timeout(Some(DEADLINE));
        if let Some((user, password)) = &self.login {
            let password: Secret =
                password.read().map_err(|error| failure(SendReason::Secret, true, error.in_full()))?;
            builder = builder
                .credentials(Credentials::new(user.clone(), password.expose().to_owned()))
                .authentication(vec![Mechanism::Plain, Mechanism::Login]);
        }
        Ok(builder.build())
    }

    /// The mail to one recipient.
    pub(super) fn mail(&self, to: &Mailbox, notices: &[Arc<Notice>], id: &str) -> Result<Message, SendError> {
        // The title is made of words of agents: a header has no room for line ends.
        let subject: String = message::title(notices).chars().filter(|letter| !letter.is_control()).take(200).collect();
        let mut builder = Message::builder()
            .from(self.from.clone())
            .to(to.clone())
            .subject(subject)
            .message_id(Some(id.to_owned()))
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        if let Some(first) = notices.first() {
            builder = builder.date(
                std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(first.at.as_millis().max(0).unsigned_abs()),
            );
            let root = root_id(first);
            if notices.len() == 1 && root != id {
                builder = builder.in_reply_to(root.clone()).references(root);
            }
        }
        builder
            .multipart(MultiPart::alternative_plain_html(text(notices), html(notices)))
            .map_err(|error| failure(SendReason::Message, false, error.to_string()))
    }
}

/// The id of the first mail of the incident, which the others refer to.
fn root_id(notice: &Notice) -> String {
    format!("<{}-1-{}@lookout>", notice.incident, domain_safe(&notice.receiver))
}

/// The same id for the same notices, so that a mail sent again can be recognised.
fn message_id(notices: &[Arc<Notice>]) -> String {
    match notices {
        [one] => format!("<{}@lookout>", domain_safe(&one.key)),
        many => {
            let mut context = ring::digest::Context::new(&ring::digest::SHA256);
            for notice in many {
                context.update(notice.key.as_bytes());
                context.update(&[0]);
            }
            let digest = context.finish();
            let digits: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            format!("<{digits}@lookout>")
        }
    }
}

/// Text as it may stand in a message id.
fn domain_safe(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' }).collect()
}

fn text(notices: &[Arc<Notice>]) -> String {
    let mut out = String::new();
    if let [one] = notices {
        out.push_str(&message::sentence(one));
        out.push_str("\r\n\r\n");
        for (name, value) in message::facts(one) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(action) = message::action(one) {
            out.push_str(&format!("\r\nWhat to do: {action}\r\n"));
        }
        return out;
    }
    for notice in message::in_order(notices).into_iter().take(LISTED) {
        out.push_str(&format!("{}\r\n", message::line(notice)));
    }
    if notices.len() > LISTED {
        out.push_str(&format!("… and {} more; `lookout alerts` lists them all.\r\n", notices.len() - LISTED));
    }
    out
}

fn html(notices: &[Arc<Notice>]) -> String {
    let mut out = format!(
        "<!doctype html><html><body style=\"margin:0;padding:16px;font-family:sans-serif;color:#222\">\
         <div style=\"border-left:6px solid {};padding:4px 16px\"><h2 style=\"margin:8px 0;font-size:18px\">{}</h2>",
        message::colour_of(notices),
        escaped(&message::title(notices))
    );
    if let [one] = notices {
        out.push_str(&format!(
            "<p style=\"font-size:15px\">{}</p><table style=\"border-spacing:0;font-size:14px\">",
            escaped(&message::sentence(one))
        ));
        for (name, value) in message::facts(one) {
            out.push_str(&format!(
                "<tr><td style=\"padding:2px 16px 2px 0;color:#666\">{name}</td><td style=\"padding:2px 0\">{}</td></tr>",
                escaped(&value)
            ));
        }
        out.push_str("</table>");
        if let Some(action) = message::action(one) {
            out.push_str(&format!("<p style=\"font-size:14px\"><b>What to do:</b> {}</p>", escaped(action)));
        }
    } else {
        out.push_str("<ul style=\"font-size:14px;padding-left:18px\">");
        for notice in message::in_order(notices).into_iter().take(LISTED) {
            let colour = if notice.kind.is_firing() { message::colour(notice.level) } else { "#36a64f" };
            out.push_str(&format!(
                "<li style=\"color:{colour}\"><span style=\"color:#222\">{}</span></li>",
                escaped(&message::line(notice))
            ));
        }
        out.push_str("</ul>");
        if notices.len() > LISTED {
            out.push_str(&format!("<p>… and {} more.</p>", notices.len() - LISTED));
        }
    }
    out.push_str("</div></body></html>");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn certificates(path: &PathBuf) -> Result<Vec<Certificate>, SendError> {
    let wrong = |why: String| failure(SendReason::Tls, true, format!("ca_file {}: {why}", path.display()));
    let pem = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = pem.split_inclusive(END).filter(|block| block.contains(END));
    let all: Vec<Certificate> = blocks
        .map(|block| Certificate::from_pem(block.trim().as_bytes()).map_err(|error| wrong(error.to_string())))
        .collect::<Result<_, _>>()?;
    if all.is_empty() { Err(wrong("there is no certificate in it".to_owned())) } else { Ok(all) }
}

fn failure(reason: SendReason, retryable: bool, message: String) -> SendError {
    SendError { reason, retryable, retry_after: None, message }
}

/// What the server's answer, or the lack of one, means.
fn classify(host: &str, error: &lettre::transport::smtp::Error) -> SendError {
    let mut message = format!("{host}: {error}");
    let mut source = std::error::Error::source(error);
    // The library says so of TLS that could not be set up, and not of a handshake that failed.
    let mut is_tls = error.is_tls();
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        is_tls |= cause.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>());
        let cause_text = cause.to_string();
        if !message.contains(&cause_text) {
            message = format!("{message}: {cause_text}");
        }
        source = cause.source();
    }
    let code = error.status().map(u16::from);
    let (reason, retryable) = match code {
        Some(530 | 534 | 535 | 538) => (SendReason::Auth, false),
        Some(454) => (SendReason::Auth, true),
        Some(code) if (500..600).contains(&code) => (SendReason::Refused, false),
        Some(_) => (SendReason::Server, true),
        None if is_tls => (SendReason::Tls, true),
        None if error.is_timeout() => (SendReason::Timeout, true),
        None if error.is_client() => (SendReason::Auth, false),
        None => (SendReason::Connect, true),
    };
    failure(reason, retryable, crate::model::text::clean(&message, 500).into_owned())
}

//! E-mail: recipients, sender and server; one mail to all recipients, each of whom gets it once even when others have to
//! be tried again.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::message::Mailbox;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use super::{Parts, ReceiverSection, Sending, Transport, Wrong};
use crate::http_client;
use crate::model::{DeliveryReceipt, Notice, Retry, SendError, SendReason, Time};
use crate::notify::settings::Reporter;
use crate::notify::words::Words;
use crate::secret::{Secret, SecretSource};
use crate::text;
use smtp::{Patience, Server, Session};

mod mime;
mod smtp;

/// How long it is remembered who got what, after the last attempt that asked: longer than any pause between two.
const REMEMBERED: Duration = Duration::from_secs(2 * 3600);
/// Most notices remembered; beyond it a recipient may get a mail twice.
const NOTICES_REMEMBERED: usize = 50_000;

/// Most recipients of a receiver; RFC 5321, 4.5.3.1.8 has every server take 100 in one transaction.
const RECIPIENTS: usize = 100;

/// Mail to some people through one server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// The recipients.
    pub to: Vec<String>,
    /// The sender.
    pub from: String,
    /// The mail server.
    pub smtp: SmtpConfig,
}

/// How the mail server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// In the clear first, then STARTTLS; required.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// In the clear; no credentials are ever sent so.
    None,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// Its host name.
    pub host: String,
    /// Its port; 465 for implicit TLS, else 587.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How TLS is used; `implicit` on port 465 when not given, else `starttls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SmtpTls>,
    /// The user to log in as; none is no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The file that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Roots trusted in addition to the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl ReceiverSection for EmailConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        if let Err(problem) = mailbox(&self.from) {
            report.add("from", problem);
        }
        if self.to.is_empty() || self.to.len() > RECIPIENTS {
            let count = self.to.len();
            report.add("to", format!("it has {count} addresses; give 1 to {RECIPIENTS}"));
        }
        for (place, address) in self.to.iter().enumerate() {
            match mailbox(address) {
                Err(problem) => report.add(&format!("to[{place}]"), problem),
                Ok(_) if self.to.iter().take(place).any(|earlier| earlier == address) => {
                    report.add(&format!("to[{place}]"), format!("`{address}` is named twice; remove one"));
                }
                Ok(_) => {}
            }
        }
        self.smtp.validate(report);
    }

    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        Ok(Box::new(self.transport(parts)?))
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        let smtp = serde_json::json!({"host": "127.0.0.1", "port": address.port(), "tls": "none"});
        let section = serde_json::json!({"to": ["a@example.com"], "from": "lookout@example.com", "smtp": smtp});
        vec![super::Sample { key: "", section, told_by: super::ToldBy::Mail }]
    }
}

impl EmailConfig {
    fn transport(&self, parts: Parts<'_>) -> Result<Email, Wrong> {
        let smtp = &self.smtp;
        let tls = http_client::tls(smtp.ca_file.as_deref());
        let server = Server {
            host: smtp.host.clone(),
            port: smtp.port(),
            tls: smtp.tls(),
            tls_config: Arc::new(tls.map_err(|error| ("smtp.ca_file", error.to_string()))?),
            login: smtp.login().map_err(|(key, problem)| (key, problem.to_owned()))?,
        };
        let from = mailbox(&self.from).map_err(|problem| ("from", problem))?;
        let to: Result<_, String> = self.to.iter().map(|address| mailbox(address)).collect();
        let usual = Patience::DEFAULT;
        Ok(Email {
            from,
            to: to.map_err(|problem| ("to", problem))?,
            server,
            patience: Patience { step: parts.deadline.unwrap_or(usual.step), ..usual },
            words: parts.words,
            sent_to: Mutex::default(),
        })
    }
}

/// Reads `ops@example.com` or `Ops <ops@example.com>`; the error names the value and the remedy.
fn mailbox(address: &str) -> Result<Mailbox, String> {
    let shown = text::clean(address, 100);
    let wrong = |remedy: &str| format!("`{shown}` is not a mail address; {remedy}");
    if address.chars().any(char::is_control) {
        return Err(wrong("remove its control characters"));
    }
    let mailbox: Mailbox = address.parse().map_err(|_| wrong("write it like ops@example.com"))?;
    let plain = mailbox.email.to_string();
    if !plain.is_ascii() {
        return Err(wrong("write its domain in punycode; not every server takes other letters"));
    }
    if plain.len() > 254 {
        return Err(wrong("it is longer than 254 bytes"));
    }
    Ok(mailbox)
}

impl SmtpConfig {
    /// How TLS is used: as given, else `implicit` on port 465 and `starttls` on any other.
    pub fn tls(&self) -> SmtpTls {
        self.tls.unwrap_or(if self.port == Some(465) { SmtpTls::Implicit } else { SmtpTls::Starttls })
    }

    /// The port: as given, else 465 for implicit TLS and 587 for any other.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls() == SmtpTls::Implicit { 465 } else { 587 })
    }

    /// User and password, if there is a login; the error names the key and what is wrong with it.
    fn login(&self) -> Result<Option<(String, SecretSource)>, (&'static str, &'static str)> {
        let password = SecretSource::from_pair(&self.password, &self.password_file)
            .map_err(|problem| ("smtp.password", problem))?;
        match (&self.username, password) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) if self.tls() == SmtpTls::None => Err((
                "smtp.tls",
                "`none` would send the password in the clear; use starttls or implicit, or remove username and password",
            )),
            (Some(username), Some(password)) => Ok(Some((username.clone(), password))),
            (Some(_), None) => Err(("smtp.password", "it is not given; give it, or `password_file`")),
            (None, Some(_)) => Err(("smtp.username", "it is not given, but a password is; give both or none")),
        }
    }

    fn validate(&self, report: &mut Reporter<'_>) {
        if ServerName::try_from(self.host.as_str()).is_err() {
            let host = text::clean(&self.host, 100);
            report.add("smtp.host", format!("`{host}` is not a host; give a name or an address without a port"));
        }
        if self.port == Some(0) {
            report.add("smtp.port", "0 is not a port; leave it out for 587, or 465 with implicit TLS");
        }
        if let Err((key, problem)) = self.login() {
            report.add(key, problem);
        }
    }
}

/// Mail to some people through one server.
#[derive(Debug)]
struct Email {
    from: Mailbox,
    to: Vec<Mailbox>,
    server: Server,
    patience: Patience,
    words: Words,
    /// By idempotency key, who got it; only while another recipient has yet to get it.
    sent_to: Mutex<HashMap<Arc<str>, SentTo>>,
}

/// Which recipients got a notice: bit by place in `to`, of which there are at most [`RECIPIENTS`].
#[derive(Clone, Copy, Debug)]
struct SentTo {
    recipients: u128,
    at: Time,
}

const _: () = assert!(RECIPIENTS <= 128, "a recipient is a bit");

impl Email {
    /// Sends `notices` in one mail to each recipient who did not get them yet.
    ///
    /// It is done when one recipient got it and no other can get it later: a recipient who is rejected is named in the receipt.
    /// It fails for good when all are rejected, and is tried again while a recipient may still get it.
    async fn deliver(&self, now: Time, notices: &[Arc<Notice>]) -> Result<DeliveryReceipt, SendError> {
        let result = self.attempt(now, notices).await;
        if result.as_ref().err().is_none_or(|error| error.retry == Retry::Never) {
            let mut sent_to = self.sent_to.lock().unwrap_or_else(PoisonError::into_inner);
            for notice in notices {
                sent_to.remove(&notice.key);
            }
        }
        result
    }

    fn mail(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        mime::render(now, &self.from, &self.to, notices, &self.words.compose(now, notices))
    }

    async fn attempt(&self, now: Time, notices: &[Arc<Notice>]) -> Result<DeliveryReceipt, SendError> {
        let (groups, mut delivered) = self.outstanding(now, notices);
        if groups.is_empty() {
            return Ok(DeliveryReceipt::default());
        }
        let mut session = Session::open(&self.server, self.patience).await?;
        let (mut pending, mut rejected) = (None, None);
        for (places, recipients) in groups {
            let due: Vec<Arc<Notice>> = places.iter().filter_map(|place| notices.get(*place)).cloned().collect();
            let mail = self
                .mail(now, &due)
                .map_err(|error| SendError::permanent(SendReason::Message, format!("build the mail: {error}")))?;
            let addresses: Vec<_> =
                recipients.iter().filter_map(|place| self.to.get(*place)).map(|mailbox| &mailbox.email).collect();
            let answers = match session.deliver(&self.from.email, &addresses, &mail).await {
                Ok(answers) => answers,
                Err(error) if error.retry != Retry::Never => return Err(error),
                Err(error) => {
                    rejected = Some(error);
                    continue;
                }
            };
            let mut got = 0;
            for (place, answer) in recipients.iter().zip(answers) {
                match answer {
                    None => got |= 1_u128 << place,
                    Some(error) if error.retry == Retry::Never => rejected = Some(error),
                    Some(error) => pending = Some(error),
                }
            }
            delivered |= got != 0;
            self.remember(now, &due, got);
        }
        session.close().await;
        match (pending, rejected) {
            (Some(error), _) => Err(error),
            (None, Some(error)) if !delivered => Err(error),
            (None, partial_failure) => Ok(DeliveryReceipt { partial_failure, ..DeliveryReceipt::default() }),
        }
    }

    /// Which notices are still to be sent to which recipients, and whether any recipient got any of them before.
    /// Recipients who lack the same notices share a mail.
    fn outstanding(&self, now: Time, notices: &[Arc<Notice>]) -> (BTreeMap<Vec<usize>, Vec<usize>>, bool) {
        let mut sent_to = self.sent_to.lock().unwrap_or_else(PoisonError::into_inner);
        sent_to.retain(|_, sent_to| now.since(sent_to.at) < REMEMBERED);
        let done: Vec<u128> =
            notices.iter().map(|notice| sent_to.get(&notice.key).map_or(0, |sent_to| sent_to.recipients)).collect();
        let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for recipient in 0..self.to.len() {
            let lacking: Vec<usize> = done
                .iter()
                .enumerate()
                .filter(|(_, done)| **done >> recipient & 1 == 0)
                .map(|(place, _)| place)
                .collect();
            if !lacking.is_empty() {
                groups.entry(lacking).or_default().push(recipient);
            }
        }
        (groups, done.iter().any(|done| *done != 0))
    }

    fn remember(&self, now: Time, notices: &[Arc<Notice>], recipients: u128) {
        let mut sent_to = self.sent_to.lock().unwrap_or_else(PoisonError::into_inner);
        for notice in notices {
            if recipients == 0 || (sent_to.len() >= NOTICES_REMEMBERED && !sent_to.contains_key(&notice.key)) {
                continue;
            }
            let entry = sent_to.entry(Arc::clone(&notice.key)).or_insert(SentTo { recipients: 0, at: now });
            entry.recipients |= recipients;
            entry.at = now;
        }
    }
}

impl Transport for Email {
    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        self.mail(now, notices)
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(self.deliver(now, notices))
    }
}

#[cfg(test)]
mod tests;

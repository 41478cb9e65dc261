//! The kind `email`: to whom, from whom, and how the mail server is spoken to.

use std::path::PathBuf;

use lettre::message::Mailbox;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use super::Reporter;
use crate::secret::{Secret, SecretSource};
use crate::text;

/// Most recipients of a receiver; RFC 5321, 4.5.3.1.8 has every server take 100 in one transaction.
pub(in crate::notify) const RECIPIENTS: usize = 100;

/// Mail to some people through one server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// To whom.
    pub to: Vec<String>,
    /// From whom.
    pub from: String,
    /// Through which server.
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
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    /// Roots trusted beside the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl EmailConfig {
    pub(super) fn validate(&self, report: &mut Reporter<'_>) {
        if let Err(problem) = mailbox(&self.from) {
            report.add("email.from", problem);
        }
        if self.to.is_empty() || self.to.len() > RECIPIENTS {
            let count = self.to.len();
            report.add("email.to", format!("it has {count} addresses; give 1 to {RECIPIENTS}"));
        }
        for (place, address) in self.to.iter().enumerate() {
            match mailbox(address) {
                Err(problem) => report.add(&format!("email.to[{place}]"), problem),
                Ok(_) if self.to.iter().take(place).any(|earlier| earlier == address) => {
                    report.add(&format!("email.to[{place}]"), format!("`{address}` is named twice; remove one"));
                }
                Ok(_) => {}
            }
        }
        self.smtp.validate(report);
    }
}

/// Reads `ops@example.com` or `Ops <ops@example.com>`; the error names the value and the remedy.
pub(in crate::notify) fn mailbox(address: &str) -> Result<Mailbox, String> {
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
    pub(in crate::notify) fn login(&self) -> Result<Option<(String, SecretSource)>, (&'static str, &'static str)> {
        let password = SecretSource::from_pair(self.password.as_ref(), self.password_file.as_deref())
            .map_err(|problem| ("email.smtp.password", problem))?;
        match (&self.username, password) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) if self.tls() == SmtpTls::None => Err((
                "email.smtp.tls",
                "`none` would send the password in the clear; use starttls or implicit, or remove username and password",
            )),
            (Some(username), Some(password)) => Ok(Some((username.clone(), password))),
            (Some(_), None) => Err(("email.smtp.password", "it is not given; give it, or `password_file`")),
            (None, Some(_)) => Err(("email.smtp.username", "it is not given, but a password is; give both or none")),
        }
    }

    fn validate(&self, report: &mut Reporter<'_>) {
        if ServerName::try_from(self.host.as_str()).is_err() {
            let host = text::clean(&self.host, 100);
            report.add("email.smtp.host", format!("`{host}` is not a host; give a name or an address without a port"));
        }
        if self.port == Some(0) {
            report.add("email.smtp.port", "0 is not a port; leave it out for 587, or 465 with implicit TLS");
        }
        if let Err((key, problem)) = self.login() {
            report.add(key, problem);
        }
    }
}

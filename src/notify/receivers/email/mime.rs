//! A message as a mail: headers that thread by incident, and the same words as text and as HTML.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, Message as Mail, MultiPart, SinglePart};

use crate::model::{Notice, Time};
use crate::notify::message::{self, Body, Message, SummaryEntry};
use crate::notify::receivers::template::cut;
use crate::text::escape_markup;

/// Longest subject, in characters.
const SUBJECT: usize = 200;
/// Most alerts that a mail lists.
pub(super) const LINES: usize = 500;

/// `Auto-Submitted: auto-generated` (RFC 3834), so that no holiday notice answers.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// The bytes of the mail with `notices`, whose text is `message`, lines ended by CR LF and all of it ASCII.
///
/// The Message-Id follows from the notices' idempotency keys, so that a mail sent again is the same mail. A mail
/// about one alert belongs to the thread of its incident; a summary is a thread of its own, as it would tie
/// unrelated incidents together for ever.
pub(super) fn render(
    now: Time,
    from: &Mailbox,
    to: &[Mailbox],
    notices: &[Arc<Notice>],
    message: &Message<'_>,
) -> Result<Vec<u8>, String> {
    let (key, digest) = identity(notices);
    let host = from.email.domain();
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    let mut mail = Mail::builder()
        .from(from.clone())
        .date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
        .message_id(Some(format!("<{key}@{host}>")))
        .subject(cut(&message.title, SUBJECT))
        .header(AutoSubmitted);
    mail = mail.mailbox(lettre::message::header::To::from(to.iter().cloned().collect::<Mailboxes>()));
    if let [notice] = notices {
        let root = format!("<{}@{host}>", id_part(&notice.incident));
        mail = mail.in_reply_to(root.clone()).references(root);
    }
    // `=_` never occurs in quoted-printable, so nothing an agent writes can end a part.
    let parts = MultiPart::alternative()
        .boundary(format!("=_{digest}"))
        .singlepart(part(ContentType::TEXT_PLAIN, plain(message)))
        .singlepart(part(ContentType::TEXT_HTML, html(message)));
    let mail = mail.multipart(parts).map_err(|error| error.to_string())?;
    Ok(mail.formatted())
}

fn part(kind: ContentType, body: String) -> SinglePart {
    SinglePart::builder().header(kind).header(ContentTransferEncoding::QuotedPrintable).body(body)
}

/// What the Message-Id names, and a digest of all keys.
fn identity(notices: &[Arc<Notice>]) -> (String, String) {
    let mut keys: Vec<&str> = notices.iter().map(|notice| &*notice.key).collect();
    keys.sort_unstable();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for key in &keys {
        context.update(key.as_bytes());
        context.update(&[0]);
    }
    let digest = hex::encode(context.finish().as_ref().get(..16).unwrap_or_default());
    match keys.as_slice() {
        [key] => (id_part(key), digest),
        _ => (format!("summary-{digest}"), digest),
    }
}

/// `text` as the left side of a message id (RFC 5322, dot-atom), other bytes as `%xx`.
fn id_part(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    for byte in text.bytes().take(300) {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            id.push(char::from(byte));
        } else {
            let written = write!(id, "%{byte:02x}");
            debug_assert!(written.is_ok(), "a string takes all that is written to it");
        }
    }
    id
}

fn plain(message: &Message<'_>) -> String {
    let mut lines = vec![message.title.clone(), String::new()];
    match &message.body {
        Body::One(details) => {
            for text in details.text_below(&message.title, false).into_iter().chain(details.action.as_deref()) {
                lines.extend([text.to_owned(), String::new()]);
            }
            lines.extend(details.facts.iter().map(|(name, value)| format!("{:<10}{value}", format!("{name}:"))));
        }
        Body::Many(summary) => {
            lines.extend([summary.overview.clone(), String::new()]);
            lines.extend(summary.entries.iter().take(LINES).map(SummaryEntry::line));
            if summary.entries.len() > LINES {
                lines.push(message::left_out(summary.entries.len() - LINES));
            }
            if !summary.actions.is_empty() {
                lines.push(String::new());
                lines.extend_from_slice(&summary.actions);
            }
        }
    }
    lines.extend([String::new(), "-- ".to_owned(), "sent by lookout".to_owned(), String::new()]);
    lines.join("\r\n")
}

/// Colours for readers that follow the system's dark mode; the inline ones are for those that know no style sheet.
const STYLE: &str = "<style>:root{color-scheme:light dark}@media (prefers-color-scheme:dark){\
.page{background:#18181b!important}.card{background:#27272a!important;color:#e4e4e7!important}\
.dim{color:#a1a1aa!important}}</style>";
const FONT: &str = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:14px;\
line-height:1.45;color:#222;overflow-wrap:anywhere";

fn html(message: &Message<'_>) -> String {
    let mut lines = vec![
        "<!DOCTYPE html>".to_owned(),
        "<html><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">".to_owned(),
        format!("<meta name=\"color-scheme\" content=\"light dark\">{STYLE}</head>"),
        "<body class=\"page\" style=\"margin:0;padding:12px;background:#f4f4f5\">".to_owned(),
        format!(
            "<div class=\"card\" style=\"max-width:640px;margin:0 auto;padding:16px 20px;background:#fff;border-radius:4px;border-top:6px solid {};{FONT}\">",
            message.tone.colour()
        ),
        format!("<h1 style=\"margin:0 0 12px;font-size:17px;line-height:1.35\">{}</h1>", escape_markup(&message.title)),
    ];
    match &message.body {
        Body::One(details) => {
            for text in details.text_below(&message.title, false).into_iter().chain(details.action.as_deref()) {
                lines.push(format!("<p style=\"margin:0 0 12px\">{}</p>", escape_markup(text)));
            }
            lines.push("<table style=\"border-collapse:collapse;font-size:13px\">".to_owned());
            lines.extend(details.facts.iter().map(|(name, value)| {
                format!(
                    "<tr><td class=\"dim\" style=\"padding:2px 16px 2px 0;color:#666;vertical-align:top;white-space:nowrap\">{name}</td><td style=\"padding:2px 0\">{}</td></tr>",
                    escape_markup(value)
                )
            }));
            lines.push("</table>".to_owned());
        }
        Body::Many(summary) => {
            let overview = escape_markup(&summary.overview);
            lines.push(format!("<p class=\"dim\" style=\"margin:0 0 12px;color:#666\">{overview}</p>"));
            lines.extend(summary.entries.iter().take(LINES).map(|entry| {
                format!(
                    "<p style=\"margin:0 0 6px;padding-left:8px;border-left:4px solid {}\">{}</p>",
                    entry.tone().colour(),
                    escape_markup(&entry.line())
                )
            }));
            if summary.entries.len() > LINES {
                let rest = message::left_out(summary.entries.len() - LINES);
                lines.push(format!("<p style=\"margin:12px 0 0\">{}</p>", escape_markup(&rest)));
            }
            let actions = summary.actions.iter();
            lines.extend(actions.map(|it| format!("<p style=\"margin:12px 0 0\">{}</p>", escape_markup(it))));
        }
    }
    lines.push("<p class=\"dim\" style=\"margin:16px 0 0;font-size:12px;color:#666\">sent by lookout</p>".to_owned());
    lines.push("</div></body></html>".to_owned());
    lines.push(String::new());
    lines.join("\r\n")
}

#[cfg(test)]
mod tests;

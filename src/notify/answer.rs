//! What a receiver's HTTP answer means: delivered, or why not and whether it is tried again.
//!
//! A status of 2xx alone is no success: proxies answer 200 with their sign-in page, Teams writes an error into the text
//! of one, Telegram answers `ok: false`. An answer's text is never repeated: it could hold anything.

use std::time::Duration;

use serde_json::Value;

use crate::http_client::pause_of;
use crate::model::{SendError, SendReason};

/// Texts with which servers that stand in for another accept a message.
const ACKNOWLEDGEMENTS: [&str; 9] =
    ["1", "true", "ok", "success", "accepted", "received", "delivered", "done", "no content"];

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// The host that answered; empty when it is not known.
    pub(super) host: String,
    /// The status.
    pub(super) status: u16,
    /// How long we are asked to wait.
    pub(super) retry_after: Option<Duration>,
    /// Whether it calls itself a page for people.
    pub(super) is_page: bool,
    /// The body, as far as it came and was read.
    pub(super) body: Vec<u8>,
    /// Whether that is all of it.
    pub(super) is_complete: bool,
}

/// What a receiver's own success looks like, in addition to a status of 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Success {
    /// Anything but a page: a webhook answers as it likes.
    AnyAnswer,
    /// Anything but a page and an error.
    NoError,
    /// An acknowledgement, or nothing at all.
    Acknowledgement,
}

/// What the body of an answer means.
#[derive(Debug, PartialEq)]
enum BodyMeaning {
    /// Nothing, or it broke off before it did.
    Nothing,
    /// That the message was taken.
    Acknowledgement,
    /// It is a page for people, such as the sign-in page of a proxy.
    Page,
    /// An error, with the status that it names.
    Error(Option<u16>),
    /// Something else.
    Unknown,
}

impl Answer {
    /// Whether `kind` took the message. The error holds nothing of the body.
    pub(super) fn accepted(&self, kind: &str, success: Success) -> Result<(), SendError> {
        self.accepted_status(kind)?;
        let (status, meaning, kind) = (self.status, self.meaning(), self.who(kind));
        let transient =
            |what: &str| SendError::transient(SendReason::Server, format!("{kind} answered {status} {what}"));
        match meaning {
            BodyMeaning::Nothing | BodyMeaning::Acknowledgement => Ok(()),
            BodyMeaning::Page => {
                Err(transient("with an HTML page, like the sign-in page of a proxy; check its address"))
            }
            BodyMeaning::Error(_) | BodyMeaning::Unknown if success == Success::AnyAnswer => Ok(()),
            BodyMeaning::Error(code) => Err(self.error_in_body(&kind, code)),
            BodyMeaning::Unknown if success == Success::NoError => Ok(()),
            BodyMeaning::Unknown => Err(transient("without a word that it took the message; check its address")),
        }
    }

    /// Whether the status alone is a success.
    pub(super) fn accepted_status(&self, kind: &str) -> Result<(), SendError> {
        let remedy = match self.status {
            401 | 403 | 407 => "; check its token or its URL",
            300..=399 | 404 => "; check its URL",
            _ => "",
        };
        let message = format!("{} answered {}{remedy}", self.who(kind), self.status);
        match self.status {
            200..=299 => Ok(()),
            429 => Err(SendError::transient(SendReason::RateLimited, message).after(self.retry_after)),
            401 | 403 | 407 => Err(SendError::limited(SendReason::Auth, message).after(self.retry_after)),
            300..=399 | 404 => Err(SendError::limited(SendReason::Refused, message).after(self.retry_after)),
            400..=499 if !matches!(self.status, 408 | 425) => Err(SendError::permanent(SendReason::Refused, message)),
            _ => Err(SendError::transient(SendReason::Server, message).after(self.retry_after)),
        }
    }

    /// How errors name what answered: `slack at hooks.slack.com`.
    pub(super) fn who(&self, kind: &str) -> String {
        if self.host.is_empty() { kind.to_owned() } else { format!("{kind} at {}", self.host) }
    }

    /// An error in the body of a success, which names the status `code`.
    fn error_in_body(&self, kind: &str, code: Option<u16>) -> SendError {
        let named = code.map_or_else(String::new, |code| format!(" {code}"));
        let message = format!("{kind} answered {} with an error{named} in its body", self.status);
        match code {
            Some(429) => SendError::transient(SendReason::RateLimited, message).after(self.retry_after),
            Some(401 | 403 | 407) => SendError::limited(SendReason::Auth, message).after(self.retry_after),
            Some(404) => SendError::limited(SendReason::Refused, message).after(self.retry_after),
            // It may be taken in parts.
            Some(413) => SendError::permanent(SendReason::Refused, message),
            _ => SendError::transient(SendReason::Server, message).after(self.retry_after),
        }
    }

    /// The body as JSON; null when it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn meaning(&self) -> BodyMeaning {
        let text = String::from_utf8_lossy(&self.body);
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return BodyMeaning::Nothing;
        }
        if is_page(text, self.is_page) {
            return BodyMeaning::Page;
        }
        if let Ok(body) = serde_json::from_str::<Value>(text) {
            return meaning_in_json(&body);
        }
        let lower = text.to_ascii_lowercase();
        if ACKNOWLEDGEMENTS.contains(&lower.trim_end_matches(['.', '!'])) {
            return BodyMeaning::Acknowledgement;
        }
        if lower.contains("error") || lower.contains("failed") {
            return BodyMeaning::Error(status_in(&lower));
        }
        // The status was a success, and what came of the rest does not say otherwise.
        if self.is_complete { BodyMeaning::Unknown } else { BodyMeaning::Nothing }
    }

    /// The same for receivers that ask for a pause in the body: Discord (`retry_after`), Telegram
    /// (`parameters.retry_after`), in seconds.
    pub(super) fn with_pause_of_body(self) -> Self {
        let asked = || {
            let body = self.json();
            pause_of(body.get("retry_after").or_else(|| body.pointer("/parameters/retry_after"))?.as_f64()?)
        };
        Self { retry_after: self.retry_after.or_else(asked), ..self }
    }
}

/// Whether `text` is an HTML page; `is_declared` is whether its media type is that of one, which many servers give to any text.
fn is_page(text: &str, is_declared: bool) -> bool {
    let start: String = text.chars().take(15).collect::<String>().to_ascii_lowercase();
    start.starts_with("<!doctype html") || start.starts_with("<html") || (is_declared && start.starts_with('<'))
}

fn meaning_in_json(body: &Value) -> BodyMeaning {
    let Value::Object(fields) = body else {
        let is_refusal = matches!(body, Value::Bool(false));
        return if is_refusal { BodyMeaning::Error(None) } else { BodyMeaning::Acknowledgement };
    };
    let flag = |name: &str| fields.get(name).and_then(Value::as_bool);
    let word = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_ascii_lowercase);
    let code = ["error_code", "status_code", "statusCode", "code", "status"].into_iter().find_map(|name| {
        let code = fields.get(name)?.as_u64().filter(|code| (400..600).contains(code))?;
        u16::try_from(code).ok()
    });
    let code = code.or_else(|| fields.contains_key("retry_after").then_some(429));
    let is_named = |name: &str| match fields.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(items)) => !items.is_empty(),
        Some(Value::Number(number)) => number.as_u64() != Some(0),
        Some(Value::Bool(true)) => true,
    };
    let outcomes = || ["status", "result"].into_iter().filter_map(word);
    let is_failure = |word: &str| ["error", "fail", "invalid", "throttle"].iter().any(|bad| word.starts_with(bad));
    // Discord's errors have a code of its own and no id.
    let is_coded = fields.get("code").and_then(Value::as_u64).is_some_and(|code| code >= 1_000)
        && fields.contains_key("message")
        && !fields.contains_key("id");
    let is_error = [flag("ok"), flag("success")].contains(&Some(false))
        || code.is_some()
        || is_named("error")
        || is_named("errors")
        || outcomes().any(|word| is_failure(&word))
        || is_coded;
    if is_error {
        return BodyMeaning::Error(code);
    }
    let is_taken = [flag("ok"), flag("success")].contains(&Some(true))
        || outcomes().any(|word| ACKNOWLEDGEMENTS.contains(&&*word))
        || fields.is_empty();
    if is_taken { BodyMeaning::Acknowledgement } else { BodyMeaning::Unknown }
}

/// The status that an error's text names, as Teams does: `… returned HTTP error 429 with ContextId …`.
fn status_in(text: &str) -> Option<u16> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| word.len() == 3).filter_map(|word| word.parse().ok()).find(|code| (400..600).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::retry_after;
    use crate::model::{Retry, Time};

    fn answer(status: u16, body: &str) -> Answer {
        let body = body.as_bytes().to_vec();
        Answer { host: String::new(), status, retry_after: None, is_page: false, body, is_complete: true }
    }

    #[test]
    fn statuses_are_retried_without_end_for_an_hour_or_never() {
        let wait = Some(Duration::from_secs(7));
        for (statuses, reason, retry) in [
            (&[301, 302, 307, 308, 404][..], SendReason::Refused, Retry::Limited),
            (&[401, 403, 407], SendReason::Auth, Retry::Limited),
            (&[400, 405, 410, 413, 422], SendReason::Refused, Retry::Never),
            (&[429], SendReason::RateLimited, Retry::Unlimited),
            (&[408, 425, 500, 502, 503, 504, 599], SendReason::Server, Retry::Unlimited),
        ] {
            for status in statuses {
                let error = Answer { retry_after: wait, ..answer(*status, "") }.accepted_status("webhook").unwrap_err();
                assert_eq!((error.reason, error.retry), (reason, retry), "{status}");
                assert!(error.message.starts_with(&format!("webhook answered {status}")), "{error}");
                assert_eq!(error.retry_after, wait.filter(|_| retry != Retry::Never), "{status}");
            }
        }
        assert!(answer(202, "").accepted_status("webhook").is_ok());
    }

    #[test]
    fn each_receiver_has_its_own_success() {
        use Success::{Acknowledgement, AnyAnswer, NoError};
        let teams = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with \
                     ContextId tcid=0,server=x,cv=y.";
        for (body, any, no_error, acknowledgement) in [
            ("", true, true, true),
            ("1", true, true, true),
            ("OK", true, true, true),
            (r#"{"ok":true,"result":{"message_id":7}}"#, true, true, true),
            (r#"{"success":true}"#, true, true, true),
            (r#"{"status":"success","message":"Event processed"}"#, true, true, true),
            (r#"{"id":"123","content":"x"}"#, true, true, false),
            ("queued as 42", true, true, false),
            (teams, true, false, false),
            (r#"{"ok":false,"error_code":400,"description":"chat not found"}"#, true, false, false),
            (r#"{"message":"You are being rate limited.","retry_after":0.5,"global":false}"#, true, false, false),
            (r#"{"code":50035,"message":"Invalid Form Body"}"#, true, false, false),
            (r#"{"status":"invalid event","errors":["x"]}"#, true, false, false),
            (r#"{"error":{"code":"Unauthorized"}}"#, true, false, false),
            ("\u{feff}\n<!DOCTYPE html><title>Sign in</title>", false, false, false),
            ("<HTML><body>Sign in</body></HTML>", false, false, false),
        ] {
            for (success, expected) in [(AnyAnswer, any), (NoError, no_error), (Acknowledgement, acknowledgement)] {
                let result = answer(200, body).accepted("chat", success);
                assert_eq!(result.is_ok(), expected, "{success:?} {body}: {result:?}");
                assert!(!format!("{result:?}").contains("tcid"), "{result:?}");
            }
        }
        let page = Answer { is_page: true, ..answer(200, "<form>") };
        assert!(page.accepted("webhook", AnyAnswer).is_err());
        let text = Answer { is_page: true, ..answer(200, "ok") };
        assert!(text.accepted("slack", Acknowledgement).is_ok(), "many servers call any text HTML");
    }

    #[test]
    fn an_error_in_the_body_of_a_success_is_of_the_class_of_the_status_that_it_names() {
        for (body, reason, retry) in [
            ("failed with HTTP error 429 with ContextId 1", SendReason::RateLimited, Retry::Unlimited),
            ("failed with HTTP error 413 with ContextId 1", SendReason::Refused, Retry::Never),
            ("failed with HTTP error 502", SendReason::Server, Retry::Unlimited),
            (r#"{"ok":false,"error_code":400}"#, SendReason::Server, Retry::Unlimited),
            (r#"{"ok":false,"error_code":401}"#, SendReason::Auth, Retry::Limited),
            (r#"{"success":false}"#, SendReason::Server, Retry::Unlimited),
        ] {
            let error = answer(200, body).accepted("chat", Success::NoError).unwrap_err();
            assert_eq!((error.reason, error.retry), (reason, retry), "{body}");
        }
    }

    #[test]
    fn a_success_that_breaks_off_is_one_unless_it_began_with_an_error() {
        let broken = |body| Answer { is_complete: false, ..answer(200, body) };
        for body in ["", "o", r#"{"ok":tr"#, r#"{"id": "1"#] {
            assert!(broken(body).accepted("chat", Success::Acknowledgement).is_ok(), "{body}");
        }
        assert!(broken("<!doctype html>").accepted("chat", Success::AnyAnswer).is_err());
        assert!(broken("Webhook message delivery failed with").accepted("chat", Success::NoError).is_err());
    }

    #[test]
    fn a_pause_is_in_seconds_or_until_a_date() {
        let now = Time::parse("2026-11-21T02:00:00Z").unwrap();
        let asked = |value: &str, date: Option<&str>| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, value.parse().unwrap());
            if let Some(date) = date {
                headers.insert(http::header::DATE, date.parse().unwrap());
            }
            retry_after(&headers, now).map(|pause| pause.as_millis())
        };
        for (value, pause) in [
            ("30", Some(30_000)),
            (" 3.5 ", Some(3_500)),
            ("0", Some(0)),
            ("-1", None),
            ("soon", None),
            ("NaN", None),
            ("1e300", Some(86_400_000)),
            ("Sat, 21 Nov 2026 02:00:04 GMT", Some(4_000)),
            ("Saturday, 21-Nov-26 02:00:04 GMT", Some(4_000)),
            ("Sat Nov 21 02:00:04 2026", Some(4_000)),
            ("Sat, 21 Nov 2026 01:59:00 GMT", Some(0)),
        ] {
            assert_eq!(asked(value, None), pause, "{value}");
        }
        let server = Some("Sat, 21 Nov 2026 05:00:00 GMT");
        assert_eq!(asked("Sat, 21 Nov 2026 05:00:09 GMT", server), Some(9_000), "by the server's own clock");
    }
}

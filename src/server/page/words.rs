//! Ages, links and names as the page writes them.

use minijinja::Value;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::model::{Time, duration};

/// What is escaped in a value of a query.
const VALUE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'+')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'`');

/// A value in a query.
pub(super) fn query(value: &str) -> String {
    utf8_percent_encode(value, VALUE).to_string()
}

/// The page of an agent, relative to any page.
pub(super) fn agent_href(project: &str, name: &str) -> String {
    format!("agent?project={}&agent={}", query(project), query(name))
}

/// How long ago, in the largest unit: `4m`, `3h`, `2d`.
pub(super) fn age(now: Time, then: Time) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Milliseconds: `420ms`, `3.2s`, `4m10s`.
pub(super) fn took(millis: f64) -> String {
    if (1_000.0..60_000.0).contains(&millis) {
        return format!("{}s", crate::text::number::shortest(millis / 1_000.0, 1));
    }
    duration::display(std::time::Duration::from_millis(millis.max(0.0) as u64))
}

/// Text within HTML or one of its quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            letter => out.push(letter),
        }
    }
    out
}

/// An id of an element, of letters and digits alone, the same for the same names.
pub(super) fn element_id(prefix: &str, names: &[&str]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in names.join("\u{0}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{prefix}{hash:016x}")
}

/// A text of an answer of the API; empty if there is none.
pub(super) fn text<'v>(value: &'v serde_json::Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// A number of an answer in short form; `–` if it is unknown.
pub(super) fn count(value: &serde_json::Value) -> String {
    value.as_f64().map_or_else(unknown, crate::text::number::short)
}

/// US dollars of an answer; `–` if they are unknown.
pub(super) fn dollars(value: &serde_json::Value) -> String {
    value.as_f64().map_or_else(unknown, crate::text::number::dollars)
}

/// Milliseconds of an answer; `–` if they are unknown.
pub(super) fn millis(value: &serde_json::Value) -> String {
    value.as_f64().map_or_else(unknown, took)
}

/// A share of an answer in percent; `–` if it is unknown.
pub(super) fn percent(value: &serde_json::Value) -> String {
    value.as_f64().map_or_else(unknown, |ratio| format!("{} %", crate::text::number::shortest(ratio * 100.0, 1)))
}

fn unknown() -> String {
    "–".to_owned()
}

/// A time of day in UTC with seconds, and the date if that is not today's.
pub(super) fn shown(now: Time, at: Time) -> String {
    let [then, today] = [at, now].map(|time| time.to_jiff().to_zoned_datetime(jiff::tz::TimeZone::UTC));
    let format = if then.date() == today.date() { "%H:%M:%S" } else { "%b %d %H:%M:%S" };
    then.strftime(format).to_string()
}

/// How long ago something was, with its time in the tooltip: `verb` says what it is the time of.
pub(super) fn ago(now: Time, then: Time, verb: &str) -> String {
    format!(
        r#"<time class="age" datetime="{then}" data-verb="{verb}" title="{verb} {} UTC">{}</time>"#,
        shown(now, then),
        age(now, then),
    )
}

/// A time as HTML; the script writes it in the reader's zone.
pub(super) fn at(now: Time, then: Time) -> Value {
    Value::from_safe_string(format!(r#"<time class="at" datetime="{then}">{} UTC</time>"#, shown(now, then)))
}

/// The same of RFC 3339 text.
pub(super) fn at_text(now: Time, then: &str) -> Value {
    Time::parse(then).map_or_else(|| Value::from(then), |then| at(now, then))
}

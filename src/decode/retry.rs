//! Extracts the end of a rate limit from error texts and `Retry-After` headers of all sources.
//!
//! Owns the phrases of providers and their clients. A text without a time yields none. A time of day without a time zone is
//! local time, as command-line tools print it.

use std::time::Duration;

use jiff::civil::{self, Weekday};
use jiff::tz::{Offset, TimeZone};

use crate::model::Time;

/// Maximum length of the examined text, in bytes.
const MAX_TEXT: usize = 4_096;
/// Maximum plausible wait: a month and a day.
const MAX_WAIT: Duration = Duration::from_secs(32 * 86_400);
/// Maximum number of words of one time.
const MAX_WORDS: usize = 12;
/// Phrases before a time, with the kinds of time that may follow. Of phrases with a common prefix the longer is first.
const MARKERS: [(&str, TimeKind); 23] = [
    ("resets_in_seconds", TimeKind::Seconds),
    ("retry_after_seconds", TimeKind::Seconds),
    ("retry_after_ms", TimeKind::Millis),
    ("retry-after-ms", TimeKind::Millis),
    ("retry-after", TimeKind::Header),
    ("retry_after", TimeKind::Header),
    ("retryafter", TimeKind::Header),
    ("retry after", TimeKind::Header),
    ("retrydelay", TimeKind::Header),
    ("resets_at", TimeKind::Date),
    ("resetsat", TimeKind::Date),
    ("reset_at", TimeKind::Date),
    ("resets in", TimeKind::Wait),
    ("reset in", TimeKind::Wait),
    ("reset after", TimeKind::Wait),
    ("again after", TimeKind::Either),
    ("again in", TimeKind::Wait),
    ("retry in", TimeKind::Wait),
    ("again at", TimeKind::Date),
    ("available at", TimeKind::Date),
    ("resets", TimeKind::Date),
    ("reset at", TimeKind::Date),
    ("regain access", TimeKind::Date),
];

/// The kind of time after a phrase.
#[derive(Clone, Copy)]
enum TimeKind {
    /// A duration with a unit.
    Wait,
    /// A date or time.
    Date,
    /// Either; a bare number is in seconds, as in `Retry-After`.
    Header,
    /// Either.
    Either,
    Seconds,
    Millis,
}

/// The time in `text`, which was written at `now` (wall clock): `try again in 1m30s`,
/// `resets Dec 3, 7am (Europe/Zurich)`, `try again at Dec 3rd, 2026 4:15 AM`, `limit reached|1795273200`.
pub fn retry_at(text: &str, now: Time) -> Option<Time> {
    retry_at_in(text, now, &TimeZone::system())
}

/// The time in a `Retry-After` header or field: seconds, a duration, or a date.
pub fn retry_after(value: &str, now: Time) -> Option<Time> {
    followed(TimeKind::Header, &plain(value), now, &TimeZone::UTC)
}

fn retry_at_in(text: &str, now: Time, local: &TimeZone) -> Option<Time> {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end))?;
    let text = plain(text.get(..end)?);
    let mut rest = text.as_str();
    loop {
        // The first phrase that is followed by a time. A bar with a number needs no phrase.
        let found = MARKERS.iter().filter_map(|(marker, kind)| Some((rest.find(marker)?, marker.len(), Some(*kind))));
        let bar = rest.find("reached|").map(|at| (at, "reached|".len(), None));
        let (at, length, kind) = found.chain(bar).min_by_key(|(at, length, _)| (*at, usize::MAX - length))?;
        rest = rest.get(at + length..)?;
        let time = match kind {
            Some(kind) => followed(kind, rest, now, local),
            None => number(rest).and_then(|(number, _)| unix(number)),
        };
        if let Some(time) = time.filter(|time| is_plausible(*time, now)) {
            return Some(time);
        }
    }
}

fn is_plausible(time: Time, now: Time) -> bool {
    time >= now && time.since(now) <= MAX_WAIT
}

/// `text` in lower case with plain spaces and without quotes, since tools use narrow spaces in times and quote JSON keys.
fn plain(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\u{a0}' | '\u{202f}' | '\u{2009}' | '\t' | '\n' | '\r' | '"' | '\'' | '=' | '`' | '\\' => ' ',
        other => other.to_ascii_lowercase(),
    };
    text.chars().map(letter).collect()
}

/// The time at the start of `rest`.
fn followed(kind: TimeKind, rest: &str, now: Time, local: &TimeZone) -> Option<Time> {
    let rest = rest.trim_start_matches([' ', ':']);
    let seconds = |scale: f64| {
        let (count, _) = number(rest)?;
        Some(now.plus(Duration::try_from_secs_f64(count * scale).ok()?))
    };
    let waits = |bare: bool| wait_of(rest, bare).map(|wait| now.plus(wait));
    match kind {
        TimeKind::Wait => waits(false),
        TimeKind::Date => date_time(rest, now, local),
        TimeKind::Either => waits(false).or_else(|| date_time(rest, now, local)),
        // A date is tried first, since `2026-12-03` starts with a number too.
        TimeKind::Header => date_time(rest, now, local).or_else(|| waits(true)),
        TimeKind::Seconds => seconds(1.0),
        TimeKind::Millis => seconds(0.001),
    }
}

/// The number at the start of `text`, and the rest.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    // A full stop may end the sentence.
    let number = digits.trim_end_matches('.').parse::<f64>().ok()?;
    Some((number, rest))
}

/// A Unix timestamp in seconds, or in milliseconds if it is too large for seconds.
fn unix(number: f64) -> Option<Time> {
    let seconds = if number >= 1e11 { number / 1000.0 } else { number };
    if seconds < 1e9 { None } else { Time::from_secs_f64(seconds) }
}

/// `1m30.5s`, `6m0s`, `20ms`, `30 seconds`, `2 days 17 hours 14 minutes`, `1 hour and 5 minutes`, `an hour`, `5`.
pub fn wait(text: &str) -> Option<Duration> {
    wait_of(&plain(text), true)
}

/// The same for normalized text; with `bare` a number without a unit is in seconds.
fn wait_of(text: &str, bare: bool) -> Option<Duration> {
    let mut rest = text.trim_start_matches(' ');
    let (mut seconds, mut is_any) = (0.0, false);
    loop {
        let joined = ["and ", "about ", "approximately ", "~", ", "];
        rest = joined.iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest).trim_start_matches(' ');
        let one = ["an ", "a "].iter().find_map(|word| rest.strip_prefix(word)).map(|rest| (1.0, rest));
        let Some((count, after)) = number(rest).or(one) else { break };
        let after = after.trim_start_matches(' ');
        let end = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(end)?;
        let scale = match unit {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            // The rest belongs to the sentence.
            _ if is_any => break,
            _ if bare => return Duration::try_from_secs_f64(count).ok().filter(|wait| *wait <= MAX_WAIT),
            _ => return None,
        };
        seconds += count * scale;
        is_any = true;
        rest = next.trim_start_matches(' ');
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|wait| is_any && *wait <= MAX_WAIT)
}

/// The parsed parts of a date and time.
#[derive(Default)]
struct DateTimeParts {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    weekday: Option<Weekday>,
    is_tomorrow: bool,
    time: Option<civil::Time>,
    zone: Option<TimeZone>,
}

/// `4pm`, `3:30pm (europe/berlin)`, `16:00 utc`, `dec 3rd, 2026 4:15 am`, `thu, 03 dec 2026 04:15:00 gmt`,
/// `2026-12-03t04:15:00z`, `tomorrow at 4pm`, `1795273200`: the next such time.
fn date_time(text: &str, now: Time, local: &TimeZone) -> Option<Time> {
    let text = lead(text);
    let first = text.split([' ', ',', '(', ')', ']', '}', ';']).next()?;
    if first.len() >= 10
        && let Ok(seconds) = first.trim_end_matches('.').parse::<f64>()
    {
        return unix(seconds);
    }
    if let Some(time) = first.get(..10).and_then(|_| Time::parse(&first.trim_end_matches('.').to_ascii_uppercase())) {
        return Some(time);
    }
    let parts = parts(text)?;
    let there = now.to_jiff().to_zoned_datetime(parts.zone.clone().unwrap_or_else(|| local.clone()));
    let today = there.date();
    let (date, step) = match (parts.month, parts.day) {
        (Some(month), Some(day)) => {
            let date = civil::Date::new(parts.year.unwrap_or(today.year()), month, day).ok()?;
            (date, parts.year.is_none().then(|| jiff::Span::new().years(1)))
        }
        (None, None) if parts.year.is_none() => match parts.weekday {
            Some(weekday) => {
                let ahead = i64::from(today.weekday().until(weekday));
                (today.checked_add(jiff::Span::new().days(ahead)).ok()?, Some(jiff::Span::new().days(7)))
            }
            None if parts.is_tomorrow => (today.tomorrow().ok()?, None),
            None => (today, Some(jiff::Span::new().days(1))),
        },
        _ => return None,
    };
    // A date without a time means its start.
    let time = parts.time.or((date != today).then(civil::Time::midnight))?;
    let zone = there.time_zone().clone();
    let at = |date: civil::Date| date.to_datetime(time).to_zoned_datetime(zone.clone()).ok();
    let mut then = at(date)?;
    if then <= there {
        // A time that has just passed was rounded; one that passed long ago means the next day.
        let is_just_past = now.since(Time::from_millis(then.timestamp().as_millisecond())) < Duration::from_secs(120);
        then = at(date.checked_add(step.filter(|_| !is_just_past)?).ok()?)?;
    }
    Some(Time::from_millis(then.timestamp().as_millisecond()))
}

/// `text` from the start of the date or time: `resets at (…`, `resets on: …`.
fn lead(text: &str) -> &str {
    const MARKS: [char; 5] = [' ', ':', '·', '(', '['];
    let mut rest = text.trim_start_matches(MARKS);
    while let Some((_, after)) = rest.split_once([' ', ':']).filter(|(word, _)| is_filler(word)) {
        rest = after.trim_start_matches(MARKS);
    }
    // A parenthesis alone encloses a time zone or a remark.
    if rest.starts_with(|letter: char| letter.is_ascii_digit()) {
        rest
    } else {
        text.trim_start_matches([' ', ':', '·'])
    }
}

/// Whether `word` is a filler next to a date or time.
fn is_filler(word: &str) -> bool {
    matches!(word, "at" | "on" | "around" | "about" | "the" | "of" | "by" | "today")
}

/// Parses the words of a date and time up to the first other word.
fn parts(text: &str) -> Option<DateTimeParts> {
    let mut parts = DateTimeParts::default();
    let is_break = |letter: char| matches!(letter, ' ' | ',' | '·' | ';');
    let mut words = text.split(is_break).filter(|word| !word.is_empty()).take(MAX_WORDS).peekable();
    while let Some(word) = words.next() {
        let bare = word.trim_matches(['(', ')', '.', '[', ']', '}', '{']);
        if word.starts_with('(') {
            // A time zone in parentheses; with an unknown one the time is not usable.
            if !matches!(bare, "local" | "your") {
                parts.zone = Some(zone(bare)?);
            }
            break;
        }
        if is_filler(bare) {
            continue;
        }
        if bare == "tomorrow" {
            parts.is_tomorrow = true;
        } else if let Some(month) = month(bare) {
            parts.month = Some(month);
        } else if let Some(weekday) = weekday(bare) {
            parts.weekday = Some(weekday);
        } else if let Some(date) = iso_date(bare) {
            (parts.year, parts.month, parts.day) = (Some(date.year()), Some(date.month()), Some(date.day()));
        } else if let Some(time) = time_of_day(bare, words.peek().copied()) {
            parts.time = Some(time);
        } else if let Some(half) = bare.strip_suffix('m').filter(|half| matches!(*half, "a" | "p" | "a." | "p.")) {
            // Already parsed with the time before it.
            parts.time.filter(|_| !half.is_empty())?;
        } else if let Some(zone) = parts.time.and_then(|_| zone(bare)) {
            parts.zone = Some(zone);
        } else if let Some((number, rest)) = number(bare) {
            match (rest, number) {
                ("" | "st" | "nd" | "rd" | "th", day @ 1.0..=31.0) if parts.day.is_none() => {
                    parts.day = Some(day as i8)
                }
                ("", year @ 1970.0..=9998.0) => parts.year = Some(year as i16),
                _ => break,
            }
        } else {
            break;
        }
        if word.ends_with('.') && !matches!(bare, "a.m" | "p.m") && parts.time.is_some() {
            // The sentence ends.
            break;
        }
    }
    Some(parts)
}

fn month(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let is = |month: &&str| word.len() >= 3 && (month.starts_with(word) || word == "sept" && **month == *"september");
    MONTHS.iter().position(is).and_then(|place| i8::try_from(place + 1).ok())
}

fn weekday(word: &str) -> Option<Weekday> {
    const DAYS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    DAYS.iter().find(|(day, _)| word.len() >= 3 && day.starts_with(word)).map(|(_, day)| *day)
}

fn iso_date(word: &str) -> Option<civil::Date> {
    (word.len() == 10).then(|| word.parse().ok()).flatten()
}

/// A time zone by its IANA name in lower case, by an offset, or by an unambiguous abbreviation.
fn zone(name: &str) -> Option<TimeZone> {
    const HOURS: [(&str, i8); 14] = [
        ("utc", 0),
        ("gmt", 0),
        ("z", 0),
        ("cet", 1),
        ("cest", 2),
        ("est", -5),
        ("edt", -4),
        ("cdt", -5),
        ("mst", -7),
        ("mdt", -6),
        ("pst", -8),
        ("pdt", -7),
        ("jst", 9),
        ("aest", 10),
    ];
    let known = HOURS.iter().find(|(known, _)| *known == name).map(|(_, hours)| *hours);
    let offset = || {
        let signed = name.strip_prefix("utc").or_else(|| name.strip_prefix("gmt")).unwrap_or(name);
        let (sign, digits) =
            signed.strip_prefix('+').map(|it| (1, it)).or_else(|| Some((-1, signed.strip_prefix('-')?)))?;
        let (hours, minutes) = match digits.split_once(':') {
            Some((hours, minutes)) => (hours.parse::<i32>().ok()?, minutes.parse::<i32>().ok()?),
            None if digits.len() == 4 => {
                let both = digits.parse::<i32>().ok()?;
                (both / 100, both % 100)
            }
            None => (digits.parse::<i32>().ok()?, 0),
        };
        Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().map(TimeZone::fixed)
    };
    if let Some(hours) = known {
        return Some(TimeZone::fixed(Offset::constant(hours)));
    }
    // The lookup ignores case; one-word names are ambiguous.
    offset().or_else(|| name.contains('/').then(|| TimeZone::get(name).ok()).flatten())
}

/// `4pm`, `3:30pm`, `16:00`, `04:15:00`, `noon`; `4` if `next` is `am` or `pm`.
fn time_of_day(word: &str, next: Option<&str>) -> Option<civil::Time> {
    match word {
        "noon" => return Some(civil::Time::constant(12, 0, 0, 0)),
        "midnight" => return Some(civil::Time::midnight()),
        _ => {}
    }
    let (hour, mut rest) = number(word)?;
    let mut more = [0.0, 0.0];
    for part in &mut more {
        if let Some((value, after)) = rest.strip_prefix(':').and_then(number) {
            (*part, rest) = (value.trunc(), after);
        }
    }
    let half = match rest {
        "" => next.unwrap_or("").trim_matches(['(', ')', ',']),
        rest => rest,
    };
    let hour = match half.trim_end_matches('.') {
        "am" | "a.m" if hour == 12.0 => 0.0,
        "pm" | "p.m" if hour < 12.0 => hour + 12.0,
        "am" | "a.m" | "pm" | "p.m" => hour,
        // A bare number is ambiguous.
        _ if rest.is_empty() && word.contains(':') => hour,
        _ => return None,
    };
    let [minute, second] = more;
    let fits = (0.0..24.0).contains(&hour) && hour.fract() == 0.0;
    (fits && (0.0..60.0).contains(&minute) && (0.0..60.0).contains(&second))
        .then(|| civil::Time::new(hour as i8, minute as i8, second as i8, 0).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time in a text that is written at noon on a Saturday in Zurich, in UTC.
    fn found(text: &str) -> Option<String> {
        let now = Time::parse("2026-11-21T12:00:00Z").expect("a time");
        let zurich = TimeZone::get("Europe/Zurich").expect("a zone");
        retry_at_in(text, now, &zurich).map(|at| at.to_string().replace("2026-11-21T", ""))
    }

    #[test]
    fn times_are_found_in_the_phrases_of_providers() {
        for (text, expected) in [
            ("Rate limit reached for requests. Please try again in 1s.", "12:00:01Z"),
            ("Limit 30000, Used 29877. Please try again in 1m30.5s. Visit …", "12:01:30.5Z"),
            ("Please try again in 20ms.", "12:00:00.02Z"),
            ("Please try again in 6m0s", "12:06:00Z"),
            ("Resource exhausted. Please retry in 34.074824224s.", "12:00:34.074Z"),
            ("Suggested retry after 30 seconds", "12:00:30Z"),
            ("retry after 2 minutes, then stop", "12:02:00Z"),
            ("Retry after 5", "12:00:05Z"),
            ("Retry-After: 120", "12:02:00Z"),
            ("retry-after: 0.5", "12:00:00.5Z"),
            ("Retry-After: Sat, 21 Nov 2026 12:30:00 GMT", "12:30:00Z"),
            ("{\"retryDelay\": \"34s\"}", "12:00:34Z"),
            ("{\"error\":{\"retry_after\":7}}", "12:00:07Z"),
            ("{\"retry_after_ms\": 1500}", "12:00:01.5Z"),
            ("{\"type\":\"usage_limit_reached\",\"resets_at\":1795273200,\"resets_in_seconds\":10800}", "15:00:00Z"),
            ("{\"resetsAt\":1795273200000}", "15:00:00Z"),
            ("{\"resets_in_seconds\":10800}", "15:00:00Z"),
            ("\"reset_at\": \"2026-11-21T15:00:00Z\"", "15:00:00Z"),
            ("try again in 1 hour 30 min", "13:30:00Z"),
            ("try again in 2 days 17 hours 14 minutes.", "2026-11-24T05:14:00Z"),
            ("try again in 2 days, 17 hours and 14 minutes", "2026-11-24T05:14:00Z"),
            ("try again in about an hour", "13:00:00Z"),
            ("Your quota will reset after 3h15m20s.", "15:15:20Z"),
            ("Please try again later. Limit resets in 1 week", "2026-11-28T12:00:00Z"),
            ("Claude AI usage limit reached|1795273200", "15:00:00Z"),
            ("You've hit your limit · resets 4pm (Europe/Berlin)", "15:00:00Z"),
            ("You've hit your weekly limit · resets Dec 3, 7am (America/New_York)", "2026-12-03T12:00:00Z"),
            ("5-hour limit reached ∙ resets 3:30pm (UTC)", "15:30:00Z"),
            ("You've hit your 5-hour limit · resets 12:07am (UTC)", "2026-11-22T00:07:00Z"),
            ("limit resets at 11am (UTC)", "2026-11-22T11:00:00Z"),
            ("Weekly limit reached · resets Nov 24, 5pm (UTC)", "2026-11-24T17:00:00Z"),
            ("resets 16:00 (utc)", "16:00:00Z"),
            ("resets 16:00 UTC.", "16:00:00Z"),
            ("resets 12am (UTC)", "2026-11-22T00:00:00Z"),
            ("resets at midnight (UTC)", "2026-11-22T00:00:00Z"),
            ("resets Monday at 9am (UTC)", "2026-11-23T09:00:00Z"),
            ("resets tomorrow at 9:15 a.m. (UTC)", "2026-11-22T09:15:00Z"),
            ("resets 2026-11-23 09:00 UTC", "2026-11-23T09:00:00Z"),
            ("resets at 2026-12-01T02:00:00Z", "2026-12-01T02:00:00Z"),
            ("Limit resets at: 2026-12-01T02:00:00+01:00.", "2026-12-01T01:00:00Z"),
            ("resets on 2026-12-01T02:00:00.5Z, then go on", "2026-12-01T02:00:00.5Z"),
            ("resets (2026-12-01T02:00:00Z)", "2026-12-01T02:00:00Z"),
            ("resets at 2026-12-01 02:00:00 UTC", "2026-12-01T02:00:00Z"),
            ("resets at 1795273200", "15:00:00Z"),
            ("available at about 2026-12-01T02:00:00Z", "2026-12-01T02:00:00Z"),
            ("quota will reset at 2026-12-01T02:00:00Z", "2026-12-01T02:00:00Z"),
            ("try again at 2026-12-01T02:00:00Z", "2026-12-01T02:00:00Z"),
            ("You will regain access on 2026-12-01 at 00:00 UTC.", "2026-12-01T00:00:00Z"),
            // Local time without a time zone.
            ("You’ve hit your usage limit. Upgrade or try again at Dec 3rd, 2026 4:15 AM.", "2026-12-03T03:15:00Z"),
            ("try again at Nov 30th, 2026 12:05\u{202f}AM.", "2026-11-29T23:05:00Z"),
            ("try again at 11:59 PM.", "22:59:00Z"),
            ("resets 4pm", "15:00:00Z"),
            ("resets Dec 3, 7am", "2026-12-03T06:00:00Z"),
        ] {
            assert_eq!(found(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_text_without_a_time_yields_none() {
        for text in [
            "",
            "This request would exceed your account's rate limit. Please try again later.",
            "try again in a while",
            "retry after 99999999999 days",
            "limit reached|12",
            "limit reached|99999999999999999999",
            "resets 25:00 (UTC)",
            "resets 5 times (UTC)",
            "resets Feb 31, 5pm (UTC)",
            "resets 4pm (Mars/Base)",
            "resets …",
            "try again in ",
            "try again in 5 bananas",
            "try again at Nov 20th, 2026 4:15 AM",
            "try again at Dec 3rd, 2027 4:15 AM",
            "the connection was reset at the other end",
            // It has just passed: at 12:00:00 this noon is meant.
            "resets 12pm (UTC)",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn a_header_is_seconds_or_a_date() {
        let now = Time::parse("2026-11-21T12:00:00Z").expect("a time");
        for (value, seconds) in [
            ("120", 120.0),
            ("0.25", 0.25),
            ("120s", 120.0),
            ("Sat, 21 Nov 2026 12:02:00 GMT", 120.0),
            ("2026-11-21T12:02:00Z", 120.0),
            ("1795262520", 120.0),
        ] {
            assert_eq!(retry_after(value, now).map(|at| at.seconds_since(now)), Some(seconds), "{value}");
        }
        for value in ["", "soon", "-5", "NaN"] {
            assert_eq!(retry_after(value, now), None, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_causes_a_panic(
            text in "(try again in |try again at |resets |reached\\||retry after |retry-after: )?[0-9a-z:.,()|+/ é-]{0,40}",
        ) {
            let now = Time::from_millis(1_795_262_400_000);
            if let Some(at) = retry_at(&text, now) {
                proptest::prop_assert!(at >= now && at.since(now) <= MAX_WAIT);
            }
        }
    }
}

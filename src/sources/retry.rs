//! When requests are taken again, from what a refusal says in words.
//!
//! Owns the ways in which providers and their clients put it. Keeps nothing of a text but a time, and refuses to guess:
//! a text that names none yields none.

use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;

use crate::model::Time;

/// So much of a text is looked at, in bytes: it is said in the first lines or nowhere.
const LOOKED_AT: usize = 2_048;
/// The longest time to wait that is believed: a month and a day.
const LONGEST: Duration = Duration::from_secs(32 * 86_400);
/// What comes before a time to wait.
const WAITS: [&str; 7] =
    ["try again in ", "retry in ", "retry after ", "retry-after: ", "resets in ", "reset in ", "reset after "];
/// What comes before a time of day.
const RESETS: [&str; 4] = ["resets at ", "reset at ", "resets ", "again at "];

/// The time named in `text`, which was said at `now` by the wall clock: `try again in 1m30s`, `resets 4pm (Europe/Berlin)`,
/// `limit reached|1795273200`. A time of day without a zone is none.
pub(super) fn retry_at(text: &str, now: Time) -> Option<Time> {
    let end = (0..=LOOKED_AT.min(text.len())).rev().find(|end| text.is_char_boundary(*end))?;
    let text = text.get(..end)?.to_ascii_lowercase();
    let after = |words: &[&str]| words.iter().find_map(|word| text.split_once(word)).map(|(_, rest)| rest.to_owned());
    if let Some(wait) = after(&WAITS).and_then(|rest| wait(&rest)) {
        return Some(now.plus(wait));
    }
    if let Some(at) = text.split_once("reached|").and_then(|(_, rest)| unix_seconds(rest)) {
        return Some(at).filter(|at| *at > now && at.since(now) <= LONGEST);
    }
    after(&RESETS).and_then(|rest| clock_time(&rest, now))
}

/// The seconds at the beginning of `rest`, since 1970.
fn unix_seconds(rest: &str) -> Option<Time> {
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    Time::from_secs_f64(digits.parse().ok().filter(|_| digits.len() <= 11)?)
}

/// A number at the beginning of `text`, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    // A full stop may end the sentence.
    let number = digits.trim_end_matches('.').parse::<f64>().ok()?;
    Some((number, rest))
}

/// `1m30.5s`, `6m0s`, `20ms`, `34.07s`, `30 seconds`, `2 minutes`, `5`.
pub(super) fn wait(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start();
    let mut seconds = 0.0;
    let mut is_any = false;
    while let Some((count, after)) = number(rest) {
        let after = after.trim_start();
        let end = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(end)?;
        let scale = match unit {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            // A number alone is of seconds; whatever else stands there belongs to the sentence.
            _ if is_any => break,
            _ => 1.0,
        };
        seconds += count * scale;
        is_any = true;
        rest = next.trim_start();
        if scale == 1.0 && !unit.starts_with('s') {
            break;
        }
    }
    let wait = Duration::try_from_secs_f64(seconds).ok().filter(|wait| is_any && *wait <= LONGEST)?;
    Some(wait)
}

/// `4pm`, `3:30pm (europe/berlin)`, `16:00`, `oct 9, 5pm`: the next such time.
fn clock_time(text: &str, now: Time) -> Option<Time> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let zone = text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).and_then(|(name, _)| zone(name));
    let now_there = now.to_jiff().to_zoned(zone?);
    let mut words = text.split([' ', ',']).filter(|word| !word.is_empty() && *word != "at");
    let first = words.next()?;
    let month = MONTHS.iter().position(|month| first.starts_with(month) && first.is_ascii());
    let (day, time) = match month {
        Some(month) => (Some((month, number(words.next()?)?.0)), words.next()?),
        None => (None, first),
    };
    let time = time_of_day(time)?;
    let date = match day {
        None => now_there.date(),
        Some((month, day)) => civil::Date::new(now_there.year(), i8::try_from(month + 1).ok()?, day as i8).ok()?,
    };
    let then = date.to_datetime(time).to_zoned(now_there.time_zone().clone()).ok()?;
    let then = match day {
        // One that is past today is tomorrow's.
        None if then <= now_there => then.checked_add(jiff::Span::new().days(1)).ok()?,
        Some(_) if then <= now_there => then.checked_add(jiff::Span::new().years(1)).ok()?,
        _ => then,
    };
    let then = Time::from_millis(then.timestamp().as_millisecond());
    (then.since(now) <= LONGEST).then_some(then)
}

/// A zone by its IANA name in lower case, as far as it is known.
fn zone(name: &str) -> Option<TimeZone> {
    // The data base does not mind how it is written.
    TimeZone::get(name.trim()).ok()
}

/// `4pm`, `3:30pm`, `16:00`.
fn time_of_day(word: &str) -> Option<civil::Time> {
    let (hour, rest) = number(word)?;
    let (minute, rest) = match rest.strip_prefix(':') {
        Some(rest) => number(rest)?,
        None => (0.0, rest),
    };
    let half = rest.trim_end_matches(|letter: char| !letter.is_ascii_alphabetic());
    let hour = match half {
        "am" if hour == 12.0 => 0.0,
        "pm" if hour < 12.0 => hour + 12.0,
        "am" | "pm" => hour,
        // A number alone may be anything.
        "" if word.contains(':') => hour,
        _ => return None,
    };
    ((0.0..24.0).contains(&hour) && (0.0..60.0).contains(&minute))
        .then(|| civil::Time::new(hour as i8, minute as i8, 0, 0).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text says at noon of a Saturday, in seconds from then or as a time.
    fn said(text: &str) -> Option<String> {
        let now = Time::parse("2026-11-21T12:00:00Z").expect("a time");
        retry_at(text, now).map(|at| at.to_string().replace("2026-11-21T", ""))
    }

    #[test]
    fn times_are_found_as_providers_put_them() {
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
            ("try again in 1 hour 30 min", "13:30:00Z"),
            ("Claude AI usage limit reached|1795273200", "15:00:00Z"),
            ("You've hit your limit · resets 4pm (Europe/Berlin)", "15:00:00Z"),
            ("5-hour limit reached ∙ resets 3:30pm (UTC)", "15:30:00Z"),
            ("limit resets at 11am (UTC)", "2026-11-22T11:00:00Z"),
            ("Weekly limit reached · resets Nov 24, 5pm (UTC)", "2026-11-24T17:00:00Z"),
            ("resets 16:00 (utc)", "16:00:00Z"),
            ("resets 12am (UTC)", "2026-11-22T00:00:00Z"),
        ] {
            assert_eq!(said(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_names_no_time_yields_none() {
        for text in [
            "",
            "This request would exceed your account's rate limit. Please try again later.",
            "try again in a while",
            "retry after 99999999999 days",
            "limit reached|12",
            "limit reached|99999999999999999999",
            "resets 4pm",
            "resets 25:00 (UTC)",
            "resets 5 times (UTC)",
            "resets Feb 31, 5pm (UTC)",
            "resets …",
            "try again in ",
            "try again in 1e999s … ",
        ] {
            assert!(said(text).is_none_or(|at| at == "12:00:01Z"), "{text}: {:?}", said(text));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "(try again in |resets |reached\\||retry after )?[0-9a-z:.,()| é]{0,40}") {
            let now = Time::from_millis(1_795_262_400_000);
            if let Some(at) = retry_at(&text, now) {
                proptest::prop_assert!(at >= now && at.since(now) <= LONGEST);
            }
        }
    }
}

//! A point in time with millisecond resolution, and its text forms.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    /// The time at `millis` milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The time at `seconds` since the Unix epoch; `None` for what is not a plausible time (NaN, negative, past year 9999).
    pub fn from_secs_f64(seconds: f64) -> Option<Self> {
        (0.0..253_402_300_800.0).contains(&seconds).then(|| Self((seconds * 1000.0).round() as i64))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The duration from `earlier` to this time; zero if this is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Seconds from `earlier` to this time; zero if this is not later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0).max(0) as f64 / 1000.0
    }

    /// This time plus `duration`, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This time minus `duration`, saturating.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Parses RFC 3339 (`2026-11-21T02:00:00Z`, any offset).
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|at| Self(at.as_millisecond()))
    }

    /// The time of day in `zone`, like `14:20`. A time on another day than `now` includes that day, like `Mon 14:20` or
    /// `2026-12-01 14:20`.
    pub fn on_clock(self, now: Self, zone: &jiff::tz::TimeZone) -> String {
        let [then, now] = [self, now].map(|time| time.to_jiff().to_zoned_datetime(zone.clone()));
        let days = now.date().until(then.date()).map_or(0, |span| span.get_days());
        let format = match days {
            0 => "%H:%M",
            -6..=6 => "%a %H:%M",
            _ => "%Y-%m-%d %H:%M",
        };
        then.strftime(format).to_string()
    }

    /// This time for calendar arithmetic; times outside of jiff's range become the Unix epoch.
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

/// RFC 3339 in UTC; milliseconds only if they are not zero.
impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_jiff(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_is_parsed_and_formatted() {
        let time = Time::parse("2026-11-21T03:00:00.250+01:00").expect("a time");
        assert_eq!(time.to_string(), "2026-11-21T02:00:00.25Z");
        assert_eq!(Time::parse(&time.to_string()), Some(time));
        assert_eq!(Time::parse("yesterday"), None);
    }

    #[test]
    fn time_of_day_includes_the_day_unless_it_is_today() {
        let now = Time::parse("2026-11-21T12:00:00Z").expect("a time");
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(1));
        let shown = |text: &str| Time::parse(text).expect("a time").on_clock(now, &zone);
        assert_eq!(shown("2026-11-21T15:00:00Z"), "16:00");
        assert_eq!(shown("2026-11-21T23:30:00Z"), "Sun 00:30");
        assert_eq!(shown("2026-11-27T08:05:00Z"), "Fri 09:05");
        assert_eq!(shown("2026-11-28T08:05:00Z"), "2026-11-28 09:05");
    }

    #[test]
    fn duration_since_a_later_time_is_zero() {
        let (early, late) = (Time::from_millis(1_000), Time::from_millis(2_500));
        assert_eq!(late.since(early), Duration::from_millis(1_500));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}

//! Quiet hours: recurring times in which a receiver is not notified, or a rule sends no notifications.

use std::fmt;
use std::sync::Arc;

use jiff::civil::{Time as Clock, Weekday};
use jiff::tz::TimeZone;
use jiff::{ToSpan as _, ZonedDateTime};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Level, Time};

/// How many adjoining stretches are joined to find the end of quiet hours; it is computed again at that end.
const LOOK_AHEAD: usize = 8;

/// Hours of some days of the week, in one time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct QuietHours {
    written: QuietHoursConfig,
    days: Vec<Weekday>,
    from: Clock,
    to: Clock,
    zone: TimeZone,
}

/// Quiet hours as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct QuietHoursConfig {
    /// On which days they begin, `mon` to `sun`; by default every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    days: Vec<String>,
    /// When they begin, like `22:00`; by default at midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// When they end, on the next day if that is not after `from`; by default at midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// The time zone.
    #[serde(default = "utc")]
    time_zone: String,
    /// The highest level that is suppressed.
    #[serde(default = "error")]
    up_to: Level,
}

fn utc() -> String {
    "UTC".to_owned()
}

const fn error() -> Level {
    Level::Error
}

impl QuietHours {
    /// The highest level that is suppressed.
    pub const fn up_to(&self) -> Level {
        self.written.up_to
    }

    /// When quiet hours end that include `now`; `None` when there are none.
    pub fn until(&self, now: Time) -> Option<Time> {
        let mut at = now;
        for _ in 0..LOOK_AHEAD {
            match self.end_of_one(at) {
                Some(end) if end > at => at = end,
                _ => break,
            }
        }
        (at > now).then_some(at)
    }

    /// When the quiet hours that include `now` end; they may have begun yesterday.
    fn end_of_one(&self, now: Time) -> Option<Time> {
        let local = now.to_jiff().to_zoned_datetime(self.zone.clone());
        let days = [local.clone(), local.saturating_sub(1.day())];
        let stretches = days.into_iter().filter(|day| self.days.contains(&day.weekday())).filter_map(|day| {
            let ends_on = if self.to > self.from { day.date() } else { day.date().tomorrow().ok()? };
            let from = day.date().to_datetime(self.from).to_zoned_datetime(self.zone.clone()).ok()?;
            let to = ends_on.to_datetime(self.to).to_zoned_datetime(self.zone.clone()).ok()?;
            (millis(&from) <= now && now < millis(&to)).then(|| millis(&to))
        });
        stretches.max()
    }
}

/// Like `mon, tue 22:00 to 07:00 Europe/Berlin up to error`.
impl fmt::Display for QuietHours {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QuietHoursConfig { days, from, to, time_zone, up_to } = &self.written;
        if !days.is_empty() {
            write!(out, "{} ", days.join(", "))?;
        }
        let hour = |given: &Option<String>| given.clone().unwrap_or_else(|| "00:00".to_owned());
        write!(out, "{} to {} {time_zone} up to {up_to}", hour(from), hour(to))
    }
}

/// When the last of `hours` ends that includes `now` and suppresses `level`; `None` when none does.
pub fn quiet_until(hours: &[QuietHours], level: Level, now: Time) -> Option<Time> {
    hours.iter().filter(|one| level <= one.up_to()).filter_map(|one| one.until(now)).max()
}

/// Quiet hours, shared.
pub type QuietSchedule = Arc<[QuietHours]>;

fn millis(at: &ZonedDateTime) -> Time {
    Time::from_millis(at.timestamp().as_millisecond())
}

impl TryFrom<QuietHoursConfig> for QuietHours {
    type Error = String;

    fn try_from(written: QuietHoursConfig) -> Result<Self, String> {
        let mut days = Vec::new();
        for word in &written.days {
            let day = weekday(word).ok_or_else(|| {
                format!("`{}` is not a day; write mon, tue, wed, thu, fri, sat or sun", crate::text::clean(word, 20))
            })?;
            days.push(day);
        }
        if days.is_empty() {
            days = Weekday::Monday.cycle_forward().take(7).collect();
        }
        let hour = |text: &Option<String>| text.as_deref().map_or(Ok(Clock::midnight()), time_of_day);
        let (from, to) = (hour(&written.from)?, hour(&written.to)?);
        let zone = TimeZone::get(&written.time_zone).map_err(|_| {
            format!("`{}` is not a time zone; write it like Europe/Berlin", crate::text::clean(&written.time_zone, 50))
        })?;
        Ok(Self { written, days, from, to, zone })
    }
}

fn weekday(word: &str) -> Option<Weekday> {
    let day = match word {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => return None,
    };
    Some(day)
}

/// Reads `22:00`; `24:00` is midnight.
pub fn time_of_day(text: &str) -> Result<Clock, String> {
    let wrong = || format!("`{}` is not a time of day; write it like 22:00", crate::text::clean(text, 20));
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let read = |part: &str| if part.len() == 2 { part.parse::<i8>().ok() } else { None };
    match (read(hour), read(minute)) {
        (Some(24), Some(0)) => Ok(Clock::midnight()),
        (Some(hour), Some(minute)) => Clock::new(hour, minute, 0, 0).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

impl<'de> Deserialize<'de> for QuietHours {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Self::try_from(QuietHoursConfig::deserialize(input)?).map_err(D::Error::custom)
    }
}

impl Serialize for QuietHours {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.written.serialize(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> QuietHours {
        serde_json::from_str(text).unwrap()
    }

    fn until(hours: &QuietHours, now: &str) -> Option<String> {
        hours.until(Time::parse(now).unwrap()).map(|at| at.to_string())
    }

    #[test]
    fn quiet_hours_across_midnight_belong_to_the_day_they_begin_on() {
        let night = hours(r#"{"days": ["fri"], "from": "22:00", "to": "07:00"}"#);
        // 2026-11-20 is a Friday.
        for (now, end) in [
            ("2026-11-20T21:59:59Z", None),
            ("2026-11-20T22:00:00Z", Some("2026-11-21T07:00:00Z")),
            ("2026-11-21T06:59:59Z", Some("2026-11-21T07:00:00Z")),
            ("2026-11-21T07:00:00Z", None),
            ("2026-11-21T22:30:00Z", None),
        ] {
            assert_eq!(until(&night, now).as_deref(), end, "{now}");
        }
    }

    #[test]
    fn adjoining_days_end_together() {
        let weekend = hours(r#"{"days": ["sat", "sun"], "time_zone": "Europe/Berlin"}"#);
        assert_eq!(weekend.to_string(), "sat, sun 00:00 to 00:00 Europe/Berlin up to error");
        assert_eq!(until(&weekend, "2026-11-20T23:00:00Z").as_deref(), Some("2026-11-22T23:00:00Z"));
        assert_eq!(until(&weekend, "2026-11-20T22:59:59Z"), None);
        assert_eq!(until(&weekend, "2026-11-22T23:00:00Z"), None);
        let always = hours("{}");
        assert!(until(&always, "2026-11-20T22:59:59Z").is_some());
    }

    #[test]
    fn quiet_hours_across_a_daylight_saving_change_end_at_their_local_time() {
        let night = hours(r#"{"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"}"#);
        // Daylight saving time ends on 2026-10-25.
        assert_eq!(until(&night, "2026-10-24T21:00:00Z").as_deref(), Some("2026-10-25T06:00:00Z"));
        assert_eq!(until(&night, "2026-10-23T21:00:00Z").as_deref(), Some("2026-10-24T05:00:00Z"));
    }

    #[test]
    fn levels_above_up_to_are_not_suppressed() {
        let quiet = [hours("{}")];
        let now = Time::parse("2026-11-20T21:00:00Z").unwrap();
        assert!(quiet_until(&quiet, Level::Error, now).is_some());
        assert!(quiet_until(&quiet, Level::Critical, now).is_none());
        assert!(quiet_until(&[hours(r#"{"up_to": "critical"}"#)], Level::Critical, now).is_some());
    }

    #[test]
    fn errors_name_the_value_and_the_remedy() {
        for (text, message) in [
            (r#"{"days": ["friday"]}"#, "`friday` is not a day"),
            (r#"{"from": "25:00"}"#, "`25:00` is not a time of day"),
            (r#"{"from": "9"}"#, "write it like 22:00"),
            (r#"{"time_zone": "Berlin"}"#, "`Berlin` is not a time zone"),
            (r#"{"until": "7"}"#, "unknown field"),
        ] {
            let error = serde_json::from_str::<QuietHours>(text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}

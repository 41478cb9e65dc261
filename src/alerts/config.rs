//! The sections `incidents` and `digest`.

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::IncidentPolicy;
use crate::model::quiet_hours::time_of_day;
use crate::model::{Problem, Time};

/// When many alerts of one rule are notified as one incident.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct IncidentsConfig {
    /// From this share of all agents on, …
    #[serde(deserialize_with = "share", serialize_with = "percent")]
    pub share: f64,
    /// … if they are at least so many; …
    pub least: u32,
    /// … and above so many in any case.
    pub most: u32,
}

impl Default for IncidentsConfig {
    fn default() -> Self {
        let IncidentPolicy { share, least, most } = IncidentPolicy::default();
        Self { share, least, most }
    }
}

impl IncidentsConfig {
    /// The policy that it sets.
    pub const fn policy(&self) -> IncidentPolicy {
        IncidentPolicy { share: self.share, least: self.least, most: self.most }
    }
}

fn share<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    struct ShareVisitor;

    impl Visitor<'_> for ShareVisitor {
        type Value = f64;

        fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            out.write_str("a share like 30% or 0.3")
        }

        fn visit_f64<E: serde::de::Error>(self, share: f64) -> Result<f64, E> {
            Ok(share)
        }

        fn visit_u64<E: serde::de::Error>(self, share: u64) -> Result<f64, E> {
            Ok(share as f64)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<f64, E> {
            let percent = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
            let share = percent.map(|percent| percent / 100.0).or_else(|| text.trim().parse().ok());
            share.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    let share = input.deserialize_any(ShareVisitor)?;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err(D::Error::custom(format!("{share} is not a share; write one above 0% and up to 100%, like 30%")))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn percent<S: Serializer>(share: &f64, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&format_args!("{}%", share * 100.0))
}

/// A daily summary, which also shows that delivery works.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DigestConfig {
    /// The time of day, like `09:00`; without it there is no digest.
    pub at: Option<String>,
    /// The time zone of `at`.
    pub time_zone: String,
    /// The receivers; empty means all that people read.
    pub receivers: Vec<String>,
}

impl Default for DigestConfig {
    fn default() -> Self {
        Self { at: None, time_zone: "UTC".to_owned(), receivers: Vec::new() }
    }
}

impl DigestConfig {
    /// The mistakes in it.
    pub fn validate(&self) -> Vec<Problem> {
        if let Some(Err(error)) = self.at.as_deref().map(time_of_day) {
            return vec![Problem::new("digest.at", error)];
        }
        if TimeZone::get(&self.time_zone).is_err() {
            let message = format!("`{}` is not a time zone; write it like Europe/Berlin", self.time_zone);
            return vec![Problem::new("digest.time_zone", message)];
        }
        Vec::new()
    }

    /// When the next digest is due after `now`.
    pub fn next(&self, now: Time) -> Option<Time> {
        let at = time_of_day(self.at.as_deref()?).ok()?;
        let zone = TimeZone::get(&self.time_zone).ok()?;
        let today = now.to_jiff().to_zoned_datetime(zone.clone()).date();
        let days = [today, today.saturating_add(1.day()), today.saturating_add(2.days())];
        let times = days.into_iter().filter_map(|day| day.to_datetime(at).to_zoned_datetime(zone.clone()).ok());
        times.map(|time| Time::from_millis(time.timestamp().as_millisecond())).find(|time| *time > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_or_a_number() {
        for (text, expected) in [(r#"{"share": "25%"}"#, 0.25), (r#"{"share": 0.5}"#, 0.5), ("{}", 0.3)] {
            let config: IncidentsConfig = serde_json::from_str(text).unwrap();
            assert_eq!(config.share, expected, "{text}");
            let again: IncidentsConfig = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
            assert_eq!(again, config);
        }
        for text in [r#"{"share": 0}"#, r#"{"share": "150%"}"#, r#"{"share": "many"}"#, r#"{"shares": 0.1}"#] {
            assert!(serde_json::from_str::<IncidentsConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_due_at_its_time_of_the_day_in_its_zone() {
        let digest: DigestConfig = serde_json::from_str(r#"{"at": "09:00", "time_zone": "Europe/Berlin"}"#).unwrap();
        for (now, next) in [
            ("2026-11-21T07:59:59Z", "2026-11-21T08:00:00Z"),
            ("2026-11-21T08:00:00Z", "2026-11-22T08:00:00Z"),
            // Daylight saving time ends in the night before.
            ("2026-10-24T12:00:00Z", "2026-10-25T08:00:00Z"),
            ("2026-10-23T12:00:00Z", "2026-10-24T07:00:00Z"),
        ] {
            assert_eq!(digest.next(Time::parse(now).unwrap()).unwrap().to_string(), next);
        }
        assert_eq!(DigestConfig::default().next(Time::default()), None);
        for (text, key) in
            [(r#"{"at": "9"}"#, "digest.at"), (r#"{"at": "09:00", "time_zone": "Berlin"}"#, "digest.time_zone")]
        {
            assert_eq!(serde_json::from_str::<DigestConfig>(text).unwrap().validate()[0].path, key);
        }
    }
}

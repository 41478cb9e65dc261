//! Durations as text, like `5m`, `1h30m`, `250ms` or `30d`, and as a serde module.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

/// Parses `5m`, `1h30m`, `250ms`, `30d`; a day has 24 hours, and what is below a millisecond is left out, as nothing is
/// kept or shown more precisely. The error names the accepted form.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write it like 30s, 5m, 1h30m or 30d");
    let span: jiff::Span = text.trim().parse().map_err(|_| wrong())?;
    let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let exact = Duration::try_from(signed).map_err(|_| wrong())?;
    u64::try_from(exact.as_millis()).map(Duration::from_millis).map_err(|_| wrong())
}

/// Formats a duration with at most two units, largest first: `45s`, `5m`, `1h30m`, `2d4h`.
pub fn display(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let seconds = duration.as_secs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    parts
        .iter()
        .skip(first)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect()
}

/// For `#[serde(with = "crate::model::duration")]`.
pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    input.deserialize_str(DurationVisitor)
}

/// Parses text; any other type is an error that names the accepted form.
struct DurationVisitor;

impl serde::de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a duration like 30s, 5m, 1h30m or 30d")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

/// For `#[serde(with = "crate::model::duration")]`; exact to the millisecond.
pub fn serialize<S: Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&exact(*duration))
}

/// Formats a duration exactly, with all units that it needs: `1d2h3m4s5ms`.
pub fn exact(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(millis), "ms"),
    ];
    let text: String =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// The same for an optional duration: `#[serde(default, with = "crate::model::duration::option")]`.
pub mod option {
    use super::*;

    /// Deserializes a duration or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(input)?;
        text.map(|text| parse(&text)).transpose().map_err(D::Error::custom)
    }

    /// Serializes a duration or null.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, out),
            None => out.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["1d2h3m4s5us", "1500us", "1ms", "30d"] {
            let length = parse(text).expect("a duration");
            assert_eq!(parse(&exact(length)), Ok(length), "{text}");
        }
        assert_eq!(parse("999us"), Ok(Duration::ZERO), "refused where 0s is");
    }

    #[test]
    fn durations_are_parsed_and_formatted_exactly() {
        for (text, millis) in
            [("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000), ("250ms", 250), ("30d", 2_592_000_000), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(parse(&exact(Duration::from_millis(millis))), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "-5m", "soon", "5 parsecs", "99999999999999y"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_displayed_with_two_units() {
        for (seconds, text) in
            [(0, "0s"), (45, "45s"), (300, "5m"), (5_400, "1h30m"), (187_201, "2d4h"), (86_400, "1d")]
        {
            assert_eq!(display(Duration::from_secs(seconds)), text);
        }
    }
}

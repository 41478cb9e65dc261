//! The section `incidents`.

use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::IncidentPolicy;

/// When many alerts of one rule are told as one.
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
    /// What the life of alerts must know of it.
    pub const fn policy(&self) -> IncidentPolicy {
        IncidentPolicy { share: self.share, least: self.least, most: self.most }
    }
}

fn share<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    struct Share;

    impl Visitor<'_> for Share {
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

    let share = input.deserialize_any(Share)?;
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
}

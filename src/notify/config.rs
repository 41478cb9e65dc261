//! The section `receivers`: who is notified, how, and from which level on.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use serde::de::{DeserializeSeed, Error, IntoDeserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};

use super::queue::GroupBy;
pub use super::receivers::{AlertmanagerConfig, EmailConfig, Kind, Kinds, SlackConfig, SmtpConfig, SmtpTls};
use super::settings::Reporter;
use crate::model::{Level, Matchers, Problem, QuietHours};
use crate::secret::Secret;
use crate::text;

/// One receiver.
#[derive(Clone, Debug, Serialize)]
pub struct ReceiverConfig {
    /// The keys of every receiver.
    #[serde(flatten)]
    pub common: Common,
    /// Its kind, with the keys of that kind.
    #[serde(flatten)]
    pub kinds: Kinds,
}

/// The keys of every receiver, whatever its kind.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// Its unique name.
    pub name: String,
    /// The lowest level that it is notified of.
    #[serde(default = "warning")]
    pub min_level: Level,
    /// Whether it is notified when an alert resolves.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// It is notified of alerts that one of these matches; of all when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<Matchers>,
    /// It is not notified of alerts that one of these matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Matchers>,
    /// It is notified only of alerts that have been firing for this long without being acknowledged.
    #[serde(default, with = "crate::model::duration")]
    pub after: Duration,
    /// Its quiet hours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quiet_hours: Vec<QuietHours>,
    /// What has a message of its own while the rate allows it.
    #[serde(default)]
    pub group_by: GroupBy,
    /// After a message, and when much comes at once, how long what follows is grouped.
    #[serde(default = "group_wait", with = "crate::model::duration")]
    pub group_wait: Duration,
    /// The title of its messages, as a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The text of its messages, as a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where others find us, for links; that of the whole configuration.
    #[serde(skip)]
    pub external_url: String,
}

const fn group_wait() -> Duration {
    super::GROUP_WAIT
}

const fn warning() -> Level {
    Level::Warning
}

const fn yes() -> bool {
    true
}

/// Longest time that what follows is gathered.
const LONGEST_GROUP_WAIT: Duration = Duration::from_secs(60);
/// Longest name of a receiver, in bytes: it is part of idempotency keys and of mail headers.
const NAME_LIMIT: usize = 64;

/// All mistakes in the section, in its order.
pub fn validate(receivers: &[ReceiverConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (place, receiver) in receivers.iter().enumerate() {
        let mut report = Reporter::new(format!("receivers[{place}]"), &mut problems);
        receiver.validate(&mut report);
        let name = &receiver.common.name;
        if receivers.iter().take(place).any(|earlier| earlier.common.name == *name) {
            report.add("name", format!("`{name}` is the name of an earlier receiver; choose another"));
        }
    }
    problems
}

impl ReceiverConfig {
    /// One of that name and kind, with the defaults for the rest.
    pub fn new(name: &str, kind: Kind) -> Self {
        let common = Common {
            name: name.to_owned(),
            min_level: warning(),
            send_resolved: yes(),
            only: Vec::new(),
            except: Vec::new(),
            after: Duration::ZERO,
            quiet_hours: Vec::new(),
            group_by: GroupBy::None,
            group_wait: group_wait(),
            title: None,
            text: None,
            external_url: String::new(),
        };
        Self { common, kinds: kind.into() }
    }

    /// One of that name that leads nowhere, for trials, in which nothing is sent.
    pub fn nowhere(name: &str) -> Self {
        let webhook_url = Some(Secret::new("https://slack.invalid/"));
        Self::new(name, Kind::Slack(SlackConfig { webhook_url, ..SlackConfig::default() }))
    }

    /// The same, which leads nowhere when it has no kind.
    pub fn or_nowhere(self) -> Self {
        if self.kinds.iter().next().is_some() {
            return self;
        }
        Self { kinds: Self::nowhere("").kinds, ..self }
    }

    fn validate(&self, report: &mut Reporter<'_>) {
        let common = &self.common;
        if !text::is_name(&common.name, NAME_LIMIT) {
            let remedy = format!("give it 1 to {NAME_LIMIT} bytes without control characters");
            report.add("name", format!("`{}` is not a name; {remedy}", text::clean(&common.name, NAME_LIMIT)));
        }
        if common.group_wait > LONGEST_GROUP_WAIT {
            report.add("group_wait", "it is longer than 1m; alerts would come late");
        }
        if let Err((key, problem)) = super::words::Words::new(common.title.as_deref(), common.text.as_deref()) {
            report.add(key, problem);
        }
        if let Err(problem) = self.kinds.one() {
            report.add("", problem);
        }
        self.kinds.iter().for_each(|kind| kind.validate(report));
    }
}

/// Reads a receiver: entries whose key is a kind's go to its [`Kinds`], all others to [`Common`].
///
/// `#[serde(flatten)]` would do, but for the mistakes: it knows neither the path of one nor which keys there are.
impl<'de> Deserialize<'de> for ReceiverConfig {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let mut kinds = Kinds::default();
        let common = Common::deserialize(SectionDeserializer { input, kinds: &mut kinds })?;
        Ok(Self { common, kinds })
    }
}

/// A receiver's section, of which the entries of kinds are read into `kinds` and the others by whoever asks.
struct SectionDeserializer<'k, D> {
    input: D,
    kinds: &'k mut Kinds,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for SectionDeserializer<'_, D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        static KEYS: OnceLock<Vec<&str>> = OnceLock::new();
        let keys = KEYS.get_or_init(|| [fields, Kind::KEYS].concat());
        self.input.deserialize_struct(name, keys, Entries { inner: visitor, keys, kinds: self.kinds })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.input.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The entries of a section that has these `keys`: as a visitor of all, then as what is left for the inner one.
struct Entries<'k, T> {
    inner: T,
    keys: &'static [&'static str],
    kinds: &'k mut Kinds,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Entries<'_, V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(out)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<V::Value, M::Error> {
        self.inner.visit_map(Entries { inner: map, keys: self.keys, kinds: self.kinds })
    }
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Entries<'_, M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, M::Error> {
        while let Some(key) = self.inner.next_key_seed(OneOf(self.keys))? {
            if !Kind::KEYS.contains(&key) {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.kinds.read(key, &mut self.inner)?;
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, M::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// Reads a key that has to be one of these.
struct OneOf(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<&'static str, D::Error> {
        input.deserialize_identifier(self)
    }
}

impl Visitor<'_> for OneOf {
    type Value = &'static str;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<&'static str, E> {
        self.0.iter().find(|key| **key == text).copied().ok_or_else(|| E::unknown_field(text, self.0))
    }
}

#[cfg(test)]
mod tests;

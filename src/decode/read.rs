//! Reads JSON in which any value may have any type: a value of the wrong type is rejected by itself, not the whole body.
//!
//! Owns the visitor and the conversion of single values. Builds no trees and borrows text where possible.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::Time;
use crate::text;

/// Maximum value of a counter: 2^53, up to which JSON implementations agree on integers, and small enough that sums of
/// counters fit into `u64`.
pub const MAX_COUNT: u64 = 1 << 53;
/// Maximum amount in US dollars.
const MAX_AMOUNT: f64 = 1e12;
/// Timestamps above this are milliseconds, below it seconds: the year 5138 in seconds, March 1973 in milliseconds.
const MILLIS_FROM: f64 = 1e11;

/// A single JSON value without its content if it is a list or an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Scalar<'a> {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A non-negative integer.
    Whole(u64),
    /// Any other number.
    Number(f64),
    /// A string, borrowed unless it contains escapes.
    Text(Cow<'a, str>),
    /// A list or an object, as the name of its type.
    Other(&'static str),
}

/// A visitor of a value of any type.
pub trait JsonVisitor<'de> {
    /// Visits an object. By default it is skipped and visited as [`Scalar::Other`].
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.scalar(Scalar::Other("an object"))
    }

    /// Visits a list. By default it is skipped and visited as [`Scalar::Other`].
    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.scalar(Scalar::Other("a list"))
    }

    /// Visits any other value. An error aborts the whole body.
    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E>;
}

/// Deserializes the next value with the visitor in it.
pub struct VisitorSeed<'x, T>(pub &'x mut T);

impl<'de, T: JsonVisitor<'de>> DeserializeSeed<'de> for VisitorSeed<'_, T> {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de, T: JsonVisitor<'de>> Visitor<'de> for VisitorSeed<'_, T> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    #[inline]
    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.scalar(Scalar::Flag(value))
    }

    #[inline]
    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.scalar(Scalar::Whole(value))
    }

    #[inline]
    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.scalar(u64::try_from(value).map_or(Scalar::Number(value as f64), Scalar::Whole))
    }

    #[inline]
    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.scalar(Scalar::Number(value))
    }

    #[inline]
    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<(), E> {
        self.0.scalar(Scalar::Text(Cow::Borrowed(value)))
    }

    #[inline]
    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.scalar(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.scalar(Scalar::Null)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.0.list(list)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.map(map)
    }
}

impl<'de> JsonVisitor<'de> for Scalar<'de> {
    #[inline]
    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        *self = value;
        Ok(())
    }
}

impl<'de> serde::Deserialize<'de> for Scalar<'de> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let mut value = Scalar::Null;
        VisitorSeed(&mut value).deserialize(input)?;
        Ok(value)
    }
}

/// Deserializes a key of an object with the function in it, without copying it.
pub struct KeySeed<F>(pub F);

impl<'de, K, F: FnOnce(&str) -> K> DeserializeSeed<'de> for KeySeed<F> {
    type Value = K;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<K, D::Error> {
        input.deserialize_str(self)
    }
}

impl<K, F: FnOnce(&str) -> K> Visitor<'_> for KeySeed<F> {
    type Value = K;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    #[inline]
    fn visit_str<E: Error>(self, key: &str) -> Result<K, E> {
        Ok((self.0)(key))
    }
}

/// A value is invalid for its field; the text describes what is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnexpectedValue(pub &'static str);

impl<'a> Scalar<'a> {
    /// Text of at most `limit` bytes without control characters; `None` for null and for nothing but those.
    #[inline]
    pub fn text(self, limit: usize) -> Result<Option<Cow<'a, str>>, UnexpectedValue> {
        let kept = match self {
            Scalar::Null => return Ok(None),
            Scalar::Text(Cow::Borrowed(text)) => text::clean(text, limit),
            Scalar::Text(Cow::Owned(text)) => Cow::Owned(text::clean(&text, limit).into_owned()),
            _ => return Err(UnexpectedValue("text")),
        };
        Ok((!kept.is_empty()).then_some(kept))
    }

    /// A cumulative count.
    #[inline]
    pub fn count(&self) -> Result<Option<u64>, UnexpectedValue> {
        match *self {
            Scalar::Null => Ok(None),
            Scalar::Whole(count) if count <= MAX_COUNT => Ok(Some(count)),
            // Some languages write integers with a decimal point.
            Scalar::Number(count) if count >= 0.0 && count.fract() == 0.0 && count <= MAX_COUNT as f64 => {
                Ok(Some(count as u64))
            }
            _ => Err(UnexpectedValue("a whole number from 0 to 2^53")),
        }
    }

    /// A number within `range`.
    #[inline]
    pub fn number(
        &self,
        range: std::ops::RangeInclusive<f64>,
        expected: UnexpectedValue,
    ) -> Result<Option<f64>, UnexpectedValue> {
        let number = match *self {
            Scalar::Null => return Ok(None),
            Scalar::Whole(number) => number as f64,
            Scalar::Number(number) => number,
            _ => return Err(expected),
        };
        if range.contains(&number) { Ok(Some(number)) } else { Err(expected) }
    }

    /// An amount of money.
    pub fn amount(&self) -> Result<Option<f64>, UnexpectedValue> {
        self.number(0.0..=MAX_AMOUNT, UnexpectedValue("an amount in US dollars, 0 or more"))
    }

    /// A duration in seconds, up to ten years.
    pub fn seconds(&self) -> Result<Option<Duration>, UnexpectedValue> {
        let seconds = self.number(0.0..=315_576_000.0, UnexpectedValue("a number of seconds, 0 or more"))?;
        Ok(seconds.map(Duration::from_secs_f64))
    }

    /// A timestamp: RFC 3339, Unix seconds or milliseconds. `None` up to the epoch, which programs use for "never" (0,
    /// `0001-01-01T00:00:00Z`).
    #[inline]
    pub fn time(&self) -> Result<Option<Time>, UnexpectedValue> {
        const EXPECTED: UnexpectedValue = UnexpectedValue("a time such as 2026-11-21T02:00:00Z, or Unix seconds");
        let time = match self {
            Scalar::Null => return Ok(None),
            Scalar::Text(text) => Time::parse(text).ok_or(EXPECTED)?,
            _ => {
                let number = self.number(0.0..=f64::MAX, EXPECTED)?.unwrap_or_default();
                Time::from_secs_f64(if number >= MILLIS_FROM { number / 1000.0 } else { number }).ok_or(EXPECTED)?
            }
        };
        Ok((time.as_millis() > 0).then_some(time))
    }

    /// A boolean.
    pub fn flag(&self) -> Result<Option<bool>, UnexpectedValue> {
        match *self {
            Scalar::Null => Ok(None),
            Scalar::Flag(flag) => Ok(Some(flag)),
            _ => Err(UnexpectedValue("true or false")),
        }
    }

    /// The value for an error message: short and without control characters.
    pub fn shown(&self) -> String {
        match self {
            Scalar::Null => "null".to_owned(),
            Scalar::Flag(flag) => flag.to_string(),
            Scalar::Whole(number) => number.to_string(),
            Scalar::Number(number) => number.to_string(),
            Scalar::Text(text) => format!("`{}`", shown(text)),
            Scalar::Other(what) => (*what).to_owned(),
        }
    }
}

/// A foreign word for an error message.
pub fn shown(word: &str) -> String {
    let kept = text::clean(word, 64);
    if kept.len() < word.len() { format!("{kept}…") } else { kept.into_owned() }
}

impl<'a> From<&'a serde_json::Value> for Scalar<'a> {
    fn from(value: &'a serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Scalar::Null,
            Value::Bool(flag) => Scalar::Flag(*flag),
            Value::Number(number) => {
                number.as_u64().map_or_else(|| Scalar::Number(number.as_f64().unwrap_or(f64::NAN)), Scalar::Whole)
            }
            Value::String(text) => Scalar::Text(Cow::Borrowed(text)),
            Value::Array(_) => Scalar::Other("a list"),
            Value::Object(_) => Scalar::Other("an object"),
        }
    }
}

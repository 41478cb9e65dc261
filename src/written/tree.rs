//! A tree of values as people write them, and the types that are read out of it.
//!
//! Small on purpose: this is made anew for each type that is read. Refuses to know who wrote what, and where.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::mistake::Mistake;

/// Keys and what is said of each.
pub(crate) type Map = BTreeMap<String, Value>;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Map),
}

impl Value {
    /// What it says, as `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Mistake> {
        T::deserialize(self)
    }

    /// What is at `path`, by keys and places in lists.
    pub(crate) fn locate(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |value, part| match value {
            Self::Map(tree) => tree.get(part),
            Self::List(list) => list.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The same, to change it.
    pub(crate) fn locate_mut(&mut self, path: &[String]) -> Option<&mut Self> {
        path.iter().try_fold(self, |value, part| match value {
            Self::Map(tree) => tree.get_mut(part),
            Self::List(list) => list.get_mut(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Takes over what `other` says; where both have keys, those of both.
    pub(crate) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Map(ours), Self::Map(others)) => {
                others.into_iter().for_each(|(key, value)| match ours.get_mut(&key) {
                    Some(known) => known.merge(value),
                    None => drop(ours.insert(key, value)),
                })
            }
            (ours, other) => *ours = other,
        }
    }

    fn found(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(flag) => Unexpected::Bool(*flag),
            Self::Unsigned(number) => Unexpected::Unsigned(*number),
            Self::Signed(number) => Unexpected::Signed(*number),
            Self::Float(number) => Unexpected::Float(*number),
            Self::Text(text) => Unexpected::Str(text),
            Self::List(_) => Unexpected::Seq,
            Self::Map(_) => Unexpected::Map,
        }
    }
}

/// A scalar as it was probably written; nothing for what is none.
impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(flag) => flag.fmt(out),
            Self::Unsigned(number) => number.fmt(out),
            Self::Signed(number) => number.fmt(out),
            Self::Float(number) => number.fmt(out),
            Self::Text(text) => out.write_str(text),
            Self::Null | Self::List(_) | Self::Map(_) => Ok(()),
        }
    }
}

impl<'de> Deserializer<'de> for &'de Value {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Unsigned(number) => visitor.visit_u64(*number),
            Value::Signed(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(list) => visitor.visit_seq(Items(list, 0)),
            Value::Map(tree) => visitor.visit_map(Entries { rest: tree.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self {
            Value::Text(word) => visitor.visit_enum(StrDeserializer::new(word)),
            Value::Map(tree) => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries { rest: tree.iter(), value: None }))
            }
            other => Err(Mistake::invalid_type(other.found(), &visitor)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The rest of a list, and the place of its first.
struct Items<'de>(&'de [Value], usize);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(None) };
        let place = self.1;
        *self = Self(rest, place + 1);
        seed.deserialize(first).map(Some).map_err(|mistake| mistake.within(&place.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The rest of a map, and the value of the key that was read.
struct Entries<'de> {
    rest: std::collections::btree_map::Iter<'de, String, Value>,
    value: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(StrDeserializer::new(key)).map(Some).map_err(|mistake: Mistake| mistake.within(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mistake> {
        let Some((key, value)) = self.value.take() else { return Err(Mistake::custom("a value is missing")) };
        seed.deserialize(value).map_err(|mistake| mistake.within(key))
    }
}

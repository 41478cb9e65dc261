//! Converts OTLP/JSON to protobuf by the schema, so that one decoder serves both.
//!
//! Accepts what senders make of protobuf's JSON mapping: null for absent, numbers as strings, ids in hex, enums by name,
//! field names in either case, attribute values without their type. A value that is invalid for its field is dropped and
//! counted. The size of the protobuf is limited.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::encoding::{WireType, encode_varint, encoded_len_varint};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

use super::schema::{ANY_VALUE, EnumId, FieldKind, MessageId, SchemaField, SchemaMessage};

/// Why a body was not converted.
#[derive(Debug)]
pub(super) enum JsonError {
    /// The protobuf would exceed the limit.
    TooLarge,
    /// It is not JSON, or not an object.
    Malformed(String),
}

/// The protobuf of a JSON body, at most `limit` bytes, and the number of values that were dropped.
pub(super) fn to_protobuf(
    body: &[u8],
    message: &'static SchemaMessage,
    limit: usize,
) -> Result<(Vec<u8>, usize), JsonError> {
    // The fields of a message could be read from an array as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(JsonError::Malformed("expected an object".to_owned()));
    }
    let mut out =
        ProtobufWriter { bytes: Vec::with_capacity(body.len().min(limit)), limit, is_over_limit: false, dropped: 0 };
    let mut input = serde_json::Deserializer::from_slice(body);
    match MessageFields(message, &mut out).deserialize(&mut input).and_then(|()| input.end()) {
        Ok(()) => Ok((out.bytes, out.dropped)),
        Err(_) if out.is_over_limit => Err(JsonError::TooLarge),
        Err(error) => Err(JsonError::Malformed(error.to_string())),
    }
}

/// Writes protobuf up to a limit.
struct ProtobufWriter {
    bytes: Vec<u8>,
    limit: usize,
    is_over_limit: bool,
    /// Values that were dropped.
    dropped: usize,
}

impl ProtobufWriter {
    /// Writes a value; drops it when it is invalid for its field.
    fn or_drop<E>(&mut self, write: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        let before = self.bytes.len();
        let written = write(self);
        if written.is_ok() || self.is_over_limit {
            return written;
        }
        self.bytes.truncate(before);
        self.dropped += 1;
        Ok(())
    }

    fn reserve<E: Error>(&mut self, more: usize) -> Result<(), E> {
        self.is_over_limit = self.bytes.len() + more > self.limit;
        if self.is_over_limit { Err(E::custom("it is too large")) } else { Ok(()) }
    }

    fn varint<E: Error>(&mut self, number: u64) -> Result<(), E> {
        self.reserve(encoded_len_varint(number))?;
        encode_varint(number, &mut self.bytes);
        Ok(())
    }

    fn raw<E: Error>(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The tag of a field.
    fn key<E: Error>(&mut self, field: &SchemaField) -> Result<(), E> {
        let wire_type = match field.kind {
            _ if field.is_list => WireType::LengthDelimited,
            FieldKind::Message(_) | FieldKind::Text | FieldKind::Hex | FieldKind::Bytes => WireType::LengthDelimited,
            FieldKind::Fixed32 => WireType::ThirtyTwoBit,
            FieldKind::Fixed64 | FieldKind::Sfixed64 | FieldKind::Double => WireType::SixtyFourBit,
            _ => WireType::Varint,
        };
        self.varint(u64::from(field.number) << 3 | wire_type as u64)
    }

    fn bytes<E: Error>(&mut self, field: &SchemaField, bytes: &[u8]) -> Result<(), E> {
        self.key(field)?;
        self.varint(bytes.len() as u64)?;
        self.raw(bytes)
    }

    /// A field whose length is known only after it is written.
    fn nested<E: Error>(
        &mut self,
        field: &SchemaField,
        write: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.key(field)?;
        let start = self.bytes.len();
        write(self)?;
        let length = (self.bytes.len() - start) as u64;
        let digits = encoded_len_varint(length);
        let mut prefix = [0; 10];
        encode_varint(length, &mut &mut prefix[..]);
        self.raw(&prefix[..digits])?;
        if let Some(written) = self.bytes.get_mut(start..) {
            written.rotate_right(digits);
        }
        Ok(())
    }
}

/// Converts the fields of a message.
struct MessageFields<'a>(&'static SchemaMessage, &'a mut ProtobufWriter);

impl<'de> DeserializeSeed<'de> for MessageFields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl MessageFields<'_> {
    /// A bare value in place of the message of an attribute's value.
    fn bare_value<E: Error>(self, number: u64, value: &JsonScalar<'_>) -> Result<(), E> {
        match self.0.field(number) {
            Some(field) if self.0.name == ANY_VALUE => self.1.or_drop(|out| value.write(field, out)),
            _ => {
                self.1.dropped += 1;
                Ok(())
            }
        }
    }
}

impl<'de> Visitor<'de> for MessageFields<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.bare_value(1, &JsonScalar::Text(text))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.bare_value(2, &JsonScalar::Bool(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.bare_value(3, &JsonScalar::Whole(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        let kind = if i64::try_from(number).is_ok() { 3 } else { 4 };
        self.bare_value(kind, &JsonScalar::Whole(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.bare_value(4, &JsonScalar::Number(number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.1.dropped += 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(FieldName(self.0))? {
            match field {
                Some(field) => map.next_value_seed(FieldValue(field, self.1))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The name of a field; `None` for one that is unknown or not read.
struct FieldName(&'static SchemaMessage);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<&'static SchemaField>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Option<&'static SchemaField>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let name = if name.contains('_') { Cow::Owned(camel_case(name)) } else { Cow::Borrowed(name) };
        Ok(self.0.fields().find(|field| field.name == name && field.is_read))
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut out, word| {
        let mut letters = word.chars();
        out.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        out.push_str(letters.as_str());
        out
    })
}

/// Converts the value of a field; null is absent.
struct FieldValue<'a>(&'static SchemaField, &'a mut ProtobufWriter);

impl<'de> DeserializeSeed<'de> for FieldValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        match self.0.kind {
            // Null in place of a message means that the field is absent.
            FieldKind::Message(id) if !self.0.is_list => input.deserialize_option(NullableMessage(self.0, id, self.1)),
            _ => input.deserialize_any(self),
        }
    }
}

/// A message that may be null.
struct NullableMessage<'a>(&'static SchemaField, MessageId, &'a mut ProtobufWriter);

impl<'de> Visitor<'de> for NullableMessage<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object or null")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        self.2.nested(self.0, |out| MessageFields(self.1.message(), out).deserialize(input))
    }
}

impl<'de> Visitor<'de> for FieldValue<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self.0.kind {
            _ if self.0.is_list => "a list",
            FieldKind::Text | FieldKind::Hex | FieldKind::Bytes => "text",
            FieldKind::Bool => "true or false",
            FieldKind::Enum(_) => "the number or name of an enum's value",
            FieldKind::Double => "a number, or one as a string",
            _ => "a whole number, or one as a string",
        })
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.1.or_drop(|out| JsonScalar::Text(text).write(self.0, out))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.1.or_drop(|out| JsonScalar::Bool(flag).write(self.0, out))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.1.or_drop(|out| JsonScalar::Whole(number.into()).write(self.0, out))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.1.or_drop(|out| JsonScalar::Whole(number.into()).write(self.0, out))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.1.or_drop(|out| JsonScalar::Number(number).write(self.0, out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.1.dropped += 1;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self(field, out) = self;
        match field.kind {
            FieldKind::Message(id) if field.is_list => {
                let mut more = true;
                while more {
                    let before = out.bytes.len();
                    more = false;
                    out.nested(field, |out| {
                        more = list.next_element_seed(MessageFields(id.message(), out))?.is_some();
                        Ok(())
                    })?;
                    if !more {
                        out.bytes.truncate(before);
                    }
                }
            }
            // A list without one of its numbers would mean something else, so that the whole list is dropped.
            _ if field.is_list => {
                let (before, dropped) = (out.bytes.len(), out.dropped);
                out.nested(field, |out| {
                    while list.next_element_seed(ListElement(field, out))?.is_some() {}
                    Ok(())
                })?;
                if out.dropped > dropped {
                    out.bytes.truncate(before);
                }
            }
            _ => {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                out.dropped += 1;
            }
        }
        Ok(())
    }
}

/// Converts a number of a list.
struct ListElement<'a>(&'static SchemaField, &'a mut ProtobufWriter);

impl<'de> DeserializeSeed<'de> for ListElement<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListElement<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number, or one as a string")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.1.dropped += 1;
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.visit_unit()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.visit_unit()
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.1.or_drop(|out| JsonScalar::Text(text).number(self.0.kind, out))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.1.or_drop(|out| JsonScalar::Whole(number.into()).number(self.0.kind, out))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.1.or_drop(|out| JsonScalar::Whole(number.into()).number(self.0.kind, out))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.1.or_drop(|out| JsonScalar::Number(number).number(self.0.kind, out))
    }
}

/// A scalar of JSON.
enum JsonScalar<'a> {
    Text(&'a str),
    Bool(bool),
    Whole(i128),
    Number(f64),
}

impl JsonScalar<'_> {
    fn write<E: Error>(&self, field: &'static SchemaField, out: &mut ProtobufWriter) -> Result<(), E> {
        match (field.kind, self) {
            _ if field.is_list => Err(E::invalid_type(self.unexpected(), &"a list")),
            (FieldKind::Text, JsonScalar::Text(text)) => out.bytes(field, text.as_bytes()),
            // An invalid id becomes an empty one, so that its record is kept.
            (FieldKind::Hex, JsonScalar::Text(text)) => out.bytes(field, &hex(text).unwrap_or_default()),
            (FieldKind::Bytes, JsonScalar::Text(text)) => {
                out.bytes(field, &BASE64_STANDARD.decode(text).unwrap_or_default())
            }
            (FieldKind::Bool, JsonScalar::Bool(flag)) => {
                out.key(field)?;
                out.varint(u64::from(*flag))
            }
            (FieldKind::Message(_) | FieldKind::Text | FieldKind::Hex | FieldKind::Bytes | FieldKind::Bool, _)
            | (_, JsonScalar::Bool(_)) => Err(E::invalid_type(self.unexpected(), &FieldValue(field, out))),
            _ => {
                out.key(field)?;
                self.number(field.kind, out)
            }
        }
    }

    /// A number without its tag.
    fn number<E: Error>(&self, kind: FieldKind, out: &mut ProtobufWriter) -> Result<(), E> {
        match kind {
            FieldKind::Double => out.raw(&self.double()?.to_le_bytes()),
            FieldKind::Fixed32 => out.raw(&self.whole::<u32, E>()?.to_le_bytes()),
            FieldKind::Fixed64 => out.raw(&self.whole::<u64, E>()?.to_le_bytes()),
            FieldKind::Sfixed64 => out.raw(&self.whole::<i64, E>()?.to_le_bytes()),
            FieldKind::Uint32 => out.varint(self.whole::<u32, E>()?.into()),
            FieldKind::Uint64 => out.varint(self.whole::<u64, E>()?),
            FieldKind::Int32 => out.varint(i64::from(self.whole::<i32, E>()?).cast_unsigned()),
            FieldKind::Int64 => out.varint(self.whole::<i64, E>()?.cast_unsigned()),
            FieldKind::Sint32 => {
                let number: i32 = self.whole()?;
                out.varint(((number << 1) ^ (number >> 31)).cast_unsigned().into())
            }
            FieldKind::Enum(words) => out.varint(self.enum_number(words).into()),
            FieldKind::Message(_) | FieldKind::Text | FieldKind::Hex | FieldKind::Bytes | FieldKind::Bool => {
                Err(E::invalid_type(self.unexpected(), &"a number"))
            }
        }
    }

    fn whole<T: TryFrom<i128>, E: Error>(&self) -> Result<T, E> {
        let number = match self {
            JsonScalar::Whole(number) => Some(*number),
            JsonScalar::Number(number) => Some(*number as i128).filter(|whole| *whole as f64 == *number),
            JsonScalar::Text(text) => text.trim().parse().ok(),
            JsonScalar::Bool(_) => None,
        };
        let Some(number) = number else { return Err(E::invalid_value(self.unexpected(), &"a whole number")) };
        T::try_from(number).map_err(|_| E::custom(format!("{number} does not fit its field")))
    }

    fn double<E: Error>(&self) -> Result<f64, E> {
        match self {
            JsonScalar::Whole(number) => Some(*number as f64),
            JsonScalar::Number(number) => Some(*number),
            // Rust parses `NaN`, `Infinity` and `-Infinity`, as protobuf's JSON writes them.
            JsonScalar::Text(text) => text.trim().parse().ok(),
            JsonScalar::Bool(_) => None,
        }
        .ok_or_else(|| E::invalid_value(self.unexpected(), &"a number"))
    }

    /// The number of an enum's value; 0, which is unspecified, for an unknown one.
    fn enum_number(&self, words: EnumId) -> u32 {
        let number = if let JsonScalar::Text(text) = self { words.number(text) } else { None };
        number.or_else(|| self.whole::<u32, serde::de::value::Error>().ok()).unwrap_or(0)
    }

    const fn unexpected(&self) -> Unexpected<'_> {
        match self {
            JsonScalar::Text(_) => Unexpected::Other("text"),
            JsonScalar::Bool(flag) => Unexpected::Bool(*flag),
            JsonScalar::Whole(_) => Unexpected::Other("a whole number"),
            JsonScalar::Number(number) => Unexpected::Float(*number),
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;

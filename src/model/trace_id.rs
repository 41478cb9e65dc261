//! Ids of traces and spans, as in W3C Trace Context.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A trace, or a run, whose id is often that of its first trace: 16 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId([u8; 16]);

/// A span within its trace: 8 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// `None` if they are not 16 bytes, or all zero, which W3C Trace Context forbids.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().filter(|id| *id != [0; 16]).map(Self)
    }

    /// Of 32 hexadecimal digits in either case, or of a UUID, which is the same with dashes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = [0; 32];
        let mut given = text.bytes().filter(|byte| *byte != b'-');
        for digit in &mut digits {
            *digit = given.next()?;
        }
        let mut id = [0; 16];
        hex::decode_to_slice(digits, &mut id).ok()?;
        if given.next().is_some() { None } else { Self::from_slice(&id) }
    }

    /// An id for the run that begins with `span` in this trace, where the trace has several.
    pub fn of_run(self, span: SpanId) -> Self {
        let mut id = self.0;
        id[8..].copy_from_slice(&span.0);
        Self(id)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl SpanId {
    /// The topmost span of a run that is reported as a whole.
    pub const REPORTED_ROOT: Self = Self([0, 0, 0, 0, 0, 0, 0, 1]);

    /// `None` if they are not 8 bytes, or all zero.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().filter(|id| *id != [0; 8]).map(Self)
    }

    /// Of 16 hexadecimal digits in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 8];
        hex::decode_to_slice(text, &mut id).ok()?;
        Self::from_slice(&id)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// Lower-case hexadecimal digits, as in `traceparent`.
macro_rules! shown_as_hex {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let text = String::deserialize(input)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected hexadecimal digits of an id"))
            }
        }
    )*};
}

shown_as_hex!(TraceId, SpanId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_both_spellings_and_shown_in_one() {
        let id = TraceId::parse("4BF92F3577b34da6a3ce929d0e0e4736").expect("an id");
        assert_eq!(TraceId::parse("4bf92f35-77b3-4da6-a3ce-929d0e0e4736"), Some(id));
        assert_eq!(id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(TraceId::from_slice(id.as_bytes()), Some(id));
        for wrong in
            ["", "-", "4bf9", &"0".repeat(32), &"g".repeat(32), &"1".repeat(33), "4bf92f3577b34da6a3ce929d0e0e473é"]
        {
            assert_eq!(TraceId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(SpanId::parse("00F067aa0ba902b7").map(|id| id.to_string()).as_deref(), Some("00f067aa0ba902b7"));
        for wrong in ["", "0000000000000000", "00f067aa0ba902b", "00f067aa-0ba902b7"] {
            assert_eq!(SpanId::parse(wrong), None, "{wrong}");
        }
    }
}

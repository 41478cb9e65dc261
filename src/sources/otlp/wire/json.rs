//! What senders make of protobuf's JSON mapping: null for absent, numbers as text, ids in hex, enums as words.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A field that may be null.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(input: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(input).map(Option::unwrap_or_default)
}

/// A number that may be text or null.
pub(super) fn loose<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default,
    Loose<T>: Deserialize<'de>,
{
    loose_option(input).map(Option::unwrap_or_default)
}

/// A number that may be text, null or absent.
pub(super) fn loose_option<'de, D, T>(input: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    Loose<T>: Deserialize<'de>,
{
    Ok(Option::<Loose<T>>::deserialize(input)?.map(|number| number.0))
}

/// A list of numbers that may be text; the list may be null.
pub(super) fn loose_list<'de, D, T>(input: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    Loose<T>: Deserialize<'de>,
{
    let list = Option::<Vec<Loose<T>>>::deserialize(input)?.unwrap_or_default();
    Ok(list.into_iter().map(|number| number.0).collect())
}

/// An id in hex, or nothing where there is none or what stands there is not hex: an id never decides over a record.
pub(super) fn hex<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(input)?.unwrap_or_default();
    let digit = |byte: &u8| (*byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    Ok(bytes.collect::<Option<Vec<u8>>>().unwrap_or_default())
}

/// An enum: its number, or its word's place in `words`; what is unknown is 0, which is unspecified everywhere.
pub(super) fn word<'de, D: Deserializer<'de>>(input: D, words: &'static [&'static str]) -> Result<i32, D::Error> {
    struct Word(&'static [&'static str]);
    impl Visitor<'_> for Word {
        type Value = i32;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("an enum's number or word")
        }

        fn visit_unit<E>(self) -> Result<i32, E> {
            Ok(0)
        }

        fn visit_u64<E>(self, number: u64) -> Result<i32, E> {
            Ok(i32::try_from(number).unwrap_or(0))
        }

        fn visit_i64<E>(self, number: i64) -> Result<i32, E> {
            Ok(i32::try_from(number).unwrap_or(0))
        }

        fn visit_str<E>(self, text: &str) -> Result<i32, E> {
            let place = self.0.iter().position(|word| *word == text).and_then(|place| i32::try_from(place).ok());
            Ok(place.or_else(|| text.parse().ok()).unwrap_or(0))
        }
    }
    input.deserialize_any(Word(words))
}

/// A number that may be given as text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loose<T>(pub(super) T);

macro_rules! loose_integer {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for Loose<$type> {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                struct Number;
                impl Visitor<'_> for Number {
                    type Value = Loose<$type>;

                    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                        out.write_str("a whole number, or one as text")
                    }

                    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                        <$type>::try_from(number).map(Loose).map_err(|_| E::custom(out_of_range(number)))
                    }

                    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                        <$type>::try_from(number).map(Loose).map_err(|_| E::custom(out_of_range(number)))
                    }

                    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
                        let whole = number as $type;
                        if whole as f64 == number { Ok(Loose(whole)) } else { Err(E::custom(out_of_range(number))) }
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                        match text.trim().parse::<$type>() {
                            Ok(number) => Ok(Loose(number)),
                            Err(_) => {
                                Err(E::invalid_value(serde::de::Unexpected::Other("text that is no number"), &self))
                            }
                        }
                    }
                }
                input.deserialize_any(Number)
            }
        }
    };
}

loose_integer!(u64);
loose_integer!(i64);
loose_integer!(u32);
loose_integer!(i32);

fn out_of_range(number: impl fmt::Display) -> String {
    format!("{number} does not fit its field")
}

impl<'de> Deserialize<'de> for Loose<f64> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Loose<f64>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a number, or one as text")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Loose(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Loose(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Loose(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                // Rust reads `NaN`, `Infinity` and `-Infinity` as protobuf's JSON writes them.
                match text.trim().parse() {
                    Ok(number) => Ok(Loose(number)),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Other("text that is no number"), &self)),
                }
            }
        }
        input.deserialize_any(Number)
    }
}

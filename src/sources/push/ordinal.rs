//! The place of a batch among the reports of one run.

use std::borrow::Cow;

use serde::de::{Error, IgnoredAny, MapAccess};

use crate::model::text;
use crate::model::update::Ordinal;
use crate::sources::MAX_TEXT;
use crate::sources::read::{Key, Read, Scalar};

/// The object `ordinal`.
pub(super) struct Ordinals<'x, 'a>(pub(super) &'x mut Option<Ordinal<'a>>);

#[derive(Clone, Copy)]
enum Part {
    Run,
    Number,
    Unknown,
}

fn part(key: &str) -> Part {
    match key {
        "run" => Part::Run,
        "number" => Part::Number,
        _ => Part::Unknown,
    }
}

impl<'de> Read<'de> for Ordinals<'_, 'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let (mut run, mut number) = (Cow::Borrowed(""), None);
        while let Some(part) = map.next_key_seed(Key(part))? {
            match part {
                Part::Run => match map.next_value()? {
                    Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => run = name,
                    other => return Err(unfit("`ordinal.run`", &other)),
                },
                Part::Number => {
                    let value: Scalar<'de> = map.next_value()?;
                    number = value.count().map_err(|_| unfit("`ordinal.number`", &value))?;
                }
                Part::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        *self.0 = number.filter(|_| !run.is_empty()).map(|number| Ordinal { run, number });
        if self.0.is_none() {
            return Err(A::Error::custom("`ordinal` is not whole; send both `run` and `number`, or no `ordinal`"));
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        match value {
            Scalar::Null => Ok(()),
            other => Err(unfit("`ordinal`", &other)),
        }
    }
}

fn unfit<E: Error>(what: &str, value: &Scalar<'_>) -> E {
    E::custom(format_args!(
        "{what} is {}; send {{\"run\": \"…\", \"number\": 1}}, higher with each report",
        value.shown()
    ))
}

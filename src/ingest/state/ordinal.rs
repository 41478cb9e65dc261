//! The place of a batch among the reports of one run.

use std::borrow::Cow;

use serde::de::{Error, IgnoredAny, MapAccess};

use crate::decode::read::{Key, Read, Scalar};
use crate::ingest::MAX_TEXT;
use crate::ingest::draft::Fault;
use crate::model::RejectReason;
use crate::model::update::Ordinal;
use crate::text;

/// The object `ordinal` while it is read.
#[derive(Default)]
pub(super) struct Ordinals<'a> {
    run: Option<Cow<'a, str>>,
    number: Option<u64>,
    /// Whether it is null.
    none: bool,
    fault: Option<Fault>,
}

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

impl<'de> Read<'de> for Ordinals<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(Key(part))? {
            match part {
                Part::Run => match map.next_value()? {
                    Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => self.run = Some(name),
                    other => self.unfit("`ordinal.run`", &other),
                },
                Part::Number => {
                    let value: Scalar<'de> = map.next_value()?;
                    match value.count() {
                        Ok(count) => self.number = count,
                        Err(_) => self.unfit("`ordinal.number`", &value),
                    }
                }
                Part::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        self.none = value == Scalar::Null;
        if !self.none {
            self.unfit("`ordinal`", &value);
        }
        Ok(())
    }
}

impl<'a> Ordinals<'a> {
    fn unfit(&mut self, what: &str, value: &Scalar<'_>) {
        let error =
            format!("{what} is {}; send {{\"run\": \"…\", \"number\": 1}}, higher with each report", value.shown());
        self.fault.get_or_insert(Fault { field: "ordinal", reason: RejectReason::Value, error });
    }

    /// The place; `None` for null.
    pub(super) fn finish(self) -> Result<Option<Ordinal<'a>>, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match (self.run, self.number) {
            (Some(run), Some(number)) => Ok(Some(Ordinal { run, number })),
            _ if self.none => Ok(None),
            _ => {
                let error = "`ordinal` is not whole; send both `run` and `number`, or no `ordinal`".to_owned();
                Err(Fault { field: "ordinal", reason: RejectReason::Value, error })
            }
        }
    }
}

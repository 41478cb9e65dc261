//! The ordinal of a batch: its number among the reports of one run, to reject late ones.

use std::borrow::Cow;

use serde::de::{Error, IgnoredAny, MapAccess};

use crate::decode::read::{JsonVisitor, KeySeed, Scalar};
use crate::ingest::MAX_TEXT;
use crate::ingest::draft::ItemError;
use crate::model::RejectReason;
use crate::model::update::Ordinal;
use crate::text;

/// The object `ordinal` while it is read.
#[derive(Default)]
pub(super) struct OrdinalDraft<'a> {
    run: Option<Cow<'a, str>>,
    number: Option<u64>,
    /// Whether it is null.
    none: bool,
    item_error: Option<ItemError>,
}

#[derive(Clone, Copy)]
enum OrdinalKey {
    Run,
    Number,
    Unknown,
}

fn ordinal_key(key: &str) -> OrdinalKey {
    match key {
        "run" => OrdinalKey::Run,
        "number" => OrdinalKey::Number,
        _ => OrdinalKey::Unknown,
    }
}

impl<'de> JsonVisitor<'de> for OrdinalDraft<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(KeySeed(ordinal_key))? {
            match part {
                OrdinalKey::Run => match map.next_value()? {
                    Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => self.run = Some(name),
                    other => self.set_error("`ordinal.run`", &other),
                },
                OrdinalKey::Number => {
                    let value: Scalar<'de> = map.next_value()?;
                    match value.count() {
                        Ok(count) => self.number = count,
                        Err(_) => self.set_error("`ordinal.number`", &value),
                    }
                }
                OrdinalKey::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        self.none = value == Scalar::Null;
        if !self.none {
            self.set_error("`ordinal`", &value);
        }
        Ok(())
    }
}

impl<'a> OrdinalDraft<'a> {
    fn set_error(&mut self, what: &str, value: &Scalar<'_>) {
        let error =
            format!("{what} is {}; send {{\"run\": \"…\", \"number\": 1}}, higher with each report", value.shown());
        self.item_error.get_or_insert(ItemError { field: "ordinal", reason: RejectReason::Value, error });
    }

    /// The ordinal; `None` for null.
    pub(super) fn finish(self) -> Result<Option<Ordinal<'a>>, ItemError> {
        if let Some(item_error) = self.item_error {
            return Err(item_error);
        }
        match (self.run, self.number) {
            (Some(run), Some(number)) => Ok(Some(Ordinal { run, number })),
            _ if self.none => Ok(None),
            _ => {
                let error = "`ordinal` is incomplete; send both `run` and `number`, or no `ordinal`".to_owned();
                Err(ItemError { field: "ordinal", reason: RejectReason::Value, error })
            }
        }
    }
}

//! A parsed file: its values and their positions.

use std::collections::BTreeMap;

use figment::value::{Num, Value};

use crate::model::Position;
use crate::text::clean;

/// A parsed file.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The values.
    pub(crate) value: Value,
    places: BTreeMap<Vec<String>, Position>,
}

impl Document {
    /// Builds a document with `read`, which records the position of each key and item. A duplicate key is an error.
    pub(super) fn read(read: impl FnOnce(&mut Places) -> Value) -> Result<Self, String> {
        let mut places = Places::default();
        let value = read(&mut places);
        places.duplicate.map_or(Ok(Self { value, places: places.found }), Err)
    }

    /// The position of the key or item at `path`, or of its nearest ancestor.
    pub(crate) fn place(&self, path: &[String]) -> Option<Position> {
        (1..=path.len()).rev().find_map(|length| self.places.get(path.get(..length)?)).copied()
    }
}

/// The positions of keys and items while a file is parsed.
#[derive(Default)]
pub(super) struct Places {
    path: Vec<String>,
    found: BTreeMap<Vec<String>, Position>,
    /// The error for a duplicate key.
    duplicate: Option<String>,
}

impl Places {
    /// Records the position of the key or item `name`, and reads its value.
    pub(super) fn beneath(&mut self, name: String, place: Position, read: impl FnOnce(&mut Self) -> Value) -> Value {
        self.path.push(name);
        if self.found.insert(self.path.clone(), place).is_some() {
            self.duplicate = self.path.last().map(|key| format!("{place}: {}", duplicate_key(key)));
        }
        let value = read(self);
        self.path.pop();
        value
    }
}

/// The error for a duplicate key.
pub(super) fn duplicate_key(key: &str) -> String {
    format!("duplicate key `{}`: keep one", clean(key, 100))
}

/// The value at `path` in `value`, by keys and list indexes. figment's own lookup splits keys at dots and does not support
/// lists.
pub(crate) fn locate<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Dict(_, dict) => dict.get(part),
        Value::Array(_, list) => list.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Mutable [`locate`].
pub(crate) fn locate_mut<'v>(value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Dict(_, dict) => dict.get_mut(part),
        Value::Array(_, list) => list.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// A scalar as text; `None` for other and for empty values.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(_, text) => text.clone(),
        Value::Char(_, letter) => letter.to_string(),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => shown(*number),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

fn shown(number: Num) -> String {
    let whole = number.to_u128().map(|number| number.to_string());
    let whole = whole.or_else(|| number.to_i128().map(|number| number.to_string()));
    whole.or_else(|| number.to_f64().map(|number| number.to_string())).unwrap_or_default()
}

//! A file as it was read: its values, and the place of each.

use std::collections::BTreeMap;

use figment::value::{Num, Value};

use crate::model::Position;
use crate::text::clean;

/// What a file says.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Its values.
    pub(crate) value: Value,
    places: BTreeMap<Vec<String>, Position>,
}

impl Document {
    /// The document whose value `read` reads, noting the place of each key and item; the error names a key that is there
    /// twice.
    pub(super) fn read(read: impl FnOnce(&mut Places) -> Value) -> Result<Self, String> {
        let mut places = Places::default();
        let value = read(&mut places);
        places.twice.map_or(Ok(Self { value, places: places.found }), Err)
    }

    /// The place of the key or item at `path`, or of the nearest around it.
    pub(crate) fn place(&self, path: &[String]) -> Option<Position> {
        (1..=path.len()).rev().find_map(|length| self.places.get(path.get(..length)?)).copied()
    }
}

/// Where keys and items stand, as far as a file has been read.
#[derive(Default)]
pub(super) struct Places {
    path: Vec<String>,
    found: BTreeMap<Vec<String>, Position>,
    /// What is said of a key that is there twice.
    twice: Option<String>,
}

impl Places {
    /// Notes that the key or item `name` stands at `place`, and reads what is beneath it.
    pub(super) fn beneath(&mut self, name: String, place: Position, read: impl FnOnce(&mut Self) -> Value) -> Value {
        self.path.push(name);
        if self.found.insert(self.path.clone(), place).is_some() {
            self.twice = self.path.last().map(|key| format!("{place}: {}", given_twice(key)));
        }
        let value = read(self);
        self.path.pop();
        value
    }
}

/// What to say of a key that is there twice.
pub(super) fn given_twice(key: &str) -> String {
    format!("key `{}` is given twice; keep one", clean(key, 100))
}

/// What is at `path` in `value`, by keys and places in lists. figment's own search takes dots in a key for levels, and
/// knows no lists.
pub(crate) fn locate<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Dict(_, dict) => dict.get(part),
        Value::Array(_, list) => list.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The same, to change it.
pub(crate) fn locate_mut<'v>(value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Dict(_, dict) => dict.get_mut(part),
        Value::Array(_, list) => list.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// A scalar as it was probably written; nothing for what is none, and for an empty one.
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

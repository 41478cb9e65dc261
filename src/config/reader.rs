//! Reads section by section out of what file and environment say together, and goes on after each bad value, so
//! that one run names everything that is wrong.
//!
//! A section or list with anything wrong in it is read as its default: nothing that is checked later follows from
//! half of it.

use std::collections::BTreeSet;

use figment::Figment;
use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

use super::environment::{self, Environment};
use super::problem::{Origin, Problem};
use crate::written::mistake;

/// So many problems are named; more would not help anybody.
const MAX_PROBLEMS: usize = 100;

/// The merged tree, and what was found wrong in it so far.
pub(super) struct Reader<'a> {
    figment: &'a Figment,
    env: &'a Environment,
    tree: Value,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// A reader of what `figment`'s providers say together.
    pub(super) fn new(figment: &'a Figment, env: &'a Environment) -> Self {
        let (tree, problems) = match figment.extract::<Value>() {
            Ok(tree) => (tree, Vec::new()),
            Err(error) => {
                let problem = Problem { origin: Origin::Unsaid, key: String::new(), message: error.kind.to_string() };
                (Value::from(Dict::new()), vec![problem])
            }
        };
        Self { figment, env, tree, known: Vec::new(), problems }
    }

    /// The section or value at the top-level key `name`; its default when it is not given, null or bad.
    pub(super) fn section<T: DeserializeOwned + Default>(&mut self, name: &'static str) -> T {
        self.known.push(name);
        let Some(value) = self.given(name) else { return T::default() };
        self.read(vec![name.to_owned()], value).unwrap_or_default()
    }

    /// The list at the top-level key `name`; empty when it is not given, null or bad.
    pub(super) fn list<T: DeserializeOwned>(&mut self, name: &'static str) -> Vec<T> {
        self.known.push(name);
        let Some(value) = self.given(name) else { return Vec::new() };
        let path = vec![name.to_owned()];
        let Value::Array(_, values) = value else {
            return self.read(path, value).unwrap_or_default();
        };
        let before = self.problems.len();
        let read = values
            .into_iter()
            .enumerate()
            .filter_map(|(index, value)| self.read([path.as_slice(), &[index.to_string()]].concat(), value));
        let read: Vec<T> = read.collect();
        if self.problems.len() > before { Vec::new() } else { read }
    }

    /// Whether the list at `name` was given with anything in it, good or bad.
    pub(super) fn has_items(&self, name: &str) -> bool {
        match self.given(name) {
            Some(Value::Array(_, values)) => !values.is_empty(),
            other => other.is_some(),
        }
    }

    /// Names the top-level keys that nobody read, and tells everything that is wrong.
    pub(super) fn finish(mut self) -> Found<'a> {
        let unknown: Vec<(String, Value)> = match &self.tree {
            Value::Dict(_, tree) => tree
                .iter()
                .filter(|(name, _)| !self.known.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            _ => Vec::new(),
        };
        for (name, value) in unknown {
            let message = mistake::unknown_key(&name, &self.known);
            self.report(&[name], Some(&value), message);
        }
        Found { figment: self.figment, env: self.env, tree: self.tree, problems: self.problems }
    }

    fn given(&self, name: &str) -> Option<Value> {
        match &self.tree {
            Value::Dict(_, tree) => tree.get(name).filter(|value| !matches!(value, Value::Empty(..))).cloned(),
            _ => None,
        }
    }

    /// Reads `value` at `path`. Each bad value is named and taken out, and the rest is read again.
    fn read<T: DeserializeOwned>(&mut self, path: Vec<String>, value: Value) -> Option<T> {
        let mut read = None;
        let is_good = self.try_until_read(path, value, &mut |value| {
            let error = value.deserialize::<T>().map(|done| read = Some(done)).err();
            error.map(Box::new)
        });
        read.filter(|_| is_good)
    }

    /// Tries `read` until it succeeds or nothing more can be taken out; whether nothing was wrong.
    /// Once for all types: what is read differs, and what is said about mistakes does not.
    fn try_until_read(
        &mut self,
        path: Vec<String>,
        mut value: Value,
        read: &mut dyn FnMut(&Value) -> Option<Box<figment::Error>>,
    ) -> bool {
        let mut taken_out: BTreeSet<Vec<String>> = BTreeSet::new();
        let mut reread: BTreeSet<Vec<String>> = BTreeSet::new();
        while self.problems.len() < MAX_PROBLEMS {
            let Some(error) = read(&value) else { return taken_out.is_empty() };
            let inner = error.path.clone();
            let mut full = [path.as_slice(), inner.as_slice()].concat();
            if let Kind::MissingField(name) = &error.kind {
                full.push(name.to_string());
                if !taken_out.contains(&full) {
                    self.report(&full, locate(&value, &inner), mistake::explain(&error.kind, &full, None));
                }
                return false;
            }
            let bad = locate(&value, &inner).cloned();
            // figment reads a variable's `12` as a number; where text is expected it was meant as text.
            if matches!(error.kind, Kind::InvalidType(..))
                && !matches!(bad, Some(Value::String(..)))
                && let Some(raw) = self.env.raw(&full)
                && reread.insert(full.clone())
                && let Some(bad) = &bad
            {
                replace(&mut value, &inner, Value::String(bad.tag(), raw.to_owned()));
                continue;
            }
            let shown = bad.as_ref().and_then(scalar);
            let message = mistake::explain(&error.kind, &full, shown.as_deref());
            self.report(&full, bad.as_ref().or(Some(&value)), message);
            taken_out.insert(full);
            if !remove(&mut value, &inner) {
                return false;
            }
        }
        false
    }

    fn report(&mut self, path: &[String], value: Option<&Value>, message: String) {
        let origin = origin(self.figment, self.env, path, value);
        let problem = Problem { origin, key: mistake::key(path), message };
        self.problems.push(problem);
    }
}

/// What a reader leaves: the problems so far, and where each key was said.
pub(super) struct Found<'a> {
    figment: &'a Figment,
    env: &'a Environment,
    tree: Value,
    problems: Vec<Problem>,
}

impl Found<'_> {
    /// Adds the problem that `message` tells of the key `key`, such as `sources[0].url`.
    pub(super) fn report(&mut self, key: &str, message: String) {
        let path: Vec<String> = key.split(['.', '[', ']']).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        // A key that is not given is looked for in the section that lacks it.
        let said = (1..=path.len()).rev().find_map(|length| locate(&self.tree, path.get(..length)?));
        let origin = origin(self.figment, self.env, &path, said);
        self.problems.push(Problem { origin, key: key.to_owned(), message });
    }

    /// Adds a problem that has an origin of its own.
    pub(super) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Everything that was found wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

fn origin(figment: &Figment, env: &Environment, path: &[String], value: Option<&Value>) -> Origin {
    match value.and_then(|value| figment.get_metadata(first_tag(value))) {
        Some(metadata) if metadata.name == environment::ORIGIN => Origin::Variable(env.said(path)),
        Some(metadata) => match &metadata.source {
            Some(figment::Source::File(file)) => Origin::File(file.clone()),
            _ => Origin::Unsaid,
        },
        None => Origin::Unsaid,
    }
}

/// A value's own tag; a section's may be that of another source which it was merged with, so its first value's.
fn first_tag(value: &Value) -> figment::value::Tag {
    match value {
        Value::Dict(_, tree) => tree.values().next().map_or(value.tag(), first_tag),
        other => other.tag(),
    }
}

fn locate<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Dict(_, tree) => tree.get(part),
        Value::Array(_, list) => list.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn locate_mut<'v>(value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Dict(_, tree) => tree.get_mut(part),
        Value::Array(_, list) => list.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn replace(value: &mut Value, path: &[String], by: Value) {
    if let Some(place) = locate_mut(value, path) {
        *place = by;
    }
}

/// Takes the key at `path` out of its section; false when it is none, since a list's others would move.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let Some((last, section)) = path.split_last() else { return false };
    match locate_mut(value, section) {
        Some(Value::Dict(_, tree)) => tree.remove(last).is_some(),
        _ => false,
    }
}

/// A scalar as it was probably written.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, letter) => Some(letter.to_string()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, number) => number
            .to_u128()
            .map(|number| number.to_string())
            .or_else(|| number.to_i128().map(|number| number.to_string()))
            .or_else(|| number.to_f64().map(|number| number.to_string())),
        _ => None,
    }
}

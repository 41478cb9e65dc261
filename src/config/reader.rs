//! Reads section by section out of what file and environment say together, and goes on after each bad value, so
//! that one run names everything that is wrong.
//!
//! A section or list with anything wrong in it is read as its default: nothing that is checked later follows from
//! half of it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::environment::Environment;
use crate::model::{Origin, Problem};
use crate::written::mistake;
use crate::written::mistake::{Kind, Mistake};
use crate::written::tree::{Map, Value};

/// So many problems are named; more would not help anybody.
const MAX_PROBLEMS: usize = 100;

/// What file and environment say, together and each.
struct Said<'a> {
    file: Option<(&'a Path, Value)>,
    env: &'a Environment,
    by_env: Value,
    tree: Value,
}

impl Said<'_> {
    /// Where the key at `path` was said, or what is nearest around it.
    fn origin(&self, path: &[String]) -> Origin {
        let nearest = (1..=path.len()).rev().filter_map(|length| path.get(..length));
        let Some((path_said, said)) = nearest.filter_map(|path| Some((path, self.tree.locate(path)?))).next() else {
            return Origin::Unsaid;
        };
        let by_file = self.file.as_ref().and_then(|(file, tree)| Some((file, tree.locate(path_said)?)));
        let is_by_env = self.by_env.locate(path_said).is_some();
        match by_file {
            // Of a section of which both say something, the file is where people look first.
            Some((file, by_file)) if !is_by_env || matches!((by_file, said), (Value::Map(_), Value::Map(_))) => {
                Origin::File(file.to_path_buf())
            }
            _ if is_by_env => Origin::Variable(self.env.said(path)),
            _ => Origin::Unsaid,
        }
    }
}

/// What is said, and what was found wrong in it so far.
pub(super) struct Reader<'a> {
    said: Said<'a>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// A reader of what the file, if there is one, and the environment say together.
    pub(super) fn new(file: Option<(&'a Path, Value)>, env: &'a Environment) -> Self {
        let by_env = env.tree();
        let mut tree = file.as_ref().map_or_else(|| Value::Map(Map::new()), |(_, tree)| tree.clone());
        tree.merge(by_env.clone());
        Self { said: Said { file, env, by_env, tree }, known: Vec::new(), problems: Vec::new() }
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
        let Value::List(values) = value else {
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
            Some(Value::List(values)) => !values.is_empty(),
            other => other.is_some(),
        }
    }

    /// Names the top-level keys that nobody read, and tells everything that is wrong.
    pub(super) fn finish(mut self) -> Found<'a> {
        let unknown: Vec<String> = match &self.said.tree {
            Value::Map(tree) => tree.keys().filter(|name| !self.known.contains(&name.as_str())).cloned().collect(),
            _ => Vec::new(),
        };
        for name in unknown {
            let message = mistake::unknown_key(&name, &self.known);
            self.report(&[name], message);
        }
        Found { said: self.said, problems: self.problems }
    }

    fn given(&self, name: &str) -> Option<Value> {
        match &self.said.tree {
            Value::Map(tree) => tree.get(name).filter(|value| !matches!(value, Value::Null)).cloned(),
            _ => None,
        }
    }

    /// Reads `value` at `path`. Each bad value is named and taken out, and the rest is read again.
    fn read<T: DeserializeOwned>(&mut self, path: Vec<String>, value: Value) -> Option<T> {
        let mut read = None;
        let is_good =
            self.try_until_read(path, value, &mut |value| value.read::<T>().map(|done| read = Some(done)).err());
        read.filter(|_| is_good)
    }

    /// Tries `read` until it succeeds or nothing more can be taken out; whether nothing was wrong.
    /// Once for all types: what is read differs, and what is said about mistakes does not.
    fn try_until_read(
        &mut self,
        path: Vec<String>,
        mut value: Value,
        read: &mut dyn FnMut(&Value) -> Option<Mistake>,
    ) -> bool {
        let mut taken_out: BTreeSet<Vec<String>> = BTreeSet::new();
        let mut reread: BTreeSet<Vec<String>> = BTreeSet::new();
        while self.problems.len() < MAX_PROBLEMS {
            let Some(Mistake { path: inner, kind }) = read(&value) else { return taken_out.is_empty() };
            let mut full = [path.as_slice(), inner.as_slice()].concat();
            if let Kind::MissingField(name) = kind {
                full.push(name.to_owned());
                if !taken_out.contains(&full) {
                    self.report(&full, mistake::explain(&kind, None));
                }
                return false;
            }
            // A variable's `12` is read as a number; where text is expected it was meant as text.
            if matches!(kind, Kind::InvalidType(..))
                && let Some(raw) = self.said.env.raw(&full)
                && let Some(bad) = value.locate_mut(&inner)
                && !matches!(bad, Value::Text(_))
                && reread.insert(full.clone())
            {
                *bad = Value::Text(raw.to_owned());
                continue;
            }
            let shown = value.locate(&inner).map(Value::to_string).filter(|shown| !shown.is_empty());
            self.report(&full, mistake::explain(&kind, shown.as_deref()));
            taken_out.insert(full);
            if !remove(&mut value, &inner) {
                return false;
            }
        }
        false
    }

    fn report(&mut self, path: &[String], message: String) {
        self.problems.push(Problem { origin: self.said.origin(path), path: mistake::key(path), message });
    }
}

/// What a reader leaves: the problems so far, and where each key was said.
pub(super) struct Found<'a> {
    said: Said<'a>,
    problems: Vec<Problem>,
}

impl Found<'_> {
    /// Adds the problem that `message` tells of the key at `path`, such as `sources[0].url`.
    pub(super) fn report(&mut self, path: &str, message: impl Into<String>) {
        self.extend([Problem::new(path, message)]);
    }

    /// Adds problems, and to those that do not know where their key was said.
    pub(super) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        for mut problem in problems {
            if problem.origin == Origin::Unsaid {
                let parts = problem.path.split(['.', '[', ']']).filter(|part| !part.is_empty());
                problem.origin = self.said.origin(&parts.map(str::to_owned).collect::<Vec<_>>());
            }
            self.problems.push(problem);
        }
    }

    /// Everything that was found wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

/// Takes the key at `path` out of its section; false when it is none, since a list's others would move.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let Some((last, section)) = path.split_last() else { return false };
    match value.locate_mut(section) {
        Some(Value::Map(tree)) => tree.remove(last).is_some(),
        _ => false,
    }
}

//! Reads the merged configuration section by section and continues after each invalid value, so that one run reports all
//! problems. figment alone stops at the first error.
//!
//! A section or list with a problem is replaced by its default, so that later checks do not report consequences of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use figment::Error;
use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;

use super::EnvironmentName;
use super::environment::Environment;
use super::layers::{Layers, PROFILES, Preset};
use crate::model::{Origin, Problem};
use crate::written::document::{Document, locate, locate_mut, scalar};
use crate::written::mistake;

/// The key with the name of the environment.
const ENVIRONMENT: &str = "environment";
/// Environments that are known without a profile.
const ENVIRONMENTS: [&str; 3] = ["development", "staging", "production"];
/// Profile names that figment reserves.
const RESERVED: [&str; 2] = ["default", "global"];
/// Maximum number of reported problems.
const MAX_PROBLEMS: usize = 100;

/// The merged configuration and the problems found so far.
pub(super) struct ConfigReader<'a> {
    layers: Layers<'a>,
    /// Environments that have a profile.
    environments: Vec<String>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl<'a> ConfigReader<'a> {
    /// A reader of the file, if any, and the variables.
    pub(super) fn new(file: Option<(&'a Path, Document)>, env: &'a Environment) -> Self {
        Self { layers: Layers::new(file, env), environments: Vec::new(), known: Vec::new(), problems: Vec::new() }
    }

    /// Reads the name of the environment and selects its profile.
    pub(super) fn environment(&mut self) -> EnvironmentName {
        self.know(ENVIRONMENT);
        for (name, section) in self.section::<BTreeMap<String, Option<Dict>>>(PROFILES) {
            let section = self.profile(&name, section.unwrap_or_default());
            self.layers.add(&name, section);
            self.environments.push(name);
        }
        let mut name: EnvironmentName = self.section(ENVIRONMENT);
        let known: Vec<&str> = ENVIRONMENTS.into_iter().chain(self.environments.iter().map(String::as_str)).collect();
        if !known.contains(&name.0.as_str()) {
            let instead = match mistake::suggestion(&name.0, &known, "use one of") {
                nearest if nearest.ends_with('?') => nearest,
                all => format!("{all}, or add a section for it to `{PROFILES}`"),
            };
            self.report(&[ENVIRONMENT.to_owned()], format!("`{}` is unknown; {instead}", name.0));
            name = EnvironmentName::default();
        }
        // Without a name, defaults are those without an environment.
        let is_given = self.given(ENVIRONMENT).is_some();
        self.layers.set_preset(Preset::of(&name.0).filter(|_| is_given));
        self.layers.select(&name.0);
        name
    }

    /// The valid part of the profile `name`.
    fn profile(&mut self, name: &str, mut section: Dict) -> Dict {
        let path = [PROFILES.to_owned(), name.to_owned()];
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(is_plain) || RESERVED.contains(&name) {
            let message = "invalid name of an environment; use lower-case letters, digits and `-`";
            self.report(&path, message.to_owned());
        }
        for key in [ENVIRONMENT, PROFILES] {
            if section.remove(key).is_some() {
                let path = [&path[..], &[key.to_owned()]].concat();
                self.report(&path, "not allowed in a profile; set it at the top level".to_owned());
            }
        }
        section
    }

    /// Reads all profiles except the `chosen` one too, so that their problems are found before they are used.
    pub(super) fn read_others(&mut self, chosen: &EnvironmentName, read: impl Fn(&mut Self)) {
        for other in std::mem::take(&mut self.environments) {
            if other != chosen.0 {
                self.layers.select(&other);
                read(self);
                self.report_unknown_keys();
            }
        }
        self.layers.select(&chosen.0);
    }

    /// The section at the top-level key `name`; its default when missing, null or invalid.
    pub(super) fn section<T: DeserializeOwned + Default>(&mut self, name: &'static str) -> T {
        self.know(name);
        let Some(value) = self.given(name) else { return T::default() };
        self.read(vec![name.to_owned()], value).unwrap_or_default()
    }

    /// The list at the top-level key `name`; empty when missing, null or invalid.
    pub(super) fn list<T: DeserializeOwned>(&mut self, name: &'static str) -> Vec<T> {
        self.know(name);
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

    /// Whether the list at `name` has items, valid or not.
    pub(super) fn has_items(&self, name: &str) -> bool {
        match self.given(name) {
            Some(Value::Array(_, values)) => !values.is_empty(),
            other => other.is_some(),
        }
    }

    /// Reports unknown top-level keys and returns all problems.
    pub(super) fn finish(mut self) -> ConfigProblems<'a> {
        self.report_unknown_keys();
        ConfigProblems { layers: self.layers, problems: self.problems }
    }

    fn report_unknown_keys(&mut self) {
        let Value::Dict(_, tree) = self.layers.tree() else { return };
        let is_unknown = |name: &&String| !self.known.contains(&name.as_str());
        for name in tree.keys().filter(is_unknown).cloned().collect::<Vec<_>>() {
            let message = mistake::unknown_key(&name, &self.known);
            self.report(&[name], message);
        }
    }

    fn know(&mut self, name: &'static str) {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
    }

    fn given(&self, name: &str) -> Option<Value> {
        match self.layers.tree() {
            Value::Dict(_, tree) => tree.get(name).filter(|value| !matches!(value, Value::Empty(..))).cloned(),
            _ => None,
        }
    }

    /// Reads `value` at `path`. Each invalid value is reported and removed, and the rest is read again.
    fn read<T: DeserializeOwned>(&mut self, path: Vec<String>, value: Value) -> Option<T> {
        let mut read = None;
        let is_good =
            self.try_until_read(path, value, &mut |value| value.deserialize::<T>().map(|done| read = Some(done)).err());
        read.filter(|_| is_good)
    }

    /// Calls `read` until it succeeds or nothing more can be removed. Returns whether there was no problem.
    /// Not generic, to keep the code small.
    fn try_until_read(
        &mut self,
        path: Vec<String>,
        mut value: Value,
        read: &mut dyn FnMut(&Value) -> Option<Error>,
    ) -> bool {
        let mut taken_out: BTreeSet<Vec<String>> = BTreeSet::new();
        let mut reread: BTreeSet<Vec<String>> = BTreeSet::new();
        while self.problems.len() < MAX_PROBLEMS {
            let Some(Error { path: inner, kind, .. }) = read(&value) else { return taken_out.is_empty() };
            let mut full = [path.as_slice(), inner.as_slice()].concat();
            if let Kind::MissingField(name) = &kind {
                full.push(name.to_string());
                if !taken_out.contains(&full) {
                    self.report(&full, mistake::explain(&kind, None));
                }
                return false;
            }
            // `12` in a variable is parsed as a number; where text is expected it is text.
            if matches!(kind, Kind::InvalidType(..))
                && let Some(raw) = self.layers.raw(&full)
                && let Some(bad) = locate_mut(&mut value, &inner)
                && !matches!(bad, Value::String(..))
                && reread.insert(full.clone())
            {
                *bad = Value::from(raw);
                continue;
            }
            let shown = locate(&value, &inner).and_then(scalar);
            self.report(&full, mistake::explain(&kind, shown.as_deref()));
            taken_out.insert(full);
            if !remove(&mut value, &inner) {
                return false;
            }
        }
        false
    }

    fn report(&mut self, path: &[String], message: String) {
        let problem = self.layers.problem(path, message);
        // The same problem often occurs in each profile.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// The problems found by a reader, and the locations of keys.
pub(super) struct ConfigProblems<'a> {
    layers: Layers<'a>,
    problems: Vec<Problem>,
}

impl ConfigProblems<'_> {
    /// Adds a problem of the key at `path`, such as `sources[0].url`.
    pub(super) fn report(&mut self, path: &str, message: impl Into<String>) {
        self.extend([Problem::new(path, message)]);
    }

    /// Adds problems, with the location of their key where it is missing.
    pub(super) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        for problem in problems {
            let parts = problem.path.split(['.', '[', ']']).filter(|part| !part.is_empty());
            let path: Vec<String> = parts.map(str::to_owned).collect();
            let is_found = problem.origin != Origin::Unknown;
            self.problems.push(if is_found { problem } else { self.layers.found(problem, &path) });
        }
    }

    /// All problems, file by file, each in the order of the file; those without a position come last.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        let mut origins: Vec<Origin> = Vec::new();
        for problem in &self.problems {
            if !origins.contains(&problem.origin) {
                origins.push(problem.origin.clone());
            }
        }
        let file = |problem: &Problem| origins.iter().position(|origin| *origin == problem.origin);
        self.problems
            .sort_by_key(|problem| (file(problem), problem.place.map_or((u64::MAX, 0), |at| (at.line, at.column))));
        self.problems
    }
}

/// Removes the key at `path` from its section. Returns false for a list item, since removing it would renumber the others.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let Some((last, section)) = path.split_last() else { return false };
    match locate_mut(value, section) {
        Some(Value::Dict(_, tree)) => tree.remove(last).is_some(),
        _ => false,
    }
}

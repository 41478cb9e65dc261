//! The layers of a configuration, merged by figment: the file, what it says of the environment in force, and variables
//! over both; and where each value was said.
//!
//! Defaults are no layer: each section has its own beside its code, and some hold what no layer may serialise. Refuses to
//! know what a key means.

use std::path::Path;

use figment::value::{Dict, Tag, Value};
use figment::{Figment, Profile, providers::Serialized};

use super::environment::Environment;
use crate::model::{Origin, Position, Problem};
use crate::written::document::{Document, locate};
use crate::written::mistake;

/// The key of the sections that count in one environment only, by its name.
pub(super) const PROFILES: &str = "profiles";

/// What file and variables say, together and each.
pub(super) struct Layers<'a> {
    file: Option<(&'a Path, Document)>,
    env: &'a Environment,
    figment: Figment,
    /// What they say together.
    tree: Value,
}

impl<'a> Layers<'a> {
    /// The file, if there is one, and the variables over it.
    pub(super) fn new(file: Option<(&'a Path, Document)>, env: &'a Environment) -> Self {
        let mut figment = Figment::new();
        if let Some((_, document)) = &file {
            figment = figment.merge(Serialized::defaults(&document.value));
        }
        for (path, value) in env.overrides() {
            let beneath = |value, key| Value::Dict(Tag::Default, Dict::from([(key, value)]));
            figment = figment.merge(Serialized::globals(path.into_iter().rev().fold(value, beneath)));
        }
        let tree = merged(&figment);
        Self { file, env, figment, tree }
    }

    /// Takes `section` for what counts in the environment `name` only.
    pub(super) fn add(&mut self, name: &str, section: Dict) {
        self.figment = std::mem::take(&mut self.figment).merge(Serialized::from(section, name));
    }

    /// Lets the environment `name` be the one in force.
    pub(super) fn select(&mut self, name: &str) {
        self.figment = std::mem::take(&mut self.figment).select(name);
        self.tree = merged(&self.figment);
    }

    /// What the layers say together.
    pub(super) const fn tree(&self) -> &Value {
        &self.tree
    }

    /// The text of the variable that says what the key at `path` is.
    pub(super) fn raw(&self, path: &[String]) -> Option<&str> {
        self.env.raw(path)
    }

    /// The problem that `message` tells of the key at `path`.
    pub(super) fn problem(&self, path: &[String], message: String) -> Problem {
        self.found(Problem::new(mistake::key(path), message), path)
    }

    /// The same problem, with where the key at `path` was said, or what is nearest around it.
    pub(super) fn found(&self, problem: Problem, path: &[String]) -> Problem {
        let nearest = (1..=path.len()).rev().filter_map(|length| path.get(..length));
        let Some((said, value)) = nearest.filter_map(|path| Some((path, locate(&self.tree, path)?))).next() else {
            return problem;
        };
        let section = [PROFILES.to_owned(), self.figment.profile().to_string()];
        let (of_section, said_of_section) = ([&section, path].concat(), [&section, said].concat());
        if let Some((origin, place)) = self.in_file(value, &said_of_section, &of_section, None) {
            return Problem { origin, place, ..problem.under(&mistake::key(&section)) };
        }
        if let Some((origin, place)) = self.in_file(value, said, path, Some(Profile::Default)) {
            return Problem { origin, place, ..problem };
        }
        Problem { origin: Origin::Variable(self.env.said(path)), ..problem }
    }

    /// Where the file says of `said` the `value` in force, which is of `profile`, and there the place of `path`. Of keys
    /// and values to which several layers add, the file is where people look first.
    fn in_file(
        &self,
        value: &Value,
        said: &[String],
        path: &[String],
        profile: Option<Profile>,
    ) -> Option<(Origin, Option<Position>)> {
        let (file, document) = self.file.as_ref()?;
        let by_file = locate(&document.value, said)?;
        let is_said_here = match (value, by_file) {
            (Value::Dict(..), Value::Dict(..)) => true,
            _ => value.tag().profile() == profile,
        };
        is_said_here.then(|| (Origin::File(file.to_path_buf()), document.place(path)))
    }
}

/// What the layers of `figment` say together.
fn merged(figment: &Figment) -> Value {
    // An error would be that of a layer that is no keys and values; each is.
    figment.find_value("").unwrap_or_else(|_| Value::Dict(Tag::Default, Dict::new()))
}

//! The layers of a configuration, merged by figment: file, profile of the selected environment, environment variables; and
//! the location of each value.
//!
//! Defaults are not a layer, since some sections have defaults that can't be serialized.

use std::path::Path;

use figment::value::{Dict, Tag, Value};
use figment::{Figment, Profile, providers::Serialized};

use super::environment::Environment;
use crate::model::{Origin, Position, Problem};
use crate::written::document::{Document, locate};
use crate::written::mistake;

/// The key of the profiles: sections by name of the environment.
pub(super) const PROFILES: &str = "profiles";

/// The layers, merged and separately.
pub(super) struct Layers<'a> {
    file: Option<(&'a Path, Document)>,
    env: &'a Environment,
    figment: Figment,
    /// The merged layers.
    tree: Value,
    /// What the environment gives where no layer does.
    preset: Option<Preset>,
}

/// What an environment gives where no key is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preset {
    /// `runs.retention`.
    retention: &'static str,
    /// `interval` of each source.
    interval: &'static str,
}

impl Preset {
    /// That of the environment `name`.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (retention, interval) = match name {
            "development" => ("7d", "10s"),
            "staging" => ("30d", "5s"),
            "production" => ("90d", "5s"),
            _ => return None,
        };
        Some(Self { retention, interval })
    }

    /// Adds it to the merged `tree`.
    fn add_to(self, tree: &mut Value) {
        let Value::Dict(_, tree) = tree else { return };
        let runs = tree.entry("runs".to_owned()).or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
        if let Value::Empty(..) = runs {
            *runs = Value::Dict(Tag::Default, Dict::new());
        }
        if let Value::Dict(_, runs) = runs {
            runs.entry("retention".to_owned()).or_insert_with(|| Value::from(self.retention));
        }
        let Some(Value::Array(_, sources)) = tree.get_mut("sources") else { return };
        for source in sources {
            if let Value::Dict(_, source) = source {
                source.entry("interval".to_owned()).or_insert_with(|| Value::from(self.interval));
            }
        }
    }
}

impl<'a> Layers<'a> {
    /// The layers of the file, if any, and of the variables.
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
        Self { file, env, figment, tree, preset: None }
    }

    /// Adds `section` as the profile of the environment `name`.
    pub(super) fn add(&mut self, name: &str, section: Dict) {
        self.figment = std::mem::take(&mut self.figment).merge(Serialized::from(section, name));
    }

    /// Sets what the environment gives where no layer does.
    pub(super) const fn set_preset(&mut self, preset: Option<Preset>) {
        self.preset = preset;
    }

    /// Selects the environment `name`.
    pub(super) fn select(&mut self, name: &str) {
        self.figment = std::mem::take(&mut self.figment).select(name);
        self.tree = merged(&self.figment);
        if let Some(preset) = self.preset {
            preset.add_to(&mut self.tree);
        }
    }

    /// The merged tree.
    pub(super) const fn tree(&self) -> &Value {
        &self.tree
    }

    /// The value of the variable that sets the key at `path`.
    pub(super) fn raw(&self, path: &[String]) -> Option<&str> {
        self.env.raw(path)
    }

    /// A problem of the key at `path`, with its location.
    pub(super) fn problem(&self, path: &[String], message: String) -> Problem {
        self.found(Problem::new(mistake::key(path), message), path)
    }

    /// Adds the location of the key at `path`, or of its nearest enclosing section.
    pub(super) fn found(&self, problem: Problem, path: &[String]) -> Problem {
        let nearest = (1..=path.len()).rev().filter_map(|length| path.get(..length));
        let Some((source, value)) = nearest.filter_map(|path| Some((path, locate(&self.tree, path)?))).next() else {
            return problem;
        };
        let section = [PROFILES.to_owned(), self.figment.profile().to_string()];
        let (of_section, source_of_section) = ([&section, path].concat(), [&section, source].concat());
        if let Some((origin, place)) = self.in_file(value, &source_of_section, &of_section, None) {
            return Problem { origin, place, ..problem.under(&mistake::key(&section)) };
        }
        if let Some((origin, place)) = self.in_file(value, source, path, Some(Profile::Default)) {
            return Problem { origin, place, ..problem };
        }
        Problem { origin: Origin::Variable(self.env.variable_for(path)), ..problem }
    }

    /// The location of `path` in the file, if the effective `value` at `source` comes from its `profile`. Of sections that are
    /// merged from several layers, the location in the file is preferred.
    fn in_file(
        &self,
        value: &Value,
        source: &[String],
        path: &[String],
        profile: Option<Profile>,
    ) -> Option<(Origin, Option<Position>)> {
        let (file, document) = self.file.as_ref()?;
        let by_file = locate(&document.value, source)?;
        let is_from_file = match (value, by_file) {
            (Value::Dict(..), Value::Dict(..)) => true,
            _ => value.tag().profile() == profile,
        };
        is_from_file.then(|| (Origin::File(file.to_path_buf()), document.place(path)))
    }
}

/// The merged layers of `figment`.
fn merged(figment: &Figment) -> Value {
    // Fails only for a layer that is not a map, and all are.
    figment.find_value("").unwrap_or_else(|_| Value::Dict(Tag::Default, Dict::new()))
}

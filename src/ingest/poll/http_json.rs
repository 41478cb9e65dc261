//! Any JSON status page, read by JSONPath (RFC 9535): one path selects the agents, the others are read within each.
//!
//! A page that selects nothing is an empty fleet only where the place for agents is there and has none: an empty
//! list, or a list whose filter lets nobody through. Everything else that selects nothing is a page that is not
//! understood, which changes no agent.

mod functions;
mod paths;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json_path::JsonPath;

use self::paths::{AgentsPath, NamePath};
use crate::decode::read::{Scalar, shown};
use crate::decode::words;
use crate::ingest::config::SourceConfig;
use crate::ingest::draft::{Draft, Fault, Finished, Place};
use crate::ingest::fields::Field;
use crate::ingest::page::{self, failed};
use crate::ingest::{MAX_AGENTS, MAX_TEXT, owned};
use crate::model::{AgentStatus, AgentUpdate, Batch, Problem, RejectReason, SourceError, SourceErrorReason, Time};
use crate::text;

/// The paths and words of one page, checked and compiled.
#[derive(Debug)]
pub(in crate::ingest) struct HttpJson {
    agents: AgentsPath,
    name: NamePath,
    project: Option<JsonPath>,
    fields: Vec<(Field, JsonPath)>,
    status_map: BTreeMap<String, AgentStatus>,
}

impl HttpJson {
    /// Compiles the paths and words of `source`; the error lists every one that can't be; paths begin
    /// below the source.
    pub(in crate::ingest) fn compile(source: &SourceConfig) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let status_map = status_map(source, &mut problems);
        let Some(paths) = &source.fields else {
            let message = "`http-json` needs it; give at least `agents` and `name`, such as $.agents[*] and $.name";
            problems.push(Problem::new("fields", message));
            return Err(problems);
        };
        let mut wrong = |key: &str, message: String| problems.push(Problem::new(format!("fields.{key}"), message));
        let agents = AgentsPath::parse(&paths.agents).map_err(|message| wrong("agents", message));
        let name = NamePath::parse(&paths.name).map_err(|message| wrong("name", message));
        let (mut project, mut fields) = (None, Vec::new());
        for (key, path) in &paths.fields {
            let known = Field::NAMES.iter().find(|(name, _)| name == key).map(|(_, field)| *field);
            if known.is_none() && key != "project" {
                let mut names = vec!["project"];
                names.extend(Field::NAMES.map(|(name, _)| name));
                wrong(key, format!("no such field; {}", words::instead(key, &names)));
                continue;
            }
            match (paths::parse(path), known) {
                (Ok(path), Some(field)) => fields.push((field, path)),
                (Ok(path), None) => project = Some(path),
                (Err(message), _) => wrong(key, message),
            }
        }
        match (agents, name) {
            (Ok(agents), Ok(name)) if problems.is_empty() => Ok(Self { agents, name, project, fields, status_map }),
            _ => Err(problems),
        }
    }

    /// The agents that the page `text` shows: one complete batch for each project, for `project` where it names none.
    pub(in crate::ingest) fn read(
        &self,
        text: &str,
        now: Time,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        let page = page::tree(text)?;
        let said = page::said_error(text);
        let nodes = match self.agents.select(&page, self.name.is_key()) {
            Ok(nodes) => nodes,
            Err(error) => return Err(said.unwrap_or(error)),
        };
        // With agents beside it, an `error` is a field of the page; alone it is why there are none.
        if let Some(error) = said.as_ref().filter(|_| nodes.is_empty()) {
            return Err(error.clone());
        }
        if nodes.len() > MAX_AGENTS {
            let message = format!("the page holds more than {MAX_AGENTS} agents; poll smaller pages");
            return Err(failed(SourceErrorReason::TooLarge, &message));
        }
        let mut batches: BTreeMap<Cow<'_, str>, Batch<'static>> = BTreeMap::new();
        if self.project.is_none() {
            batches.insert(Cow::Borrowed(project), Batch::default());
        }
        let mut whole = said.is_none();
        for (index, (key, node)) in nodes.into_iter().enumerate() {
            let (named, read) = match self.project(node) {
                Ok(named) => (named, self.agent(key, node, now)),
                Err(fault) => (None, Finished { name: Cow::Borrowed(""), item: None, faults: vec![fault] }),
            };
            let batch = batches.entry(named.unwrap_or(Cow::Borrowed(project))).or_default();
            match read.settle(Place::agent(index), &mut batch.rejected) {
                Some(agent) => batch.agents.push(owned::agent(AgentUpdate { index, ..agent })),
                None => whole = false,
            }
        }
        let finish = |(project, mut batch): (Cow<'_, str>, Batch<'static>)| {
            batch.project = Cow::Owned(project.into_owned());
            batch.complete = whole;
            batch
        };
        Ok(batches.into_iter().map(finish).collect())
    }

    fn project<'v>(&self, node: &'v Value) -> Result<Option<Cow<'v, str>>, Fault> {
        let Some(value) = self.project.as_ref().and_then(|path| path.query(node).first()) else {
            return Ok(None);
        };
        match coerced(Field::Name, Scalar::from(value)) {
            Scalar::Null => Ok(None),
            Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => Ok(Some(name)),
            other => Err(Fault::unfit_name("project", &other)),
        }
    }

    fn agent<'v>(&self, key: Option<&'v str>, node: &'v Value, now: Time) -> Finished<'v, AgentUpdate<'v>> {
        let mut draft = Draft::new(now);
        match &self.name {
            NamePath::Key => {
                if let Some(key) = key {
                    draft.set(Field::Name, Scalar::Text(Cow::Borrowed(key)));
                }
            }
            NamePath::Path(path) => {
                if let Some(value) = path.query(node).first() {
                    draft.set(Field::Name, coerced(Field::Name, Scalar::from(value)));
                }
            }
        }
        for (field, path) in &self.fields {
            let Some(value) = path.query(node).first() else { continue };
            let value = coerced(*field, Scalar::from(value));
            match (field, value) {
                (Field::Status, Scalar::Text(word)) => match self.status(&word) {
                    Some(status) => draft.set(Field::Status, Scalar::Text(Cow::Borrowed(status.as_str()))),
                    None => draft.fault(unmapped(&word)),
                },
                (_, value) => draft.set(*field, value),
            }
        }
        draft.finish()
    }

    fn status(&self, word: &str) -> Option<AgentStatus> {
        let mapped = self.status_map.get(word).copied();
        let alike =
            || self.status_map.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, status)| *status);
        mapped.or_else(alike).or_else(|| words::status(word))
    }
}

fn unmapped(word: &str) -> Fault {
    let known = words::STATUSES.join(", ");
    Fault {
        field: "status",
        reason: RejectReason::Status,
        error: format!("unknown status `{}`; map it in `status_map` to one of {known}", shown(word)),
    }
}

fn status_map(source: &SourceConfig, problems: &mut Vec<Problem>) -> BTreeMap<String, AgentStatus> {
    let mut map = BTreeMap::new();
    for (word, status) in &source.status_map {
        match words::status(status) {
            Some(status) => _ = map.insert(word.clone(), status),
            None => {
                let message = format!("`{}` is no status; {}", shown(status), words::instead(status, &words::STATUSES));
                problems.push(Problem::new(format!("status_map.{}", shown(word)), message));
            }
        }
    }
    map
}

/// `value` as `field` needs it, where pages write it otherwise: numbers as strings, names and status codes as numbers,
/// flags as words or numbers.
fn coerced(field: Field, value: Scalar<'_>) -> Scalar<'_> {
    if field.is_text() {
        return match value {
            Scalar::Whole(number) => Scalar::Text(Cow::Owned(number.to_string())),
            Scalar::Number(number) => Scalar::Text(Cow::Owned(number.to_string())),
            Scalar::Flag(flag) => Scalar::Text(Cow::Borrowed(if flag { "true" } else { "false" })),
            other => other,
        };
    }
    let word = match &value {
        Scalar::Text(text) => text.trim(),
        Scalar::Whole(0) if field == Field::Running => "false",
        Scalar::Whole(1) if field == Field::Running => "true",
        _ => return value,
    };
    if field == Field::Running {
        return match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Scalar::Flag(true),
            "false" | "no" | "off" | "0" => Scalar::Flag(false),
            "" => Scalar::Null,
            _ => value,
        };
    }
    if word.is_empty() {
        return Scalar::Null;
    }
    if let Ok(number) = word.parse() {
        return Scalar::Whole(number);
    }
    match word.parse::<f64>() {
        Ok(number) if number.is_finite() => Scalar::Number(number),
        _ => value,
    }
}

#[cfg(test)]
mod tests;

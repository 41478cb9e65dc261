//! Decodes any JSON page by JSONPath (RFC 9535): one path selects the agents, the others select fields of an agent.
//!
//! A page without agents is an empty fleet only if the list of agents exists and is empty, or if a filter selects none of
//! them. Otherwise the page is malformed, and no agent changes.

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
use crate::ingest::draft::{AgentDraft, DraftResult, ItemError, ItemLocation};
use crate::ingest::fields::AgentField;
use crate::ingest::page::{self, failed};
use crate::ingest::{MAX_AGENTS, MAX_TEXT, owned};
use crate::model::{AgentStatus, AgentUpdate, Batch, Problem, RejectReason, SourceError, SourceErrorReason, Time};
use crate::text;

/// The compiled paths and the status map of a page.
#[derive(Debug)]
pub(in crate::ingest) struct HttpJson {
    agents: AgentsPath,
    name: NamePath,
    project: Option<JsonPath>,
    fields: Vec<(AgentField, JsonPath)>,
    status_map: BTreeMap<String, AgentStatus>,
}

impl HttpJson {
    /// Compiles the paths and the status map of `source`; the error lists all that are invalid, with paths below the
    /// source.
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
            let known = AgentField::NAMES.iter().find(|(name, _)| name == key).map(|(_, field)| *field);
            if known.is_none() && key != "project" {
                let mut names = vec!["project"];
                names.extend(AgentField::NAMES.map(|(name, _)| name));
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

    /// The agents of the page `text`: one complete batch for each project; agents without a project belong to `project`.
    pub(in crate::ingest) fn read(
        &self,
        text: &str,
        now: Time,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        let page = page::tree(text)?;
        let reported = page::reported_error(text);
        let nodes = match self.agents.select(&page, self.name.is_key()) {
            Ok(nodes) => nodes,
            Err(error) => return Err(reported.unwrap_or(error)),
        };
        // With agents on the page, `error` is a field like others; without agents it is the reason why there are none.
        if let Some(error) = reported.as_ref().filter(|_| nodes.is_empty()) {
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
        let mut whole = reported.is_none();
        for (index, (key, node)) in nodes.into_iter().enumerate() {
            let (named, read) = match self.project(node) {
                Ok(named) => (named, self.agent(key, node, now)),
                Err(item_error) => {
                    (None, DraftResult { name: Cow::Borrowed(""), item: None, errors: vec![item_error] })
                }
            };
            let batch = batches.entry(named.unwrap_or(Cow::Borrowed(project))).or_default();
            match read.report(ItemLocation::agent(index), &mut batch.rejected) {
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

    fn project<'v>(&self, node: &'v Value) -> Result<Option<Cow<'v, str>>, ItemError> {
        let Some(value) = self.project.as_ref().and_then(|path| path.query(node).first()) else {
            return Ok(None);
        };
        match coerced(AgentField::Name, Scalar::from(value)) {
            Scalar::Null => Ok(None),
            Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => Ok(Some(name)),
            other => Err(ItemError::invalid_name_in("project", &other)),
        }
    }

    fn agent<'v>(&self, key: Option<&'v str>, node: &'v Value, now: Time) -> DraftResult<'v, AgentUpdate<'v>> {
        let mut draft = AgentDraft::new(now);
        match &self.name {
            NamePath::Key => {
                if let Some(key) = key {
                    draft.set(AgentField::Name, Scalar::Text(Cow::Borrowed(key)));
                }
            }
            NamePath::Path(path) => {
                if let Some(value) = path.query(node).first() {
                    draft.set(AgentField::Name, coerced(AgentField::Name, Scalar::from(value)));
                }
            }
        }
        for (field, path) in &self.fields {
            let Some(value) = path.query(node).first() else { continue };
            let value = coerced(*field, Scalar::from(value));
            match (field, value) {
                (AgentField::Status, Scalar::Text(word)) => match self.status(&word) {
                    Some(status) => draft.set(AgentField::Status, Scalar::Text(Cow::Borrowed(status.as_str()))),
                    None => draft.add_error(unmapped(&word)),
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

fn unmapped(word: &str) -> ItemError {
    let known = words::STATUSES.join(", ");
    ItemError {
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
                let message =
                    format!("unknown status `{}`; {}", shown(status), words::instead(status, &words::STATUSES));
                problems.push(Problem::new(format!("status_map.{}", shown(word)), message));
            }
        }
    }
    map
}

/// `value` converted to the type of `field`: pages write numbers as strings, names and statuses as numbers, and flags as
/// words or numbers.
fn coerced(field: AgentField, value: Scalar<'_>) -> Scalar<'_> {
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
        Scalar::Whole(0) if field == AgentField::Running => "false",
        Scalar::Whole(1) if field == AgentField::Running => "true",
        _ => return value,
    };
    if field == AgentField::Running {
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

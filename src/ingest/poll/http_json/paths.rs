//! Parses configured paths. The one that selects agents distinguishes an empty fleet from a malformed page.

use serde_json::Value;
use serde_json_path::JsonPath;

use crate::decode::read::shown;
use crate::ingest::page::malformed;
use crate::model::SourceError;

/// Longest path, in bytes.
const MAX_PATH: usize = 1_024;

/// Parses a JSONPath; the error contains the remedy.
pub(super) fn parse(path: &str) -> Result<JsonPath, String> {
    if !path.starts_with('$') {
        return Err(format!("`{}` is not a JSONPath; start it with `$`, such as $.status", shown(path)));
    }
    if path.len() > MAX_PATH {
        return Err(format!("the JSONPath is longer than {MAX_PATH} bytes; use a shorter one"));
    }
    JsonPath::parse(path).map_err(|error| format!("`{}` is not a JSONPath (RFC 9535): {error}", shown(path)))
}

/// Where an agent's name is.
#[derive(Debug)]
pub(super) enum NamePath {
    /// The key under which the agent is found.
    Key,
    /// Within the agent.
    Path(JsonPath),
}

impl NamePath {
    pub(super) fn parse(path: &str) -> Result<Self, String> {
        match path {
            "@key" => Ok(Self::Key),
            _ if path.starts_with('@') => {
                Err(format!("`{}` is not a path; write `@key` for the key of each agent", shown(path)))
            }
            _ => parse(path).map(Self::Path),
        }
    }

    pub(super) fn is_key(&self) -> bool {
        matches!(self, Self::Key)
    }
}

/// The path that selects agents, and its ancestors.
#[derive(Debug)]
pub(super) struct AgentsPath {
    path: JsonPath,
    shown: String,
    /// The path without its last segment, and so on up to the root; with each, whether the segment that was removed can
    /// select many nodes, and so none.
    ancestors: Vec<(JsonPath, bool)>,
}

/// An agent, and its key if it was requested and exists.
pub(super) type AgentNode<'v> = (Option<&'v str>, &'v Value);

impl AgentsPath {
    pub(super) fn parse(path: &str) -> Result<Self, String> {
        let compiled = parse(path)?;
        let mut ancestors = Vec::new();
        let mut rest = path.trim_end();
        while let Some((parent, selects_many)) = parent(rest) {
            let Ok(compiled) = JsonPath::parse(parent) else { break };
            ancestors.push((compiled, selects_many));
            rest = parent;
        }
        Ok(Self { path: compiled, shown: shown(path), ancestors })
    }

    /// The agents in `page`, with their keys if `keyed`; the error is that of a malformed page.
    pub(super) fn select<'v>(&self, page: &'v Value, keyed: bool) -> Result<Vec<AgentNode<'v>>, SourceError> {
        let nodes: Vec<AgentNode<'v>> = if keyed {
            let located = self.path.query_located(page);
            located.iter().map(|node| (key(page, node.location().iter()), node.node())).collect()
        } else {
            self.path.query(page).all().into_iter().map(|node| (None, node)).collect()
        };
        if nodes.is_empty() && !self.is_empty_fleet(page) {
            return Err(malformed(&format!(
                "`{}` selects nothing, and there is no empty list either; compare the path with the page",
                self.shown
            )));
        }
        Ok(nodes)
    }

    /// Whether nothing was selected because there are no agents: the nearest existing ancestor is a list or an object from
    /// which the next segment may select nothing.
    fn is_empty_fleet(&self, page: &Value) -> bool {
        for (ancestor, selects_many) in &self.ancestors {
            let nodes = ancestor.query(page);
            if !nodes.is_empty() {
                return *selects_many && nodes.iter().all(|node| node.is_array() || node.is_object());
            }
        }
        false
    }
}

/// The key of the node at `path` in its object. It is looked up in the page, since the path borrows from the query.
fn key<'v, 'p>(page: &'v Value, path: impl Iterator<Item = &'p serde_json_path::PathElement<'p>>) -> Option<&'v str> {
    let (mut at, mut key) = (page, None);
    for element in path {
        (at, key) = match (element.as_name(), element.as_index(), at) {
            (Some(name), _, Value::Object(object)) => {
                object.get_key_value(name).map(|(key, value)| (value, Some(key.as_str())))?
            }
            (_, Some(index), Value::Array(list)) => (list.get(index)?, None),
            _ => return None,
        };
    }
    key
}

/// `path` without its last segment, and whether that segment can select many nodes; `None` at the root, and for a segment
/// of descendants (`..`).
fn parent(path: &str) -> Option<(&str, bool)> {
    let (mut depth, mut quote, mut escaped, mut start) = (0_u32, None, false, None);
    let mut previous = None;
    for (index, letter) in path.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(mark) if letter == mark => quote = None,
            Some(_) => {}
            None => match letter {
                '"' | '\'' => quote = Some(letter),
                // `..[0]` is one segment.
                '[' | '.' if depth == 0 && previous != Some('.') => {
                    start = Some(index);
                    depth += u32::from(letter == '[');
                }
                '[' | '(' => depth += 1,
                ']' | ')' => depth = depth.saturating_sub(1),
                _ => {}
            },
        }
        previous = Some(letter);
    }
    let (rest, segment) = path.split_at_checked(start?)?;
    if segment.starts_with("..") {
        return None;
    }
    Some((rest.trim_end(), selects_many(segment)))
}

/// Whether a segment is a wildcard, a filter or a slice, rather than a list of names and indices.
fn selects_many(segment: &str) -> bool {
    let Some(inside) = segment.strip_prefix('[') else {
        return segment.strip_prefix('.').is_some_and(|name| name.trim_start() == "*");
    };
    let inside = inside.trim_start();
    inside.starts_with(['*', '?', ':'])
        || inside.starts_with(|letter: char| letter == '-' || letter.is_ascii_digit()) && inside.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &[(&str, bool)]) {
        let mut found = Vec::new();
        let mut rest = path;
        while let Some((up, selects_many)) = parent(rest) {
            found.push((up, selects_many));
            rest = up;
        }
        assert_eq!(found, expected, "{path}");
        assert!(JsonPath::parse(path).is_ok(), "{path}");
    }

    #[test]
    fn ancestors_of_a_path_are_found_by_segments() {
        check("$", &[]);
        check("$.agents[*]", &[("$.agents", true), ("$", false)]);
        check(
            "$.teams.*.agents[1:]",
            &[("$.teams.*.agents", true), ("$.teams.*", false), ("$.teams", true), ("$", false)],
        );
        check("$['a.b[\\'c']['*']", &[("$['a.b[\\'c']", false), ("$", false)]);
        check("$.a[?@.b['x'] == ']' && (@.c[0] > 1)]", &[("$.a", true), ("$", false)]);
        check("$.a[0]", &[("$.a", false), ("$", false)]);
        check("$..agents[*]", &[("$..agents", true)]);
        check("$..[*]", &[]);
    }
}

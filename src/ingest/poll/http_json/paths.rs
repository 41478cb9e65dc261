//! Paths as a configuration gives them, and the one that selects agents, which must tell an empty fleet from a page
//! that is not understood.

use serde_json::Value;
use serde_json_path::JsonPath;

use crate::decode::read::shown;
use crate::ingest::page::malformed;
use crate::model::SourceError;

/// Longest path, in bytes.
const MAX_PATH: usize = 1_024;

/// Reads a JSONPath; the error says what would do.
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
                Err(format!("`{}` is no name; write `@key` for the key of each agent", shown(path)))
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
    /// From the path without its last segment upwards to the root; with each whether the segment left out can select
    /// many, so that it may select none.
    ancestors: Vec<(JsonPath, bool)>,
}

/// An agent's key, where it was asked for and there is one, and the agent.
pub(super) type Node<'v> = (Option<&'v str>, &'v Value);

impl AgentsPath {
    pub(super) fn parse(path: &str) -> Result<Self, String> {
        let compiled = parse(path)?;
        let mut ancestors = Vec::new();
        let mut rest = path.trim_end();
        while let Some((parent, many)) = parent(rest) {
            let Ok(compiled) = JsonPath::parse(parent) else { break };
            ancestors.push((compiled, many));
            rest = parent;
        }
        Ok(Self { path: compiled, shown: shown(path), ancestors })
    }

    /// The agents in `page`, with their keys when `keyed`; the error says that it is not a page of agents.
    pub(super) fn select<'v>(&self, page: &'v Value, keyed: bool) -> Result<Vec<Node<'v>>, SourceError> {
        let nodes: Vec<Node<'v>> = if keyed {
            let located = self.path.query_located(page);
            located.iter().map(|node| (key(page, node.location().iter()), node.node())).collect()
        } else {
            self.path.query(page).all().into_iter().map(|node| (None, node)).collect()
        };
        if nodes.is_empty() && !self.is_empty_fleet(page) {
            return Err(malformed(&format!(
                "`{}` selects nothing, and no empty list either; see what the page holds",
                self.shown
            )));
        }
        Ok(nodes)
    }

    /// Whether nothing was selected because there is nothing: the nearest ancestor that is there is a list or an object,
    /// and what was looked for below it may be missing.
    fn is_empty_fleet(&self, page: &Value) -> bool {
        for (ancestor, many) in &self.ancestors {
            let nodes = ancestor.query(page);
            if !nodes.is_empty() {
                return *many && nodes.iter().all(|node| node.is_array() || node.is_object());
            }
        }
        false
    }
}

/// The key of the node at `path`: its name in the object that holds it. The page itself is asked for it, since the path
/// borrows from the query.
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

/// `path` without its last segment, and whether that segment can select many; `None` at the root and at what looks
/// further down than its children (`..`).
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
    Some((rest.trim_end(), many(segment)))
}

/// Whether a segment is a wildcard, a filter or a slice, rather than names and indices.
fn many(segment: &str) -> bool {
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
        while let Some((up, many)) = parent(rest) {
            found.push((up, many));
            rest = up;
        }
        assert_eq!(found, expected, "{path}");
        assert!(JsonPath::parse(path).is_ok(), "{path}");
    }

    #[test]
    fn a_path_is_walked_upwards_by_segments() {
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

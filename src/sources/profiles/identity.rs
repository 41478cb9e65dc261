//! Whose telemetry it is: what it says itself, else rules of the configuration, else the service and its host. Refuses
//! what names a session or a single object: such a name would be an agent of its own each time.

use std::sync::Arc;

use super::attributes::text;
use super::litellm;
use super::table::Profile;
use crate::model::text::is_name;
use crate::sources::otlp::config::{AgentRule, matches};
use crate::sources::otlp::wire::KeyValue;
use crate::sources::push::DEFAULT_PROJECT;

/// Longest name of an agent or project, in bytes.
const MAX_NAME: usize = 256;
/// How a name of an agent is given, the likeliest first.
const AGENT: [&str; 5] = ["agent.name", "gen_ai.agent.name", "agent_id", "agent.id", "gen_ai.agent.id"];
/// How a project is.
const PROJECT: [&str; 2] = ["project", "service.namespace"];
/// Hex digits in a row, dashes left out, that no name has.
const ID_DIGITS: usize = 16;

/// Longest value of a producer's attribute that is looked at, in bytes.
const MAX_VALUE: usize = 1_024;
/// What else is looked for in a producer.
const PRODUCER: [&str; 4] = ["service.name", "service.instance.id", "host.name", "session.id"];

/// Of a producer's attributes those that anything is looked for in, once each: they are looked through for each item, and
/// a producer may have as many as fit into a body.
pub(super) fn sought(rules: &[AgentRule], resource: &[KeyValue]) -> Vec<KeyValue> {
    let is_sought = |key: &str| {
        PRODUCER.contains(&key)
            || AGENT.contains(&key)
            || PROJECT.contains(&key)
            || rules.iter().any(|rule| rule.r#match.contains_key(key))
    };
    let mut kept: Vec<KeyValue> = Vec::new();
    for attribute in resource {
        if is_sought(&attribute.key) && kept.iter().all(|known| known.key != attribute.key) {
            let value = text(std::slice::from_ref(attribute), &attribute.key).filter(|value| value.len() <= MAX_VALUE);
            let value = value.and_then(|_| attribute.value.clone());
            kept.push(KeyValue { key: attribute.key.clone(), value });
        }
    }
    kept
}

/// The project, the name, and whether anybody gave it; `None` when nothing in it is a name.
pub(super) fn identify(
    profile: &Profile,
    rules: &[AgentRule],
    resource: &[KeyValue],
    item: &[KeyValue],
) -> Option<(Arc<str>, Arc<str>, bool)> {
    let inner = || {
        litellm::AGENT_IN.into_iter().find_map(|(attribute, key)| {
            let object = text(item, attribute)?;
            litellm::inner(&object, key).filter(|name| is_stable(name)).map(Arc::from)
        })
    };
    let by_item = profile.items_name_agents.then(|| said(item, &AGENT).or_else(inner)).flatten();
    resolve(rules, resource, item, by_item, || {
        let service = text(resource, "service.name").filter(|name| is_stable(name));
        let service = service.as_deref().unwrap_or(profile.name);
        match text(resource, "host.name").filter(|name| profile.names_host && is_stable(name)) {
            Some(host) => Some(Arc::from(format!("{service}@{host}"))),
            None => Some(Arc::from(service)),
        }
    })
}

/// The same for a hook: what its `sender` says counts, else a rule that fits that and `item`, else the folder it works in.
pub(in crate::sources) fn of_hook(
    rules: &[AgentRule],
    sender: &[KeyValue],
    item: &[KeyValue],
    folder: Option<&str>,
) -> Option<(Arc<str>, Arc<str>)> {
    let otherwise = || folder.filter(|name| is_stable(name)).map(Arc::from);
    resolve(rules, sender, item, None, otherwise).map(|(project, name, _)| (project, name))
}

/// What the producer says, else the item, else the first rule that fits, else `otherwise`; and whether it is not that.
fn resolve(
    rules: &[AgentRule],
    resource: &[KeyValue],
    item: &[KeyValue],
    by_item: Option<Arc<str>>,
    otherwise: impl FnOnce() -> Option<Arc<str>>,
) -> Option<(Arc<str>, Arc<str>, bool)> {
    let rule = rules.iter().find(|rule| {
        rule.r#match.iter().all(|(key, pattern)| {
            text(item, key).or_else(|| text(resource, key)).is_some_and(|value| matches(pattern, &value))
        })
    });
    let given = said(resource, &AGENT).or(by_item).or_else(|| rule.map(|it| Arc::from(&*it.agent)));
    let is_given = given.is_some();
    let named = given.or_else(otherwise);
    let project = said(resource, &PROJECT).or_else(|| said(item, &PROJECT[..1]));
    let project = project.or_else(|| rule.and_then(|it| it.project.as_deref()).map(Arc::from));
    let name = named.filter(|name| is_name(name, MAX_NAME))?;
    Some((project.unwrap_or_else(|| Arc::from(DEFAULT_PROJECT)), name, is_given))
}

fn said(attributes: &[KeyValue], keys: &[&str]) -> Option<Arc<str>> {
    keys.iter().find_map(|key| text(attributes, key).filter(|name| is_stable(name)).map(|name| Arc::from(&*name)))
}

/// Whether it may be a name: none with a UUID or another long id in it, nor an address of mail.
fn is_stable(name: &str) -> bool {
    if name.len() > MAX_NAME {
        return false;
    }
    let mut run = 0;
    for letter in name.chars() {
        match letter {
            '0'..='9' | 'a'..='f' | 'A'..='F' => run += 1,
            '-' => {}
            _ => run = 0,
        }
        if run >= ID_DIGITS {
            return false;
        }
    }
    is_name(name, MAX_NAME) && !name.contains('@')
}

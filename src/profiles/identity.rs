//! Which agent telemetry and hooks belong to: the one they name, else the one of a configured rule, else the service and
//! its host. A name that contains an id, such as a session's, is not used: each one would become an agent of its own.

use std::sync::Arc;

use super::attributes::{Attributes, text};
use super::litellm;
use super::profile::Profile;
use super::registered::RegisteredNames;
use crate::model::DEFAULT_PROJECT;
use crate::otlp::config::AgentRule;
use crate::otlp::wire::{KeyValue, string_attribute};
use crate::text::glob::glob;
use crate::text::is_name;

/// Longest name of an agent or project, in bytes.
const MAX_NAME: usize = 256;
/// Query parameters that are read; more are ignored.
const MAX_PARAMETERS: usize = 16;
/// Attributes that name an agent, the preferred one first.
const AGENT: [&str; 6] =
    ["agent.name", "gen_ai.agent.name", "agent_id", "agent.id", "gen_ai.agent.id", "litellm.metadata.agent_id"];
/// Those that give a name rather than an id.
const AGENT_NAME: [&str; 2] = ["agent.name", "gen_ai.agent.name"];
/// Attributes that may give the id of a registered agent.
const AGENT_ID: [&str; 5] =
    ["agent_id", "metadata.agent_id", "litellm.metadata.agent_id", "agent.id", "gen_ai.agent.id"];
/// Attributes that name a project.
const PROJECT: [&str; 2] = ["project", "service.namespace"];
/// The same on an item.
const ITEM_PROJECT: [&str; 2] = ["project", "litellm.metadata.project"];
/// Hex digits in a row, not counting dashes, that make a name an id.
const ID_DIGITS: usize = 16;

/// Longest value of a resource attribute that is used, in bytes.
const MAX_VALUE: usize = 1_024;
/// Other resource attributes that are used.
const RESOURCE: [&str; 4] = ["service.name", "service.instance.id", "host.name", "session.id"];

/// The resource attributes that are used, each once. They are searched for each item, and a resource may have as many
/// attributes as fit into a body.
pub(super) fn relevant(rules: &[AgentRule], resource: &[KeyValue]) -> Vec<KeyValue> {
    let is_relevant = |key: &str| {
        RESOURCE.contains(&key)
            || AGENT.contains(&key)
            || PROJECT.contains(&key)
            || rules.iter().any(|rule| rule.r#match.contains_key(key))
    };
    let mut kept: Vec<KeyValue> = Vec::new();
    for attribute in resource {
        if is_relevant(&attribute.key) && kept.iter().all(|known| known.key != attribute.key) {
            let value = text(std::slice::from_ref(attribute), &attribute.key).filter(|value| value.len() <= MAX_VALUE);
            let value = value.and_then(|_| attribute.value.clone());
            kept.push(KeyValue { key: attribute.key.clone(), value, ..KeyValue::default() });
        }
    }
    kept
}

/// The project and the name of the agent, and whether a person chose the name; `None` when there is no valid name.
pub(super) fn identify(
    profile: &Profile,
    rules: &[AgentRule],
    registered: &RegisteredNames,
    resource: Attributes<'_>,
    item: Attributes<'_>,
) -> Option<(Arc<str>, Arc<str>, bool)> {
    let rule = matching_rule(rules, resource, item);
    // The operator's own rules win.
    if profile.agent_from_items
        && rule.is_none()
        && !registered.is_empty()
        && let Some((project, agent)) = registered_agent(registered, resource, item)
    {
        return Some((project, agent, true));
    }
    let inner = |places: &[(&str, &str)]| {
        places.iter().find_map(|(attribute, key)| {
            let object = text(item, attribute)?;
            litellm::inner(&object, key).filter(|name| is_stable(name)).map(Arc::from)
        })
    };
    let from_items = profile.agent_from_items;
    let by_item = ItemNames {
        agent: from_items.then(|| name_in(item, &AGENT).or_else(|| inner(&litellm::AGENT_IN))).flatten(),
        project: name_in(item, &ITEM_PROJECT).or_else(|| from_items.then(|| inner(&litellm::PROJECT_IN)).flatten()),
    };
    resolve(rule, resource, by_item, || {
        if let Some((name, is_given)) =
            profile.default_agent_name.and_then(|name_of| name_of(item)).filter(|it| is_stable(&it.0))
        {
            return Some((Arc::from(name), is_given));
        }
        let service = text(resource, "service.name").filter(|name| is_stable(name));
        let service = service.as_deref().unwrap_or(profile.name);
        let name = match text(resource, "host.name").filter(|name| profile.uses_host_name && is_stable(name)) {
            Some(host) => format!("{service}@{host}"),
            None => service.to_owned(),
        };
        Some((Arc::from(name), false))
    })
}

/// The registered agent whose id an item gives, unless a name is given.
fn registered_agent(
    registered: &RegisteredNames,
    resource: Attributes<'_>,
    item: Attributes<'_>,
) -> Option<(Arc<str>, Arc<str>)> {
    let direct = || AGENT_ID.iter().find_map(|key| registered.get(&text(item, key)?));
    let within = |(attribute, key): &(&str, &str)| {
        let object = text(item, attribute)?;
        registered.get(litellm::inner(&object, key)?)
    };
    let found = direct().or_else(|| litellm::AGENT_IN.iter().find_map(within))?;
    let is_named = |attributes| name_in(attributes, &AGENT_NAME).is_some();
    (!is_named(resource) && !is_named(item)).then(|| found.clone())
}

/// How the sender of a request names itself, in query parameters and headers; as OpenTelemetry attributes.
#[derive(Clone, Debug, Default)]
pub struct SenderIdentity {
    attributes: Vec<KeyValue>,
}

impl SenderIdentity {
    /// From query parameters, followed by headers. `agent` is short for `agent.name`. Values that are no valid names are
    /// ignored.
    pub fn new<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let names = parameters.into_iter().filter(|(_, value)| is_name(value, MAX_NAME)).take(MAX_PARAMETERS);
        let attributes = names
            .map(|(key, value)| string_attribute(if key == "agent" { "agent.name" } else { key }, value))
            .collect();
        Self { attributes }
    }

    /// The attributes, for use as those of a resource.
    pub(crate) fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    /// The project and the agent of a hook of `tool`: the agent that the sender names, else that of the first matching
    /// rule, else the session's working directory, else the tool.
    pub fn identify_hook_agent(&self, rules: &[AgentRule], tool: &str, cwd: Option<&str>) -> (Arc<str>, Arc<str>) {
        let mut item = vec![string_attribute("service.name", tool)];
        item.extend(cwd.map(|cwd| string_attribute("cwd", cwd)));
        let folder = cwd.and_then(|cwd| cwd.rsplit(['/', '\\']).find(|part| !part.is_empty()));
        let fallback = || folder.filter(|name| is_stable(name)).map(|name| (Arc::from(name), false));
        let by_item = ItemNames { agent: None, project: None };
        let (resource, item) = (Attributes::new(&self.attributes), Attributes::new(&item));
        let named = resolve(matching_rule(rules, resource, item), resource, by_item, fallback);
        named.map_or_else(|| (DEFAULT_PROJECT.into(), tool.into()), |(project, name, _)| (project, name))
    }
}

/// The agent and project that an item names.
struct ItemNames {
    agent: Option<Arc<str>>,
    project: Option<Arc<str>>,
}

/// The project and the name by the resource, else by the item, else by the first matching rule, else by `fallback`; and
/// whether a person chose the name.
fn resolve(
    rule: Option<&AgentRule>,
    resource: Attributes<'_>,
    by_item: ItemNames,
    fallback: impl FnOnce() -> Option<(Arc<str>, bool)>,
) -> Option<(Arc<str>, Arc<str>, bool)> {
    let given = name_in(resource, &AGENT).or(by_item.agent).or_else(|| rule.map(|it| Arc::from(&*it.agent)));
    let (name, is_given) = given.map(|name| (name, true)).or_else(fallback)?;
    let project = name_in(resource, &PROJECT).or(by_item.project);
    let project = project.or_else(|| rule.and_then(|it| it.project.as_deref()).map(Arc::from));
    is_name(&name, MAX_NAME).then(|| (project.unwrap_or_else(|| Arc::from(DEFAULT_PROJECT)), name, is_given))
}

/// The first rule of which all attributes match.
fn matching_rule<'r>(rules: &'r [AgentRule], resource: Attributes<'_>, item: Attributes<'_>) -> Option<&'r AgentRule> {
    rules.iter().find(|rule| {
        rule.r#match.iter().all(|(key, pattern)| {
            text(item, key).or_else(|| text(resource, key)).is_some_and(|value| glob(pattern, &value))
        })
    })
}

fn name_in(attributes: Attributes<'_>, keys: &[&str]) -> Option<Arc<str>> {
    keys.iter().find_map(|key| text(attributes, key).filter(|name| is_stable(name)).map(|name| Arc::from(&*name)))
}

/// Whether `name` is a valid name that contains neither a UUID or another long id nor a mail address.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn hooks_are_named_by_the_sender_else_a_rule_else_the_directory() {
        let named = |sender: &SenderIdentity, rules: &[AgentRule], cwd: &str| {
            let (project, agent) = sender.identify_hook_agent(rules, "claude-code", Some(cwd));
            format!("{project}/{agent}")
        };
        let here = "/srv/me/shop/";
        let none = SenderIdentity::default();
        let rule = |key: &str, pattern: &str| AgentRule {
            r#match: BTreeMap::from([(key.to_owned(), pattern.to_owned())]),
            agent: "ruled".to_owned(),
            project: Some("rules".to_owned()),
        };
        assert_eq!(named(&none, &[], here), "default/shop");
        assert_eq!(named(&none, &[rule("cwd", "*/me/*")], here), "rules/ruled");
        assert_eq!(named(&none, &[rule("service.name", "claude-code")], here), "rules/ruled");
        assert_eq!(named(&none, &[rule("cwd", "/other")], here), "default/shop");
        let sender = SenderIdentity::new([("agent", "\u{7}"), ("agent", ""), ("agent", "b"), ("project", "p")]);
        assert_eq!(named(&sender, &[rule("cwd", "*/me/*")], here), "p/b");
        let sender = SenderIdentity::new([("agent.name", "c"), ("service.namespace", "n"), ("team", "t")]);
        assert_eq!(named(&sender, &[], here), "n/c");
        assert_eq!(named(&SenderIdentity::new([("team", "t")]), &[rule("team", "t")], here), "rules/ruled");
        for folder in ["/", "", "/srv/59285d37-8029-4d05-936d-7005fe197e0d", "/srv/me@example.com"] {
            assert_eq!(named(&none, &[], folder), "default/claude-code", "{folder}");
        }
        assert_eq!(named(&none, &[], r"C:\work\till"), "default/till");
        assert_eq!(none.identify_hook_agent(&[], "codex", None), ("default".into(), "codex".into()));
    }
}

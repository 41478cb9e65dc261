//! Whose telemetry it is: what it says itself, else rules of the configuration, else the service and its host. Refuses
//! what names a session or a single object: such a name would be an agent of its own each time.

use std::sync::Arc;

use super::attributes::text;
use super::litellm;
use super::table::Profile;
use crate::model::DEFAULT_PROJECT;
use crate::otlp::config::AgentRule;
use crate::otlp::wire::{KeyValue, word};
use crate::text::glob::glob;
use crate::text::is_name;

/// Longest name of an agent or project, in bytes.
const MAX_NAME: usize = 256;
/// Parameters of a request's address that are read; more say nothing.
const MAX_PARAMETERS: usize = 16;
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
            kept.push(KeyValue { key: attribute.key.clone(), value, ..KeyValue::default() });
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
    let inner = |places: &[(&str, &str)]| {
        places.iter().find_map(|(attribute, key)| {
            let object = text(item, attribute)?;
            litellm::inner(&object, key).filter(|name| is_stable(name)).map(Arc::from)
        })
    };
    let names = profile.items_name_agents;
    let by_item = Named {
        agent: names.then(|| said(item, &AGENT).or_else(|| inner(&litellm::AGENT_IN))).flatten(),
        project: said(item, &PROJECT[..1]).or_else(|| names.then(|| inner(&litellm::PROJECT_IN)).flatten()),
    };
    resolve(rules, resource, item, by_item, || {
        if let Some((name, is_given)) = profile.called.and_then(|called| called(item)).filter(|it| is_stable(&it.0)) {
            return Some((Arc::from(name), is_given));
        }
        let service = text(resource, "service.name").filter(|name| is_stable(name));
        let service = service.as_deref().unwrap_or(profile.name);
        let name = match text(resource, "host.name").filter(|name| profile.names_host && is_stable(name)) {
            Some(host) => format!("{service}@{host}"),
            None => service.to_owned(),
        };
        Some((Arc::from(name), false))
    })
}

/// What the sender of a request says of itself, in the address that it posts to and in headers, under OpenTelemetry's names.
#[derive(Clone, Debug, Default)]
pub struct SenderIdentity {
    attributes: Vec<KeyValue>,
}

impl SenderIdentity {
    /// Of the parameters of an address, then of headers. `agent` and `project` may be given by these names; what could be
    /// no name is passed over.
    pub fn new<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let names = parameters.into_iter().filter(|(_, value)| is_name(value, MAX_NAME)).take(MAX_PARAMETERS);
        let attributes =
            names.map(|(key, value)| word(if key == "agent" { "agent.name" } else { key }, value)).collect();
        Self { attributes }
    }

    /// It as attributes of a producer.
    pub(crate) fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    /// The project and the agent of a hook of `tool`: whom its sender names, else whom the first fitting of `rules` names,
    /// else the folder that its session works in, else the tool.
    pub fn identify_hook_agent(&self, rules: &[AgentRule], tool: &str, cwd: Option<&str>) -> (Arc<str>, Arc<str>) {
        let mut item = vec![word("service.name", tool)];
        item.extend(cwd.map(|cwd| word("cwd", cwd)));
        let folder = cwd.and_then(|cwd| cwd.rsplit(['/', '\\']).find(|part| !part.is_empty()));
        let otherwise = || folder.filter(|name| is_stable(name)).map(|name| (Arc::from(name), false));
        let by_item = Named { agent: None, project: None };
        let named = resolve(rules, &self.attributes, &item, by_item, otherwise);
        named.map_or_else(|| (DEFAULT_PROJECT.into(), tool.into()), |(project, name, _)| (project, name))
    }
}

/// What an item says of whose it is.
struct Named {
    agent: Option<Arc<str>>,
    project: Option<Arc<str>>,
}

/// What the producer says, else the item, else the first rule that fits, else `otherwise`; and whether anybody gave it.
fn resolve(
    rules: &[AgentRule],
    resource: &[KeyValue],
    item: &[KeyValue],
    by_item: Named,
    otherwise: impl FnOnce() -> Option<(Arc<str>, bool)>,
) -> Option<(Arc<str>, Arc<str>, bool)> {
    let rule = rules.iter().find(|rule| {
        rule.r#match.iter().all(|(key, pattern)| {
            text(item, key).or_else(|| text(resource, key)).is_some_and(|value| glob(pattern, &value))
        })
    });
    let given = said(resource, &AGENT).or(by_item.agent).or_else(|| rule.map(|it| Arc::from(&*it.agent)));
    let (name, is_given) = given.map(|name| (name, true)).or_else(otherwise)?;
    let project = said(resource, &PROJECT).or(by_item.project);
    let project = project.or_else(|| rule.and_then(|it| it.project.as_deref()).map(Arc::from));
    is_name(&name, MAX_NAME).then(|| (project.unwrap_or_else(|| Arc::from(DEFAULT_PROJECT)), name, is_given))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_come_from_the_sender_else_a_rule_else_the_folder() {
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

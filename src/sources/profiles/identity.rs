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

/// The same for a hook: what its `sender` says counts, else a rule that fits that and `item`, else the folder it works in.
pub(in crate::sources) fn of_hook(
    rules: &[AgentRule],
    sender: &[KeyValue],
    item: &[KeyValue],
    folder: Option<&str>,
) -> Option<(Arc<str>, Arc<str>)> {
    let otherwise = || folder.filter(|name| is_stable(name)).map(|name| (Arc::from(name), false));
    let by_item = Named { agent: None, project: said(item, &PROJECT[..1]) };
    resolve(rules, sender, item, by_item, otherwise).map(|(project, name, _)| (project, name))
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
            text(item, key).or_else(|| text(resource, key)).is_some_and(|value| matches(pattern, &value))
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

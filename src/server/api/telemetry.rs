//! `/api/telemetry`: which signals and hooks arrive for each agent, and what data they contain.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::ingest::hooks;
use crate::model::{Agent, ChannelStats, Snapshot, TelemetryChannel, TelemetryChannels, Time};

/// Project and name of an agent.
type AgentRef<'a> = (&'a str, &'a str);

/// The kinds of data of a signal, in the order of [`ChannelStats::brings`].
const BRINGS: [&str; 3] = ["tokens", "cost", "requests"];

/// The kinds of data of hooks. For an agent that is also reported by a poll or push only the first applies.
const HOOKS_BRING: [&str; 2] = ["status", "tasks"];

/// The tool whose hooks report an agent. An agent with another type, given by a push, uses those of Claude Code.
fn tool_of(agent: &Agent) -> &str {
    agent.agent_type.as_deref().filter(|it| hooks::is_tool(it)).unwrap_or(hooks::claude_code::TOOL.name)
}

/// The response for received telemetry and for the hooks of the agents in `fleet`.
pub(super) fn of(receptions: &[TelemetryChannels], fleet: &Snapshot) -> String {
    let shown = |at: Time| fleet.wall.to_wall(at).to_string();
    let received = |received: &ChannelStats| {
        let brings = BRINGS.iter().zip(received.brings).filter(|(_, is_present)| *is_present).map(|(what, _)| *what);
        json!({
            "last": shown(received.last),
            "items": received.items,
            "brings": brings.collect::<Vec<_>>(),
        })
    };
    let hooks_of = |agent: &Agent, last: Time| {
        // A source with a `ttl` reports tasks itself.
        let brings = if agent.ttl.is_none() { &HOOKS_BRING[..] } else { &HOOKS_BRING[..1] };
        json!({"last": shown(last), "brings": brings})
    };
    let with_hooks = fleet.agents.iter().filter_map(|agent| Some((agent, agent.sessions.as_ref()?.last_hook_at()?)));
    let mut hooks_by_agent: HashMap<AgentRef<'_>, (&str, Value)> = with_hooks
        .map(|(agent, last)| ((&*agent.project, &*agent.name), (tool_of(agent), hooks_of(agent, last))))
        .collect();
    let mut agents: Vec<Value> = Vec::with_capacity(receptions.len());
    for it in receptions {
        let channels = TelemetryChannel::ALL.iter().zip(&it.channels);
        let channels =
            channels.map(|(channel, it)| (channel.as_str().to_owned(), it.as_ref().map_or(Value::Null, received)));
        let hooks = if hooks::is_tool(it.agent_type) {
            hooks_by_agent.remove(&(&*it.project, &*it.agent)).map(|(_, hooks)| hooks)
        } else {
            None
        };
        agents.push(json!({
            "project": &*it.project,
            "name": &*it.agent,
            "type": it.agent_type,
            "named": it.is_named,
            "lacks_session": it.lacks_session,
            "signals": channels.collect::<Map<_, _>>(),
            "hooks": hooks,
        }));
    }
    let mut rest: Vec<(AgentRef<'_>, (&str, Value))> = hooks_by_agent.into_iter().collect();
    rest.sort_unstable_by_key(|(key, _)| *key);
    let none: Map<String, Value> =
        TelemetryChannel::ALL.iter().map(|channel| (channel.as_str().to_owned(), Value::Null)).collect();
    agents.extend(rest.into_iter().map(|((project, name), (agent_type, hooks))| {
        json!({
            "project": project,
            "name": name,
            "type": agent_type,
            "named": null,
            "signals": none,
            "hooks": hooks,
        })
    }));
    json!({"total": agents.len(), "agents": agents}).to_string()
}

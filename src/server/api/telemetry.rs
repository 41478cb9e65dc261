//! `/api/telemetry`: through what telemetry of which agents arrives, hooks beside it, and what each brings.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::ingest::hooks;
use crate::model::{Agent, ChannelStats, Snapshot, TelemetryChannel, TelemetryChannels, Time};

/// Project and name of an agent.
type Whom<'a> = (&'a str, &'a str);

/// What a channel may bring, in the order of [`ChannelStats::brings`].
const BRINGS: [&str; 3] = ["tokens", "cost", "requests"];

/// What hooks bring of an agent that is known from them alone; of one that a poll or push reports it is the first.
const HOOKS_BRING: [&str; 2] = ["status", "tasks"];

/// The tool whose hooks tell of an agent; one that a push gives another type posts those of Claude Code.
fn tool_of(agent: &Agent) -> &str {
    agent.agent_type.as_deref().filter(|it| hooks::is_tool(it)).unwrap_or(hooks::claude_code::TOOL.name)
}

/// The answer for what telemetry arrived, and for the hooks of which the agents of `fleet` know.
pub(super) fn of(receptions: &[TelemetryChannels], fleet: &Snapshot) -> String {
    let shown = |at: Time| fleet.wall.to_wall(at).to_string();
    let received = |received: &ChannelStats| {
        let brings = BRINGS.iter().zip(received.brings).filter(|(_, is_brought)| *is_brought).map(|(what, _)| *what);
        json!({
            "last": shown(received.last),
            "items": received.items,
            "brings": brings.collect::<Vec<_>>(),
        })
    };
    let hooks_of = |agent: &Agent, last: Time| {
        // Whose source promised a rhythm has tasks of its own.
        let brings = if agent.ttl.is_none() { &HOOKS_BRING[..] } else { &HOOKS_BRING[..1] };
        json!({"last": shown(last), "brings": brings})
    };
    let heard = fleet.agents.iter().filter_map(|agent| Some((agent, agent.sessions.as_ref()?.last_hook_at()?)));
    let mut hooked: HashMap<Whom<'_>, (&str, Value)> =
        heard.map(|(agent, last)| ((&*agent.project, &*agent.name), (tool_of(agent), hooks_of(agent, last)))).collect();
    let mut agents: Vec<Value> = Vec::with_capacity(receptions.len());
    for it in receptions {
        let channels = TelemetryChannel::ALL.iter().zip(&it.channels);
        let channels =
            channels.map(|(channel, it)| (channel.as_str().to_owned(), it.as_ref().map_or(Value::Null, received)));
        let hooks = if hooks::is_tool(it.agent_type) {
            hooked.remove(&(&*it.project, &*it.agent)).map(|(_, hooks)| hooks)
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
    let mut rest: Vec<(Whom<'_>, (&str, Value))> = hooked.into_iter().collect();
    rest.sort_unstable_by_key(|(whom, _)| *whom);
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

//! `/api/telemetry`: through what telemetry of which agents arrives, and what each brings.

use serde_json::{Map, Value, json};

use crate::model::{Channel, Received, Reception, Wall};

/// What a channel may bring, in the order of [`Received::brings`].
const BRINGS: [&str; 3] = ["tokens", "cost", "requests"];

/// The answer for what arrived.
pub(in crate::server) fn of(receptions: &[Reception], wall: &Wall) -> String {
    let received = |received: &Received| {
        let brings = BRINGS.iter().zip(received.brings).filter(|(_, is_brought)| *is_brought).map(|(what, _)| *what);
        json!({
            "last": wall.show(received.last).to_string(),
            "items": received.items,
            "brings": brings.collect::<Vec<_>>(),
        })
    };
    let agents = receptions.iter().map(|it| {
        let channels = Channel::ALL.iter().zip(&it.channels);
        let channels =
            channels.map(|(channel, it)| (channel.as_str().to_owned(), it.as_ref().map_or(Value::Null, received)));
        json!({
            "project": &*it.project,
            "name": &*it.agent,
            "type": it.agent_type,
            "named": it.is_named,
            "signals": channels.collect::<Map<_, _>>(),
        })
    });
    json!({"agents": agents.collect::<Vec<_>>(), "total": receptions.len()}).to_string()
}

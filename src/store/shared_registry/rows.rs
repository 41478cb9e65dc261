//! Reads rows of the table `agents`. Names and texts are of others: what is not valid here costs its row.

use std::sync::Arc;

use serde_json::Value;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::table::AgentColumns;
use crate::model::registry::project_of_id;
use crate::model::{DEFAULT_PROJECT, RegistryStatus, SharedAgent, SharedConfig, Time};
use crate::text::is_name;

/// Longest name in bytes, as in the API.
const MAX_NAME: usize = 256;

/// The agent of a row of [`AgentColumns::select`]; `None` when its id or its name is not valid.
pub(super) fn read(row: &MySqlRow, columns: &AgentColumns) -> Option<SharedAgent> {
    let text = |at: usize| row.try_get_unchecked::<Option<String>, _>(at).ok().flatten();
    let number = |at: usize| row.try_get_unchecked::<Option<i64>, _>(at).ok().flatten();
    let name = |text: Option<String>| text.filter(|text| is_name(text, MAX_NAME)).map(Arc::<str>::from);
    let project = text(3);
    let project = match &project {
        None => Arc::from(DEFAULT_PROJECT),
        Some(id) => name(Some(project_of_id(id).to_owned()))?,
    };
    let config = match text(5) {
        None => Some(None),
        Some(config) => serde_json::from_str::<Value>(&config).ok().filter(Value::is_object).map(Some),
    };
    let (agent_type, shared) = columns.type_and_config(text(2), config.clone().flatten());
    let time = |at: usize| number(at).filter(|seconds| *seconds > 0).map(|seconds| Time::from_millis(seconds * 1000));
    Some(SharedAgent {
        id: name(text(0))?,
        project,
        name: name(text(1))?,
        agent_type: name(agent_type),
        external_id: name(text(4)),
        config: if config.is_some() { SharedConfig::Known(shared) } else { SharedConfig::Unreadable },
        monitoring_enabled: number(6).map(|is_monitored| is_monitored != 0),
        status: text(7).and_then(|word| RegistryStatus::parse(&word)),
        created_at: time(8),
        last_used_at: time(9),
    })
}

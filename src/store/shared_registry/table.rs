//! The table `agents`: its columns as they are, and the statements that read and write them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::mysql::MySqlConnection;
use sqlx::{Row as _, SqlSafeStr as _};

use super::{SharedRegistryError, in_time};
use crate::model::{RegisteredAgent, SharedField, Time};

/// Creates the table as platforms have it, but for types of agents, which here are any word, and for names, which differ
/// if any of their bytes does.
pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS agents (
    id VARCHAR(36) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    type VARCHAR(255) NOT NULL DEFAULT 'custom',
    project_id VARCHAR(255) NOT NULL DEFAULT 'default-project',
    external_id VARCHAR(255),
    config JSON,
    monitoring_enabled BOOLEAN NOT NULL DEFAULT TRUE,
    status ENUM('active', 'inactive') NOT NULL DEFAULT 'active',
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    last_used_at TIMESTAMP NULL DEFAULT NULL,
    UNIQUE KEY agents_by_name (name, project_id),
    INDEX agents_by_external_id (external_id)
) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin";

/// The columns of that table.
const COLUMNS: [&str; 10] = [
    "id",
    "name",
    "type",
    "project_id",
    "external_id",
    "config",
    "monitoring_enabled",
    "status",
    "created_at",
    "last_used_at",
];

/// The key in `config` of a type that the column `type` has no word for.
const TYPE_KEY: &str = "agent_type";
/// The type that the column has instead.
const OTHER_TYPE: &str = "custom";
/// Largest `config` that is read, in bytes.
const MAX_CONFIG: usize = 64 << 10;

/// A value of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SqlValue {
    Text(Option<String>),
    Number(Option<i64>),
}

/// The columns of the table by name, with the words of those that are ENUMs.
#[derive(Debug, Default)]
pub(super) struct AgentColumns(BTreeMap<String, Vec<String>>);

impl AgentColumns {
    pub(super) async fn read(connection: &mut MySqlConnection) -> Result<Self, SharedRegistryError> {
        let query = "SELECT CAST(column_name AS CHAR), CAST(column_type AS CHAR) FROM information_schema.columns
             WHERE table_schema = DATABASE() AND table_name = 'agents'";
        let rows = in_time(sqlx::query(query.into_sql_str()).fetch_all(connection)).await?;
        let text = |row: &sqlx::mysql::MySqlRow, at: usize| row.try_get_unchecked::<String, _>(at).unwrap_or_default();
        Ok(Self(rows.iter().map(|row| (text(row, 0).to_lowercase(), words(&text(row, 1)))).collect()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether all columns are there without which there is no registry.
    pub(super) fn check(&self) -> Result<(), SharedRegistryError> {
        let missing = ["id", "name"].into_iter().find(|name| !self.has(name));
        missing.map_or(Ok(()), |name| Err(SharedRegistryError::Table(name)))
    }

    /// The columns of platforms that the table lacks.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        COLUMNS.into_iter().filter(|column| !self.has(column)).collect()
    }

    /// The query of all agents, whatever the types of the columns.
    pub(super) fn select(&self) -> String {
        let text = |name: &str| if self.has(name) { format!("CAST({name} AS CHAR)") } else { "NULL".to_owned() };
        let time = |name: &str| {
            if self.has(name) { format!("CAST(UNIX_TIMESTAMP({name}) AS SIGNED)") } else { "NULL".to_owned() }
        };
        let config = if self.has("config") {
            format!("IF(LENGTH(config) > {MAX_CONFIG}, '!', CAST(config AS CHAR))")
        } else {
            "'!'".to_owned()
        };
        let monitoring = if self.has("monitoring_enabled") { "CAST(monitoring_enabled AS SIGNED)" } else { "NULL" };
        format!(
            "SELECT {}, {}, {}, {}, {}, {config}, {monitoring}, {}, {}, {} FROM agents",
            text("id"),
            text("name"),
            text("type"),
            text("project_id"),
            text("external_id"),
            text("status"),
            time("created_at"),
            time("last_used_at"),
        )
    }

    /// The word of a type in the column: itself, or another where the column does not have it.
    fn type_word<'a>(&self, agent_type: &'a str) -> &'a str {
        match self.0.get("type") {
            Some(words) if !words.is_empty() && !words.iter().any(|word| word == agent_type) => OTHER_TYPE,
            _ => agent_type,
        }
    }

    /// The `config` in the table: with the type, if the column `type` has no word for it.
    fn config(&self, agent: &RegisteredAgent) -> Option<String> {
        let mut config = agent.config.clone();
        if self.type_word(&agent.agent_type) != &*agent.agent_type {
            let fields = config.get_or_insert_with(|| Value::Object(Map::new())).as_object_mut();
            fields.map(|fields| fields.insert(TYPE_KEY.to_owned(), Value::from(&*agent.agent_type)));
        }
        config.map(|config| config.to_string())
    }

    /// The type and the config of a row.
    pub(super) fn type_and_config(
        &self,
        word: Option<String>,
        mut config: Option<Value>,
    ) -> (Option<String>, Option<Value>) {
        let is_limited = self.0.get("type").is_some_and(|words| !words.is_empty());
        if !is_limited || word.as_deref() != Some(OTHER_TYPE) {
            return (word, config);
        }
        let real = config.as_mut().and_then(Value::as_object_mut).and_then(|fields| fields.remove(TYPE_KEY));
        match real {
            Some(Value::String(real)) => {
                (Some(real), config.filter(|rest| rest.as_object().is_none_or(|it| !it.is_empty())))
            }
            _ => (word, config),
        }
    }

    /// The statement that adds an agent.
    pub(super) fn insert(&self, agent: &RegisteredAgent) -> (String, Vec<SqlValue>) {
        let mut names = Vec::new();
        let mut marks = Vec::new();
        let mut values = Vec::new();
        let mut add = |name: &'static str, mark: &'static str, value: SqlValue| {
            if self.has(name) {
                names.push(name);
                marks.push(mark);
                values.push(value);
            }
        };
        add("id", "?", text(&agent.id));
        add("name", "?", text(&agent.name));
        add("type", "?", text(self.type_word(&agent.agent_type)));
        add("project_id", "?", text(agent.project_id()));
        add("external_id", "?", SqlValue::Text(agent.external_id.as_deref().map(str::to_owned)));
        add("config", "?", SqlValue::Text(self.config(agent)));
        add("monitoring_enabled", "?", SqlValue::Number(Some(i64::from(agent.monitoring_enabled))));
        add("status", "?", text(agent.status.as_str()));
        add("created_at", "FROM_UNIXTIME(?)", SqlValue::Number(Some(seconds(agent.created_at))));
        add("last_used_at", "FROM_UNIXTIME(?)", SqlValue::Number(agent.last_used_at.map(seconds)));
        (format!("INSERT INTO agents ({}) VALUES ({})", names.join(", "), marks.join(", ")), values)
    }

    /// The statement that writes what is pending of an agent; `None` if nothing of it has a column.
    pub(super) fn update(&self, agent: &RegisteredAgent) -> Option<(String, Vec<SqlValue>)> {
        let pending = agent.sharing.pending;
        let mut sets: Vec<&str> = Vec::new();
        let mut values = Vec::new();
        let has = |field, column| pending.has(field) && self.has(column);
        if has(SharedField::Type, "type") {
            let word = self.type_word(&agent.agent_type);
            sets.push("type = ?");
            values.push(text(word));
            let is_limited = self.0.get("type").is_some_and(|words| !words.is_empty());
            if is_limited && self.has("config") && !pending.has(SharedField::Config) {
                if word == &*agent.agent_type {
                    sets.push("config = JSON_REMOVE(config, '$.agent_type')");
                } else {
                    sets.push("config = JSON_SET(COALESCE(config, '{}'), '$.agent_type', ?)");
                    values.push(text(&agent.agent_type));
                }
            }
        }
        if has(SharedField::ExternalId, "external_id") {
            sets.push("external_id = ?");
            values.push(SqlValue::Text(agent.external_id.as_deref().map(str::to_owned)));
        }
        if has(SharedField::Config, "config") {
            sets.push("config = ?");
            values.push(SqlValue::Text(self.config(agent)));
        }
        if has(SharedField::Monitoring, "monitoring_enabled") {
            sets.push("monitoring_enabled = ?");
            values.push(SqlValue::Number(Some(i64::from(agent.monitoring_enabled))));
        }
        if has(SharedField::Status, "status") {
            sets.push("status = ?");
            values.push(text(agent.status.as_str()));
        }
        if has(SharedField::LastUsed, "last_used_at")
            && let Some(used) = agent.last_used_at
        {
            sets.push("last_used_at = GREATEST(COALESCE(last_used_at, FROM_UNIXTIME(?)), FROM_UNIXTIME(?))");
            values.extend([SqlValue::Number(Some(seconds(used))), SqlValue::Number(Some(seconds(used)))]);
        }
        values.push(text(&agent.id));
        (!sets.is_empty()).then(|| (format!("UPDATE agents SET {} WHERE id = ?", sets.join(", ")), values))
    }
}

fn text(text: &str) -> SqlValue {
    SqlValue::Text(Some(text.to_owned()))
}

/// Whole seconds since 1970, not before the first that a TIMESTAMP has.
fn seconds(time: Time) -> i64 {
    (time.as_millis() / 1000).max(1)
}

/// The words of a column's type `enum('a','b')`; none of other types.
fn words(column_type: &str) -> Vec<String> {
    let inside = column_type.strip_prefix("enum(").and_then(|rest| rest.strip_suffix(')'));
    let Some(inside) = inside else { return Vec::new() };
    let words = inside.split("','").map(|word| word.trim_matches('\'').replace("''", "'"));
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RegistryStatus, Sharing};

    fn columns(agent_type: &str) -> AgentColumns {
        let names = ["id", "name", "type", "project_id", "config", "status", "last_used_at", "monitoring_enabled"];
        let words_of = |name: &&str| if *name == "type" { words(agent_type) } else { Vec::new() };
        AgentColumns(names.iter().map(|name| ((*name).to_owned(), words_of(name))).collect())
    }

    fn agent(agent_type: &str) -> RegisteredAgent {
        RegisteredAgent {
            id: "1".into(),
            name: "clerk".into(),
            project: "default".into(),
            agent_type: agent_type.into(),
            external_id: None,
            config: Some(serde_json::json!({"db": "stock"})),
            monitoring_enabled: true,
            status: RegistryStatus::Active,
            created_by: "api".into(),
            created_at: Time::from_millis(5_000),
            last_used_at: None,
            sharing: Sharing::default(),
        }
    }

    #[test]
    fn a_type_that_the_column_does_not_have_is_in_config() {
        let limited = columns("enum('vanna','langflow','custom')");
        let (statement, values) = limited.insert(&agent("claude-code"));
        assert!(statement.starts_with("INSERT INTO agents (id, name, type, project_id, config,"), "{statement}");
        assert_eq!(values[2], text("custom"));
        assert_eq!(values[3], text("default-project"));
        let config = serde_json::json!({"agent_type": "claude-code", "db": "stock"});
        assert_eq!(values[4], SqlValue::Text(Some(config.to_string())));
        let read = limited.type_and_config(Some("custom".to_owned()), Some(config));
        assert_eq!(read, (Some("claude-code".to_owned()), Some(serde_json::json!({"db": "stock"}))));
        assert_eq!(limited.insert(&agent("vanna")).1[2], text("vanna"));
        assert_eq!(columns("varchar(255)").insert(&agent("claude-code")).1[2], text("claude-code"));
    }

    #[test]
    fn only_what_is_pending_is_written() {
        let mut agent = agent("claude-code");
        assert_eq!(columns("varchar(9)").update(&agent), None);
        agent.sharing.pending.add(SharedField::Type);
        let (statement, _) = columns("enum('vanna','custom')").update(&agent).expect("a statement");
        assert_eq!(
            statement,
            "UPDATE agents SET type = ?, config = JSON_SET(COALESCE(config, '{}'), '$.agent_type', ?) WHERE id = ?"
        );
        agent.sharing.pending.add(SharedField::ExternalId);
        agent.sharing.pending.remove(SharedField::Type);
        assert_eq!(columns("varchar(9)").update(&agent), None, "the table has no such column");
    }

    #[test]
    fn the_words_of_an_enum_are_read() {
        assert_eq!(words("enum('a','it''s')"), ["a", "it's"]);
        assert!(words("varchar(255)").is_empty());
    }
}

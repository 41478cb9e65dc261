//! A registry of agents in a MySQL or MariaDB database, shared with other sidecars and with a platform's backend: the
//! table `agents` in the platform's own schema.
//!
//! A row that the database does not take, or that can't be read, costs that agent alone.

pub mod config;
mod rows;
mod table;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _};

use crate::files;
use crate::model::{RegisteredAgent, SharedAgent};
use config::{MySqlConfig, MySqlTls};
use table::AgentColumns;

/// How long one statement may take, and connecting.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Rows that one statement reads, or one transaction writes.
const PAGE: usize = 500;
/// Most rows that are read; further ones are left out.
const MAX_ROWS: usize = 100_000;
/// Maximum size of a CA file in bytes.
const MAX_PEM: u64 = 1 << 20;

/// Why the database could not be used. Contains neither its URL nor a password.
#[derive(Debug, thiserror::Error)]
pub enum SharedRegistryError {
    /// A file can't be read, or the URL in it is none.
    #[error("{0}")]
    Settings(String),
    /// It does not answer, or refuses the user or a statement.
    #[error("{0}")]
    Database(String),
    /// The table is of another kind.
    #[error(
        "the table `agents` has no column `{0}`; point `registry.mysql` at the platform's database or at an empty one"
    )]
    Table(&'static str),
}

/// What became of an agent that was to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum ShareOutcome {
    /// The database has it.
    Written,
    /// The database has an agent of this name already, with an id of its own.
    Known(Box<SharedAgent>),
    /// It was deleted there.
    Gone,
    /// The database does not take it.
    Refused(String),
}

/// New and changed agents since the last read.
#[derive(Debug, Default)]
pub struct SharedChanges {
    /// The agents.
    pub rows: Vec<SharedAgent>,
    /// Ids of those that are gone.
    pub gone: Vec<Arc<str>>,
    /// Rows that are no agents: without a name, or with one that is not valid here.
    pub invalid: usize,
    /// Hashes of all rows by id, to be given to the next read once the changes are taken over.
    pub seen: HashMap<Arc<str>, u64>,
}

/// A connection to the database.
#[derive(Debug)]
pub struct SharedRegistry {
    connection: MySqlConnection,
    columns: AgentColumns,
    hasher: RandomState,
}

impl SharedRegistry {
    /// Connects, and creates the table if it is missing. Returns whether it was.
    pub async fn connect(config: &MySqlConfig, hasher: RandomState) -> Result<(Self, bool), SharedRegistryError> {
        let options = options(config).await?;
        let mut connection = in_time(options.connect()).await?;
        // What does not fit is an error rather than cut.
        in_time(connection.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")).await?;
        let mut columns = AgentColumns::read(&mut connection).await?;
        let is_new = columns.is_empty();
        if is_new {
            in_time(connection.execute(table::CREATE)).await?;
            columns = AgentColumns::read(&mut connection).await?;
        }
        columns.check()?;
        Ok((Self { connection, columns, hasher }, is_new))
    }

    /// Tries the database and changes nothing there: what it has, else what is wrong and the remedy.
    pub async fn probe(config: &MySqlConfig) -> Result<String, SharedRegistryError> {
        let mut connection = in_time(options(config).await?.connect()).await?;
        let columns = AgentColumns::read(&mut connection).await?;
        if columns.is_empty() {
            return Ok("can be used; the table `agents` is missing and is created at the start".to_owned());
        }
        columns.check()?;
        // What is allowed shows in statements that find no row.
        for statement in [
            "INSERT INTO agents (id, name) SELECT id, name FROM agents WHERE 1 = 0",
            "UPDATE agents SET name = name WHERE 1 = 0",
        ] {
            in_time(connection.execute(statement)).await?;
        }
        let count = "SELECT CAST(COUNT(*) AS SIGNED) FROM agents".into_sql_str();
        let row = in_time(sqlx::query(count).fetch_one(&mut connection)).await?;
        let agents = row.try_get_unchecked::<i64, _>(0).unwrap_or_default();
        let missing = columns.missing();
        let without = if missing.is_empty() { String::new() } else { format!("; it has no {}", missing.join(", ")) };
        drop(tokio::time::timeout(Duration::from_secs(1), connection.close()).await);
        Ok(format!("can be used; the table `agents` has {agents} agents{without}"))
    }

    /// Reads all agents; returns those that differ from what was `seen` last.
    pub async fn read(&mut self, seen: &HashMap<Arc<str>, u64>) -> Result<SharedChanges, SharedRegistryError> {
        let mut changes = SharedChanges::default();
        let select = self.columns.select();
        let mut after = String::new();
        let mut count = 0;
        loop {
            let statement = format!("{select} WHERE id > ? ORDER BY id LIMIT {PAGE}");
            let query = sqlx::query(AssertSqlSafe(statement)).bind(after.clone());
            let page = in_time(query.fetch_all(&mut self.connection)).await?;
            for row in &page {
                let Some(agent) = rows::read(row, &self.columns) else {
                    changes.invalid += 1;
                    continue;
                };
                let hash = self.hasher.hash_one(format!("{agent:?}"));
                if seen.get(&agent.id) != Some(&hash) {
                    changes.rows.push(agent.clone());
                }
                changes.seen.insert(agent.id, hash);
            }
            count += page.len();
            let last = page.last().and_then(|row| row.try_get_unchecked::<String, _>(0).ok());
            match last {
                Some(last) if page.len() == PAGE && count < MAX_ROWS => after = last,
                _ => break,
            }
        }
        if count < MAX_ROWS {
            changes.gone = seen.keys().filter(|id| !changes.seen.contains_key(*id)).cloned().collect();
        }
        Ok(changes)
    }

    /// Writes what is pending of each agent. The outcomes are in the order of the agents; an error concerns all of them.
    pub async fn write(&mut self, agents: &[RegisteredAgent]) -> Result<Vec<ShareOutcome>, SharedRegistryError> {
        let mut outcomes = Vec::with_capacity(agents.len());
        for page in agents.chunks(PAGE) {
            // One commit for many rows. A statement that fails in it undoes itself alone.
            in_time(self.connection.execute("START TRANSACTION")).await?;
            for agent in page {
                outcomes.push(self.write_one(agent).await?);
            }
            in_time(self.connection.execute("COMMIT")).await?;
        }
        Ok(outcomes)
    }

    async fn write_one(&mut self, agent: &RegisteredAgent) -> Result<ShareOutcome, SharedRegistryError> {
        let is_insert = !agent.sharing.is_shared;
        let statement = if is_insert { Some(self.columns.insert(agent)) } else { self.columns.update(agent) };
        let Some((statement, values)) = statement else { return Ok(ShareOutcome::Written) };
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for value in values {
            query = match value {
                table::SqlValue::Text(text) => query.bind(text),
                table::SqlValue::Number(number) => query.bind(number),
            };
        }
        let done = tokio::time::timeout(TIMEOUT, query.execute(&mut self.connection)).await;
        match done.map_err(|_| late())? {
            Ok(done) if is_insert || done.rows_affected() > 0 => Ok(ShareOutcome::Written),
            Ok(_) => Ok(ShareOutcome::Gone),
            Err(error) if is_insert && number(&error) == Some(DUPLICATE) => self.known(agent).await,
            Err(error) if number(&error).is_some_and(|number| OF_A_ROW.contains(&number)) => {
                Ok(ShareOutcome::Refused(message(&error)))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// The agent that has the name already.
    async fn known(&mut self, agent: &RegisteredAgent) -> Result<ShareOutcome, SharedRegistryError> {
        let select = self.columns.select();
        let of_project = if self.columns.has("project_id") { " AND project_id = ?" } else { "" };
        let mut query =
            sqlx::query(AssertSqlSafe(format!("{select} WHERE name = ?{of_project} LIMIT 1"))).bind(&*agent.name);
        if !of_project.is_empty() {
            query = query.bind(agent.project_id());
        }
        let row = in_time(query.fetch_optional(&mut self.connection)).await?;
        Ok(match row.as_ref().and_then(|row| rows::read(row, &self.columns)) {
            Some(known) if (&known.project, &known.name) == (&agent.project, &agent.name) => {
                ShareOutcome::Known(Box::new(known))
            }
            Some(known) => ShareOutcome::Refused(format!(
                "the database takes its name for that of the agent `{}`, from which it differs by case or spaces alone",
                known.name
            )),
            None => ShareOutcome::Refused("the database has its name or id already".to_owned()),
        })
    }

    /// Closes the connection.
    pub async fn close(self) {
        // The server notices anyway.
        drop(tokio::time::timeout(Duration::from_secs(1), self.connection.close()).await);
    }
}

async fn options(config: &MySqlConfig) -> Result<MySqlConnectOptions, SharedRegistryError> {
    let settings = SharedRegistryError::Settings;
    let source = config.source().map_err(|problem| settings(format!("registry.mysql.url {problem}")))?;
    let url = source.read().await.map_err(|error| settings(error.in_full()))?;
    let url = config::database_url(url.expose()).map_err(|problem| settings(format!("the URL {problem}")))?;
    // Its errors may contain parts of the URL.
    let options =
        MySqlConnectOptions::from_str(&url).map_err(|_| settings("the URL has an invalid part".to_owned()))?;
    let mut options = options.charset("utf8mb4").timezone(Some("+00:00".to_owned())).statement_cache_capacity(100);
    let is_in_url = url.contains("ssl-mode=") || url.contains("sslmode=");
    let mode = match config.tls {
        None if config.ca_file.is_some() => Some(MySqlSslMode::VerifyIdentity),
        None if is_in_url => None,
        None | Some(MySqlTls::Prefer) => Some(MySqlSslMode::Preferred),
        Some(MySqlTls::Off) => Some(MySqlSslMode::Disabled),
        Some(MySqlTls::Require) => Some(MySqlSslMode::Required),
        Some(MySqlTls::Verify) => Some(MySqlSslMode::VerifyIdentity),
    };
    if let Some(mode) = mode {
        options = options.ssl_mode(mode);
    }
    if let Some(path) = &config.ca_file {
        let pem = files::read(path, MAX_PEM).await;
        let pem = pem.map_err(|error| settings(format!("read CA file {}: {error}", path.display())))?;
        options = options.ssl_ca_from_pem(pem);
    }
    Ok(options.disable_statement_logging())
}

/// A key occurs twice.
const DUPLICATE: u16 = 1062;
/// Errors that concern the row alone: null, duplicate, out of range, cut, not in the character set, too long, a missing
/// foreign row, a date or JSON that is none, a constraint.
const OF_A_ROW: [u16; 16] =
    [1048, DUPLICATE, 1264, 1265, 1292, 1364, 1366, 1406, 1452, 1644, 3140, 3141, 3156, 3819, 4025, 3988];

fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// The message of an error, without anything of the URL.
fn message(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
            Some(error) => format!("error {}: {}", error.number(), error.message()),
            None => error.message().to_owned(),
        },
        // rustls' errors come as those of the socket.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => format!("TLS failed: {error}"),
        sqlx::Error::Io(error) => format!("no connection: {error}"),
        sqlx::Error::Tls(error) => format!("TLS failed: {error}"),
        sqlx::Error::Configuration(_) => "the URL has an invalid part".to_owned(),
        sqlx::Error::Protocol(text) => format!("it does not speak MySQL's protocol: {text}"),
        other => other.to_string(),
    };
    crate::text::clean(&text, 300).into_owned()
}

fn failed(error: &sqlx::Error) -> SharedRegistryError {
    let remedy = match (number(error), error) {
        (Some(1045 | 1698), _) => "; check user and password in registry.mysql.url or url_file",
        (Some(1044 | 1142 | 1143 | 1227), _) => "; grant the user SELECT, INSERT, UPDATE and CREATE on the database",
        (Some(1049), _) => "; create the database, or correct its name in registry.mysql.url or url_file",
        (Some(1040 | 1203 | 1226), _) => "; raise its limit of connections",
        (Some(_), _) => "",
        (None, sqlx::Error::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
            "; check host and port in registry.mysql.url or url_file, and whether it runs"
        }
        (None, sqlx::Error::Io(_) | sqlx::Error::Tls(_)) => "; check registry.mysql.ca_file and tls",
        _ => "",
    };
    SharedRegistryError::Database(message(error) + remedy)
}

fn late() -> SharedRegistryError {
    SharedRegistryError::Database(format!("no answer within {} s; check its load and the network", TIMEOUT.as_secs()))
}

async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, SharedRegistryError> {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(done) => done.map_err(|error| failed(&error)),
        Err(_) => Err(late()),
    }
}

//! Saves and restores the state of the fleet.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;

use super::rows::json;
use super::{FleetSave, SavedFleet, USAGE_ID_RETENTION, USAGE_IDS, counting, usage_log};
use crate::model::Time;
use crate::model::windows::SavedWindows;

/// Writes `save` within an open transaction. `buffer` is reused between calls.
pub(super) fn write(connection: &Connection, save: &FleetSave, buffer: &mut Vec<u8>) -> rusqlite::Result<()> {
    remove(connection, "DELETE FROM agents WHERE project = ?1 AND name = ?2", &save.removed_agents)?;
    remove(connection, "DELETE FROM windows WHERE project = ?1 AND name = ?2", &save.removed_agents)?;
    remove(connection, "DELETE FROM components WHERE project = ?1 AND name = ?2", &save.removed_components)?;
    let snapshot = &save.snapshot;
    if !save.agents.is_empty() {
        let mut upsert =
            connection.prepare_cached("INSERT OR REPLACE INTO agents(project, name, body) VALUES(?1,?2,?3)")?;
        for agent in save.agents.iter().filter_map(|slot| snapshot.agents.get(*slot)) {
            upsert.execute(params![agent.project, agent.name, json(agent, buffer)?])?;
        }
    }
    if !save.windows.is_empty() {
        let mut upsert =
            connection.prepare_cached("INSERT OR REPLACE INTO windows(project, name, body) VALUES(?1,?2,?3)")?;
        for ((project, name), windows) in &save.windows {
            upsert.execute(params![project, name, json(windows, buffer)?])?;
        }
    }
    if !save.components.is_empty() {
        let mut upsert =
            connection.prepare_cached("INSERT OR REPLACE INTO components(project, name, body) VALUES(?1,?2,?3)")?;
        for component in save.components.iter().filter_map(|slot| snapshot.components.get(*slot)) {
            upsert.execute(params![component.project, component.name, json(component, buffer)?])?;
        }
    }
    let mut upsert = connection.prepare_cached("INSERT OR REPLACE INTO projects(name, body) VALUES(?1,?2)")?;
    for project in save.projects.iter().filter_map(|index| snapshot.projects.get(*index as usize)) {
        upsert.execute(params![project.name, json(project.as_ref(), buffer)?])?;
    }
    if !save.usage_ids.is_empty() {
        let mut insert = connection.prepare_cached("INSERT INTO usage_ids(hash, at) VALUES(?1,?2)")?;
        for (hash, at) in &save.usage_ids {
            insert.execute([hash.cast_signed(), at.as_millis()])?;
        }
        // The oldest ids have the lowest sequence numbers. The scan is limited to more rows than were just inserted.
        let (most, batch) = (i64::try_from(USAGE_IDS).unwrap_or(i64::MAX), 4_096 + 2 * save.usage_ids.len());
        connection
            .prepare_cached(
                "DELETE FROM usage_ids WHERE seq IN (SELECT seq FROM usage_ids ORDER BY seq LIMIT ?1)
                 AND (at < ?2 OR seq <= (SELECT max(seq) FROM usage_ids) - ?3)",
            )?
            .execute(params![
                i64::try_from(batch).unwrap_or(i64::MAX),
                snapshot.at.minus(USAGE_ID_RETENTION).as_millis(),
                most
            ])?;
    }
    let failing: Vec<_> = snapshot.failing_sources().collect();
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES('failing_sources', ?1)")?
        .execute([json(&failing, buffer)?])?;
    usage_log::remove(connection, save.usage_through)?;
    counting::write(connection, &save.counting, snapshot.at, buffer)?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES('saved_at', ?1)")?
        .execute([snapshot.at.as_millis()])?;
    Ok(())
}

fn remove(connection: &Connection, sql: &str, keys: &[(Arc<str>, Arc<str>)]) -> rusqlite::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(sql)?;
    for (project, name) in keys {
        statement.execute(params![project, name])?;
    }
    Ok(())
}

/// Reads the saved state; rows that can't be read are counted.
pub(super) fn restore(connection: &Connection) -> rusqlite::Result<SavedFleet> {
    let mut saved = SavedFleet::default();
    saved.agents = bodies(connection, "SELECT body FROM agents ORDER BY project, name", &mut saved.unreadable)?;
    saved.components = bodies(connection, "SELECT body FROM components ORDER BY project, name", &mut saved.unreadable)?;
    saved.projects = bodies(connection, "SELECT body FROM projects ORDER BY name", &mut saved.unreadable)?;
    let failing = connection.query_row("SELECT value FROM meta WHERE key = 'failing_sources'", [], |row| row.get(0));
    let failing: Option<String> = failing.optional()?;
    saved.sources = failing.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    saved.windows = windows(connection, &mut saved.unreadable)?;
    let mut statement = connection.prepare("SELECT hash, at FROM usage_ids ORDER BY seq DESC LIMIT ?1")?;
    let ids = statement.query_map([i64::try_from(USAGE_IDS).unwrap_or(i64::MAX)], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), Time::from_millis(row.get(1)?)))
    })?;
    saved.usage_ids = ids.collect::<rusqlite::Result<_>>()?;
    saved.usage_ids.reverse();
    saved.usage_log = usage_log::read(connection)?;
    saved.counting = counting::read(connection)?;
    let saved_at = connection.query_row("SELECT value FROM meta WHERE key = 'saved_at'", [], |row| row.get(0));
    saved.saved_at = saved_at.optional()?.map(Time::from_millis);
    Ok(saved)
}

/// The rule windows of agents. Rows of agents that no longer exist are harmless.
fn windows(connection: &Connection, unreadable: &mut u64) -> rusqlite::Result<SavedWindows> {
    let mut statement = connection.prepare("SELECT project, name, body FROM windows")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match row.get_ref(2)?.as_str().ok().and_then(|body| serde_json::from_str(body).ok()) {
            Some(windows) => found.push(((row.get(0)?, row.get(1)?), windows)),
            None => *unreadable += 1,
        }
    }
    Ok(found)
}

/// The JSON values of the column that `sql` selects.
fn bodies<T: DeserializeOwned>(connection: &Connection, sql: &str, unreadable: &mut u64) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match row.get_ref(0)?.as_str().ok().and_then(|body| serde_json::from_str(body).ok()) {
            Some(body) => found.push(body),
            None => *unreadable += 1,
        }
    }
    Ok(found)
}

//! Saves and restores the counting state of telemetry, in one transaction with the agents whose totals it produced.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::json;
use crate::model::{CountingState, DigestKey, GroupCount, StreamCount, Time};

/// Maximum number of saved item digests, the same as in memory.
const MAX_SEEN: i64 = 262_144;
/// Maximum number of rows of each table, the same as in memory.
const MAX_ROWS: [(&str, i64); 2] = [("telemetry_streams", 65_536), ("telemetry_groups", 65_536)];

/// Keys of the two halves of the digest key in the table `meta`.
const DIGEST_KEY: [&str; 2] = ["telemetry_key_0", "telemetry_key_1"];

/// Writes changes of the counting state within an open transaction.
pub(super) fn write(
    connection: &Connection,
    counting: &CountingState,
    now: Time,
    buffer: &mut Vec<u8>,
) -> rusqlite::Result<()> {
    if counting.is_empty() {
        return Ok(());
    }
    let mut meta = connection.prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)")?;
    if let Some(since) = counting.since {
        meta.execute(params!["telemetry_since", since.cast_signed()])?;
    }
    meta.execute(params!["telemetry_scheme", counting.scheme.cast_signed()])?;
    for (name, half) in
        DIGEST_KEY.into_iter().zip(counting.key.map_or([0; 2], |key| key.0)).filter(|_| counting.key.is_some())
    {
        meta.execute(params![name, half.cast_signed()])?;
    }
    let mut seen = connection.prepare_cached("INSERT INTO telemetry_seen(hash) VALUES(?1)")?;
    for hash in &counting.seen {
        seen.execute([hash.cast_signed()])?;
    }
    let mut streams = connection
        .prepare_cached("INSERT OR REPLACE INTO telemetry_streams(id, start, body, at) VALUES(?1,?2,?3,?4)")?;
    for (id, stream) in &counting.streams {
        let start = stream.last_start().cast_signed();
        streams.execute(params![id.cast_signed(), start, json(stream, buffer)?, now.as_millis()])?;
    }
    let mut groups =
        connection.prepare_cached("INSERT OR REPLACE INTO telemetry_groups(id, body, at) VALUES(?1,?2,?3)")?;
    for (id, group) in &counting.groups {
        groups.execute(params![id.cast_signed(), json(group, buffer)?, now.as_millis()])?;
    }
    connection
        .prepare_cached("DELETE FROM telemetry_seen WHERE seq <= (SELECT max(seq) FROM telemetry_seen) - ?1")?
        .execute([MAX_SEEN])?;
    Ok(())
}

/// Reads the counting state. Rows that can't be read are skipped.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<CountingState> {
    let mut meta = connection.prepare("SELECT value FROM meta WHERE key = ?1")?;
    let mut number = |key: &str| -> rusqlite::Result<Option<u64>> {
        Ok(meta.query_row([key], |row| row.get::<_, i64>(0)).optional()?.map(i64::cast_unsigned))
    };
    let (since, scheme) = (number("telemetry_since")?, number("telemetry_scheme")?.unwrap_or_default());
    let key = match (number(DIGEST_KEY[0])?, number(DIGEST_KEY[1])?) {
        (Some(first), Some(second)) => Some(DigestKey([first, second])),
        _ => None,
    };
    let mut seen = connection.prepare("SELECT hash FROM telemetry_seen ORDER BY seq")?;
    let seen = seen.query_map([], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
    let mut streams = connection.prepare("SELECT id, body FROM telemetry_streams")?;
    let streams = streams.query_map([], |row| {
        let stream = serde_json::from_str::<StreamCount>(row.get_ref(1)?.as_str()?).ok();
        Ok(stream.map(|stream| Ok::<_, rusqlite::Error>((row.get::<_, i64>(0)?.cast_unsigned(), stream))))
    })?;
    let mut groups = connection.prepare("SELECT id, body FROM telemetry_groups")?;
    let groups = groups.query_map([], |row| {
        let group = serde_json::from_str::<GroupCount>(row.get_ref(1)?.as_str()?).ok();
        Ok(group.map(|group| Ok::<_, rusqlite::Error>((row.get::<_, i64>(0)?.cast_unsigned(), group))))
    })?;
    Ok(CountingState {
        since,
        scheme,
        key,
        seen: seen.collect::<rusqlite::Result<_>>()?,
        streams: streams.filter_map(Result::transpose).map(|stream| stream?).collect::<rusqlite::Result<_>>()?,
        groups: groups.filter_map(Result::transpose).map(|group| group?).collect::<rusqlite::Result<_>>()?,
    })
}

/// Deletes streams and groups without data since `oldest` (Unix milliseconds), and the oldest ones beyond the limit. The
/// start of the newest deleted stream is kept, so that a stream that comes back is not counted twice.
pub(super) fn prune(connection: &Connection, oldest: i64) -> rusqlite::Result<()> {
    for (table, most) in MAX_ROWS {
        let over = format!("at < ?1 OR id IN (SELECT id FROM {table} ORDER BY at DESC LIMIT -1 OFFSET {most})");
        if table == "telemetry_streams" {
            let last = format!("SELECT max(start) FROM telemetry_streams WHERE {over}");
            let last: Option<i64> = connection.prepare_cached(&last)?.query_row([oldest], |row| row.get(0))?;
            if let Some(last) = last {
                connection
                    .prepare_cached("UPDATE meta SET value = max(value, ?1 + 1) WHERE key = 'telemetry_since'")?
                    .execute([last])?;
            }
        }
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE {over}"))?.execute([oldest])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunCount;

    #[test]
    fn expired_streams_are_deleted_and_not_counted_again() {
        let connection = Connection::open_in_memory().unwrap();
        for sql in [include_str!("schema.sql"), include_str!("counting.sql"), include_str!("streams.sql")] {
            connection.execute_batch(sql).unwrap();
        }
        let mut buffer = Vec::new();
        for (at, id, start) in [(10, 1, 500), (20, 2, 600)] {
            let stream = StreamCount::Totals { runs: vec![RunCount { start, time: 700, value: 1.0 }], since: 0 };
            let counting = CountingState { since: Some(7), streams: [(id, stream)].into(), ..CountingState::default() };
            write(&connection, &counting, Time::from_millis(at), &mut buffer).unwrap();
        }
        prune(&connection, 10).unwrap();
        assert_eq!((read(&connection).unwrap().streams.len(), read(&connection).unwrap().since), (2, Some(7)));
        prune(&connection, 20).unwrap();
        let read = read(&connection).unwrap();
        assert_eq!((read.streams.keys().collect::<Vec<_>>(), read.since), (vec![&2], Some(501)));
    }
}

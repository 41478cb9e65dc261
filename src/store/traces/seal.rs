//! Joins the blocks of traces at rest. Each export of a trace's spans leaves a block, and agents send a few spans at a
//! time: small blocks compress badly.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::block::{self, BLOCK_BITS, BlockWriter};
use super::reader::{BLOCKS_OF, DistinctSpans, block_keys};
use super::writer::{FULL_BLOCK, TraceStore};
use crate::model::TraceId;
use crate::store::error::StoreError;

/// Blocks of fewer spans than this, on average, are joined; larger ones would not become smaller by it.
const SMALL_BLOCK: i64 = 100;

impl TraceStore {
    /// Joins the small blocks of each of these traces, in one transaction.
    pub fn seal(&mut self, traces: &[TraceId]) -> Result<(), StoreError> {
        let failed = self.database.location().failed("write");
        let Self { database, blocks, .. } = self;
        let transaction = database.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let sealed = transaction.and_then(|transaction| {
            for trace in traces {
                seal(&transaction, blocks, *trace)?;
            }
            transaction.commit()
        });
        self.database.note_written();
        sealed.map_err(failed)
    }
}

fn seal(connection: &Connection, writer: &mut BlockWriter, trace: TraceId) -> rusqlite::Result<()> {
    let mut find =
        connection.prepare_cached("SELECT key FROM traces WHERE id = ?1 AND blocks > 1 AND spans < blocks * ?2")?;
    let key = find.query_row(params![trace.as_bytes(), SMALL_BLOCK], |row| row.get::<_, i64>(0)).optional()?;
    let Some(key) = key else { return Ok(()) };
    let Some(found) = spans(connection, trace, key)? else { return Ok(()) };
    connection.prepare_cached("DELETE FROM blocks WHERE key BETWEEN ?1 AND ?2")?.execute(block_keys(key))?;
    let mut insert = connection.prepare_cached("INSERT INTO blocks(key, block) VALUES(?1, ?2)")?;
    let mut number = 0_i64;
    let mut rest = found.spans.iter().peekable();
    while let Some(span) = rest.next() {
        writer.push(span);
        if writer.len() >= FULL_BLOCK || rest.peek().is_none() {
            number += 1;
            insert.execute(params![key << BLOCK_BITS | number, writer.finish()])?;
        }
    }
    let count = found.spans.len() as i64;
    connection
        .prepare_cached("UPDATE traces SET blocks = ?2, spans = ?3 WHERE key = ?1")?
        .execute(params![key, number, count])?;
    Ok(())
}

/// The spans of a trace; `None` if a block can't be read: by another program, which reads newer blocks, it may be.
fn spans(connection: &Connection, trace: TraceId, key: i64) -> rusqlite::Result<Option<DistinctSpans>> {
    let mut spans = DistinctSpans::default();
    let mut query = connection.prepare_cached(BLOCKS_OF)?;
    let mut rows = query.query(block_keys(key))?;
    while let Some(row) = rows.next()? {
        let Ok(found) = block::decode(trace, row.get_ref(0)?.as_blob()?) else { return Ok(None) };
        found.into_iter().for_each(|span| spans.add(span));
    }
    Ok(Some(spans))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Span, SpanId, Time};
    use crate::store::traces::{TraceBatch, TraceLimits};

    fn store() -> TraceStore {
        let limits = TraceLimits { retention: Duration::from_secs(3600), max_size: 1 << 30 };
        TraceStore::open(None, limits, Time::from_millis(0)).expect("a store")
    }

    fn trace(number: u8) -> TraceId {
        TraceId::from_slice(&[number; 16]).expect("an id")
    }

    fn span(trace: TraceId, number: u64, duration: Option<u64>) -> Span<'static> {
        let id = SpanId::from_slice(&(number + 1).to_be_bytes()).expect("an id");
        let span = Span::new(trace, id, format!("chat gpt-4o-mini {number}").into(), 1_000 + number);
        Span { duration, ..span }
    }

    fn write(store: &mut TraceStore, trace: TraceId, spans: &[Span<'_>]) {
        store.add_spans(trace, spans, Time::from_millis(7));
        store.write(Time::from_millis(7), &TraceBatch::default()).expect("written");
    }

    fn blocks(store: &TraceStore, trace: TraceId) -> Vec<Vec<u8>> {
        let query = "SELECT key, blocks FROM traces WHERE id = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let (key, count) = store.database.connection.query_row(query, [trace.as_bytes()], row).expect("a trace");
        let mut query = store.database.connection.prepare(BLOCKS_OF).expect("a query");
        let found = query.query_map(block_keys(key), |row| row.get(0)).expect("rows").map(|row| row.expect("a block"));
        let found: Vec<Vec<u8>> = found.collect();
        assert_eq!(found.len() as i64, count);
        found
    }

    #[test]
    fn blocks_are_joined_without_losing_a_span_and_more_may_follow() {
        let mut store = store();
        let (sealed, other) = (trace(1), trace(2));
        write(&mut store, sealed, &[span(sealed, 0, None)]);
        for number in 1..40 {
            write(&mut store, sealed, &[span(sealed, number, Some(9))]);
            write(&mut store, other, &[span(other, number, Some(9))]);
        }
        write(&mut store, sealed, &[span(sealed, 0, Some(80))]);
        let before: usize = blocks(&store, sealed).iter().map(Vec::len).sum();
        store.seal(&[sealed, trace(3)]).expect("sealed");
        let after: usize = blocks(&store, sealed).iter().map(Vec::len).sum();
        assert_eq!((blocks(&store, sealed).len(), blocks(&store, other).len()), (1, 39));
        assert!(after * 2 < before, "{before} bytes became {after}");
        write(&mut store, sealed, &[span(sealed, 40, Some(9))]);
        assert_eq!(blocks(&store, sealed).len(), 2);
        let spans = store.readers_of(sealed);
        let expected: Vec<_> =
            (0..=40).map(|number| span(sealed, number, Some(if number == 0 { 80 } else { 9 }))).collect();
        assert_eq!(spans, expected);
        store.seal(&[sealed]).expect("sealed");
        assert_eq!((blocks(&store, sealed).len(), store.readers_of(sealed)), (1, expected));
    }

    #[test]
    fn a_large_trace_keeps_blocks_of_a_bounded_size() {
        let mut store = store();
        let trace = trace(1);
        let long = |number: u64| Span { name: "x".repeat(9_000).into(), ..span(trace, number, Some(1)) };
        for number in 0..70 {
            write(&mut store, trace, &[long(number)]);
        }
        store.seal(&[trace]).expect("sealed");
        assert_eq!((blocks(&store, trace).len(), store.readers_of(trace).len()), (3, 70));
    }

    #[test]
    fn a_trace_with_a_block_that_cannot_be_read_stays_as_it_is() {
        let mut store = store();
        let trace = trace(1);
        write(&mut store, trace, &[span(trace, 1, Some(1))]);
        write(&mut store, trace, &[span(trace, 2, Some(1))]);
        store.database.connection.execute("UPDATE blocks SET block = x'09' WHERE key & 1 = 1", []).expect("damage");
        store.seal(&[trace]).expect("sealed");
        assert_eq!(blocks(&store, trace).len(), 2);
        assert_eq!(store.readers_of(trace), [span(trace, 2, Some(1))]);
    }

    impl TraceStore {
        fn readers_of(&self, trace: TraceId) -> Vec<Span<'static>> {
            super::super::reader::spans_of(&self.database.connection, trace).expect("spans")
        }
    }
}

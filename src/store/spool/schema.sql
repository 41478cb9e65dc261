CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
-- Batches that wait. The id is the order in which they came; it is never used again, so that a key of a batch is unique.
CREATE TABLE batches (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  target TEXT NOT NULL,
  signal TEXT NOT NULL,
  at INTEGER NOT NULL, -- milliseconds since 1970
  items INTEGER NOT NULL,
  size INTEGER NOT NULL, -- bytes of the request
  bytes INTEGER NOT NULL, -- bytes of the body
  body BLOB NOT NULL -- the request, compressed by gzip
);
CREATE INDEX batches_by_lane ON batches (target, signal, id, at, items, size, bytes);

-- What counting telemetry remembers, so that a restart counts nothing twice. Times are Unix nanoseconds, `at` milliseconds.
CREATE TABLE telemetry_seen (
  seq  INTEGER PRIMARY KEY,
  hash INTEGER NOT NULL             -- of an item that was counted
);
CREATE TABLE telemetry_streams (
  id    INTEGER PRIMARY KEY,        -- the hash of a cumulative stream
  start INTEGER NOT NULL,
  time  INTEGER NOT NULL,
  value REAL NOT NULL,
  at    INTEGER NOT NULL            -- when it was written
);
CREATE TABLE telemetry_groups (
  id   INTEGER PRIMARY KEY,         -- the hash of a producer and a model
  body TEXT NOT NULL,
  at   INTEGER NOT NULL
);

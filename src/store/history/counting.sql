-- The counting state of telemetry, so that nothing is counted twice after a restart. Times are Unix nanoseconds, `at`
-- Unix milliseconds.
CREATE TABLE telemetry_seen (
  seq  INTEGER PRIMARY KEY,
  hash INTEGER NOT NULL             -- of a counted item
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

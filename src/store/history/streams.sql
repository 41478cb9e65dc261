-- Of a stream of data points all that was counted, as JSON: several processes may be one stream, and deltas have gaps.
DROP TABLE telemetry_streams;
CREATE TABLE telemetry_streams (
  id    INTEGER PRIMARY KEY,        -- the hash of a stream
  start INTEGER NOT NULL,           -- when the last of its processes began to count, Unix nanoseconds
  body  TEXT NOT NULL,
  at    INTEGER NOT NULL            -- when it was written, Unix milliseconds
);

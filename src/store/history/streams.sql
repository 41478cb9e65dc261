-- Per stream of data points, everything that was counted, as JSON: a stream may have several processes, and deltas may
-- have gaps.
DROP TABLE telemetry_streams;
CREATE TABLE telemetry_streams (
  id    INTEGER PRIMARY KEY,        -- the hash of a stream
  start INTEGER NOT NULL,           -- start time of its newest process, Unix nanoseconds
  body  TEXT NOT NULL,
  at    INTEGER NOT NULL            -- when it was written, Unix milliseconds
);

-- Bodies of POST /api/usage that were answered and are not part of the saved fleet yet.
CREATE TABLE usage_log (
  seq  INTEGER PRIMARY KEY,
  at   INTEGER NOT NULL,
  body BLOB NOT NULL
);

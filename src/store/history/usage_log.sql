-- Acknowledged bodies of POST /api/usage whose effect is not in the saved fleet yet.
CREATE TABLE usage_log (
  seq  INTEGER PRIMARY KEY,
  at   INTEGER NOT NULL,
  body BLOB NOT NULL
);

-- Silences that have not ended. `body` is the whole row as JSON.
CREATE TABLE silences (
  id      TEXT PRIMARY KEY,
  ends_at INTEGER NOT NULL,
  body    TEXT NOT NULL
) WITHOUT ROWID;

-- Times are Unix milliseconds. `body` is the whole row as JSON; the columns before it are for people and queries.
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value ANY NOT NULL
) WITHOUT ROWID;

CREATE TABLE alerts (
  id           INTEGER PRIMARY KEY,  -- the fingerprint's 64 bits
  fingerprint  TEXT NOT NULL,        -- the same as 16 hex digits
  rule         TEXT NOT NULL,
  project      TEXT,
  subject_kind TEXT NOT NULL,        -- agent_name, component, source, project
  subject      TEXT NOT NULL,
  state        TEXT NOT NULL,        -- pending, firing, resolved
  level        TEXT NOT NULL,
  value        REAL,
  started_at   INTEGER NOT NULL,
  fired_at     INTEGER,
  resolved_at  INTEGER,
  changed_at   INTEGER NOT NULL,
  body         TEXT NOT NULL
);

CREATE TABLE outbox (
  seq         INTEGER PRIMARY KEY,
  key         TEXT NOT NULL UNIQUE,
  receiver    TEXT NOT NULL,
  state       TEXT NOT NULL,         -- pending, delivered, dead
  rule        TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  level       TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  settled_at  INTEGER,               -- null while pending
  reason      TEXT,                  -- why it was dead-lettered
  error       TEXT,
  body        TEXT NOT NULL
);

-- For reading pending notices in order, and for pruning the oldest that are no longer pending.
CREATE INDEX outbox_settled ON outbox(settled_at);

-- Times are Unix milliseconds. `body` is the whole row as JSON; the columns before it are for people and queries.
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value ANY NOT NULL
) WITHOUT ROWID;

-- Changes of status, append-only. `prev` is the previous row of the same project and name (0: none); following it reads
-- the history of one agent. An index would cost more than the rows themselves.
CREATE TABLE history (
  id          INTEGER PRIMARY KEY,
  at          INTEGER NOT NULL,
  project     TEXT NOT NULL,
  kind        TEXT NOT NULL,        -- agent, component
  name        TEXT NOT NULL,
  from_status TEXT NOT NULL,        -- empty: none
  to_status   TEXT NOT NULL,
  reason      TEXT,
  prev        INTEGER NOT NULL
);

-- The last history row of each (project, name), by a hash of the two.
CREATE TABLE heads (
  subject INTEGER PRIMARY KEY,
  last    INTEGER NOT NULL
);

-- Resolved alerts.
CREATE TABLE alert_history (
  id           INTEGER PRIMARY KEY,
  fingerprint  TEXT NOT NULL,
  rule         TEXT NOT NULL,
  level        TEXT NOT NULL,
  project      TEXT,
  subject_kind TEXT NOT NULL,       -- agent_name, component, source, project
  subject      TEXT NOT NULL,
  started_at   INTEGER NOT NULL,
  fired_at     INTEGER,
  resolved_at  INTEGER,
  message      TEXT NOT NULL,
  body         TEXT NOT NULL
);
CREATE INDEX alert_history_subject ON alert_history(subject);
CREATE INDEX alert_history_rule ON alert_history(rule);

-- The last saved state of the fleet.
CREATE TABLE agents (
  project TEXT NOT NULL,
  name    TEXT NOT NULL,
  body    TEXT NOT NULL,
  PRIMARY KEY (project, name)
) WITHOUT ROWID;

CREATE TABLE components (
  project TEXT NOT NULL,
  name    TEXT NOT NULL,
  body    TEXT NOT NULL,
  PRIMARY KEY (project, name)
) WITHOUT ROWID;

CREATE TABLE projects (
  name TEXT PRIMARY KEY,
  body TEXT NOT NULL
) WITHOUT ROWID;

-- Hashes of the ids of counted usage increments, oldest first.
CREATE TABLE usage_ids (
  seq  INTEGER PRIMARY KEY,
  hash INTEGER NOT NULL,
  at   INTEGER NOT NULL
);

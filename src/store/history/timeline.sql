-- Every decision about an alert with its reason. The last entries of each alert are kept.
CREATE TABLE timeline (
  id          INTEGER PRIMARY KEY,
  fingerprint INTEGER NOT NULL,     -- the 64 bits
  at          INTEGER NOT NULL,
  body        TEXT NOT NULL
);
CREATE INDEX timeline_fingerprint ON timeline(fingerprint, id);

-- What was decided about each alert, and why: appended, the last entries of each alert kept.
CREATE TABLE timeline (
  id          INTEGER PRIMARY KEY,
  fingerprint INTEGER NOT NULL,     -- the 64 bits
  at          INTEGER NOT NULL,
  body        TEXT NOT NULL
);
CREATE INDEX timeline_fingerprint ON timeline(fingerprint, id);

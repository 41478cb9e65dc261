-- The content of rule windows per agent, so that they survive a restart.
CREATE TABLE windows (
  project TEXT NOT NULL,
  name    TEXT NOT NULL,
  body    TEXT NOT NULL,
  PRIMARY KEY (project, name)
) WITHOUT ROWID;

-- What the windows of rules hold of each agent, so that a restart neither empties nor fills them.
CREATE TABLE windows (
  project TEXT NOT NULL,
  name    TEXT NOT NULL,
  body    TEXT NOT NULL,
  PRIMARY KEY (project, name)
) WITHOUT ROWID;

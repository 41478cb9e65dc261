-- What a shared registry has of an agent: whether it is there, which changes it lacks, and the id it had here before.
ALTER TABLE agents ADD COLUMN is_shared INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN former_id TEXT;

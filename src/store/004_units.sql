-- Dependencies that were compiled ahead of an op for all crates, and those that were there: 0 where an older maar ran it.
ALTER TABLE results ADD COLUMN compiled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE results ADD COLUMN reused INTEGER NOT NULL DEFAULT 0;

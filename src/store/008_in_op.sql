-- Units of dependencies that were compiled in an op: those without a layer, and those with one, again.
ALTER TABLE results ADD COLUMN in_op INTEGER NOT NULL DEFAULT 0;
ALTER TABLE results ADD COLUMN again INTEGER NOT NULL DEFAULT 0;

-- What the latest run was told: NULL where an older maar ran it.
ALTER TABLE experiments ADD COLUMN settings TEXT; -- JSON: `Experiment`

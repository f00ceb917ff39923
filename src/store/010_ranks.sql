-- The order in which the jobs of a generation are handed out, from 0.
ALTER TABLE jobs ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX jobs_by_rank ON jobs (experiment, generation, rank);

-- How an experiment was run: a row for every run, none of which overlap.
CREATE TABLE runs (
    id         INTEGER PRIMARY KEY,
    experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    started    INTEGER NOT NULL,
    workers    TEXT NOT NULL, -- JSON: stage → number of workers
    wall       INTEGER,       -- NULL until it ends; so it stays if the run is killed
    downloaded INTEGER        -- likewise
) STRICT;

CREATE INDEX runs_of_experiment ON runs (experiment, started);

-- The tables of `maar serve`. Waiting jobs and leases are in the memory of the engine, not here.

-- NULL: an experiment of `maar run`, which no server works on. Else planning, invalid, queued, running, paused,
-- confirming, reporting, report-failed, done, aborting or aborted.
ALTER TABLE experiments ADD COLUMN state TEXT;
ALTER TABLE experiments ADD COLUMN generation INTEGER NOT NULL DEFAULT 1; -- raised by every rerun
ALTER TABLE experiments ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;   -- the greatest is first
ALTER TABLE experiments ADD COLUMN weight REAL NOT NULL DEFAULT 1;        -- its share among equal priorities
ALTER TABLE experiments ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE experiments ADD COLUMN needs TEXT NOT NULL DEFAULT '{}';      -- JSON: `Needs`
ALTER TABLE experiments ADD COLUMN confirm INTEGER;                       -- NULL: the server's default
ALTER TABLE experiments ADD COLUMN notify TEXT NOT NULL DEFAULT '[]';     -- JSON: a list of strings
ALTER TABLE experiments ADD COLUMN owner TEXT;                            -- the token's owner
ALTER TABLE experiments ADD COLUMN source TEXT;                           -- JSON: repository, issue and comment
ALTER TABLE experiments ADD COLUMN cursor INTEGER NOT NULL DEFAULT 0;     -- jobs that the engine was given
ALTER TABLE experiments ADD COLUMN etag INTEGER NOT NULL DEFAULT 1;       -- raised by every edit
ALTER TABLE experiments ADD COLUMN queued INTEGER;                        -- when it was last queued
ALTER TABLE experiments ADD COLUMN ended INTEGER;                         -- when it was last done or aborted
ALTER TABLE experiments ADD COLUMN trouble TEXT;                          -- why it is invalid or has no report

CREATE INDEX experiments_by_state ON experiments (state) WHERE state IS NOT NULL;

-- An experiment as it was sent. The plan is made from it, again after a restart.
CREATE TABLE submissions (
    experiment INTEGER PRIMARY KEY REFERENCES experiments (id) ON DELETE CASCADE,
    form       TEXT NOT NULL, -- toml or json
    text       TEXT NOT NULL,
    fresh      INTEGER NOT NULL DEFAULT 0, -- whether the next run forgets earlier results
    key        TEXT,          -- its Idempotency-Key
    digest     TEXT NOT NULL, -- SHA-256 of the request
    owner      TEXT NOT NULL,
    UNIQUE (owner, key)
) STRICT;

-- The verdict on each crate so far, so that lists and counts needn't judge all results again.
CREATE TABLE verdicts (
    experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    crate      TEXT NOT NULL, -- `NAME@VERSION`, or `NAME` where there is no version
    verdict    TEXT NOT NULL,
    reason     TEXT,
    PRIMARY KEY (experiment, crate)
) STRICT, WITHOUT ROWID;

CREATE INDEX verdicts_by_kind ON verdicts (experiment, verdict, crate);

-- A unit of distributed work: one crate. Whether it is leased is known to the engine, not here.
CREATE TABLE jobs (
    experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    position   INTEGER NOT NULL, -- the crate's
    lane       TEXT NOT NULL,    -- std, big or confirm
    shard      INTEGER NOT NULL DEFAULT 0,
    state      TEXT NOT NULL DEFAULT 'waiting', -- waiting, done, withdrawn or poisoned
    agent      INTEGER,          -- the one whose report was accepted
    bundle     TEXT,             -- SHA-256 of its logs
    accepted   INTEGER,          -- when its report was
    PRIMARY KEY (experiment, generation, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX jobs_by_state ON jobs (experiment, generation, state);

-- Who was given which job, and how that ended. Removed with the generation.
CREATE TABLE handouts (
    id         INTEGER PRIMARY KEY,
    experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    agent      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    ended      INTEGER,
    how        TEXT -- accepted, refused, returned, lost or dropped
) STRICT;

CREATE INDEX handouts_of_job ON handouts (experiment, generation, position);
CREATE INDEX handouts_of_agent ON handouts (agent) WHERE ended IS NULL;

-- A token is found by its id. Of its secret only a digest is kept.
CREATE TABLE tokens (
    id      TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    hash    BLOB NOT NULL, -- SHA-256 of the whole token
    role    TEXT NOT NULL, -- agent, run, read or admin
    owner   TEXT NOT NULL, -- whose experiments are its own
    created INTEGER NOT NULL,
    expires INTEGER,
    used    INTEGER,
    revoked INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX token_names ON tokens (name) WHERE revoked IS NULL;

CREATE TABLE agents (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    token   TEXT NOT NULL REFERENCES tokens (id),
    labels  TEXT NOT NULL DEFAULT '[]', -- JSON: a list of strings
    trusted INTEGER NOT NULL DEFAULT 0,
    hello   TEXT,                       -- JSON: its last introduction
    seen    INTEGER,
    paused  INTEGER NOT NULL DEFAULT 0,
    banned  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Who changed what.
CREATE TABLE audit (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    who    TEXT NOT NULL,
    via    TEXT NOT NULL, -- api, cli, github or server
    what   TEXT NOT NULL, -- such as `experiment NAME: abort`
    before TEXT,          -- JSON
    after  TEXT           -- JSON
) STRICT;

CREATE TABLE inbox (
    delivery TEXT PRIMARY KEY,
    event    TEXT NOT NULL,
    body     TEXT NOT NULL,
    received INTEGER NOT NULL,
    done     INTEGER
) STRICT;

CREATE TABLE outbox (
    id     INTEGER PRIMARY KEY,
    kind   TEXT NOT NULL,
    target TEXT NOT NULL,
    body   TEXT NOT NULL,
    tries  INTEGER NOT NULL DEFAULT 0,
    next   INTEGER NOT NULL
) STRICT;

CREATE TABLE try_builds (
    repo  TEXT NOT NULL,
    pr    INTEGER NOT NULL,
    base  TEXT NOT NULL,
    merge TEXT NOT NULL,
    PRIMARY KEY (repo, pr, merge)
) STRICT, WITHOUT ROWID;

-- The experiments of an issue, by which comments without a name mean the last one.
CREATE TABLE names (
    repo       TEXT NOT NULL,
    issue      INTEGER NOT NULL,
    experiment TEXT NOT NULL,
    PRIMARY KEY (repo, issue, experiment)
) STRICT, WITHOUT ROWID;

-- The machine that found a result: NULL for this one.
ALTER TABLE results ADD COLUMN agent INTEGER;
ALTER TABLE results ADD COLUMN environment TEXT;
-- Where a log is in the bundle of its job, if it isn't here: the places and packed lengths of its streams.
ALTER TABLE logs ADD COLUMN bundle TEXT;
ALTER TABLE logs ADD COLUMN head_at INTEGER;
ALTER TABLE logs ADD COLUMN head_packed INTEGER;
ALTER TABLE logs ADD COLUMN tail_at INTEGER;
ALTER TABLE logs ADD COLUMN tail_packed INTEGER;

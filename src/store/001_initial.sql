-- Times are milliseconds since 1970, durations microseconds, sizes bytes.

CREATE TABLE experiments (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    created    INTEGER NOT NULL,
    updated    INTEGER NOT NULL,
    toolchains TEXT NOT NULL, -- JSON: a list of `Toolchain`
    notes      TEXT NOT NULL  -- JSON: a list of strings
) STRICT;

-- The plan of the latest run, replaced as a whole when a run begins.
CREATE TABLE crates (
    experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    selection  TEXT NOT NULL, -- as the user wrote it
    selected   TEXT NOT NULL, -- JSON: `Selected`
    PRIMARY KEY (experiment, position)
) STRICT, WITHOUT ROWID;

-- Which crate a selection chose when it was first made, in whichever run.
CREATE TABLE pins (
    experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    selection  TEXT NOT NULL, -- as the user wrote it
    selected   TEXT NOT NULL, -- JSON: `Selected`
    PRIMARY KEY (experiment, selection)
) STRICT, WITHOUT ROWID;

CREATE TABLE steps (
    experiment  INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    crate       INTEGER NOT NULL, -- the crate's position
    position    INTEGER NOT NULL,
    op          TEXT NOT NULL,    -- JSON: `Op`
    toolchain   INTEGER,          -- its place in the list; NULL: for all
    attempt     INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (experiment, crate, position)
) STRICT, WITHOUT ROWID;

-- What came of the steps of all runs, whether or not they are still planned.
CREATE TABLE results (
    id                 INTEGER PRIMARY KEY,
    experiment         INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    fingerprint        TEXT NOT NULL,
    attempt            INTEGER NOT NULL,
    crate              TEXT NOT NULL,
    version            TEXT,
    op                 TEXT NOT NULL, -- its name
    stage              TEXT NOT NULL,
    toolchain          TEXT,          -- as the user named it; NULL: for all
    toolchain_identity TEXT,
    kind               TEXT NOT NULL, -- `OutcomeKind`
    outcome            TEXT NOT NULL, -- JSON: `Outcome`
    reason             TEXT,          -- the outcome's reason in words
    started            INTEGER NOT NULL,
    queued             INTEGER NOT NULL, -- how long it waited for a worker
    wall               INTEGER NOT NULL,
    cpu                INTEGER NOT NULL,
    peak_memory        INTEGER,
    worker             INTEGER NOT NULL,
    UNIQUE (experiment, fingerprint, attempt)
) STRICT;

-- Head and tail are zlib streams; without a tail, the head is everything.
CREATE TABLE logs (
    result     INTEGER PRIMARY KEY REFERENCES results (id) ON DELETE CASCADE,
    head       BLOB NOT NULL,
    head_bytes INTEGER NOT NULL, -- unpacked
    tail       BLOB NOT NULL,
    tail_bytes INTEGER NOT NULL, -- unpacked
    dropped    INTEGER NOT NULL  -- bytes between head and tail that were not kept
) STRICT;

CREATE TABLE lockfiles (
    experiment  INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL, -- of the step that made it
    content     BLOB NOT NULL, -- a zlib stream
    bytes       INTEGER NOT NULL, -- unpacked
    PRIMARY KEY (experiment, fingerprint)
) STRICT;

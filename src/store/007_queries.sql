-- What a query of the selection was answered when it was first made, so that a run that goes on asks no more.
CREATE TABLE queries (
    id         INTEGER PRIMARY KEY,
    experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
    query      TEXT NOT NULL, -- as the user wrote it
    note       TEXT,          -- how it was answered, in words
    UNIQUE (experiment, query)
) STRICT;

CREATE TABLE answers (
    query    INTEGER NOT NULL REFERENCES queries (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    selected TEXT NOT NULL, -- JSON: `Selected`
    PRIMARY KEY (query, position)
) STRICT, WITHOUT ROWID;

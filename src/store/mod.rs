//! Results on disk: one SQLite database per home, one writer, many readers.

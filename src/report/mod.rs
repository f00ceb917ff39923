//! Reports: one file per format. Reads results, never live state.

//! The one seam: crate jobs as pipeline work, events into the store.

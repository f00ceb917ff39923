//! Progress for whoever watches, from events.

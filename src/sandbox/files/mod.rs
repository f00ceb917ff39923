//! Files of folders that commands have written to.

mod door;

pub use self::door::{Door, Found};

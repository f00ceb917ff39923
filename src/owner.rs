//! Who files belong to.

use serde::{Deserialize, Serialize};

/// Who a file belongs to. Only root can give files away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

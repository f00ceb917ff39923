//! What integration tests share. Each test binary uses a part of it.
#![allow(dead_code)]

pub(crate) mod dump;
pub(crate) mod fixture;
pub(crate) mod registry;

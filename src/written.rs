//! What people write in files: YAML as a tree and back, and the words for a mistake in it.
//!
//! Shared by the configuration and the rule files, so that a mistake in either is told in the same way. Refuses to know
//! what a key means.

pub(crate) mod mistake;
pub(crate) mod print;
pub(crate) mod tree;
pub(crate) mod yaml;

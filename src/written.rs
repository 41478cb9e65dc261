//! What people write in files: YAML or TOML, read as figment's values with the place of each, YAML again for what is
//! shown, and the words for a mistake.
//!
//! Shared by the configuration and the rule files, so that a mistake in either is told in the same way. Refuses to know
//! what a key means.

pub(crate) mod document;
pub(crate) mod mistake;
pub(crate) mod toml;
pub(crate) mod yaml;

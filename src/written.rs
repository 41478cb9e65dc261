//! Parses YAML and TOML files into figment's values with the position of each, prints YAML, and formats error messages.
//! Shared by configuration and rule files.

pub(crate) mod document;
pub(crate) mod mistake;
pub(crate) mod toml;
pub(crate) mod yaml;

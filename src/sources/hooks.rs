//! Events that agents post by themselves, one at a time: hooks.
//!
//! Owns whom a hook is about, and what its events say. Refuses to keep anything of a hook but its kind, the name of a
//! tool and the kind of an error: prompts, arguments and outputs are skipped while the body is read.

pub mod claude_code;

use super::MAX_TEXT;
use super::push::DEFAULT_PROJECT;
use crate::model::text::is_name;

pub use claude_code::ClaudeCode;

/// Whom the sender of a hook says it is about: in the hook's URL, else in its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    agent: Option<Box<str>>,
    project: Option<Box<str>>,
}

impl Target {
    /// The first usable name of each list; one that could be no name is passed over.
    pub fn new<'a>(
        agents: impl IntoIterator<Item = Option<&'a str>>,
        projects: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Self {
        Self { agent: first(agents), project: first(projects) }
    }

    /// Project and agent: as said, else the project `default` and the last folder of `cwd`.
    fn resolve<'a>(&'a self, cwd: Option<&'a str>) -> Option<(&'a str, &'a str)> {
        let folder = || cwd?.rsplit(['/', '\\']).find(|part| !part.is_empty()).filter(|name| is_name(name, MAX_TEXT));
        let agent = self.agent.as_deref().or_else(folder)?;
        Some((self.project.as_deref().unwrap_or(DEFAULT_PROJECT), agent))
    }
}

fn first<'a>(names: impl IntoIterator<Item = Option<&'a str>>) -> Option<Box<str>> {
    names.into_iter().flatten().find(|name| is_name(name, MAX_TEXT)).map(Box::from)
}

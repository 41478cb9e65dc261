//! Whom a rule's `where` covers.

use super::file::Where;
use crate::model::Agent;
use crate::model::matchers::glob;

impl Where {
    /// Whether it covers `agent` as it is now.
    pub(super) fn covers(&self, agent: &Agent) -> bool {
        let fits = |pattern: &Option<String>, text: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| glob(pattern, text.unwrap_or_default()))
        };
        fits(&self.project, Some(&agent.project))
            && fits(&self.agent_name, Some(&agent.name))
            && fits(&self.r#type, agent.agent_type.as_deref())
            && fits(&self.status, agent.status.map(|status| status.as_str()))
    }

    /// Whether it covers an agent of which only the name is known.
    pub(super) fn covers_missing(&self, project: &str, name: &str) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| glob(pattern, text));
        fits(&self.project, project) && fits(&self.agent_name, name) && fits(&self.r#type, "") && fits(&self.status, "")
    }

    /// Whether it covers whatever of that project has no name of its own here.
    pub(super) fn covers_project(&self, project: &str) -> bool {
        self.project.as_ref().is_none_or(|pattern| glob(pattern, project))
    }
}

//! Agents that the configuration expects, and since when any are missing.

use std::sync::Arc;

use crate::model::Time;

use super::Fleet;

impl Fleet {
    /// Applies the section `expected` of the configuration.
    pub(super) fn configure_expected(&mut self, now: Time) {
        for index in &mut self.indexes {
            index.wanted.clear();
        }
        for project in &mut self.state.projects {
            Arc::make_mut(project).wanted = None;
        }
        for expected in self.settings.expected.clone() {
            let Some(slot) = self.project_slot(&expected.project) else { continue };
            if let Some(index) = self.indexes.get_mut(slot as usize) {
                index.wanted.extend(expected.agents.iter().map(|name| Arc::from(name.as_str())));
            }
            if let Some(project) = self.state.projects.get_mut(slot as usize).map(Arc::make_mut) {
                project.wanted = expected.count.or(project.wanted);
            }
        }
        for slot in 0..self.indexes.len() {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            self.refresh_expected(now, slot);
            self.project_changed(slot);
        }
    }

    /// Updates `missing` and `too_small_since` of a project.
    pub(super) fn refresh_expected(&mut self, now: Time, slot: u32) {
        let (Some(index), Some(project)) =
            (self.indexes.get(slot as usize), self.state.projects.get_mut(slot as usize))
        else {
            return;
        };
        let too_small = project.wanted.is_some_and(|wanted| project.up < wanted);
        if too_small != project.too_small_since.is_some() {
            Arc::make_mut(project).too_small_since = too_small.then_some(now);
        }
        let there = |name: &Arc<str>| index.agents.contains_key(name);
        let same = project.missing.iter().map(|(name, _)| name).eq(index.wanted.iter().filter(|name| !there(name)));
        if !same {
            let since = |name: &Arc<str>| {
                project.missing.iter().find(|(missing, _)| missing == name).map_or(now, |(_, since)| *since)
            };
            let missing: Vec<_> =
                index.wanted.iter().filter(|name| !there(name)).map(|name| (Arc::clone(name), since(name))).collect();
            Arc::make_mut(project).missing = missing.into();
            self.project_changed(slot);
        }
    }
}

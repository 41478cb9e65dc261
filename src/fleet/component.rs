//! Applies the reported state of one component, and keeps its project's count of components.

use std::sync::Arc;

use crate::model::labels::component_labels;
use crate::model::{Component, ComponentUpdate, HistoryRow, Time};
use crate::text::clean;

use super::project::count_component;
use super::{Fleet, SERIES_PER_COMPONENT};

impl Fleet {
    /// Applies the state of one component, without its custom metrics; returns its slot, or `None` if it is new and there is
    /// no room.
    pub(super) fn apply_component(
        &mut self,
        now: Time,
        project: u32,
        source: &Arc<str>,
        update: &ComponentUpdate<'_>,
    ) -> Option<u32> {
        let index = self.indexes.get(project as usize)?;
        let known = index.components.get(&*update.name).copied();
        if known.is_none() && !self.has_room(SERIES_PER_COMPONENT) {
            return None;
        }
        let project_name = self.state.projects.get(project as usize).map(|project| Arc::clone(&project.name))?;
        let slot = known.unwrap_or_else(|| {
            let name: Arc<str> = Arc::from(&*update.name);
            let component = Component {
                slot: 0,
                project_slot: project,
                labels: component_labels(&project_name, &name),
                project: Arc::clone(&project_name),
                name: Arc::clone(&name),
                source: Arc::clone(source),
                status: update.status,
                status_since: now,
                details: None,
                metrics: Vec::new(),
                custom: None,
                last_seen: now,
            };
            let slot = self.state.components.insert_with(|slot| Component { slot, ..component });
            if let Some(index) = self.indexes.get_mut(project as usize) {
                index.components.insert(name, slot);
            }
            slot
        });
        let (Some(component), Some(totals)) =
            (self.state.components.get_mut(slot), self.state.projects.get_mut(project as usize).map(Arc::make_mut))
        else {
            return None;
        };
        let from = known.map(|_| component.status);
        if from != Some(update.status) {
            count_component(totals, from, Some(update.status));
            self.changes.history.push(HistoryRow {
                at: now,
                project: project_name,
                kind: "component",
                name: Arc::clone(&component.name),
                from: from.map_or("", |status| status.as_str()),
                to: update.status.as_str(),
                reason: update.details.as_deref().map(|details| Arc::from(&*clean(details, 512))),
            });
            (component.status, component.status_since) = (update.status, now);
        }
        component.last_seen = now;
        if component.source != *source {
            component.source = Arc::clone(source);
        }
        if component.details.as_deref() != update.details.as_deref() {
            component.details = update.details.as_deref().map(|details| Arc::from(&*clean(details, 512)));
        }
        component.metrics = update.metrics.iter().map(|(name, value)| (Arc::from(&**name), *value)).collect();
        self.changes.components.push(slot);
        self.component_deadlines.schedule(slot, now.plus(self.settings.agents.forget_after));
        Some(slot)
    }
}

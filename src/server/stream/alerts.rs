//! What viewers know of alerts, so that an event is sent for what they can see and for nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::AlertView;
use crate::model::{Alert, AlertState, Fingerprint, Level, Time};

/// How long a resolved alert is remembered. What changes of one that resolved earlier is bookkeeping of its receivers.
const REMEMBERED: Duration = Duration::from_secs(600);

/// An alert as viewers last saw it.
#[derive(Clone, Debug, PartialEq)]
struct ShownAlert {
    state: AlertState,
    level: Level,
    no_data: bool,
    inhibited_by: Option<Arc<str>>,
    acked_by: Option<String>,
    silenced_by: Option<String>,
    started_at: String,
    fired_at: Option<String>,
}

/// The alerts that viewers know.
#[derive(Debug, Default)]
pub(super) struct KnownAlerts {
    /// Each with when it was shown so.
    shown: HashMap<Fingerprint, (ShownAlert, Time)>,
    /// The alerts that were open before anything was shown, with the silence that matched each.
    open_before: HashMap<Fingerprint, Option<String>>,
    /// When the resolved ones were last dropped.
    pruned_at: Time,
}

impl KnownAlerts {
    /// Viewers start with these open alerts, each with the id of its silence.
    pub(super) fn new(open: Vec<(Fingerprint, Option<Arc<str>>)>) -> Self {
        let open = open.into_iter().map(|(fingerprint, silence)| (fingerprint, silence.map(|id| id.to_string())));
        Self { open_before: open.collect(), ..Self::default() }
    }

    /// Whether a change of `alert` may be news. It is not if the alert resolved long ago.
    pub(super) fn may_be_news(&self, now: Time, alert: &Alert) -> bool {
        alert.state != AlertState::Resolved
            || self.shown.contains_key(&alert.fingerprint)
            || self.open_before.contains_key(&alert.fingerprint)
            || now.since(alert.changed_at) < REMEMBERED / 2
    }

    /// Records that `alert` is shown as it is now. Returns the level that it was last shown with, which may be none; `None`
    /// when it was shown like that before.
    pub(super) fn show(&mut self, now: Time, alert: &AlertView) -> Option<Option<Level>> {
        let shown = ShownAlert {
            state: alert.state,
            level: alert.level,
            no_data: alert.no_data,
            inhibited_by: alert.inhibited_by.clone(),
            acked_by: alert.acked_by.clone(),
            silenced_by: alert.silenced_by.clone(),
            started_at: alert.started_at.clone(),
            fired_at: alert.fired_at.clone(),
        };
        self.open_before.remove(&alert.fingerprint);
        if self.shown.get(&alert.fingerprint).is_some_and(|(before, _)| *before == shown) {
            return None;
        }
        let before = self.shown.insert(alert.fingerprint, (shown, now));
        Some(before.map(|(before, _)| before.level))
    }

    /// Of the open alerts, each with the id of its silence, those that viewers know with another silence.
    pub(super) fn silenced_differently(&self, open: Vec<(Fingerprint, Option<Arc<str>>)>) -> Vec<Fingerprint> {
        let differs = |(fingerprint, silence): &(Fingerprint, Option<Arc<str>>)| {
            let shown = self.shown.get(fingerprint).map(|(shown, _)| &shown.silenced_by);
            let known = shown.or_else(|| self.open_before.get(fingerprint)).and_then(Option::as_deref);
            known != silence.as_deref()
        };
        open.into_iter().filter(differs).map(|(fingerprint, _)| fingerprint).collect()
    }

    /// Forgets alerts that resolved long ago, from time to time.
    pub(super) fn prune(&mut self, now: Time) {
        if now.since(self.pruned_at) >= REMEMBERED {
            self.pruned_at = now;
            let is_over =
                |(shown, at): &(ShownAlert, Time)| shown.state == AlertState::Resolved && now.since(*at) >= REMEMBERED;
            self.shown.retain(|_, shown| !is_over(shown));
        }
    }
}

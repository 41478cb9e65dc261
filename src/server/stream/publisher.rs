//! Derives events from consecutive snapshots and from what the engine hands over, while there are viewers.
//!
//! Runs on the thread of the streams: comparing, rendering and sending never delay the engine, which is only asked for
//! snapshots and, a few at a time, for the texts of alerts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::alerts::KnownAlerts;
use super::changes::{ShownTimes, agent_changes};
use super::render::{self, Draft};
use super::{IDLE_TIMEOUT, StreamHub};
use crate::engine::live::{LiveChange, LiveChanges, LiveFeed};
use crate::engine::{AlertView, EngineHandle, Stopped, View};
use crate::model::Alert;
use crate::server::api::totals;

/// Minimum time between two events with totals.
const TOTALS_EVERY: Duration = Duration::from_secs(1);
/// How often it is checked whether there are viewers.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Alerts whose texts are asked for at once: about a millisecond of the engine's time.
const ALERTS_AT_ONCE: usize = 32;
/// Events that are published at once; viewers send them before the next ones are added.
const EVENTS_AT_ONCE: usize = 1_000;

/// Publishes events.
pub(super) struct Publisher {
    hub: StreamHub,
    engine: EngineHandle,
    feed: LiveFeed,
}

/// What viewers know while there are any.
struct PublishedState {
    view: Arc<View>,
    times: ShownTimes,
    alerts: KnownAlerts,
    /// The last totals, without their time.
    totals: Value,
    /// When totals may be sent next.
    totals_at: Instant,
    are_totals_due: bool,
}

impl Publisher {
    pub(super) const fn new(hub: StreamHub, engine: EngineHandle, feed: LiveFeed) -> Self {
        Self { hub, engine, feed }
    }

    /// Runs until the engine stops.
    pub(super) async fn run(self) {
        loop {
            self.hub.wait_for_viewers().await;
            let Err(Stopped) = self.follow().await else { continue };
            // Viewers end by themselves when the program stops.
            self.hub.stopped().await;
            return;
        }
    }

    /// Publishes changes until there were no viewers for a while.
    async fn follow(&self) -> Result<(), Stopped> {
        self.feed.switch(true);
        let followed = self.follow_feed().await;
        self.feed.switch(false);
        self.hub.interrupt();
        followed
    }

    async fn follow_feed(&self) -> Result<(), Stopped> {
        let view = self.engine.view().await?;
        let mut state = PublishedState {
            times: ShownTimes::of(&view.fleet),
            alerts: KnownAlerts::new(self.engine.silenced().await?),
            totals: timeless(totals::of(&view)),
            totals_at: Instant::now(),
            are_totals_due: false,
            view,
        };
        self.hub.begin();
        while !self.hub.has_been_idle(IDLE_TIMEOUT) {
            let wake_at = if state.are_totals_due { state.totals_at } else { Instant::now() + CHECK_EVERY };
            let has_changed = tokio::select! {
                () = self.feed.changed() => true,
                () = tokio::time::sleep_until(wake_at) => false,
                () = self.hub.stopped() => return Err(Stopped),
            };
            if has_changed || state.are_totals_due {
                self.publish_changes(&mut state).await?;
                tokio::time::sleep(self.hub.pace()).await;
            }
        }
        Ok(())
    }

    /// One round: everything that changed since the last one.
    async fn publish_changes(&self, state: &mut PublishedState) -> Result<(), Stopped> {
        let LiveChanges { changes, is_incomplete } = self.feed.take();
        let now = self.engine.view().await?;
        state.are_totals_due |= now.fleet.generation != state.view.fleet.generation;
        let before = std::mem::replace(&mut state.view, Arc::clone(&now));
        let mut events = Vec::new();
        let agents = agent_changes(&before.fleet, &now.fleet, &mut state.times);
        for part in agents.chunks(EVENTS_AT_ONCE) {
            events.extend(part.iter().map(|change| render::agent(change, &now.fleet)));
            self.publish_many(&mut events).await;
        }
        let (mut alerts, mut has_silences) = (Vec::new(), false);
        for change in changes {
            match change {
                LiveChange::Alert(alert) => alerts.push(*alert),
                LiveChange::Run(run) => events.push(render::run(&run)),
                LiveChange::Silences => has_silences = true,
            }
        }
        if is_incomplete {
            state.alerts = KnownAlerts::new(self.engine.silenced().await?);
            events.push(render::resync("incomplete"));
        }
        self.add_alerts(state, alerts, has_silences, &mut events).await?;
        add_totals(state, &mut events);
        self.hub.publish(events);
        Ok(())
    }

    /// Adds the events of alerts that changed, and of those that are silenced by another silence than before.
    async fn add_alerts(
        &self,
        state: &mut PublishedState,
        mut changed: Vec<Alert>,
        has_silences: bool,
        events: &mut Vec<Draft>,
    ) -> Result<(), Stopped> {
        let at = state.view.fleet.at;
        changed.retain(|alert| state.alerts.may_be_news(at, alert));
        while !changed.is_empty() {
            let part: Vec<Alert> = changed.drain(..changed.len().min(ALERTS_AT_ONCE)).collect();
            add_alert_views(&mut state.alerts, &self.engine.alert_views(part).await?, events);
            self.publish_many(events).await;
        }
        if has_silences {
            let open = self.engine.silenced().await?;
            for part in state.alerts.silenced_differently(open).chunks(ALERTS_AT_ONCE) {
                add_alert_views(&mut state.alerts, &self.engine.alerts_named(part.to_vec()).await?, events);
                self.publish_many(events).await;
            }
        }
        state.alerts.prune(at);
        Ok(())
    }

    /// Publishes events once they are many, and leaves viewers the time to send them.
    async fn publish_many(&self, events: &mut Vec<Draft>) {
        if events.len() >= EVENTS_AT_ONCE {
            self.hub.publish(std::mem::take(events));
            tokio::time::sleep(self.hub.pace()).await;
        }
    }
}

/// Adds the events of those alerts that viewers do not know as they are now.
fn add_alert_views(known: &mut KnownAlerts, views: &[AlertView], events: &mut Vec<Draft>) {
    for view in views {
        if let Some(before) = known.show(view) {
            events.push(render::alert(view, before));
        }
    }
}

/// Adds totals if they differ from the last ones, at most once a second.
fn add_totals(state: &mut PublishedState, events: &mut Vec<Draft>) {
    let now = Instant::now();
    if !state.are_totals_due || now < state.totals_at {
        return;
    }
    (state.are_totals_due, state.totals_at) = (false, now + TOTALS_EVERY);
    let shown = totals::of(&state.view);
    let compared = timeless(shown.clone());
    if compared != state.totals {
        state.totals = compared;
        events.push(render::totals(&shown));
    }
}

/// Totals without the time they were taken at.
fn timeless(mut totals: Value) -> Value {
    let without = |sums: &mut Value| drop(sums.as_object_mut().map(|sums| sums.remove("timestamp")));
    without(&mut totals["metrics"]);
    totals["projects"].as_object_mut().into_iter().flatten().for_each(|(_, sums)| without(sums));
    totals
}

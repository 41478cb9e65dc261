//! Derives events from consecutive snapshots and from what the engine hands over, while there are viewers.
//!
//! Runs on the thread of the streams: comparing, rendering and sending never delay the engine, which is only asked for
//! snapshots and, a few at a time, for the texts of alerts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::alerts::KnownAlerts;
use super::changes::{AgentChange, ShownTimes, agent_changes};
use super::filter::StreamForm;
use super::render::{self, Draft};
use super::{IDLE_TIMEOUT, StreamHub};
use crate::engine::live::{LiveChange, LiveChanges, LiveFeed};
use crate::engine::{AlertView, EngineHandle, Stopped, View};
use crate::model::Alert;
use crate::server::api::totals;
use crate::server::page::FleetTracker;

/// Minimum time between two events with totals.
const TOTALS_EVERY: Duration = Duration::from_secs(1);
/// Alerts whose texts are asked for at once: about a millisecond of the engine's time.
const ALERTS_AT_ONCE: usize = 32;
/// Events that are published at once; viewers send them before the next ones are added.
const EVENTS_AT_ONCE: usize = 1_000;
/// Changes of one round from which on pages load everything again.
const MOST_ROWS: usize = 2_000;
/// How often agents are checked that look different because time passed.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How often the texts of the worst alerts are written again, since some contain durations, and of how many.
const REWORD_EVERY: Duration = Duration::from_secs(15);
const REWORDED: usize = 96;
/// Most agents whose last day is read in one round.
const DAYS_AT_ONCE: usize = 20;

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
    page: FleetTracker,
    /// What changed on the page in this round.
    touched: PageRound,
    swept_at: Instant,
    reworded_at: Instant,
}

/// What of the page is to be rendered again in a round.
#[derive(Debug, Default)]
struct PageRound {
    slots: BTreeSet<u32>,
    hints: Vec<Draft>,
    events: Vec<Draft>,
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
        self.hub.board().unfollow().await;
        self.hub.interrupt();
        followed
    }

    async fn follow_feed(&self) -> Result<(), Stopped> {
        let board = self.hub.board();
        board.follow(&self.engine).await?;
        let view = self.engine.view().await?;
        let mut state = PublishedState {
            times: ShownTimes::of(&view.fleet),
            alerts: KnownAlerts::new(self.engine.silenced().await?),
            totals: timeless(totals::of(&view)),
            totals_at: Instant::now(),
            are_totals_due: false,
            page: FleetTracker::new(&view.fleet, &*board.known_alerts().await, board),
            touched: PageRound::default(),
            swept_at: Instant::now(),
            reworded_at: Instant::now(),
            view,
        };
        self.hub.begin();
        while !self.hub.has_been_idle(IDLE_TIMEOUT) {
            let check_at = state.swept_at + SWEEP_EVERY;
            let wake_at = if state.are_totals_due { state.totals_at.min(check_at) } else { check_at };
            let has_changed = tokio::select! {
                () = self.feed.changed() => true,
                () = tokio::time::sleep_until(wake_at) => false,
                () = self.hub.stopped() => return Err(Stopped),
            };
            let is_sweep = Instant::now() >= check_at;
            if has_changed || state.are_totals_due || is_sweep {
                self.publish_changes(&mut state).await?;
                tokio::time::sleep(self.hub.pace()).await;
            }
        }
        Ok(())
    }

    /// One round: everything that changed since the last one.
    async fn publish_changes(&self, state: &mut PublishedState) -> Result<(), Stopped> {
        let revision = self.hub.board().feed_revision();
        let LiveChanges { changes, is_incomplete } = self.feed.take();
        let now = self.engine.view().await?;
        state.are_totals_due |= now.fleet.generation != state.view.fleet.generation;
        let before = std::mem::replace(&mut state.view, Arc::clone(&now));
        let mut events = Vec::new();
        let agents = agent_changes(&before.fleet, &now.fleet, &mut state.times);
        for change in &agents {
            match change {
                AgentChange::Updated(agent) => drop(state.touched.slots.insert(agent.slot)),
                AgentChange::Removed(agent) => {
                    state.touched.events.extend(state.page.remove(agent).map(render::page));
                }
            }
        }
        for part in agents.chunks(EVENTS_AT_ONCE) {
            events.extend(part.iter().map(|change| render::agent(change, &now.fleet)));
            self.publish_many(&mut events).await;
        }
        let (mut alerts, mut has_silences) = (Vec::new(), false);
        for change in changes {
            match change {
                LiveChange::Alert(alert) => alerts.push(*alert),
                LiveChange::Run(run) => {
                    state.touched.hints.push(render::run_hint(&run));
                    events.push(render::run(&run));
                }
                LiveChange::Silences => has_silences = true,
            }
        }
        if is_incomplete {
            state.alerts = KnownAlerts::new(self.engine.silenced().await?);
            events.push(render::resync("incomplete"));
            self.hub.board().follow(&self.engine).await?;
            state.touched.events.push(render::resync("incomplete"));
        }
        self.add_alerts(state, alerts, has_silences, &mut events).await?;
        add_totals(state, &mut events);
        self.hub.publish(StreamForm::Json, events);
        self.hub.board().reached(revision);
        self.publish_page(state).await
    }

    /// The same changes for the page.
    async fn publish_page(&self, state: &mut PublishedState) -> Result<(), Stopped> {
        let board = self.hub.board();
        let now = Instant::now();
        if now >= state.reworded_at + REWORD_EVERY {
            state.reworded_at = now;
            for part in self.engine.worst_alerts(REWORDED).await?.chunks(ALERTS_AT_ONCE) {
                let views = self.engine.alerts_named(part.to_vec()).await?;
                state.touch_agents_of(&views);
                board.put_alerts(views.into_iter()).await;
            }
        }
        let alerts = board.known_alerts().await;
        let fleet = &state.view.fleet;
        if now >= state.swept_at + SWEEP_EVERY {
            state.swept_at = now;
            state.touched.slots.extend(state.page.outdated(fleet, &alerts, board));
        }
        let PageRound { slots, hints, mut events } = std::mem::take(&mut state.touched);
        let are_many = slots.len() > MOST_ROWS;
        let (changes, mut unread) = state.page.update(slots.into_iter(), fleet, &alerts, board);
        if are_many {
            events.push(render::resync("many_changes"));
        } else {
            events.extend(changes.into_iter().map(render::page));
        }
        events.extend(state.page.parts(fleet, &alerts).into_iter().map(render::page));
        events.extend(hints);
        self.hub.publish(StreamForm::Page, events);
        if !unread.is_empty() && !are_many {
            // Their rows are shown already, and once more with the last day.
            unread.truncate(DAYS_AT_ONCE);
            board.read_days(&unread).await;
            let (changes, _) = state.page.update(unread.iter().map(|agent| agent.slot), fleet, &alerts, board);
            self.hub.publish(StreamForm::Page, changes.into_iter().map(render::page).collect());
        }
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
            let views = self.engine.alert_views(part).await?;
            self.add_alert_views(state, views, events).await;
            self.publish_many(events).await;
        }
        if has_silences {
            let open = self.engine.silenced().await?;
            state.touched.hints.push(render::silences_hint());
            for part in state.alerts.silenced_differently(open).chunks(ALERTS_AT_ONCE) {
                let views = self.engine.alerts_named(part.to_vec()).await?;
                self.add_alert_views(state, views, events).await;
                self.publish_many(events).await;
            }
        }
        state.alerts.prune(at);
        Ok(())
    }

    /// Publishes events once they are many, and leaves viewers the time to send them.
    async fn publish_many(&self, events: &mut Vec<Draft>) {
        if events.len() >= EVENTS_AT_ONCE {
            self.hub.publish(StreamForm::Json, std::mem::take(events));
            tokio::time::sleep(self.hub.pace()).await;
        }
    }

    /// Adds the events of those alerts that viewers do not know as they are now.
    async fn add_alert_views(&self, state: &mut PublishedState, views: Vec<AlertView>, events: &mut Vec<Draft>) {
        let at = state.view.fleet.at;
        for view in &views {
            if let Some(before) = state.alerts.show(at, view) {
                events.push(render::alert(view, before));
                state.touched.hints.push(render::alert_hint(view));
            }
        }
        state.touch_agents_of(&views);
        self.hub.board().put_alerts(views.into_iter()).await;
    }
}

impl PublishedState {
    /// The agents of these alerts may look different on the page.
    fn touch_agents_of(&mut self, views: &[AlertView]) {
        let names = views.iter().filter_map(|view| view.project.as_ref().zip(view.agent_name.as_ref()));
        self.touched.slots.extend(names.filter_map(|(project, name)| self.page.slot_of(project, name)));
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

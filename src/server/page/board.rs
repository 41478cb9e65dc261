//! What the page knows of the fleet in addition to the engine's view: alerts with their texts, the last day of agents, what
//! the registry keeps about them, and the pages rendered last.
//!
//! The engine is asked for the texts of a few alerts at a time, once per change and not once per visitor. While anything
//! follows the stream, its publisher keeps the alerts up to date.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::live::LiveFeed;
use crate::engine::runs::RunsHandle;
use crate::engine::{AlertView, EngineHandle, Stopped};
use crate::model::{Agent, AlertState, Fingerprint, Time};
use crate::server::BoxedFuture;
use crate::store::HistoryEntry;

/// Most alerts that are read at once; those that begin later come in addition.
const MAX_ALERTS: usize = 2_000;
/// Alerts whose texts are asked for at once: about a millisecond of the engine's time.
const ALERTS_AT_ONCE: usize = 32;
/// How long texts are shown that nothing changed: some contain durations.
const REWORD_AFTER: Duration = Duration::from_secs(15);
/// How long a page waits for the publisher to know of what changed before it was asked for.
const CATCH_UP: Duration = Duration::from_millis(300);
/// Agents whose last day is kept.
const MAX_DAYS: usize = 4_096;
/// How long what the registry keeps about agents is shown.
const LABELS_FOR: Duration = Duration::from_secs(5);
/// How long a rendered page is sent again while nothing changes, and how many bytes of them are kept.
const PAGE_FOR: Duration = Duration::from_secs(5);
const MAX_PAGES: usize = 4 << 20;

/// Reads the changes of status of an agent, by project and name, newest first.
pub type StatusReader = Arc<dyn Fn(String, String) -> BoxedFuture<Vec<HistoryEntry>> + Send + Sync>;

/// Project and name.
type AgentName = (Arc<str>, Arc<str>);

fn name_of(agent: &Agent) -> AgentName {
    (Arc::clone(&agent.project), Arc::clone(&agent.name))
}

/// The pending and firing alerts.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct OpenAlerts {
    all: HashMap<Fingerprint, Arc<AlertView>>,
    by_agent: HashMap<AgentName, Vec<Fingerprint>>,
}

impl OpenAlerts {
    /// Adds an alert as it is now; one that is resolved is dropped.
    fn put(&mut self, view: AlertView) {
        let fingerprint = view.fingerprint;
        let agent = view.project.clone().zip(view.agent_name.clone());
        let is_open = view.state != AlertState::Resolved;
        let known = if is_open { self.all.insert(fingerprint, Arc::new(view)) } else { self.all.remove(&fingerprint) };
        let Some(agent) = agent else { return };
        if is_open && known.is_none() {
            self.by_agent.entry(agent).or_default().push(fingerprint);
        } else if !is_open && let Some(of_agent) = self.by_agent.get_mut(&agent) {
            of_agent.retain(|known| *known != fingerprint);
            if of_agent.is_empty() {
                self.by_agent.remove(&agent);
            }
        }
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &AlertView> {
        self.all.values().map(|alert| &**alert)
    }

    /// Those about `agent`.
    pub(super) fn of(&self, agent: &Agent) -> impl Iterator<Item = &AlertView> {
        let of_agent = if self.by_agent.is_empty() { None } else { self.by_agent.get(&name_of(agent)) };
        of_agent.into_iter().flatten().filter_map(|fingerprint| self.all.get(fingerprint)).map(|alert| &**alert)
    }
}

/// The alerts and what they are as of.
#[derive(Debug, Default)]
struct AlertCache {
    revision: u64,
    read_at: Option<Instant>,
    alerts: Arc<OpenAlerts>,
}

/// What the registry keeps about an agent, as far as the page shows it.
#[derive(Clone, Debug, Default)]
pub(super) struct AgentLabels {
    pub(super) host: Option<Arc<str>>,
    pub(super) owner: Option<Arc<str>>,
}

/// Labels by agent.
#[derive(Debug, Default)]
pub(in crate::server) struct LabelTable(HashMap<AgentName, AgentLabels>);

impl LabelTable {
    /// Whether any agent has a host.
    pub(super) fn has_hosts(&self) -> bool {
        self.0.values().any(|labels| labels.host.is_some())
    }

    /// Those of `agent`.
    pub(super) fn of(&self, agent: &Agent) -> AgentLabels {
        if self.0.is_empty() {
            AgentLabels::default()
        } else {
            self.0.get(&name_of(agent)).cloned().unwrap_or_default()
        }
    }
}

/// By what two states of an agent's history differ.
type DayTag = (u32, bool, bool, Time);

/// The changes of an agent's status, newest first.
pub(super) type DayChanges = Arc<Vec<HistoryEntry>>;

fn day_tag(agent: &Agent) -> DayTag {
    (agent.status_changes, agent.stale, agent.ended, agent.first_seen)
}

/// What a rendered page depends on, its address and visitor apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageStamp {
    /// The generation of the fleet.
    pub(super) generation: u64,
    /// How often alerts changed.
    pub(super) alerts: u64,
}

#[derive(Debug, Default)]
struct RenderedPages {
    by_key: HashMap<String, (PageStamp, Instant, Bytes)>,
    bytes: usize,
}

/// See the module's documentation.
pub(in crate::server) struct FleetBoard {
    feed: LiveFeed,
    statuses: StatusReader,
    alerts: tokio::sync::Mutex<AlertCache>,
    /// How far the publisher has come with the changes of alerts, while it follows them.
    followed: watch::Sender<Option<u64>>,
    days: Mutex<HashMap<AgentName, (DayTag, DayChanges)>>,
    labels: Mutex<(Option<Instant>, Arc<LabelTable>)>,
    pages: Mutex<RenderedPages>,
}

impl fmt::Debug for FleetBoard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FleetBoard").field("followed", &self.followed).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The texts of these alerts, or of the worst ones.
async fn read_alerts(engine: &EngineHandle) -> Result<OpenAlerts, Stopped> {
    let mut alerts = OpenAlerts::default();
    for part in engine.worst_alerts(MAX_ALERTS).await?.chunks(ALERTS_AT_ONCE) {
        engine.alerts_named(part.to_vec()).await?.into_iter().for_each(|view| alerts.put(view));
    }
    Ok(alerts)
}

impl FleetBoard {
    pub(in crate::server) fn new(feed: LiveFeed, statuses: StatusReader) -> Self {
        Self {
            feed,
            statuses,
            alerts: tokio::sync::Mutex::default(),
            followed: watch::Sender::new(None),
            days: Mutex::default(),
            labels: Mutex::default(),
            pages: Mutex::default(),
        }
    }

    /// The alerts as they are now.
    pub(in crate::server) async fn alerts(&self, engine: &EngineHandle) -> Result<Arc<OpenAlerts>, Stopped> {
        let revision = self.feed.alert_revision();
        let mut followed = self.followed.subscribe();
        let reached = followed.wait_for(|at| at.is_none_or(|at| at >= revision));
        drop(tokio::time::timeout(CATCH_UP, reached).await);
        let mut cache = self.alerts.lock().await;
        let is_recent = cache.read_at.is_some_and(|at| at.elapsed() < REWORD_AFTER);
        let is_followed = self.followed.borrow().is_some();
        if !(is_followed || is_recent && cache.revision >= revision) {
            let alerts = Arc::new(read_alerts(engine).await?);
            *cache = AlertCache { revision, read_at: Some(Instant::now()), alerts };
        }
        Ok(Arc::clone(&cache.alerts))
    }

    /// How often alerts changed, as far as [`Self::alerts`] knows.
    pub(super) fn alert_revision(&self) -> u64 {
        self.feed.alert_revision()
    }

    /// The publisher keeps the alerts up to date from now on.
    pub(in crate::server) async fn follow(&self, engine: &EngineHandle) -> Result<(), Stopped> {
        let revision = self.feed.alert_revision();
        let alerts = Arc::new(read_alerts(engine).await?);
        *self.alerts.lock().await = AlertCache { revision, read_at: Some(Instant::now()), alerts };
        self.followed.send_replace(Some(revision));
        Ok(())
    }

    /// The publisher is about to read what changed: with [`Self::reached`], this is known.
    pub(in crate::server) fn feed_revision(&self) -> u64 {
        self.feed.alert_revision()
    }

    /// Alerts as they are now.
    pub(in crate::server) async fn put_alerts(&self, views: impl Iterator<Item = AlertView>) {
        let mut cache = self.alerts.lock().await;
        let alerts = Arc::make_mut(&mut cache.alerts);
        views.for_each(|view| alerts.put(view));
    }

    /// Everything up to `revision` is known.
    pub(in crate::server) fn reached(&self, revision: u64) {
        self.followed.send_if_modified(|at| at.replace(revision) != Some(revision));
    }

    /// The publisher stops to follow alerts.
    pub(in crate::server) async fn unfollow(&self) {
        self.followed.send_replace(None);
        self.alerts.lock().await.read_at = None;
    }

    /// The alerts as the publisher last put them.
    pub(in crate::server) async fn known_alerts(&self) -> Arc<OpenAlerts> {
        Arc::clone(&self.alerts.lock().await.alerts)
    }

    /// The last day of `agent`, if it is kept and nothing changed since.
    pub(super) fn day(&self, agent: &Agent) -> Option<DayChanges> {
        let days = locked(&self.days);
        days.get(&name_of(agent)).filter(|(tag, _)| *tag == day_tag(agent)).map(|(_, changes)| Arc::clone(changes))
    }

    /// Reads the last day of these agents.
    pub(in crate::server) async fn read_days(&self, agents: &[Agent]) {
        for agent in agents {
            let changes = (self.statuses)(agent.project.to_string(), agent.name.to_string()).await;
            let mut days = locked(&self.days);
            if days.len() >= MAX_DAYS {
                days.clear();
            }
            days.insert(name_of(agent), (day_tag(agent), Arc::new(changes)));
        }
    }

    /// What the registry keeps about agents, read again if that was long ago.
    pub(super) async fn read_labels(&self, runs: &RunsHandle) -> Arc<LabelTable> {
        let known = self.known_labels();
        if locked(&self.labels).0.is_some_and(|at| at.elapsed() < LABELS_FOR) {
            return known;
        }
        let read = runs.registry(|registry| {
            let labels = registry.agents().filter_map(|agent| {
                let label = |key: &str| agent.config.as_ref()?.get(key)?.as_str().filter(|text| !text.is_empty());
                let [host, owner] = ["host", "owner"].map(|key| label(key).map(|text| crate::text::clean(text, 100)));
                let labels = AgentLabels { host: host.map(Into::into), owner: owner.map(Into::into) };
                let name = (Arc::clone(&agent.project), Arc::clone(&agent.name));
                (labels.host.is_some() || labels.owner.is_some()).then_some((name, labels))
            });
            LabelTable(labels.collect())
        });
        let Ok(table) = read.await else { return known };
        let table = Arc::new(table);
        *locked(&self.labels) = (Some(Instant::now()), Arc::clone(&table));
        table
    }

    /// What the registry keeps about agents, as last read.
    pub(in crate::server) fn known_labels(&self) -> Arc<LabelTable> {
        Arc::clone(&locked(&self.labels).1)
    }

    /// The page that was rendered last for `key`, if nothing that it shows changed since.
    pub(super) fn rendered(&self, key: &str, stamp: PageStamp) -> Option<Bytes> {
        let pages = locked(&self.pages);
        let (known, at, bytes) = pages.by_key.get(key)?;
        (*known == stamp && at.elapsed() < PAGE_FOR).then(|| bytes.clone())
    }

    /// Keeps a page for those who ask for the same.
    pub(super) fn keep_rendered(&self, key: String, stamp: PageStamp, bytes: &Bytes) {
        let mut pages = locked(&self.pages);
        if pages.bytes + bytes.len() > MAX_PAGES {
            *pages = RenderedPages::default();
        }
        if bytes.len() <= MAX_PAGES / 2 {
            let before = pages.by_key.insert(key, (stamp, Instant::now(), bytes.clone()));
            pages.bytes += bytes.len();
            pages.bytes -= before.map_or(0, |(.., bytes)| bytes.len());
        }
    }
}

//! Newer versions of orchestrator-cc: Claude Code's teams, their members, tasks, messages and heartbeats.
//!
//! Members come from `/api/teams` alone, in one request. Tasks and messages come from routes of each team, for a limited
//! number of teams in each poll; a route that fails is reported in the batch and costs nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Polled;
use crate::clock::Clock;
use crate::decode::read::{Scalar, shown};
use crate::ingest::draft::{AgentDraft, DraftResult, ItemError, ItemLocation, reject};
use crate::ingest::fields::AgentField;
use crate::ingest::page::{self, failed, malformed};
use crate::ingest::poll::request::{PollFailure, SourceClient};
use crate::ingest::{MAX_AGENTS, MAX_REASON, MAX_TEXT, owned};
use crate::model::{AgentStatus, AgentUpdate, Batch, RejectReason, SourceError, SourceErrorReason, Time, duration};
use crate::text;

/// The routes of teams and of heartbeats.
const TEAMS: [&str; 2] = ["api", "teams"];
const HEALTH: [&str; 2] = ["api", "health"];
/// Teams whose tasks and messages are requested in one poll; the others follow in the next polls.
const TEAMS_PER_POLL: usize = 25;
/// Concurrent requests.
const MAX_CONCURRENT_REQUESTS: usize = 8;

/// The state that is kept between polls.
#[derive(Debug, Default)]
pub(super) struct Teams {
    /// Whether the last poll found teams.
    seen: bool,
    /// Whether the last poll was the first without teams.
    emptied: bool,
    /// The position of the team to continue with.
    next: usize,
    /// The last heartbeat by team and member, and when it was read: after a restart the server has none, which does not
    /// mean that its members are dead.
    heartbeats: BTreeMap<String, BTreeMap<String, (Value, Time)>>,
}

/// A team as `/api/teams` lists it.
#[derive(Debug)]
pub(super) struct Team {
    name: String,
    /// `None` if there is no valid list.
    members: Option<Vec<Value>>,
}

/// The tasks, messages and heartbeats of a team; `None` is unknown.
#[derive(Debug, Default)]
pub(super) struct TeamDetails {
    tasks: Option<Vec<Value>>,
    messages: Option<Vec<Value>>,
    /// Heartbeats by member.
    health: BTreeMap<String, Value>,
    /// The age of heartbeats that come from earlier polls, by member.
    ages: BTreeMap<String, Duration>,
    /// What of it is invalid or missing.
    errors: Vec<ItemError>,
}

#[derive(Clone, Copy, Debug)]
enum TeamRoute {
    Tasks,
    Messages,
}

impl TeamRoute {
    const ALL: [Self; 2] = [Self::Tasks, Self::Messages];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Messages => "messages",
        }
    }
}

impl Teams {
    /// Whether the last poll was the first without teams.
    pub(super) const fn just_emptied(&self) -> bool {
        self.emptied
    }

    /// Polls all teams: one batch for each.
    pub(super) async fn poll(&mut self, client: &Arc<SourceClient>, clock: &Clock) -> Polled<Vec<Batch<'static>>> {
        let teams = match client.fetch(&TEAMS, teams).await {
            Ok(teams) => teams,
            // Without the route, members are known from heartbeats alone, if there are any.
            Err(failure) if super::is_foreign(&failure) => {
                let health = client.fetch(&HEALTH, heartbeats).await.unwrap_or_default();
                if health.is_empty() {
                    return Err(failure);
                }
                let now = clock.wall();
                return Ok(health.into_iter().map(|(team, health)| heartbeat_batch(&team, health, now)).collect());
            }
            Err(failure) => return Err(failure),
        };
        // A server that just started may not have loaded its teams yet: only the second empty list removes all agents.
        self.emptied = teams.is_empty() && std::mem::take(&mut self.seen);
        if self.emptied {
            let message =
                "/api/teams: the list of teams is empty; agents are kept unless the next poll finds it empty too";
            return Err(failed(SourceErrorReason::Upstream, message).into());
        }
        self.seen = !teams.is_empty();
        let mut details = self.details(&teams, client).await;
        let now = clock.wall();
        self.remember(&teams, &mut details, now);
        let batches = teams.into_iter().map(|team| {
            let details = details.remove(&team.name).unwrap_or_default();
            team_batch(&team, &details, now)
        });
        Ok(batches.collect())
    }

    /// Remembers the heartbeats in `details`, and adds remembered ones that are missing there.
    fn remember(&mut self, teams: &[Team], details: &mut BTreeMap<String, TeamDetails>, now: Time) {
        self.heartbeats.retain(|name, _| teams.iter().any(|team| team.name == *name));
        for Team { name, members } in teams {
            let details = details.entry(name.clone()).or_default();
            let known = self.heartbeats.entry(name.clone()).or_default();
            if let Some(members) = members {
                let listed: BTreeSet<&str> =
                    members.iter().filter_map(|member| member.get("name").and_then(Value::as_str)).collect();
                known.retain(|member, _| listed.contains(&**member));
                let read = details.health.iter().filter(|(member, _)| listed.contains(&***member));
                known.extend(read.map(|(member, beat)| (member.clone(), (beat.clone(), now))));
            }
            for (member, (beat, at)) in known.iter() {
                if !details.health.contains_key(member) {
                    details.health.insert(member.clone(), beat.clone());
                    details.ages.insert(member.clone(), now.since(*at));
                }
            }
        }
    }

    /// The details of the next teams, by name, as far as they arrive in time.
    async fn details(&mut self, teams: &[Team], client: &Arc<SourceClient>) -> BTreeMap<String, TeamDetails> {
        let asked: Vec<&Team> = teams.iter().cycle().skip(self.next).take(teams.len().min(TEAMS_PER_POLL)).collect();
        self.next = if teams.len() > TEAMS_PER_POLL { (self.next + asked.len()) % teams.len() } else { 0 };
        let mut details: BTreeMap<String, TeamDetails> = BTreeMap::new();
        // The whole poll has the source's timeout; a route that hangs must leave time for the others.
        let (each, all) = (client.timeout() / 4, client.timeout().mul_f64(0.7));
        let limit = Arc::new(Semaphore::new(MAX_CONCURRENT_REQUESTS));
        let mut asking = JoinSet::new();
        for team in asked {
            details.entry(team.name.clone()).or_default();
            for part in TeamRoute::ALL {
                let (client, limit, team) = (Arc::clone(client), Arc::clone(&limit), team.name.clone());
                asking.spawn(async move {
                    let turn = limit.acquire_owned().await;
                    let asked = ask(&client, &team, part, each).await;
                    drop(turn);
                    (team, part, asked)
                });
            }
        }
        let collecting = async {
            match within(each, client.fetch(&HEALTH, heartbeats)).await {
                Ok(health) => {
                    for (team, health) in health {
                        details.entry(team).or_default().health = health;
                    }
                }
                // Not every version has the route.
                Err(failure) if super::is_foreign(&failure) => {}
                Err(failure) => {
                    for details in details.values_mut() {
                        details.errors.push(ItemError::of_item(RejectReason::Value, failure.error.message.clone()));
                    }
                }
            }
            while let Some(answered) = asking.join_next().await {
                let Ok((team, part, answered)) = answered else { continue };
                details.entry(team).or_default().add(part, answered);
            }
        };
        if tokio::time::timeout(all, collecting).await.is_err() {
            let late = format!("no complete response of every team within {}", duration::exact(all));
            for details in details.values_mut().filter(|it| it.tasks.is_none() || it.messages.is_none()) {
                details.errors.push(ItemError::of_item(RejectReason::Value, late.clone()));
            }
        }
        details
    }
}

impl TeamDetails {
    fn add(&mut self, part: TeamRoute, answered: Polled<Vec<Value>>) {
        match (part, answered) {
            (TeamRoute::Tasks, Ok(tasks)) => self.tasks = Some(tasks),
            (TeamRoute::Messages, Ok(messages)) => self.messages = Some(messages),
            (_, Err(failure)) => self.errors.push(ItemError::of_item(RejectReason::Value, failure.error.message)),
        }
    }

    /// The errors of the team's routes.
    fn route_errors(&self) -> impl Iterator<Item = ItemError> {
        self.errors.iter().cloned()
    }
}

async fn ask(client: &SourceClient, team: &str, part: TeamRoute, time: Duration) -> Polled<Vec<Value>> {
    // These names would change the path.
    if matches!(team, "." | "..") {
        return Err(malformed("the name of the team can't be part of a path").into());
    }
    let segments = ["api", "teams", team, part.as_str()];
    within(time, client.fetch(&segments, move |text| list(text, part))).await
}

async fn within<T>(time: Duration, asking: impl Future<Output = Polled<T>>) -> Polled<T> {
    let late = || failed(SourceErrorReason::Timeout, &format!("no complete response within {}", duration::exact(time)));
    tokio::time::timeout(time, asking).await.unwrap_or_else(|_| Err(PollFailure::from(late())))
}

/// `{"teams": [{name, members: [{name, agentType, model}]}]}`.
pub(super) fn teams(text: &str) -> Result<Vec<Team>, SourceError> {
    if let Some(error) = page::reported_error(text) {
        return Err(error);
    }
    let mut page = page::tree(text)?;
    let Some(Value::Array(listed)) = page.get_mut("teams").map(Value::take) else {
        return Err(malformed("/api/teams: expected a list `teams`"));
    };
    let mut agents = 0;
    let mut teams = Vec::with_capacity(listed.len());
    for mut team in listed {
        let members = match team.get_mut("members").map(Value::take) {
            // A team has at least its lead: an empty one is just being written.
            Some(Value::Array(members)) if !members.is_empty() => Some(members),
            _ => None,
        };
        agents += members.as_ref().map_or(0, Vec::len);
        if agents > MAX_AGENTS {
            return Err(failed(SourceErrorReason::TooLarge, &format!("/api/teams: more than {MAX_AGENTS} agents")));
        }
        let name = team.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        teams.push(Team { name, members });
    }
    Ok(teams)
}

/// `{"tasks": […]}`, `{"messages": […]}`.
fn list(text: &str, part: TeamRoute) -> Result<Vec<Value>, SourceError> {
    if let Some(error) = page::reported_error(text) {
        return Err(error);
    }
    match page::tree(text)?.get_mut(part.as_str()).map(Value::take) {
        Some(Value::Array(list)) => Ok(list),
        _ => Err(malformed(&format!("expected a list `{}` of a team", part.as_str()))),
    }
}

type Heartbeats = BTreeMap<String, BTreeMap<String, Value>>;

/// `{team: {agent: {isHealthy, lastActivity, timeoutThreshold, elapsed}}}`.
fn heartbeats(text: &str) -> Result<Heartbeats, SourceError> {
    if let Some(error) = page::reported_error(text) {
        return Err(error);
    }
    serde_json::from_value(page::tree(text)?)
        .map_err(|_| malformed("/api/health: expected an object of teams, each an object of agents"))
}

/// The batch of a team, from all its routes.
pub(super) fn team_batch(team: &Team, details: &TeamDetails, now: Time) -> Batch<'static> {
    let mut batch = batch(&team.name);
    let Some(members) = &team.members else {
        let error = format!("team `{}`: expected a list `members` in /api/teams", shown(&team.name));
        batch.complete = false;
        reject(
            &mut batch.rejected,
            ItemLocation::BODY,
            &team.name,
            ItemError { field: "members", reason: RejectReason::Value, error },
        );
        return batch;
    };
    for item_error in details.route_errors() {
        reject(&mut batch.rejected, ItemLocation::BODY, &team.name, item_error);
    }
    for (index, member) in members.iter().enumerate() {
        let read = if batch.project.is_empty() { unnamed(&team.name) } else { member_update(member, details, now) };
        match read.report(ItemLocation::agent(index), &mut batch.rejected) {
            Some(agent) => batch.agents.push(owned::agent(AgentUpdate { index, ..agent })),
            None => batch.complete = false,
        }
    }
    batch
}

/// The batches from pages of teams, tasks, messages and heartbeats; all teams get the same tasks and messages.
#[cfg(any(test, fuzzing))]
pub(crate) fn from_pages(
    [listed, tasks, messages, health]: [&str; 4],
    now: Time,
) -> Result<Vec<Batch<'static>>, SourceError> {
    let mut health = heartbeats(health)?;
    let batches = teams(listed)?.into_iter().map(|team| {
        let mut details =
            TeamDetails { health: health.remove(&team.name).unwrap_or_default(), ..TeamDetails::default() };
        details.add(TeamRoute::Tasks, list(tasks, TeamRoute::Tasks).map_err(PollFailure::from));
        details.add(TeamRoute::Messages, list(messages, TeamRoute::Messages).map_err(PollFailure::from));
        team_batch(&team, &details, now)
    });
    Ok(batches.collect())
}

/// The batch of a team that is known from heartbeats alone.
fn heartbeat_batch(team: &str, health: BTreeMap<String, Value>, now: Time) -> Batch<'static> {
    let members = health.keys().map(|name| serde_json::json!({"name": name})).collect();
    let team = Team { name: team.to_owned(), members: Some(members) };
    team_batch(&team, &TeamDetails { health, ..TeamDetails::default() }, now)
}

/// An empty batch for the team's project; without a project if the team's name is not a valid one.
fn batch(team: &str) -> Batch<'static> {
    let project = if text::is_name(team, MAX_TEXT) { team.to_owned() } else { String::new() };
    Batch { complete: !project.is_empty(), project: project.into(), ..Batch::default() }
}

fn unnamed<'a>(team: &str) -> DraftResult<'a, AgentUpdate<'a>> {
    let item_error = ItemError::invalid_name_in("team", &Scalar::Text(team.into()));
    DraftResult { name: "".into(), item: None, errors: vec![item_error] }
}

/// The state of a member: running with a task in progress, else idle. Its last activity is that of its last message or
/// heartbeat. A member without a heartbeat is not down.
fn member_update<'a>(member: &'a Value, details: &'a TeamDetails, now: Time) -> DraftResult<'a, AgentUpdate<'a>> {
    let mut draft = AgentDraft::new(now);
    if !member.is_object() {
        let error = format!("a member is {}; it must be an object", Scalar::from(member).shown());
        draft.fail(ItemError::of_item(RejectReason::Value, error));
        return draft.finish();
    }
    for (key, field) in [("name", AgentField::Name), ("agentType", AgentField::Type), ("model", AgentField::Model)] {
        if let Some(value) = member.get(key) {
            draft.set(field, Scalar::from(value));
        }
    }
    let names = [member.get("name"), member.get("agentId")].map(|name| name.and_then(Value::as_str));
    let is_member =
        |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|name| names.contains(&Some(name)));
    let wrote = details.messages.iter().flatten().filter(|message| is_member(message.get("sender")));
    let wrote = latest(wrote.filter_map(|message| message.get("timestamp")), &mut draft);
    let age = names[0].and_then(|name| details.ages.get(name)).copied();
    // A message is newer than a remembered heartbeat.
    let is_outdated = age.zip(wrote).is_some_and(|(age, wrote)| wrote > now.minus(age));
    let beat = names[0].filter(|_| !is_outdated).and_then(|name| details.health.get(name));
    let beat = beat.map(|beat| AgentHeartbeat::read(beat, &mut draft)).map(|beat| AgentHeartbeat {
        elapsed: beat.elapsed.map(|elapsed| elapsed.saturating_add(age.unwrap_or_default())),
        ..beat
    });
    if let Some(tasks) = &details.tasks {
        set_task(tasks.iter().filter(|task| is_member(task.get("owner"))), &mut draft);
    }
    let mut last = wrote;
    if let Some(beat) = beat {
        last = last.max(beat.elapsed.map(|elapsed| now.minus(elapsed)));
        // An agent that writes messages is alive, even without heartbeats.
        let writes = wrote.zip(beat.threshold).is_some_and(|(wrote, threshold)| now.since(wrote) <= threshold);
        match beat.healthy {
            Some(false) if !writes => {
                draft.set(AgentField::Status, Scalar::Null);
                draft.set(AgentField::Running, Scalar::Flag(false));
                draft.set(AgentField::Reason, Scalar::Text(beat.reason().into()));
            }
            Some(true) => draft.set(AgentField::Running, Scalar::Flag(true)),
            _ => {}
        }
    }
    let mut finished = draft.finish();
    if let Some(update) = &mut finished.item {
        update.last_activity = last;
    }
    finished
}

/// The latest of `times`; invalid ones are rejected.
fn latest<'a>(times: impl Iterator<Item = &'a Value>, draft: &mut AgentDraft<'a>) -> Option<Time> {
    let mut latest = None;
    for time in times {
        let value = Scalar::from(time);
        match value.time() {
            Ok(time) => latest = latest.max(time),
            Err(expected) => draft.add_error(ItemError::invalid_value("last_activity", &value.shown(), expected)),
        }
    }
    latest
}

/// Sets status and task by the first of an agent's `tasks` that is in progress.
fn set_task<'a>(tasks: impl Iterator<Item = &'a Value>, draft: &mut AgentDraft<'a>) {
    let mut current = None;
    for task in tasks {
        match task.get("status").and_then(Value::as_str) {
            Some("in_progress") => current = current.or(Some(task)),
            Some("pending" | "completed" | "deleted") => {}
            _ => {
                let status = task.get("status").map_or(Scalar::Null, Scalar::from).shown();
                let error = format!("the status of a task is {status}; it must be pending, in_progress or completed");
                // Its status and task stay unknown.
                return draft.add_error(ItemError { field: "status", reason: RejectReason::Status, error });
            }
        }
    }
    let status = if current.is_some() { AgentStatus::Running } else { AgentStatus::Idle };
    draft.set(AgentField::Status, Scalar::Text(status.as_str().into()));
    let id = current.and_then(|task| task.get("taskId").or_else(|| task.get("id")));
    draft.set(AgentField::TaskId, id.map_or(Scalar::Null, Scalar::from));
}

/// A heartbeat. `lastActivity` is a local time without a zone and not read; `elapsed` has the same information.
struct AgentHeartbeat {
    healthy: Option<bool>,
    elapsed: Option<Duration>,
    threshold: Option<Duration>,
}

impl AgentHeartbeat {
    fn read<'a>(beat: &'a Value, draft: &mut AgentDraft<'a>) -> Self {
        let mut field = |field: &'static str, camel: &str, snake: &str| {
            let value = beat.get(camel).or_else(|| beat.get(snake)).map(Scalar::from)?;
            let read = if field == "running" { value.flag().map(|_| ()) } else { value.seconds().map(|_| ()) };
            read.map_err(|expected| draft.add_error(ItemError::invalid_value(field, &value.shown(), expected))).ok()?;
            Some(value)
        };
        let healthy = field("running", "isHealthy", "is_healthy").and_then(|value| value.flag().ok().flatten());
        let elapsed = field("idle_seconds", "elapsed", "elapsed_seconds");
        let threshold = field("idle_seconds", "timeoutThreshold", "timeout_threshold");
        if healthy.is_none() && elapsed.is_none() {
            let error = "heartbeat with neither `isHealthy` nor `elapsed`".to_owned();
            draft.add_error(ItemError { field: "running", reason: RejectReason::Value, error });
        }
        let seconds = |value: Option<Scalar<'_>>| value.and_then(|value| value.seconds().ok().flatten());
        Self { healthy, elapsed: seconds(elapsed), threshold: seconds(threshold) }
    }

    /// Why the agent is down: no heartbeat within the orchestrator's limit.
    fn reason(&self) -> String {
        let mut reason = "unhealthy".to_owned();
        if let Some(silence) = self.elapsed {
            reason.push_str(&format!(": no heartbeat for {}", duration::display(silence)));
        }
        if let Some(threshold) = self.threshold {
            reason.push_str(&format!(" (limit {})", duration::display(threshold)));
        }
        text::clean(&reason, MAX_REASON).into_owned()
    }
}

//! The newer shape: Claude Code's teams, who is in them, what they work on, and when they were last heard.
//!
//! Who there is comes from `/api/teams` alone, in one request. What a team does is asked of its own routes, of a bounded
//! number of teams in each poll; a route that fails costs only what it would have said, and is named in the batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Polled;
use crate::clock::Clock;
use crate::decode::read::{Scalar, shown};
use crate::ingest::draft::{Draft, Fault, Finished, Place, reject};
use crate::ingest::fields::Field;
use crate::ingest::page::{self, failed, malformed};
use crate::ingest::poll::request::{Failure, Requester};
use crate::ingest::{MAX_AGENTS, MAX_REASON, MAX_TEXT, owned};
use crate::model::{AgentStatus, AgentUpdate, Batch, RejectReason, SourceError, SourceErrorReason, Time, duration};
use crate::text;

/// The teams and their members, and the heartbeats of those that registered.
const TEAMS: [&str; 2] = ["api", "teams"];
const HEALTH: [&str; 2] = ["api", "health"];
/// Teams whose own routes are asked in one poll; the others have their turn in the next.
const TEAMS_AT_ONCE: usize = 25;
/// Requests under way at once.
const REQUESTS_AT_ONCE: usize = 8;

/// What is remembered between polls.
#[derive(Debug, Default)]
pub(super) struct Teams {
    /// Whether there were any.
    seen: bool,
    /// Whether the last poll was the first that found none any more.
    emptied: bool,
    /// The place of the first team to be asked next.
    turn: usize,
    /// By team and member, the last heartbeat and when it was read: a server that was started again has none, which
    /// says nothing of anybody.
    beats: BTreeMap<String, BTreeMap<String, (Value, Time)>>,
}

/// A team as `/api/teams` lists it.
#[derive(Debug)]
pub(super) struct Team {
    name: String,
    /// `None` when they can't be read.
    members: Option<Vec<Value>>,
}

/// What a team's own routes and the heartbeats say; `None` is not known.
#[derive(Debug, Default)]
pub(super) struct Details {
    tasks: Option<Vec<Value>>,
    messages: Option<Vec<Value>>,
    /// By name.
    health: BTreeMap<String, Value>,
    /// How long ago those heartbeats were read that are remembered.
    ages: BTreeMap<String, Duration>,
    /// What of it could not be read.
    faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Tasks,
    Messages,
}

impl Part {
    const ALL: [Self; 2] = [Self::Tasks, Self::Messages];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Messages => "messages",
        }
    }
}

impl Teams {
    /// Whether the last poll was the first that found no team any more.
    pub(super) const fn just_emptied(&self) -> bool {
        self.emptied
    }

    /// Asks for all teams: a batch for each.
    pub(super) async fn poll(&mut self, requester: &Arc<Requester>, clock: &Clock) -> Polled<Vec<Batch<'static>>> {
        let teams = match requester.fetch(&TEAMS, teams).await {
            Ok(teams) => teams,
            // Without it the heartbeats alone say who there is, if there are any.
            Err(failure) if super::is_foreign(&failure) => {
                let health = requester.fetch(&HEALTH, heartbeats).await.unwrap_or_default();
                if health.is_empty() {
                    return Err(failure);
                }
                let now = clock.wall();
                return Ok(health.into_iter().map(|(team, health)| of_health(&team, health, now)).collect());
            }
            Err(failure) => return Err(failure),
        };
        // A server that just started may not have read its teams yet: only a second look removes everybody.
        self.emptied = teams.is_empty() && std::mem::take(&mut self.seen);
        if self.emptied {
            let message =
                "/api/teams: there is no team any more; its agents stay until the next poll finds none either";
            return Err(failed(SourceErrorReason::Upstream, message).into());
        }
        self.seen = !teams.is_empty();
        let mut details = self.details(&teams, requester).await;
        let now = clock.wall();
        self.remember(&teams, &mut details, now);
        let batches = teams.into_iter().map(|team| {
            let details = details.remove(&team.name).unwrap_or_default();
            of_team(&team, &details, now)
        });
        Ok(batches.collect())
    }

    /// Adds to `details` the heartbeats that are missing there as they were last read, and keeps those that are there.
    fn remember(&mut self, teams: &[Team], details: &mut BTreeMap<String, Details>, now: Time) {
        self.beats.retain(|name, _| teams.iter().any(|team| team.name == *name));
        for Team { name, members } in teams {
            let details = details.entry(name.clone()).or_default();
            let known = self.beats.entry(name.clone()).or_default();
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

    /// What the teams whose turn it is do, by name, as far as it is answered in time.
    async fn details(&mut self, teams: &[Team], requester: &Arc<Requester>) -> BTreeMap<String, Details> {
        let asked: Vec<&Team> = teams.iter().cycle().skip(self.turn).take(teams.len().min(TEAMS_AT_ONCE)).collect();
        self.turn = if teams.len() > TEAMS_AT_ONCE { (self.turn + asked.len()) % teams.len() } else { 0 };
        let mut details: BTreeMap<String, Details> = BTreeMap::new();
        // The poll as a whole has the source's timeout; a route that hangs must leave time for the others.
        let (each, all) = (requester.timeout() / 4, requester.timeout().mul_f64(0.7));
        let limit = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
        let mut asking = JoinSet::new();
        for team in asked {
            details.entry(team.name.clone()).or_default();
            for part in Part::ALL {
                let (requester, limit, team) = (Arc::clone(requester), Arc::clone(&limit), team.name.clone());
                asking.spawn(async move {
                    let turn = limit.acquire_owned().await;
                    let asked = ask(&requester, &team, part, each).await;
                    drop(turn);
                    (team, part, asked)
                });
            }
        }
        let gathering = async {
            match within(each, requester.fetch(&HEALTH, heartbeats)).await {
                Ok(health) => {
                    for (team, health) in health {
                        details.entry(team).or_default().health = health;
                    }
                }
                // It is not there in every version, and says nothing where nobody registered.
                Err(failure) if super::is_foreign(&failure) => {}
                Err(failure) => {
                    for details in details.values_mut() {
                        details.faults.push(Fault::item(RejectReason::Value, failure.error.message.clone()));
                    }
                }
            }
            while let Some(answered) = asking.join_next().await {
                let Ok((team, part, answered)) = answered else { continue };
                details.entry(team).or_default().add(part, answered);
            }
        };
        if tokio::time::timeout(all, gathering).await.is_err() {
            let late = format!("no whole answer of every team within {}", duration::exact(all));
            for details in details.values_mut().filter(|it| it.tasks.is_none() || it.messages.is_none()) {
                details.faults.push(Fault::item(RejectReason::Value, late.clone()));
            }
        }
        details
    }
}

impl Details {
    fn add(&mut self, part: Part, answered: Polled<Vec<Value>>) {
        match (part, answered) {
            (Part::Tasks, Ok(tasks)) => self.tasks = Some(tasks),
            (Part::Messages, Ok(messages)) => self.messages = Some(messages),
            (_, Err(failure)) => self.faults.push(Fault::item(RejectReason::Value, failure.error.message)),
        }
    }

    /// What is wrong with what the team's routes say.
    fn unread(&self) -> impl Iterator<Item = Fault> {
        self.faults.iter().cloned()
    }
}

async fn ask(requester: &Requester, team: &str, part: Part, time: Duration) -> Polled<Vec<Value>> {
    // Such a name would lead to another route.
    if matches!(team, "." | "..") {
        return Err(malformed("a team whose name can't be part of an address").into());
    }
    let segments = ["api", "teams", team, part.as_str()];
    within(time, requester.fetch(&segments, move |text| list(text, part))).await
}

async fn within<T>(time: Duration, asking: impl Future<Output = Polled<T>>) -> Polled<T> {
    let late = || failed(SourceErrorReason::Timeout, &format!("no whole answer within {}", duration::exact(time)));
    tokio::time::timeout(time, asking).await.unwrap_or_else(|_| Err(Failure::from(late())))
}

/// `{"teams": [{name, members: [{name, agentType, model}]}]}`.
pub(super) fn teams(text: &str) -> Result<Vec<Team>, SourceError> {
    if let Some(error) = page::said_error(text) {
        return Err(error);
    }
    let mut page = page::tree(text)?;
    let Some(Value::Array(listed)) = page.get_mut("teams").map(Value::take) else {
        return Err(malformed("/api/teams: no list `teams`"));
    };
    let mut agents = 0;
    let mut teams = Vec::with_capacity(listed.len());
    for mut team in listed {
        let members = match team.get_mut("members").map(Value::take) {
            // A team has its lead at least: without anybody, it is being written.
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
fn list(text: &str, part: Part) -> Result<Vec<Value>, SourceError> {
    if let Some(error) = page::said_error(text) {
        return Err(error);
    }
    match page::tree(text)?.get_mut(part.as_str()).map(Value::take) {
        Some(Value::Array(list)) => Ok(list),
        _ => Err(malformed(&format!("no list `{}` of a team", part.as_str()))),
    }
}

type Heartbeats = BTreeMap<String, BTreeMap<String, Value>>;

/// `{team: {agent: {isHealthy, lastActivity, timeoutThreshold, elapsed}}}`.
fn heartbeats(text: &str) -> Result<Heartbeats, SourceError> {
    if let Some(error) = page::said_error(text) {
        return Err(error);
    }
    serde_json::from_value(page::tree(text)?)
        .map_err(|_| malformed("/api/health: not an object of teams, each an object of agents"))
}

/// The members of a team, as all its routes together show them.
pub(super) fn of_team(team: &Team, details: &Details, now: Time) -> Batch<'static> {
    let mut batch = batch(&team.name);
    let Some(members) = &team.members else {
        let error = format!("team `{}`: no members in /api/teams", shown(&team.name));
        batch.complete = false;
        reject(
            &mut batch.rejected,
            Place::BODY,
            &team.name,
            Fault { field: "members", reason: RejectReason::Value, error },
        );
        return batch;
    };
    for fault in details.unread() {
        reject(&mut batch.rejected, Place::BODY, &team.name, fault);
    }
    for (index, member) in members.iter().enumerate() {
        let read = if batch.project.is_empty() { unnamed(&team.name) } else { of_member(member, details, now) };
        match read.settle(Place::agent(index), &mut batch.rejected) {
            Some(agent) => batch.agents.push(owned::agent(AgentUpdate { index, ..agent })),
            None => batch.complete = false,
        }
    }
    batch
}

/// What the pages of teams, tasks, messages and heartbeats show together, as if each team had the same.
#[cfg(any(test, fuzzing))]
pub(crate) fn of_pages(
    [listed, tasks, messages, health]: [&str; 4],
    now: Time,
) -> Result<Vec<Batch<'static>>, SourceError> {
    let mut health = heartbeats(health)?;
    let batches = teams(listed)?.into_iter().map(|team| {
        let mut details = Details { health: health.remove(&team.name).unwrap_or_default(), ..Details::default() };
        details.add(Part::Tasks, list(tasks, Part::Tasks).map_err(Failure::from));
        details.add(Part::Messages, list(messages, Part::Messages).map_err(Failure::from));
        of_team(&team, &details, now)
    });
    Ok(batches.collect())
}

/// Those of a team that registered for heartbeats.
fn of_health(team: &str, health: BTreeMap<String, Value>, now: Time) -> Batch<'static> {
    let members = health.keys().map(|name| serde_json::json!({"name": name})).collect();
    let team = Team { name: team.to_owned(), members: Some(members) };
    of_team(&team, &Details { health, ..Details::default() }, now)
}

/// A batch of the team's project; without a project when the team's name can't be one.
fn batch(team: &str) -> Batch<'static> {
    let project = if text::is_name(team, MAX_TEXT) { team.to_owned() } else { String::new() };
    Batch { complete: !project.is_empty(), project: project.into(), ..Batch::default() }
}

fn unnamed<'a>(team: &str) -> Finished<'a, AgentUpdate<'a>> {
    let fault = Fault::unfit_name("team", &Scalar::Text(team.into()));
    Finished { name: "".into(), item: None, faults: vec![fault] }
}

/// A member at work holds a task that is in progress; one that holds none is idle. It was last active when it last wrote,
/// or as its heartbeat says. One without a heartbeat is not ill for that.
fn of_member<'a>(member: &'a Value, details: &'a Details, now: Time) -> Finished<'a, AgentUpdate<'a>> {
    let mut draft = Draft::new(now);
    if !member.is_object() {
        let error = format!("a member is {}; it must be an object", Scalar::from(member).shown());
        draft.fail(Fault::item(RejectReason::Value, error));
        return draft.finish();
    }
    for (key, field) in [("name", Field::Name), ("agentType", Field::Type), ("model", Field::Model)] {
        if let Some(value) = member.get(key) {
            draft.set(field, Scalar::from(value));
        }
    }
    let names = [member.get("name"), member.get("agentId")].map(|name| name.and_then(Value::as_str));
    let is_it = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|name| names.contains(&Some(name)));
    let wrote = details.messages.iter().flatten().filter(|message| is_it(message.get("sender")));
    let wrote = latest(wrote.filter_map(|message| message.get("timestamp")), &mut draft);
    let age = names[0].and_then(|name| details.ages.get(name)).copied();
    // Who wrote since a heartbeat that is remembered has said more than that.
    let is_outdated = age.zip(wrote).is_some_and(|(age, wrote)| wrote > now.minus(age));
    let beat = names[0].filter(|_| !is_outdated).and_then(|name| details.health.get(name));
    let beat = beat.map(|beat| Beat::read(beat, &mut draft)).map(|beat| Beat {
        elapsed: beat.elapsed.map(|elapsed| elapsed.saturating_add(age.unwrap_or_default())),
        ..beat
    });
    if let Some(tasks) = &details.tasks {
        hold(tasks.iter().filter(|task| is_it(task.get("owner"))), &mut draft);
    }
    let mut last = wrote;
    if let Some(beat) = beat {
        last = last.max(beat.elapsed.map(|elapsed| now.minus(elapsed)));
        // Heartbeats are of those alone that report their activity there; who writes lives.
        let writes = wrote.zip(beat.threshold).is_some_and(|(wrote, threshold)| now.since(wrote) <= threshold);
        match beat.healthy {
            Some(false) if !writes => {
                draft.set(Field::Status, Scalar::Null);
                draft.set(Field::Running, Scalar::Flag(false));
                draft.set(Field::Reason, Scalar::Text(beat.reason().into()));
            }
            Some(true) => draft.set(Field::Running, Scalar::Flag(true)),
            _ => {}
        }
    }
    let mut finished = draft.finish();
    if let Some(update) = &mut finished.item {
        update.last_activity = last;
    }
    finished
}

/// The latest of `times`.
fn latest<'a>(times: impl Iterator<Item = &'a Value>, draft: &mut Draft<'a>) -> Option<Time> {
    let mut latest = None;
    for time in times {
        let value = Scalar::from(time);
        match value.time() {
            Ok(time) => latest = latest.max(time),
            Err(unfit) => draft.fault(Fault::unfit("last_activity", &value.shown(), unfit)),
        }
    }
    latest
}

/// Takes the first of an agent's `tasks` that is in progress for the one that it holds.
fn hold<'a>(tasks: impl Iterator<Item = &'a Value>, draft: &mut Draft<'a>) {
    let mut held = None;
    for task in tasks {
        match task.get("status").and_then(Value::as_str) {
            Some("in_progress") => held = held.or(Some(task)),
            Some("pending" | "completed" | "deleted") => {}
            _ => {
                let status = task.get("status").map_or(Scalar::Null, Scalar::from).shown();
                let error = format!("the status of a task is {status}; it must be pending, in_progress or completed");
                // What it does is not known, then.
                return draft.fault(Fault { field: "status", reason: RejectReason::Status, error });
            }
        }
    }
    let status = if held.is_some() { AgentStatus::Running } else { AgentStatus::Idle };
    draft.set(Field::Status, Scalar::Text(status.as_str().into()));
    let id = held.and_then(|task| task.get("taskId").or_else(|| task.get("id")));
    draft.set(Field::TaskId, id.map_or(Scalar::Null, Scalar::from));
}

/// A heartbeat. `lastActivity` is local time without a zone and not read; `elapsed` says the same.
struct Beat {
    healthy: Option<bool>,
    elapsed: Option<Duration>,
    threshold: Option<Duration>,
}

impl Beat {
    fn read<'a>(beat: &'a Value, draft: &mut Draft<'a>) -> Self {
        let mut field = |field: &'static str, camel: &str, snake: &str| {
            let value = beat.get(camel).or_else(|| beat.get(snake)).map(Scalar::from)?;
            let read = if field == "running" { value.flag().map(|_| ()) } else { value.seconds().map(|_| ()) };
            read.map_err(|unfit| draft.fault(Fault::unfit(field, &value.shown(), unfit))).ok()?;
            Some(value)
        };
        let healthy = field("running", "isHealthy", "is_healthy").and_then(|value| value.flag().ok().flatten());
        let elapsed = field("idle_seconds", "elapsed", "elapsed_seconds");
        let threshold = field("idle_seconds", "timeoutThreshold", "timeout_threshold");
        if healthy.is_none() && elapsed.is_none() {
            let error = "neither `isHealthy` nor `elapsed`; it is no heartbeat".to_owned();
            draft.fault(Fault { field: "running", reason: RejectReason::Value, error });
        }
        let seconds = |value: Option<Scalar<'_>>| value.and_then(|value| value.seconds().ok().flatten());
        Self { healthy, elapsed: seconds(elapsed), threshold: seconds(threshold) }
    }

    /// Why it is taken for dead: silent for longer than the orchestrator bears.
    fn reason(&self) -> String {
        let mut reason = "not healthy".to_owned();
        if let Some(silence) = self.elapsed {
            reason.push_str(&format!(": silent for {}", duration::display(silence)));
        }
        if let Some(threshold) = self.threshold {
            reason.push_str(&format!(", its limit is {}", duration::display(threshold)));
        }
        text::clean(&reason, MAX_REASON).into_owned()
    }
}

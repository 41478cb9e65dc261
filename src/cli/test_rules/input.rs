//! Turns the inputs of a test into timed requests: series become pushes, times relative to the start become absolute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::file::{AckInput, PollInput, RuleTest, RunInput, TestInput};
use super::series;

use crate::model::{
    DEFAULT_PROJECT, Fingerprint, Problem, RecordedInput, RunStatus, RunSummary, Silence, SourceError, Subject, Time,
    TraceId, duration,
};

/// Most inputs of one test.
const MAX_INPUTS: usize = 200_000;
/// Most values of all series of one test.
const MAX_VALUES: usize = 2_000_000;
/// The longest duration of a test.
pub(super) const MAX_SPAN: Duration = Duration::from_secs(366 * 86_400);

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub(super) struct ScheduledEvent {
    /// Time since the start of the test.
    pub(super) at: Duration,
    pub(super) what: TimedEvent,
    /// Its key in the file, such as `input_state[2]`.
    pub(super) key: String,
}

#[derive(Clone, Debug)]
pub(super) enum TimedEvent {
    /// Input arrives.
    Arrives(RecordedInput),
    /// The sidecar starts again, after having been down for this long.
    Restart(Duration),
}

/// All events in the order of time; the error names what is wrong in the file.
pub(super) fn schedule(test: &RuleTest, start: Time, timeout: Duration) -> Result<Vec<ScheduledEvent>, Problem> {
    let mut arrivals = Vec::new();
    let mut steps = SeriesSteps::default();
    for (place, input) in test.input_state.iter().enumerate() {
        let key = format!("input_state[{place}]");
        let wrong = |message: String| Problem::new(key.clone(), message);
        if let Some(what) = single(input, start).map_err(wrong)? {
            let at = input
                .at
                .ok_or_else(|| wrong("`at` is missing; add the time since the start, like `at: 5m`".to_owned()))?;
            if at > MAX_SPAN {
                return Err(wrong(format!("`at` is later than {}", duration::exact(MAX_SPAN))));
            }
            arrivals.push(ScheduledEvent { at, what, key });
        } else {
            steps.add(input, &key).map_err(|problem| problem.under(&key))?;
        }
    }
    if test.interval < Duration::from_millis(1) {
        return Err(Problem::new("interval", "is shorter than 1ms"));
    }
    // As for a poll, three missed intervals make an agent stale.
    let ttl = timeout.max(test.interval.saturating_mul(3));
    for (step, (projects, first_key)) in steps.by_step {
        let at = test.interval.saturating_mul(u32::try_from(step).unwrap_or(u32::MAX));
        if at > MAX_SPAN {
            let message = format!("its values last longer than {}", duration::exact(MAX_SPAN));
            return Err(Problem::new(first_key, message));
        }
        for (project, members) in projects {
            let agents: Vec<Value> = members.agents.into_values().map(Value::Object).collect();
            let components: Vec<Value> = members.components.into_values().map(Value::Object).collect();
            let mut body =
                json!({"project": project, "ttl": duration::exact(ttl), "agents": agents, "components": components});
            resolve_times(&mut body, start);
            arrivals.push(ScheduledEvent { at, what: state(&body), key: first_key.clone() });
        }
    }
    if arrivals.len() > MAX_INPUTS {
        let message = format!("more than {MAX_INPUTS} pushes; make the interval longer");
        return Err(Problem::new("input_state", message));
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    Ok(arrivals)
}

fn state(body: &Value) -> TimedEvent {
    TimedEvent::Arrives(RecordedInput::State(body.to_string().into()))
}

/// The event of a single input; `None` for a series.
fn single(input: &TestInput, start: Time) -> Result<Option<TimedEvent>, String> {
    let resolved = |value: &Value| {
        let mut value = value.clone();
        resolve_times(&mut value, start);
        value
    };
    let given = [
        input.state.is_some(),
        input.usage.is_some(),
        input.metrics.is_some(),
        input.poll.is_some(),
        input.run.is_some(),
        input.silence.is_some(),
        input.unsilence.is_some(),
        input.ack.is_some(),
        input.restart.is_some(),
        input.series.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() != 1 {
        return Err(
            "give exactly one of state, usage, metrics, poll, run, silence, unsilence, ack, restart, series".to_owned()
        );
    }
    let of_series =
        input.project.is_some() || input.agent.is_some() || input.component.is_some() || input.values.is_some();
    if input.series.is_none() && of_series {
        return Err("`project`, `agent`, `component` and `values` are for `series`; put them into the body".to_owned());
    }
    Ok(match input {
        TestInput { state: Some(body), .. } => Some(state(&resolved(body))),
        TestInput { usage: Some(usage), .. } => {
            Some(TimedEvent::Arrives(RecordedInput::Usage(resolved(usage).to_string().into())))
        }
        TestInput { metrics: Some(metrics), .. } => {
            Some(TimedEvent::Arrives(RecordedInput::Metrics(metrics.to_string().into())))
        }
        TestInput { poll: Some(PollInput { source, states, error }), .. } => {
            let result = match error {
                Some(_) if !states.is_empty() => {
                    return Err("a failed poll has no `states`; remove `states` or `error`".to_owned());
                }
                Some(reason) => Err(SourceError { reason: *reason, message: "simulated by the test".to_owned() }),
                None => Ok(states.iter().map(|state| resolved(state).to_string()).collect()),
            };
            Some(TimedEvent::Arrives(RecordedInput::Poll { source: source.as_str().into(), result }))
        }
        TestInput { run: Some(run), .. } => {
            Some(TimedEvent::Arrives(runs(run, start.plus(input.at.unwrap_or_default()))?))
        }
        TestInput { silence: Some(wanted), .. } => {
            let starts_at = start.plus(input.at.unwrap_or_default());
            Some(TimedEvent::Arrives(RecordedInput::Silence(Silence {
                id: wanted.id.as_str().into(),
                matchers: wanted.matchers.clone(),
                starts_at,
                ends_at: starts_at.plus(wanted.duration),
                created_by: wanted.created_by.as_str().into(),
                comment: wanted.comment.as_str().into(),
            })))
        }
        TestInput { unsilence: Some(id), .. } => {
            Some(TimedEvent::Arrives(RecordedInput::Unsilence { id: id.as_str().into(), by: "unknown".into() }))
        }
        TestInput { ack: Some(ack), .. } => Some(TimedEvent::Arrives(acknowledged(ack)?)),
        TestInput { restart: Some(down), .. } => Some(TimedEvent::Restart(*down)),
        _ => None,
    })
}

/// Most runs of one input.
const MAX_RUNS: u32 = 10_000;

/// The runs of an input at `now`. The id is that of the agent and the name, so that a later input ends what an earlier one
/// began.
fn runs(run: &RunInput, now: Time) -> Result<RecordedInput, String> {
    let is_running = run.status == RunStatus::Running;
    if run.times == 0 || run.times > MAX_RUNS || is_running && run.times > 1 {
        return Err(format!("`run.times` is {}; write 1 to {MAX_RUNS}, and 1 for a run in progress", run.times));
    }
    let project: Arc<str> = run.project.as_deref().unwrap_or(DEFAULT_PROJECT).into();
    let named = format!("{project}/{}/{}", run.agent, run.name);
    let digest = ring::digest::digest(&ring::digest::SHA256, named.as_bytes());
    let id = digest.as_ref().get(..16).and_then(TraceId::from_slice).ok_or("no id")?;
    let summary = RunSummary {
        project,
        agent: run.agent.as_str().into(),
        agent_type: "custom".into(),
        id,
        name: run.name.as_str().into(),
        status: run.status,
        started_at: now.minus(run.duration),
        ended_at: (!is_running).then_some(now),
        cost_usd: run.cost_usd,
        fallbacks: run.fallbacks,
        platform: None,
        facts: crate::model::RunFacts::default(),
        error: run.error.as_deref().map(Into::into),
        history: None,
    };
    Ok(RecordedInput::Runs(vec![summary; run.times as usize]))
}

fn acknowledged(ack: &AckInput) -> Result<RecordedInput, String> {
    let project: Arc<str> = ack.project.as_deref().unwrap_or(DEFAULT_PROJECT).into();
    let subject = match (&ack.agent_name, &ack.component, &ack.source) {
        (Some(name), None, None) => Subject::Agent { project, name: name.as_str().into() },
        (None, Some(name), None) => Subject::Component { project, name: name.as_str().into() },
        (None, None, Some(name)) => Subject::Source { name: name.as_str().into() },
        (None, None, None) => Subject::Cluster { project },
        _ => return Err("an alert is about one of agent_name, component and source".to_owned()),
    };
    let fingerprint = Fingerprint::of(&ack.rule, &subject);
    Ok(RecordedInput::Ack { fingerprint, by: ack.by.as_str().into(), comment: ack.comment.as_str().into() })
}

/// The values of all series, by step and project, with the key of the first series that has a value at the step.
#[derive(Default)]
struct SeriesSteps {
    by_step: BTreeMap<usize, (BTreeMap<String, ProjectMembers>, String)>,
    values: usize,
}

#[derive(Default)]
struct ProjectMembers {
    agents: BTreeMap<String, Map<String, Value>>,
    components: BTreeMap<String, Map<String, Value>>,
}

impl SeriesSteps {
    /// Adds the values of a series; the error's path is relative to `key`.
    fn add(&mut self, input: &TestInput, key: &str) -> Result<(), Problem> {
        if input.at.is_some() {
            return Err(Problem::new("at", "a series starts with the test; put `_xN` before its values to delay it"));
        }
        let field = input.series.as_deref().unwrap_or_default();
        let missing = || Problem::new("values", "is missing; write values such as 0+60x10");
        let text = input.values.as_deref().ok_or_else(missing)?;
        let values = series::expand(text).map_err(|message| Problem::new("values", message))?;
        self.values += values.len();
        if self.values > MAX_VALUES {
            let message = format!("the series of this test have more than {MAX_VALUES} values");
            return Err(Problem::new("values", message));
        }
        let project = input.project.as_deref().unwrap_or(DEFAULT_PROJECT);
        for (step, value) in values.into_iter().enumerate() {
            let Some(value) = value else { continue };
            let (projects, _) = self.by_step.entry(step).or_insert_with(|| (BTreeMap::new(), key.to_owned()));
            let members = projects.entry(project.to_owned()).or_default();
            let (of_kind, name) = match (&input.agent, &input.component) {
                (Some(agent), None) => (&mut members.agents, agent),
                (None, Some(component)) => (&mut members.components, component),
                _ => return Err(Problem::new("", "give `agent` or `component`, and not both")),
            };
            let member = of_kind.entry(name.clone()).or_insert_with(|| {
                let mut member = Map::new();
                member.insert("name".to_owned(), Value::from(name.as_str()));
                member
            });
            put(member, field, value).map_err(|message| Problem::new("series", message))?;
        }
        Ok(())
    }
}

/// Puts `value` at a dotted path; an error if the field is there already.
fn put(member: &mut Map<String, Value>, field: &str, value: Value) -> Result<(), String> {
    let taken = || format!("duplicate series of `{field}` for the same agent: merge the two entries");
    match field.split_once('.') {
        None if field.is_empty() => Err("is empty; give a field such as restart_count".to_owned()),
        None => match member.insert(field.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(taken()),
        },
        Some((group, rest)) => {
            let group = member.entry(group).or_insert_with(|| Value::Object(Map::new()));
            let fields = group.as_object_mut().ok_or_else(taken)?;
            match fields.insert(rest.to_owned(), value) {
                None => Ok(()),
                Some(_) => Err(taken()),
            }
        }
    }
}

/// Whether values of this key are times.
fn is_time(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('_', "");
    [
        "activity",
        "activityat",
        "activitytime",
        "startedat",
        "starttime",
        "completion",
        "completionat",
        "eta",
        "resetat",
        "resetsat",
        "retryafter",
    ]
    .iter()
    .any(|end| key.ends_with(end))
}

/// Turns times relative to the start of the test, `@5m` or `@-90s`, into absolute ones.
fn resolve_times(value: &mut Value, start: Time) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                let relative = value.as_str().filter(|_| is_time(key)).and_then(|text| text.strip_prefix('@'));
                if let Some(time) = relative.and_then(|text| from_start(text, start)) {
                    *value = Value::from(time.to_string());
                } else {
                    resolve_times(value, start);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| resolve_times(item, start)),
        _ => {}
    }
}

fn from_start(text: &str, start: Time) -> Option<Time> {
    match text.strip_prefix('-') {
        Some(before) => duration::parse(before).ok().map(|before| start.minus(before)),
        None => duration::parse(text).ok().map(|after| start.plus(after)),
    }
}

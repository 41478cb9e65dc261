//! A test as it is written.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::model::{AlertState, Ending, Level, Matchers, NoticeKind, RunStatus};

/// One test.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTest {
    /// Its name in reports.
    pub name: String,
    /// Time between two values of a series.
    #[serde(default = "minute", with = "crate::model::duration")]
    pub interval: Duration,
    /// When the test ends, if later than everything in it.
    #[serde(default, with = "crate::model::duration::option")]
    pub until: Option<Duration>,
    /// Inputs over time.
    #[serde(default)]
    pub input_state: Vec<TestInput>,
    /// Alerts expected at given times.
    #[serde(default)]
    pub alert_rule_test: Vec<AlertsAt>,
    /// All notifications expected; not compared if absent.
    pub notifications: Option<Vec<ExpectedNotification>>,
}

/// One input, or a series of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TestInput {
    /// Time since the start of the test.
    #[serde(with = "crate::model::duration::option")]
    pub at: Option<Duration>,
    /// The body of `POST /api/state`.
    pub state: Option<Value>,
    /// The body of `POST /api/usage`.
    pub usage: Option<Value>,
    /// The body of `POST /api/metrics`.
    pub metrics: Option<Value>,
    /// The result of a poll.
    pub poll: Option<PollInput>,
    /// A run begins or ends.
    pub run: Option<RunInput>,
    /// A silence is created.
    pub silence: Option<SilenceInput>,
    /// The silence with this id is ended.
    pub unsilence: Option<String>,
    /// An alert is acknowledged.
    pub ack: Option<AckInput>,
    /// The sidecar starts again, after having been down for this long.
    #[serde(with = "crate::model::duration::option")]
    pub restart: Option<Duration>,
    /// For a series: the field of the state, such as `restart_count` or `tokens.input`.
    pub series: Option<String>,
    /// For a series: the project.
    pub project: Option<String>,
    /// For a series: the agent.
    pub agent: Option<String>,
    /// For a series: the component; its field is `status`.
    pub component: Option<String>,
    /// For a series: the values.
    pub values: Option<String>,
}

/// The result of a poll.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollInput {
    /// The name of the source.
    pub source: String,
    /// What it reported: bodies of `POST /api/state`, one for each project.
    #[serde(default)]
    pub states: Vec<Value>,
    /// Why it failed, as in `lookout_source_errors_total`.
    pub error: Option<crate::model::SourceErrorReason>,
}

/// A run that begins, with the status `running`, or ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInput {
    /// The project.
    pub project: Option<String>,
    /// The agent.
    pub agent: String,
    /// Its name, by which a later input ends it.
    #[serde(default = "run_name")]
    pub name: String,
    /// How it ended, or `running`.
    #[serde(default = "ok")]
    pub status: RunStatus,
    /// How long it took, or has been running.
    #[serde(default, with = "crate::model::duration")]
    pub duration: Duration,
    /// Its cost in US dollars.
    pub cost_usd: Option<f64>,
    /// Calls of another model or provider right after a failed one.
    #[serde(default)]
    pub fallbacks: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// So many of them, which end at once.
    #[serde(default = "one")]
    pub times: u32,
}

/// A silence, as `POST /api/silences` takes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceInput {
    /// Its id, for ending or changing it later.
    #[serde(default = "silence")]
    pub id: String,
    /// The alerts it matches.
    pub matchers: Matchers,
    /// How long it lasts.
    #[serde(with = "crate::model::duration")]
    pub duration: Duration,
    /// Who creates it.
    #[serde(default = "unknown")]
    pub created_by: String,
    /// The reason.
    #[serde(default)]
    pub comment: String,
}

/// An acknowledgement.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckInput {
    /// The rule.
    pub rule: String,
    /// The project; without agent, component and source, the alert is about the project itself.
    pub project: Option<String>,
    /// The agent.
    pub agent_name: Option<String>,
    /// The component.
    pub component: Option<String>,
    /// The source.
    pub source: Option<String>,
    /// Who acknowledges it.
    #[serde(default = "unknown")]
    pub by: String,
    /// The comment.
    #[serde(default)]
    pub comment: String,
}

/// The alerts expected at one time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsAt {
    /// Time since the start of the test; after the inputs of that time.
    #[serde(with = "crate::model::duration")]
    pub at: Duration,
    /// Compares only alerts of this rule, if given.
    pub rule: Option<String>,
    /// All alerts expected.
    pub alerts: Vec<ExpectedAlert>,
}

/// An expected alert; absent values are not compared.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectedAlert {
    pub rule: Option<String>,
    pub level: Option<Level>,
    pub state: Option<AlertState>,
    pub project: Option<String>,
    pub agent_name: Option<String>,
    pub component: Option<String>,
    pub source: Option<String>,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub no_data: Option<bool>,
    pub inhibited_by: Option<String>,
    pub silenced_by: Option<String>,
    pub acked_by: Option<String>,
    pub message: Option<String>,
    pub action: Option<String>,
}

/// An expected notification of one alert; absent values are not compared.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectedNotification {
    /// Time since the start of the test.
    #[serde(with = "crate::model::duration::option")]
    pub at: Option<Duration>,
    /// Or a range of times, inclusive.
    pub between: Option<(TestTime, TestTime)>,
    /// The receiver; required if there are several.
    pub receiver: Option<String>,
    pub kind: Option<NoticeKind>,
    pub rule: Option<String>,
    pub level: Option<Level>,
    pub previous: Option<Level>,
    pub project: Option<String>,
    pub agent_name: Option<String>,
    pub component: Option<String>,
    pub source: Option<String>,
    pub value: Option<f64>,
    pub ending: Option<Ending>,
    pub message: Option<String>,
    pub action: Option<String>,
    /// The message that contains it: equal as JSON, or byte for byte to the file of this name.
    pub sent: Option<Value>,
}

/// A duration since the start of the test, as an item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TestTime(#[serde(with = "crate::model::duration")] pub Duration);

fn run_name() -> String {
    "run".to_owned()
}

const fn ok() -> RunStatus {
    RunStatus::Ok
}

const fn one() -> u32 {
    1
}

fn silence() -> String {
    "silence".to_owned()
}

fn unknown() -> String {
    "unknown".to_owned()
}

const fn minute() -> Duration {
    Duration::from_secs(60)
}

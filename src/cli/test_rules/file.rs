//! A test as it is written.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::model::{AlertState, Ending, Level, Matchers, NoticeKind};

/// One test.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTest {
    /// What it shows.
    pub name: String,
    /// The time between two values of a series.
    #[serde(default = "minute", with = "crate::model::duration")]
    pub interval: Duration,
    /// How long it goes on, when that is longer than anything in it.
    #[serde(default, with = "crate::model::duration::option")]
    pub until: Option<Duration>,
    /// What comes in.
    #[serde(default)]
    pub input_state: Vec<Input>,
    /// Which alerts there are at some times.
    #[serde(default)]
    pub alert_rule_test: Vec<AlertsAt>,
    /// What receivers are told, all of it; not looked at when it is not given.
    pub notifications: Option<Vec<Notification>>,
}

/// Something that comes in: once, or as a series.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Input {
    /// When, from the start of the test.
    #[serde(with = "crate::model::duration::option")]
    pub at: Option<Duration>,
    /// The body of `POST /api/state`.
    pub state: Option<Value>,
    /// The body of `POST /api/usage`.
    pub usage: Option<Value>,
    /// The outcome of a poll.
    pub poll: Option<PollInput>,
    /// Somebody silences alerts.
    pub silence: Option<SilenceInput>,
    /// Somebody ends the silence of that id.
    pub unsilence: Option<String>,
    /// Somebody looks after an alert.
    pub ack: Option<AckInput>,
    /// The program starts again, after having been down for so long.
    #[serde(with = "crate::model::duration::option")]
    pub restart: Option<Duration>,
    /// The field of an agent's state that the values are of, such as `restart_count` or `tokens.input`.
    pub series: Option<String>,
    /// For a series: the project.
    pub project: Option<String>,
    /// For a series: the agent.
    pub agent: Option<String>,
    /// For a series: the component, whose field is `status`.
    pub component: Option<String>,
    /// For a series: the values.
    pub values: Option<String>,
}

/// The outcome of a poll.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollInput {
    /// Whose.
    pub source: String,
    /// What it reported: bodies as of `POST /api/state`, one for each project.
    #[serde(default)]
    pub states: Vec<Value>,
    /// Why it failed, as in `lookout_source_errors_total`.
    pub error: Option<crate::model::SourceErrorReason>,
}

/// A silence, as `POST /api/silences` takes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceInput {
    /// Its name, for who ends or changes it.
    #[serde(default = "silence")]
    pub id: String,
    /// Which alerts it covers.
    pub matchers: Matchers,
    /// For how long.
    #[serde(with = "crate::model::duration")]
    pub duration: Duration,
    /// Who wants it.
    #[serde(default = "somebody")]
    pub created_by: String,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// Which alert somebody looks after, and who.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckInput {
    /// The rule.
    pub rule: String,
    /// The project; without agent, component and source the alert is about the project as a whole.
    pub project: Option<String>,
    /// The agent.
    pub agent_name: Option<String>,
    /// The component.
    pub component: Option<String>,
    /// The source.
    pub source: Option<String>,
    /// Who.
    #[serde(default = "somebody")]
    pub by: String,
    /// What they say.
    #[serde(default)]
    pub comment: String,
}

/// Which alerts there are at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsAt {
    /// When, from the start of the test; after everything that happens then.
    #[serde(with = "crate::model::duration")]
    pub at: Duration,
    /// Of this rule; of all rules when it is not given.
    pub rule: Option<String>,
    /// Exactly these.
    pub alerts: Vec<ExpectedAlert>,
}

/// An alert; what is not given is not compared.
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

/// Something that a receiver is told of one alert; what is not given is not compared.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notification {
    /// When, from the start of the test.
    #[serde(with = "crate::model::duration::option")]
    pub at: Option<Duration>,
    /// Or within these times, both included.
    pub between: Option<(Span, Span)>,
    /// To whom; needed where there are several receivers.
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
    /// The message that carries it: JSON to be equal to, or the name of a file to be equal to byte for byte.
    pub sent: Option<Value>,
}

/// A duration within a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Span(#[serde(with = "crate::model::duration")] pub Duration);

fn silence() -> String {
    "silence".to_owned()
}

fn somebody() -> String {
    "somebody".to_owned()
}

const fn minute() -> Duration {
    Duration::from_secs(60)
}

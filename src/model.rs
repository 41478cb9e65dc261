//! Plain data shared by every part: what an agent is, what a source says of it, what a rule finds,
//! what an alert is and what a receiver is told.
//!
//! Owns shapes and the small arithmetic that belongs to them. Refuses I/O, async, clocks and policy.

pub mod agent;
pub mod agent_telemetry;
pub mod alert;
pub mod arrival;
pub mod bounded;
pub mod changes;
pub mod component;
pub mod counter;
pub mod counting;
pub mod deadlines;
pub mod decision;
pub mod duration;
pub mod enforcement;
pub mod finding;
pub mod hook;
pub mod labels;
pub mod level;
pub mod limited;
pub mod matchers;
pub mod notice;
pub mod problem;
pub mod project;
pub mod quiet;
pub mod rejected;
pub mod rule;
pub mod sessions;
pub mod silence;
pub mod slab;
pub mod snapshot;
pub mod source;
pub mod spending;
pub mod telemetry;
pub mod update;
pub mod watched;
pub mod windows;

pub use crate::clock::{Time, Wall};
pub use agent::{Agent, AgentStatus, RateLimit, Task, TokenType, UsageOwner};
pub use agent_telemetry::{AgentTelemetry, Channel, EndedTask, Received, Reception};
pub use alert::{Alert, AlertCounts, AlertState, ClosedAlert, Told, Undelivered, Worst};
pub use arrival::Arrival;
pub use bounded::BoundedMap;
pub use changes::{Changes, HistoryRow, Removal, Removed};
pub use component::{Component, ComponentStatus, Health};
pub use counter::{Count, Sum};
pub use counting::{Counting, Distilled, GroupCount, Key, RunCount, StreamCount};
pub use deadlines::Deadlines;
pub use decision::{Decision, Event, Why, Withheld};
pub use enforcement::{Budget, Stop};
pub use finding::{Ending, Finding, Fingerprint, RuleId, Subject};
pub use hook::Hook;
pub use level::Level;
pub use limited::{Limited, Refusal};
pub use matchers::{Label, Matchers};
pub use notice::{
    Audience, Incident, Notice, NoticeKind, Outcome, Receipt, ReceiverPolicy, Reference, Report, Retry, SendError,
    SendReason,
};
pub use problem::{Origin, Place, Problem};
pub use project::{DEFAULT_PROJECT, ModelTotals, Project, Totals};
pub use quiet::{Quiet, QuietHours};
pub use rejected::{Input, RejectReason, Rejected};
pub use rule::{Class, Flap, RulePolicy};
pub use sessions::Sessions;
pub use silence::{Ack, Silence};
pub use slab::Slab;
pub use snapshot::{Budgets, Snapshot};
pub use source::{Source, SourceError, SourceErrorReason};
pub use spending::{Spending, Spent, Velocity};
pub use update::{AgentUpdate, Batch, ComponentUpdate, Patch, PollReport, UsageUpdate};
pub use windows::{AgentWindows, Window};

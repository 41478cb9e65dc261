//! Plain data that several modules share: agents, reports, findings, alerts and notices, with the arithmetic that keeps
//! them consistent. It does no I/O, reads no clock and makes no policy.

pub mod agent;
pub mod agent_runs;
pub mod agent_telemetry;
pub mod alert;
pub mod bounded;
pub mod changes;
pub mod component;
pub mod counter;
pub mod counting;
pub mod custom_metric;
pub mod deadlines;
pub mod duration;
pub mod enforcement;
pub mod finding;
pub mod hook;
pub mod labels;
pub mod level;
pub mod matchers;
pub mod notice;
pub mod problem;
pub mod project;
pub mod quiet_hours;
pub mod rate_limit;
pub mod recorded_input;
pub mod registry;
pub mod rejected;
pub mod rule;
pub mod run;
pub mod run_facts;
pub mod run_stats;
pub mod sessions;
pub mod sidecar_part;
pub mod silence;
pub mod sketch;
pub mod slab;
pub mod snapshot;
pub mod source;
pub mod span;
pub mod spending;
pub mod telemetry;
pub mod timeline;
pub mod trace_id;
pub mod unit;
pub mod update;
pub mod varint;
pub mod windows;

pub use crate::clock::{Time, WallClock};
pub use agent::{Agent, AgentStatus, RateLimit, Task, TokenType, UsageOwner};
pub use agent_runs::{AgentRuns, DescribedRun, RunSummary, UsualRuns};
pub use agent_telemetry::{AgentTelemetry, ChannelStats, EndedTask, TelemetryChannel, TelemetryChannels};
pub use alert::{Alert, AlertCounts, AlertState, ClosedAlert, ReceiverState, Undelivered, Worst};
pub use bounded::BoundedMap;
pub use changes::{Changes, HistoryRow, Removal, Removed};
pub use component::{Component, ComponentStatus, Health};
pub use counter::{Count, Sum};
pub use counting::{CountingState, DigestKey, GroupCount, RunCount, StreamCount, TelemetryUpdate};
pub use custom_metric::{
    CUSTOM_PREFIX, CustomFamilies, CustomKind, CustomLabels, CustomMetrics, CustomScope, CustomSeries, CustomUpdate,
    CustomValue,
};
pub use deadlines::Deadlines;
pub use enforcement::{Budget, StopOrder};
pub use finding::{Ending, Finding, Fingerprint, RuleId, Subject};
pub use hook::Hook;
pub use level::Level;
pub use matchers::{Label, Matchers};
pub use notice::{
    Audience, DeliveryOutcome, DeliveryReceipt, DeliveryReport, Incident, MessageReference, Notice, NoticeKind,
    ReceiverPolicy, Retry, SendError, SendReason,
};
pub use problem::{Origin, Position, Problem};
pub use project::{DEFAULT_PROJECT, ModelTotals, Project, Totals};
pub use quiet_hours::{QuietHours, QuietSchedule};
pub use rate_limit::{ActiveRateLimit, RateLimitHit};
pub use recorded_input::RecordedInput;
pub use registry::{RegisteredAgent, RegistryStatus, SharedAgent, SharedConfig, SharedField, SharedFields, Sharing};
pub use rejected::{InputKind, RejectReason, Rejected};
pub use rule::{Class, Flap, RulePolicy};
pub use run::{CallGroup, Run, RunGroups, RunPart, RunSource, RunStatus, RunTotals, TokenCounts, ToolGroup};
pub use run_facts::{PlatformTotals, RunFact, RunFacts};
pub use run_stats::{StatCell, StatGroup, StatKey, StatRow};
pub use sessions::Sessions;
pub use silence::{Ack, Silence};
pub use sketch::Sketch;
pub use slab::Slab;
pub use snapshot::{Budgets, Snapshot};
pub use source::{Source, SourceError, SourceErrorReason};
pub use span::{AgentIdentity, Capture, Span, SpanField, SpanKind, SpanReport, SpanStatus, SpanValue};
pub use spending::{SpendKind, Spending, Velocity};
pub use timeline::{NotifyReason, Suppressed, TimelineEntry, TimelineEvent};
pub use trace_id::{SpanId, TraceId};
pub use unit::Unit;
pub use update::{AgentUpdate, Batch, ComponentUpdate, Patch, PollReport, UsageUpdate};
pub use windows::{AgentWindows, Window};

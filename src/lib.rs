//! lookout keeps watch over a fleet of AI agents: it polls or receives their state, serves it to
//! Prometheus, evaluates it against thresholds, and notifies people, once per problem and again when it is over.
//!
//! # The map
//!
//! ```text
//! ingest ──┐                         ┌─► outbox ─► notify ─► people
//!          ├─► updates ─► machine ───┼─► store
//! otlp ────┘   (decoded,    │        └─► snapshot ─► metrics ─► Prometheus
//!   profiles    bounded)    │                  └─► server  ─► API
//!                           │
//!                 fleet ─► rules ─► alerts
//! ```
//!
//! | part | owns |
//! |---|---|
//! | [`text`] | text of others, sanitized for output: control characters removed, secrets masked |
//! | [`clock`] | monotonic and wall-clock time |
//! | [`model`] | plain data shared by several modules |
//! | [`decode`] | shared by all decoders of input: bounded decompression, lenient JSON, values within limits |
//! | `files`, [`secret`], [`http_client`] | the only modules that read files of others, read secrets, make outgoing HTTP requests |
//! | `written` | files written by people: YAML and TOML as a tree, and errors with line and column |
//! | [`ingest`] | pushes, hooks (one file per tool) and polls (one per kind), decoded into updates |
//! | [`otlp`] | OTLP: decodes requests, accumulates streams into Prometheus series |
//! | [`profiles`] | agents' usage and requests from the telemetry of known tools, one file per tool |
//! | [`fleet`] | the state of every agent: `apply(now, batch)` |
//! | [`rules`] | the indicators of rules (`rules::indicators`), rule files, and evaluation: `evaluate(now, changes)` |
//! | [`alerts`] | the state of alerts: `step(now, findings)`; which receiver is notified and why, inhibition, silences, acknowledgements, incidents |
//! | [`runs`] | runs of agents: which spans belong to which, what they add up to; the registry |
//! | [`enforcement`] | budgets with `action: stop`: the stop orders that answer hooks |
//! | [`notify`] | receivers, retry, messages, heartbeat |
//! | [`metrics`] | the exposition of `/metrics` |
//! | [`store`] | persistence: ledger, outbox, history, timelines, saved state, recordings |
//! | [`export`] | what leaves for other systems: a spool on disk, and one file per kind of target |
//! | [`config`] | loading and validation; each module declares its own section |
//! | [`machine`] | the state machine of fleet, rules and alerts: `step(now, event) -> effects`, for the live loop, `replay` and `test rules` |
//! | [`engine`] | the tasks that own mutable state: agents with their alerts, and telemetry streams |
//! | [`server`] | listeners, limits, access control, routes |
//! | [`app`] | startup, wiring and shutdown; the only module that imports all others |
//! | [`cli`] | one file per command |
//!
//! # From a push to a notification
//!
//! One thread runs all async code, except OTLP (`app/otlp.rs`) and streams of events (`app/streams.rs`), which have threads
//! of their own. Ledger and history have writer threads.
//!
//! | step | where | may wait for |
//! |---|---|---|
//! | a connection is accepted, access and limits of its request are checked | `server::listener`, `server::routes::answer` | a free connection slot, and the body |
//! | the body is decoded into an update, a large one on a blocking thread | `server::pushes`, `ingest::owned` | a permit for large bodies |
//! | the update waits in the bulk queue; hooks have a queue of their own, which is served first | `engine::EngineHandle` | nothing: a full queue gives HTTP 503 |
//! | the machine applies it, evaluates what changed, and returns effects; a large update in parts | `engine::run`, `Machine::step` | |
//! | notices are written to the ledger; then the push is answered | `engine::output`, `engine::commit` | the disk, at most 5 s |
//! | the notice waits in its receiver's queue: grouped, rate-limited, retried | `notify::dispatcher`, `notify::queue` | the receiver |
//! | it is sent; the result goes back to the machine | `notify::receivers`, `engine::reports` | |
//!
//! Viewers of `GET /api/monitoring/stream` are served from consecutive snapshots and from changes that the engine hands over
//! while there are any (`engine::live`): `server::stream` compares, renders once and sends, on its own thread.
//!
//! Time alone has effects too: the engine sleeps until `Machine::next_deadline`, the first deadline of the fleet, the rules
//! and the alerts.
//!
//! # Where to add what
//!
//! | to add | touch |
//! |---|---|
//! | a receiver | its file in `notify/receivers/`, and its line in the list of `notify/receivers.rs` |
//! | a tool's hooks | its file in `ingest/hooks/`, and its line in `TOOLS` of `ingest/hooks.rs` |
//! | a kind of polled source | its file in `ingest/poll/`, its line in `SourceKind` and in `ingest/poll.rs` |
//! | a system that telemetry is exported to | its file in `export/`, and its lines in `export/config.rs` and `export/targets.rs` |
//! | a tool's telemetry | its file in `profiles/`, and its line in `PROFILES` of `profiles.rs` |
//! | a field of a push | `ingest/fields.rs` (names), `ingest/draft.rs` (reading), `model/update.rs`, `ingest/owned.rs`, `ingest/state/encode.rs`, and `model/agent.rs` with `fleet/agent.rs` for its effect |
//! | an indicator of rules | its row in `rules/indicators.rs` |
//! | a metric family | its name in `metrics/names.rs`, and its samples in `metrics/` |
//! | a kind of span, or a name of an attribute that runs need | a row in `profiles/spans.rs` |
//! | a view of the page | its template in `web/`, its handler in `server/page/`, its line in `server/routes.rs` |
//! | a route | its handler in `server/`, its line with its role and summary in `server/routes.rs` |
//! | a key of the configuration | its field in the section of its module, and its documentation |
//! | an event of the stream | its variant in `server/stream/event.rs`, its JSON in `server/stream/render.rs`, and where it comes from in `server/stream/publisher.rs` |
//! | a command | its file in `cli/`, and its line in `cli.rs` |
//! | an event of the machine | its variant and its arm in `machine.rs` |
//!
//! # Layers
//!
//! A module imports only from layers before its own: `text, clock, model, decode, files, secret, http_client, written` ·
//! `ingest, otlp, profiles, fleet, rules, alerts, runs, enforcement, notify, metrics, store` (never one another, but `profiles`
//! may use `otlp`) · `export` · `config` · `machine` · `engine` · `server` · `app` · `cli` · `main`. Imports of modules of one folder
//! have no cycle. A test enforces this.
//!
//! # Invariants
//!
//! 1. `fleet`, `rules`, `alerts`, `runs`, `enforcement` and `machine` are pure: no I/O, no await, no clock read; `now` is an
//!    argument, and the same inputs give the same effects.
//! 2. Each state has one owner, and owners communicate by messages. Readers get an immutable snapshot.
//! 3. Every queue is bounded and counts what it rejects; bodies, label sets and series counts have limits.
//! 4. Alert state changes the moment the state that causes it arrives: rules are evaluated for what changed,
//!    and a heap of deadlines covers changes by time alone. No push, hook or export iterates over the fleet. All agents are
//!    iterated only at the start, at a reload, when monitoring resumes, when a new day begins for budgets, and once per
//!    poll of a source, to find agents that it no longer lists; a `complete` push iterates over the agents of its project.
//! 5. A notice is in the outbox on disk before it is sent: a crash loses no notification and repeats at most those in
//!    flight. If the outbox can't be written, the notice is sent anyway, and the failing store is an alert of its own.
//! 6. A failure of one source, rule or receiver affects no other, is counted, and is visible.
//! 7. Fleet series are rendered from the snapshot at scrape time: a removed agent leaves no series, and a counter never
//!    decreases while its series exists.
//! 8. Agents, counters, usage and budgets are saved within a second of a change and restored at start.
//! 9. Secrets never occur in a log, an error, the API, `check --print` or a panic message.

pub mod alerts;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decode;
pub mod enforcement;
pub mod engine;
pub mod export;
pub mod files;
pub mod fleet;
pub mod http_client;
pub mod ingest;
pub mod machine;
pub mod metrics;
pub mod model;
pub mod notify;
pub mod otlp;
pub mod profiles;
pub mod rules;
pub mod runs;
pub mod secret;
pub mod server;
pub mod store;
pub mod text;
mod written;

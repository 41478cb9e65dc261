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
//! | [`text`] | what others wrote, made fit to be shown: cleaned, with keys masked |
//! | [`clock`] | time, as it is and as the wall shows it |
//! | [`model`] | plain data that several parts share |
//! | [`decode`] | what every decoder at the edge needs: inflating, lenient JSON, values within limits |
//! | `files`, [`secret`], [`http_client`] | the one source of files of others, of secrets, of outgoing HTTP |
//! | `written` | what people write in files: YAML as a tree, and the words for a mistake in it |
//! | [`ingest`] | pushes, hooks (one file per tool) and polls (one per kind), decoded into updates |
//! | [`otlp`] | OTLP: requests decoded, streams accumulated into Prometheus series |
//! | [`profiles`] | what the telemetry of known tools means for agents, one file per tool |
//! | [`fleet`] | the state of every agent: `apply(now, batch)` |
//! | [`rules`] | what a rule can read (`rules::indicators`), rule files, and evaluation: `evaluate(now, changes)` |
//! | [`alerts`] | alerts: `step(now, findings)`; which receiver is notified of what and why, inhibition, silences, acknowledgements, incidents |
//! | [`enforcement`] | budgets with `action: stop`: the stop orders that answer hooks |
//! | [`notify`] | receivers, retry, messages, heartbeat |
//! | [`metrics`] | the page that Prometheus scrapes |
//! | [`store`] | what must outlive the process: ledger, outbox, history, timelines, saved state, recordings |
//! | [`config`] | loading and validating; each part declares its section beside its code |
//! | [`machine`] | the state machine of fleet, rules and alerts: `step(now, event) -> effects`, for the live loop, `replay` and `test rules` |
//! | [`engine`] | the loops that own mutable state: agents and their alerts, and the streams of telemetry |
//! | [`server`] | listeners, limits, access, routes |
//! | [`app`] | start, wire, drain: the only place that knows every part |
//! | [`cli`] | one file per command |
//!
//! # From a push to a notification
//!
//! All that is async runs on one thread, but for OTLP, which has its own (`app/otlp.rs`); ledger and history write on
//! threads of their own.
//!
//! | step | where | may wait for |
//! |---|---|---|
//! | a connection is accepted, its request held against access and limits | `server::listener`, `server::routes::answer` | room, and the body |
//! | the body is decoded into an update, a large one beside the runtime's thread | `server::pushes`, `ingest::owned` | the turn of large bodies |
//! | the update waits in the bulk queue; hooks have one of their own and overtake it | `engine::EngineHandle` | a full queue is answered 503 |
//! | the machine applies it, evaluates what changed, and says what follows; a large one in parts | `engine::run`, `Machine::step` | |
//! | what is to be sent goes to the ledger; then its sender is answered | `engine::output`, `engine::commit` | the disk, at most 5 s |
//! | the notice waits in its receiver's queue: grouped, paced, retried | `notify::dispatcher`, `notify::queue` | the receiver |
//! | it is sent; what came of it goes back to the machine | `notify::receivers`, `engine::reports` | |
//!
//! Time alone has effects too: the loop sleeps until `Machine::next_deadline`, the first of the fleet's, the rules' and
//! the alerts' own.
//!
//! # Where to add what
//!
//! | to add | touch |
//! |---|---|
//! | a receiver | its file in `notify/receivers/`, and its line in the list of `notify/receivers.rs` |
//! | a tool's hooks | its file in `ingest/hooks/`, and its line in `TOOLS` of `ingest/hooks.rs` |
//! | a kind of polled source | its file in `ingest/poll/`, its line in `SourceKind` and in `ingest/poll.rs` |
//! | a tool's telemetry | its file in `profiles/`, and its line in `PROFILES` of `profiles.rs` |
//! | a field that agents push | `ingest/fields.rs` (names), `ingest/draft.rs` (reading), `model/update.rs`, `ingest/owned.rs`, `ingest/state/encode.rs`, and `model/agent.rs` with `fleet/agent.rs` for what it means |
//! | something that a rule can read | its row in `rules/indicators.rs` |
//! | a metric family | its name in `metrics/names.rs`, and who writes it in `metrics/` |
//! | a route | its handler in `server/`, its line with its role and summary in `server/routes.rs` |
//! | a key of the configuration | its field beside the code that it is for, and its documentation |
//! | a command | its file in `cli/`, and its line in `cli.rs` |
//! | an event of the machine | its variant and its arm in `machine.rs` |
//!
//! # Layers
//!
//! A part imports only from lines above it: `text, clock, model, decode, files, secret, http_client, written` · `ingest,
//! otlp, profiles, fleet, rules, alerts, enforcement, notify, metrics, store` (never one another, but `profiles` may use
//! `otlp`) · `config` · `machine` · `engine` · `server` · `app` · `cli` · `main`. Modules of one folder do not import each
//! other in a circle. A test holds this.
//!
//! # Invariants
//!
//! 1. `fleet`, `rules`, `alerts`, `enforcement` and `machine` are pure: no I/O, no await, no clock read; `now` comes in as
//!    an argument, and the same inputs give the same effects.
//! 2. One owner per state, messages between owners. Readers see one immutable snapshot that is swapped whole.
//! 3. Every queue has a bound and a counter for what it turned away; every body, label set and series count has a cap.
//! 4. Alert state changes the moment the state that causes it arrives: rules are evaluated for what changed, which is
//!    found by comparing what each value follows from, and a heap of deadlines serves what time alone changes. No push,
//!    hook or export costs a sweep over the fleet. All agents are looked at only at the start, at a reload, when
//!    monitoring goes on, when the budgets' day turns, and once per poll of a source, to find whom it names no longer; a
//!    `complete` push looks at the agents of its project.
//! 5. The outbox is durable before the send; a crash loses no notification and repeats at most the ones in
//!    flight. If the intent can't be written, it is sent anyway, and the broken store is an alert of its own.
//! 6. A failure of one source, rule or receiver stops nothing else, is counted, and is visible.
//! 7. Fleet series are rendered from the snapshot at scrape time: an agent that is gone leaves no series, and
//!    a series' counter never goes backwards while it lives.
//! 8. Agents, counters, usage and budgets are saved within a second of a change and restored at start.
//! 9. Secrets never reach a log, an error, the API, `check --print` or a panic message.

pub mod alerts;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decode;
pub mod enforcement;
pub mod engine;
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
pub mod secret;
pub mod server;
pub mod store;
pub mod text;
mod written;

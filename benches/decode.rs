//! The cost of decoding a batch of states, compared with the bare JSON parser and with serde's derive.
//!
//! `cargo bench --bench decode` prints microseconds per state and the ratios, as the median of many rounds, since other load
//! on the machine only makes rounds slower.

#![expect(clippy::print_stdout, reason = "a bench reports on stdout")]
#![expect(clippy::expect_used, reason = "a bench that can't run must stop")]

use std::borrow::Cow;
use std::hint::black_box;

use lookout::clock::Stopwatch;
use lookout::ingest::decode_state;
use lookout::model::Time;
use serde::Deserialize;

const AGENTS: usize = 100;
const ROUNDS: usize = 2_000;

/// The same body by serde's derive: fields borrowed where possible, nothing validated.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read, and compared in time only")]
struct Derived<'a> {
    #[serde(borrow)]
    project: Cow<'a, str>,
    complete: bool,
    agents: Vec<DerivedAgent<'a>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read, and compared in time only")]
struct DerivedAgent<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    #[serde(alias = "taskId")]
    task_id: Option<Cow<'a, str>>,
    #[serde(alias = "taskStartedAt")]
    task_started_at: Option<Cow<'a, str>>,
    #[serde(alias = "currentPhase")]
    phase: Option<Cow<'a, str>>,
    progress: Option<f64>,
    #[serde(alias = "restartCount")]
    restart_count: Option<u64>,
    #[serde(alias = "lastActivity")]
    last_activity: Option<Cow<'a, str>>,
    model: Option<Cow<'a, str>>,
    tokens: Option<DerivedTokens>,
    requests: Option<DerivedRequests>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read, and compared in time only")]
struct DerivedTokens {
    input: Option<u64>,
    output: Option<u64>,
    #[serde(alias = "cacheRead")]
    cache_read: Option<u64>,
    #[serde(alias = "cacheCreation")]
    cache_creation: Option<u64>,
    reasoning: Option<u64>,
    #[serde(alias = "costUsd")]
    cost_usd: Option<f64>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read, and compared in time only")]
struct DerivedRequests {
    total: Option<u64>,
    errors: Option<u64>,
}

fn body(agents: usize) -> String {
    let agent = |index: usize| {
        format!(
            r#"{{"name":"agent-{index:05}","type":"custom","status":"running","task_id":"task_{index}","task_started_at":"2026-11-21T01:40:00Z","phase":"implement","progress":42.5,"restart_count":1,"last_activity":"2026-11-21T02:00:00Z","model":"claude-opus","tokens":{{"input":{},"output":500,"cache_read":0,"cache_creation":0,"reasoning":0,"cost_usd":0.0123}},"requests":{{"total":40,"errors":1}}}}"#,
            1_000 + index
        )
    };
    let agents: Vec<String> = (0..agents).map(agent).collect();
    format!(r#"{{"project":"shop","complete":false,"agents":[{}]}}"#, agents.join(","))
}

/// The median time of a round of `work`, in microseconds.
fn measure(mut work: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let watch = Stopwatch::start();
            work();
            watch.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or_default()
}

fn main() {
    let now = Time::parse("2026-11-21T02:00:30Z").expect("a time");
    for agents in [1, AGENTS] {
        let body = body(agents);
        assert_eq!(decode_state(&body, now).expect("a batch").agents.len(), agents);
        let floor = measure(|| {
            black_box(serde_json::from_str::<serde::de::IgnoredAny>(black_box(&body)).expect("JSON"));
        });
        let derived = measure(|| {
            black_box(serde_json::from_str::<Derived<'_>>(black_box(&body)).expect("a batch"));
        });
        let ours = measure(|| {
            black_box(decode_state(black_box(&body), now).expect("a batch"));
        });
        let each = agents as f64;
        println!(
            "{agents:>4} states of {} bytes: floor {:.3} µs, derive {:.3} µs, decode_state {:.3} µs each; {:.2} × floor, {:.2} × derive",
            body.len() / agents,
            floor / each,
            derived / each,
            ours / each,
            ours / floor,
            ours / derived,
        );
    }
}

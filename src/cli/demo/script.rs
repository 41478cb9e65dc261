//! The simulated fleet: a story of one minute that repeats.
//!
//! Pure: the state depends on the second alone. The first agents have roles in the story, the others just work.

use serde_json::{Value, json};

use crate::model::Time;

/// The length of the story, in seconds.
pub(super) const ROUND: u64 = 60;

/// The interval between pushes, in seconds.
pub(super) const STEP: u64 = 1;

const MODELS: [&str; 3] = ["claude-opus", "gpt-5-codex", "gemini-pro"];
const TYPES: [&str; 4] = ["claude-code", "codex", "langflow", "custom"];
const PHASES: [&str; 4] = ["plan", "implement", "test", "review"];
/// One per round, since the same failure again and again would be another problem.
const FAILURES: [&str; 3] = ["exit code 137: out of memory", "no space left on device", "its terminal was closed"];
const NAMES: [&str; 8] = [
    "grand_boss",
    "idle_ida",
    "restless_rob",
    "failing_fay",
    "spending_sam",
    "limited_lee",
    "asking_ann",
    "steady_sue",
];

/// An agent's role in the story.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DemoRole {
    Boss,
    Idle,
    Restarting,
    Failing,
    Spending,
    RateLimited,
    Asking,
    Steady,
}

impl DemoRole {
    const fn of(number: u32) -> Self {
        match number {
            0 => Self::Boss,
            1 => Self::Idle,
            2 => Self::Restarting,
            3 => Self::Failing,
            4 => Self::Spending,
            5 => Self::RateLimited,
            6 => Self::Asking,
            _ => Self::Steady,
        }
    }
}

/// The name of agent `number`.
pub(super) fn name(number: u32) -> String {
    NAMES.get(number as usize).map_or_else(|| format!("worker-{number}"), |name| (*name).to_owned())
}

/// The project of agent `number`; the story takes place in `shop`.
pub(super) const fn project(number: u32) -> &'static str {
    if number < 8 || number.is_multiple_of(2) { "shop" } else { "lab" }
}

/// The state of agent `number`, `seconds` after the start at `now`.
pub(super) fn agent(number: u32, seconds: u64, now: Time) -> Value {
    let role = DemoRole::of(number);
    let (round, second) = (seconds / ROUND, seconds % ROUND);
    let count = |per_second: f64| (seconds as f64 * per_second) as u64;
    // Tasks take 20 to 39 seconds; in the last two the agent has completed its task.
    let length = 20 + u64::from(number % 20);
    let (task, into_task) = (seconds / length, seconds % length);
    let is_done = into_task + 2 >= length && role == DemoRole::Steady;
    let model = MODELS[number as usize % MODELS.len()];
    let mut idle = 0;
    let mut status = if is_done { "completed" } else { "running" };
    let mut reason = Value::Null;
    let mut restarts = if role == DemoRole::Restarting { round * 5 } else { 0 };
    let mut task_id = format!("task-{number}-{task}");
    let (mut input, mut output) = (count(40.0 + f64::from(number % 7)), count(12.0));
    let (mut limited, mut remaining) = (if role == DemoRole::RateLimited { round * 4 } else { 0 }, 40);
    match (role, second) {
        (DemoRole::Idle, 5..=11) => idle = 400,
        (DemoRole::Idle, 12..=19) => idle = 650,
        (DemoRole::Restarting, 8..=12) => restarts += second - 7,
        (DemoRole::Restarting, 13..) => restarts += 5,
        (DemoRole::Failing, 15..=27) => (status, reason) = ("failed", json!(FAILURES[round as usize % FAILURES.len()])),
        // An agent that waits for a person is also idle, which AgentIdle detects.
        (DemoRole::Asking, 32..=45) => {
            (status, reason, idle) = ("waiting_question", json!("permission to run Bash"), 300 + second);
        }
        (DemoRole::Boss, 50..=55) => (status, reason) = ("waiting_review", json!("pull request 42")),
        (DemoRole::RateLimited, 22..=25) => (limited, remaining) = (limited + second - 21, 0),
        (DemoRole::RateLimited, 26..) => limited += 4,
        _ => {}
    }
    if role == DemoRole::Spending {
        // One task per minute, which has used 91 % of its budget at second 18 and 102 % at second 26.
        task_id = format!("big-task-{round}");
        let used = match second {
            0..=17 => second * 5_000,
            18..=25 => 182_000,
            _ => 204_000,
        };
        (input, output) = (round * 170_000 + used * 5 / 6, round * 34_000 + used / 6);
    }
    let requests = count(0.5);
    let at = |back: u64| now.minus(std::time::Duration::from_secs(back)).to_string();
    json!({
        "name": name(number),
        "type": TYPES[number as usize % TYPES.len()],
        "status": status,
        "reason": reason,
        "task_id": task_id,
        "phase": PHASES[(into_task * 4 / length) as usize % PHASES.len()],
        "progress": into_task as f64 * 100.0 / length as f64,
        // Fills during the task, but stays below the thresholds of ContextNearlyFull.
        "context_window_ratio": 0.1 + 0.6 * into_task as f64 / length as f64,
        "restart_count": restarts,
        "last_activity": at(idle),
        "estimated_completion": now.plus(std::time::Duration::from_secs(length - into_task)).to_string(),
        "model": model,
        "tokens": {
            "input": input,
            "output": output,
            "cache_read": count(150.0),
            "cache_creation": count(6.0),
            "reasoning": count(4.0),
            "cost_usd": (input as f64 * 3.0 + output as f64 * 15.0) / 1e6,
        },
        "requests": {"total": requests + limited, "errors": requests / 50 + limited, "rate_limited": limited, "retries": limited},
        "reviews": {"passed": seconds / 15, "failed": seconds / 90},
        "rate_limits": [{
            "provider": "anthropic", "limit_type": "requests", "limit": 50, "remaining": remaining,
            "reset_at": now.plus(std::time::Duration::from_secs(60 - second)).to_string(),
        }],
    })
}

/// The components of the shop.
pub(super) fn components(seconds: u64) -> Value {
    let (status, details) = match seconds % ROUND {
        24..=29 => ("WARNING", "the pool is nearly full"),
        30..=39 => ("ERROR", "the pool is full"),
        _ => ("OK", "well"),
    };
    json!([
        {"name": "DatabaseManager", "status": status, "details": details, "metrics": {"pool_size": 10}},
        {"name": "TaskQueue", "status": "OK", "metrics": {"length": seconds % 7}},
    ])
}

/// The export of an agent with OpenTelemetry: a run with a model call, `seconds` after the start. Some calls fail and are
/// repeated with another model, fewer than one run in ten fails, and two of three come from Slack.
pub(super) fn spans(seconds: u64, now: Time) -> Value {
    let nanos = |back: u64| (now.minus(std::time::Duration::from_secs(back)).as_millis() * 1_000_000).to_string();
    let took = 2 + seconds % 7;
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let number = |key: &str, value: u64| json!({"key": key, "value": {"intValue": value.to_string()}});
    let span = |place: i64, name: &str, [began, ended]: [u64; 2], failed: bool, attributes: Value| {
        json!({
            "traceId": format!("{:032x}", now.as_millis()), "spanId": format!("{:016x}", now.as_millis() * 4 + place),
            "parentSpanId": if place == 0 { String::new() } else { format!("{:016x}", now.as_millis() * 4) },
            "name": name, "kind": 3, "startTimeUnixNano": nanos(began), "endTimeUnixNano": nanos(ended),
            "status": if failed { json!({"code": 2, "message": "the model answered 503"}) } else { json!({}) },
            "attributes": attributes,
        })
    };
    let call = |place: i64, model: &str, times: [u64; 2], failed: bool| {
        let mut attributes = vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", "openai"),
            text("gen_ai.request.model", model),
        ];
        if !failed {
            attributes.push(number("gen_ai.usage.input_tokens", 400 + seconds % 50));
            attributes.push(number("gen_ai.usage.output_tokens", 90));
            attributes.push(json!({"key": "gen_ai.cost.total_cost", "value": {"doubleValue": 0.002}}));
        }
        span(place, &format!("chat {model}"), times, failed, json!(attributes))
    };
    let root = json!([
        text("gen_ai.operation.name", "invoke_agent"),
        text("gen_ai.agent.name", "otel_otto"),
        text("platform", if seconds.is_multiple_of(3) { "cli" } else { "slack" }),
        number("response_time_ms", took * 1_000),
        number("thread_length", 3 + seconds % 9),
        number("tool_calls", seconds % 4),
        number("user_satisfaction", 3 + seconds % 3),
        json!({"key": "review_passed", "value": {"boolValue": seconds % 7 != 6}}),
    ]);
    let mut spans = vec![span(0, "invoke_agent otel_otto", [took, 0], seconds % 11 == 10, root)];
    if seconds.is_multiple_of(5) {
        spans.push(call(1, "gpt-5-mini", [took, took - 1], true));
        spans.push(call(2, "gpt-5", [took - 1, 0], false));
    } else {
        spans.push(call(1, "gpt-5-mini", [took - 1, 0], false));
    }
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            text("service.name", "summarizer"), text("agent.name", "otel_otto"), text("project", "lab"),
        ]},
        "scopeSpans": [{"scope": {"name": "demo"}, "spans": spans}],
    }]})
}

/// The answer of the polled orchestrator; `None` during its outage.
pub(super) fn page(seconds: u64, now: Time) -> Option<Value> {
    if (36..=50).contains(&(seconds % ROUND)) {
        return None;
    }
    let bots: Vec<Value> = ["reviewer", "releaser"]
        .iter()
        .map(|name| json!({"id": name, "state": "busy", "seen": now.to_string(), "restarts": 0}))
        .collect();
    Some(json!({"bots": bots}))
}

/// A line of the story: the second, its subject, and the notifications that follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) second: u64,
    pub(super) about: &'static str,
    pub(super) line: &'static str,
    /// The levels of its notifications, sent before the next scene of the same subject.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares the story with the notifications"))]
    pub(super) notified: &'static [&'static str],
}

const fn scene(second: u64, about: &'static str, line: &'static str, notified: &'static [&'static str]) -> Scene {
    Scene { second, about, line, notified }
}

/// The story, printed line by line.
pub(super) const STORY: [Scene; 12] = [
    scene(5, "idle_ida", "goes idle (warning)", &["WARNING"]),
    scene(8, "restless_rob", "restarts again and again (warning at 3, error at 5)", &["WARNING", "ERROR", "RESOLVED"]),
    scene(12, "idle_ida", "is still idle (error)", &["ERROR"]),
    scene(15, "failing_fay", "fails (error)", &["ERROR"]),
    scene(
        18,
        "spending_sam",
        "has used 91 % of its task budget (warning, error at 100 %)",
        &["WARNING", "ERROR", "RESOLVED"],
    ),
    scene(20, "idle_ida", "works again (resolved)", &["RESOLVED"]),
    scene(
        22,
        "limited_lee",
        "gets HTTP 429 from its provider (warning, error at 4)",
        &["WARNING", "ERROR", "RESOLVED"],
    ),
    scene(
        24,
        "DatabaseManager",
        "has a nearly full, then a full connection pool (warning, error, resolved)",
        &["WARNING", "ERROR", "RESOLVED"],
    ),
    scene(28, "failing_fay", "runs again (resolved)", &["RESOLVED"]),
    scene(32, "asking_ann", "waits for a permission (warning)", &["WARNING"]),
    scene(
        36,
        "orchestrator",
        "answers polls with HTTP 500 for 15 s (warning, error, resolved)",
        &["WARNING", "ERROR", "RESOLVED"],
    ),
    scene(46, "asking_ann", "got its permission (resolved)", &["RESOLVED"]),
];

/// The scenes after second `from` up to second `to` since the start; `None` is before the first.
pub(super) fn scenes(from: Option<u64>, to: u64) -> impl Iterator<Item = Scene> {
    let first = from.map_or(0, |from| from + 1);
    (first..=to).flat_map(|second| STORY.into_iter().filter(move |scene| scene.second == second % ROUND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::state::decode_state;

    #[test]
    fn every_state_is_accepted_and_no_counter_decreases() {
        let start = Time::from_millis(1_790_000_000_000);
        for number in 0..12 {
            let mut last = [0; 8];
            for second in 0..3 * ROUND {
                let now = start.plus(std::time::Duration::from_secs(second));
                let body = json!({"project": "shop", "agents": [agent(number, second, now)]}).to_string();
                let batch = decode_state(&body, now).expect("readable");
                assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
                let update = batch.agents.first().expect("one agent");
                let counters = [
                    update.restart_count,
                    update.requests,
                    update.request_errors,
                    update.rate_limit_hits,
                    update.retries,
                    update.tokens[0],
                    update.tokens[1],
                    update.reviews_passed,
                ]
                .map(|counter| counter.expect("reported"));
                assert!(
                    last.iter().zip(&counters).all(|(last, now)| last <= now),
                    "{number} at {second}: {counters:?}"
                );
                last = counters;
            }
        }
    }
}

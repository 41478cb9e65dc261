//! What the simulated fleet does: a story of one minute, told again and again.
//!
//! Pure: the same second gives the same fleet. The first agents have parts in the story, the others work.

use serde_json::{Value, json};

use crate::model::Time;

/// Seconds after which the story begins anew.
pub(super) const ROUND: u64 = 60;

/// How often states are sent, in seconds.
pub(super) const STEP: u64 = 1;

const MODELS: [&str; 3] = ["claude-opus", "gpt-5-codex", "gemini-pro"];
const TYPES: [&str; 4] = ["claude-code", "codex", "langflow", "custom"];
const PHASES: [&str; 4] = ["plan", "implement", "test", "review"];
/// By turns, since the same failure again and again is another problem.
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

/// What an agent plays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Boss,
    Idle,
    Restarting,
    Failing,
    Spending,
    RateLimited,
    Asking,
    Steady,
}

impl Part {
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

/// The project of agent `number`; the story is played in `shop`.
pub(super) const fn project(number: u32) -> &'static str {
    if number < 8 || number.is_multiple_of(2) { "shop" } else { "lab" }
}

/// The state of agent `number`, `seconds` after the start at `now`.
pub(super) fn agent(number: u32, seconds: u64, now: Time) -> Value {
    let part = Part::of(number);
    let (round, second) = (seconds / ROUND, seconds % ROUND);
    let count = |per_second: f64| (seconds as f64 * per_second) as u64;
    // Tasks take 20 to 39 seconds; the last two of them the agent has ended its task.
    let length = 20 + u64::from(number % 20);
    let (task, into_task) = (seconds / length, seconds % length);
    let is_done = into_task + 2 >= length && part == Part::Steady;
    let model = MODELS[number as usize % MODELS.len()];
    let mut idle = 0;
    let mut status = if is_done { "completed" } else { "running" };
    let mut reason = Value::Null;
    let mut restarts = if part == Part::Restarting { round * 5 } else { 0 };
    let mut task_id = format!("task-{number}-{task}");
    let (mut input, mut output) = (count(40.0 + f64::from(number % 7)), count(12.0));
    let (mut limited, mut remaining) = (if part == Part::RateLimited { round * 4 } else { 0 }, 40);
    match (part, second) {
        (Part::Idle, 5..=11) => idle = 400,
        (Part::Idle, 12..=19) => idle = 650,
        (Part::Restarting, 8..=12) => restarts += second - 7,
        (Part::Restarting, 13..) => restarts += 5,
        (Part::Failing, 15..=27) => (status, reason) = ("failed", json!(FAILURES[round as usize % FAILURES.len()])),
        // Who waits for a person does nothing meanwhile, and by that is found.
        (Part::Asking, 32..=45) => {
            (status, reason, idle) = ("waiting_question", json!("permission to run Bash"), 300 + second);
        }
        (Part::Boss, 50..=55) => (status, reason) = ("waiting_review", json!("pull request 42")),
        (Part::RateLimited, 22..=25) => (limited, remaining) = (limited + second - 21, 0),
        (Part::RateLimited, 26..) => limited += 4,
        _ => {}
    }
    if part == Part::Spending {
        // One task a minute, which has used 91 % of its budget by second 18 and all of it by second 26.
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
        // It fills as the task goes on, and nobody is to be alarmed by it.
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

/// What an agent that speaks OpenTelemetry exports: one call of a model, `seconds` after the start.
pub(super) fn spans(seconds: u64, now: Time) -> Value {
    let nanos = |back: u64| (now.minus(std::time::Duration::from_secs(back)).as_millis() * 1_000_000).to_string();
    let took = 1 + seconds % 7;
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let number = |key: &str, value: u64| json!({"key": key, "value": {"intValue": value.to_string()}});
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            text("service.name", "summarizer"), text("agent.name", "otel_otto"), text("project", "lab"),
        ]},
        "scopeSpans": [{"scope": {"name": "demo"}, "spans": [{
            "traceId": format!("{:032x}", now.as_millis()), "spanId": format!("{:016x}", now.as_millis()),
            "name": "chat gpt-5-mini", "kind": 3, "startTimeUnixNano": nanos(took), "endTimeUnixNano": nanos(0),
            "attributes": [
                text("gen_ai.operation.name", "chat"), text("gen_ai.provider.name", "openai"),
                text("gen_ai.request.model", "gpt-5-mini"),
                number("gen_ai.usage.input_tokens", 400 + seconds % 50), number("gen_ai.usage.output_tokens", 90),
            ],
        }]}],
    }]})
}

/// The page of the polled orchestrator; `None` while it is broken.
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

/// A line of the story: at which second of the minute, about whom, and what people are told of it from then on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) second: u64,
    pub(super) about: &'static str,
    pub(super) line: &'static str,
    /// The words of its notifications, each of which comes before the next scene of the same subject.
    #[cfg_attr(not(test), expect(dead_code, reason = "the story is held to it by its test"))]
    pub(super) told: &'static [&'static str],
}

const fn scene(second: u64, about: &'static str, line: &'static str, told: &'static [&'static str]) -> Scene {
    Scene { second, about, line, told }
}

/// What happens, for people to read along.
pub(super) const STORY: [Scene; 12] = [
    scene(5, "idle_ida", "goes idle: a warning", &["WARNING"]),
    scene(
        8,
        "restless_rob",
        "begins to restart: a warning at three, an error at five",
        &["WARNING", "ERROR", "RESOLVED"],
    ),
    scene(12, "idle_ida", "has been idle for 650 s: an error", &["ERROR"]),
    scene(15, "failing_fay", "fails: an error at once", &["ERROR"]),
    scene(
        18,
        "spending_sam",
        "has used 91 % of its task's budget: a warning, an error at 100 %, over with the task",
        &["WARNING", "ERROR", "RESOLVED"],
    ),
    scene(20, "idle_ida", "is back at work: resolved", &["RESOLVED"]),
    scene(22, "limited_lee", "meets 429s: a warning, and an error at four", &["WARNING", "ERROR", "RESOLVED"]),
    scene(24, "DatabaseManager", "warns, then breaks, then recovers", &["WARNING", "ERROR", "RESOLVED"]),
    scene(28, "failing_fay", "is back: resolved", &["RESOLVED"]),
    scene(32, "asking_ann", "waits for a permission, and does nothing meanwhile: a warning", &["WARNING"]),
    scene(36, "orchestrator", "can't be polled for a quarter of a minute", &["WARNING", "ERROR", "RESOLVED"]),
    scene(46, "asking_ann", "has got its permission: resolved", &["RESOLVED"]),
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
    fn every_state_of_the_story_is_taken_and_no_counter_goes_back() {
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

//! Agents that export telemetry, in addition to the subjects: cumulative token counts, as Claude Code sends them. Two of
//! them have equal attributes, as two processes with the same configuration have.
//!
//! It tracks the true usage of each, and so the count that lookout may show.

use lookout::clock::Clock;
use serde_json::{Value, json};

use super::schedule::{EXPORTERS, TWINS};
use crate::program::Lookout;

/// The agents that they export for.
const TWIN: &str = "twin";
const ALONE: &str = "alone";

/// The tokens used so far.
pub(super) struct Exports {
    used: [u64; EXPORTERS],
    began: [i64; EXPORTERS],
    /// The time of the last report: reports of one process are apart in time.
    last: i64,
}

impl Exports {
    pub(super) fn new() -> Self {
        let now = Clock::system().now().as_millis();
        // One a little later than the other, as processes start.
        Self { used: [0; EXPORTERS], began: std::array::from_fn(|place| now + place as i64 * 7), last: now + 100 }
    }

    /// One exporter has used `more` tokens and exports its total.
    pub(super) fn export(&mut self, lookout: &Lookout, who: usize, tokens: u64) {
        self.used[who] += tokens;
        let body = self.body(who);
        let answer = lookout.post("/v1/metrics", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// All exporters export their totals again.
    pub(super) fn export_all(&mut self, lookout: &Lookout) {
        (0..EXPORTERS).for_each(|who| self.export(lookout, who, 0));
    }

    fn body(&mut self, who: usize) -> Value {
        self.last = Clock::system().now().as_millis().max(self.last + 1);
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let nanos = |millis: i64| (millis * 1_000_000).to_string();
        let agent = if who < TWINS { TWIN } else { ALONE };
        json!({"resourceMetrics": [{
            "resource": {"attributes": [
                text("service.name", "claude-code"), text("agent.name", agent), text("project", "otel"),
            ]},
            "scopeMetrics": [{"scope": {"name": "com.anthropic.claude_code"}, "metrics": [{
                "name": "claude_code.token.usage", "unit": "tokens",
                "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{
                    "attributes": [text("type", "input"), text("model", "claude-opus")],
                    "startTimeUnixNano": nanos(self.began[who]), "timeUnixNano": nanos(self.last),
                    "asInt": self.used[who].to_string(),
                }]},
            }]}],
        }]})
    }

    /// Errors in the program's counts: never more than was used, and all of it for an exporter with attributes of its own,
    /// where `is_kept` means that no known value was removed.
    pub(super) fn wrong(&self, lookout: &Lookout, is_kept: bool) -> Vec<String> {
        let status = lookout.get("/api/status").json();
        let projects = status["projects"].as_array().expect("projects").iter();
        let agents: Vec<&Value> = projects
            .filter(|project| project["name"] == "otel")
            .flat_map(|it| it["agents"].as_array())
            .flatten()
            .collect();
        let counted = |name: &str| {
            let agent = agents.iter().find(|agent| agent["name"] == name);
            agent.and_then(|agent| agent["tokens"]["input"].as_u64()).unwrap_or_default()
        };
        let (twins, alone) = (self.used[..TWINS].iter().sum::<u64>(), self.used[TWINS]);
        let mut wrong = Vec::new();
        if counted(TWIN) > twins {
            wrong.push(format!("the twins used {twins} tokens, and {} are counted", counted(TWIN)));
        }
        if counted(ALONE) > alone || is_kept && counted(ALONE) < alone {
            wrong.push(format!("{ALONE} used {alone} tokens, and {} are counted", counted(ALONE)));
        }
        wrong
    }
}

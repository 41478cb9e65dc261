//! Gemini CLI's `--output-format stream-json` and `json`, as printed by version 0.61.
//!
//! Its last line, or its only object, has the totals of the run. Single requests are not printed.

use serde_json::Value;

use super::failure::RequestFailure;
use super::line::StreamLine;
use super::meter::{Meter, Tokens};
use super::name;
use super::state::{ERRORS, RATE_LIMITED, RunState};
use super::turns::TurnRecorder;
use crate::decode::lenient::LenientBody;
use crate::decode::retry::retry_at;
use crate::model::{AgentStatus, Time};

/// The parser's state.
#[derive(Debug, Default)]
pub(super) struct GeminiCli {
    meter: Meter,
    session: String,
}

impl GeminiCli {
    /// Whether this is one of its lines, or its only object.
    pub(super) fn knows(line: &StreamLine<'_>) -> bool {
        let is_object = line.kind.is_empty() && (line.has_response || line.has_error_code);
        !line.session.is_empty() && (line.kind == "init" || is_object)
    }

    /// Parses one line, which is `text`.
    pub(super) fn take(
        &mut self,
        now: Time,
        line: &StreamLine<'_>,
        text: &str,
        state: &mut RunState,
        turns: &mut TurnRecorder,
    ) {
        state.begin([ERRORS, RATE_LIMITED]);
        match &*line.kind {
            "init" => {
                self.begin(line, state);
                // With `auto`, the model can differ for each request.
                if !line.model.is_empty() && line.model != "auto" {
                    state.model = Some(name(&line.model));
                }
                state.is(AgentStatus::Running, None);
            }
            "tool_use" => {
                turns.tool_began(now, "", &line.call_id, &line.tool);
                state.is(AgentStatus::Running, Some(format!("runs {}", name(&line.tool))));
            }
            "tool_result" => {
                let error = (line.status == "error").then(|| "failed".to_owned());
                turns.tool_ended(now, "", &line.call_id, None, error);
                state.is(AgentStatus::Running, None);
            }
            "message" => state.is(AgentStatus::Running, None),
            "result" => {
                let is_unknown = line.status.is_empty() && line.error.is_empty();
                self.end(now, (!is_unknown).then_some(line.status == "success"), line, text, state);
            }
            "" if line.has_response || line.has_error_code => {
                self.begin(line, state);
                self.end(now, Some(!line.has_error_code), line, text, state);
            }
            _ => {}
        }
        state.used(&self.meter.tokens(), 5, None);
    }

    fn begin(&mut self, line: &StreamLine<'_>, state: &mut RunState) {
        let session = name(&line.session);
        if !self.session.is_empty() && self.session != session {
            self.meter.start_process();
        }
        state.task = Some(session.clone());
        self.session = session;
    }

    fn end(&mut self, now: Time, is_good: Option<bool>, line: &StreamLine<'_>, text: &str, state: &mut RunState) {
        if let Some(tokens) = tokens(text) {
            self.meter.total(&tokens, None, false);
        }
        match is_good {
            Some(true) => {
                state.served();
                return state.is(AgentStatus::Completed, None);
            }
            Some(false) => {}
            None => return state.ends_somehow(),
        }
        let failure = RequestFailure::of(None, &line.error);
        state.count(ERRORS);
        if failure.is_limit() {
            state.count(RATE_LIMITED);
            state.rate_limited("google", retry_at(&line.error, now));
        }
        state.is(AgentStatus::Failed, Some(failure.words()));
    }
}

/// Whether a line with this beginning may be skipped: only the last line has totals.
pub(super) fn is_minor(line: &[u8]) -> bool {
    line.starts_with(b"{\"type\":\"message\"") || line.starts_with(b"{\"type\":\"tool_")
}

/// The totals of a run, as named in the stream or in the only object.
fn tokens(text: &str) -> Option<Tokens> {
    let body: Value = LenientBody::new(text.as_bytes()).read(serde_json::from_str).ok()?;
    let stats = body.get("stats")?;
    let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_u64).unwrap_or(0);
    if stats.get("total_tokens").is_some() {
        let [total, input, output, cached] =
            ["total_tokens", "input_tokens", "output_tokens", "cached"].map(|key| number(stats, key));
        // Reasoning tokens are not listed separately here.
        let thoughts = total.saturating_sub(input.saturating_add(output));
        return Some([input.saturating_sub(cached), output, cached, 0, thoughts]);
    }
    let mut all = Tokens::default();
    for model in stats.get("models")?.as_object()?.values() {
        let Some(used) = model.get("tokens") else { continue };
        let [prompt, tool, output, cached, thoughts] =
            ["prompt", "tool", "candidates", "cached", "thoughts"].map(|key| number(used, key));
        let one = [prompt.saturating_sub(cached).saturating_add(tool), output, cached, 0, thoughts];
        for (sum, more) in all.iter_mut().zip(one) {
            *sum = sum.saturating_add(more);
        }
    }
    Some(all)
}

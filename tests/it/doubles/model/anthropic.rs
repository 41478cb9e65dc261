//! Anthropic's Messages, as Claude Code calls them.

use serde_json::{Value, json};

use super::{Call, ModelBehavior, Provider, Usage, error_kind, stream, whole};

pub(super) const PROVIDER: Provider = Provider {
    model: |call| call.body["model"].as_str().unwrap_or_default().to_owned(),
    // Titles and the like are asked for without tools.
    is_work: |call| call.body["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "Bash")),
    answer,
    error,
};

fn error(status: u16, _wait: u32) -> Value {
    const KINDS: [(u16, &str); 3] = [(429, "rate_limit_error"), (401, "authentication_error"), (500, "api_error")];
    json!({"type": "error", "error": {"type": error_kind(&KINDS, status), "message": "not now"}})
}

fn answer(call: &Call, usage: Usage, behavior: ModelBehavior) -> (&'static str, String) {
    let used = call.body["messages"].to_string().contains("\"tool_result\"");
    if call.body["stream"] == true {
        let uses_shell = behavior == ModelBehavior::NeverEnds || behavior == ModelBehavior::UsesShell && !used;
        return stream(&events(call, usage, uses_shell));
    }
    whole(&message(call, usage, &[json!({"type": "text", "text": "Three."})]))
}

fn counts(usage: Usage) -> Value {
    json!({"input_tokens": usage.input, "output_tokens": usage.output,
        "cache_read_input_tokens": usage.cache_read, "cache_creation_input_tokens": usage.cache_creation})
}

fn message(call: &Call, usage: Usage, content: &[Value]) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": (PROVIDER.model)(call), "content": content,
        "stop_reason": "end_turn", "stop_sequence": null, "usage": counts(usage)})
}

/// The events of a streamed answer.
fn events(call: &Call, usage: Usage, uses_shell: bool) -> [Value; 6] {
    let (block, delta, stop) = if uses_shell {
        let input = json!({"command": "echo >> made-by-the-model", "description": "Make a file"}).to_string();
        let tool = json!({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}});
        (tool, json!({"type": "input_json_delta", "partial_json": input}), "tool_use")
    } else {
        (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": "Three."}), "end_turn")
    };
    // Its first event knows what was read, and of what is written the first token only.
    let mut start = message(call, Usage { output: 1, ..usage }, &[]);
    start["stop_reason"] = Value::Null;
    [
        json!({"type": "message_start", "message": start}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": counts(usage)}),
        json!({"type": "message_stop"}),
    ]
}

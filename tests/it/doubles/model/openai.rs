//! OpenAI's Responses, as Codex calls them. Cached tokens are inside the input, reasoning inside the output.

use serde_json::{Value, json};

use super::{Call, ModelBehavior, Provider, Usage, error_kind, stream, whole};

pub(super) const PROVIDER: Provider = Provider {
    model: |call| call.body["model"].as_str().unwrap_or_default().to_owned(),
    is_work: |_| true,
    answer,
    error,
};

fn error(status: u16, _wait: u32) -> Value {
    const KINDS: [(u16, &str); 3] = [(429, "rate_limit_exceeded"), (401, "invalid_api_key"), (500, "server_error")];
    let kind = error_kind(&KINDS, status);
    json!({"error": {"message": "not now", "type": kind, "param": null, "code": kind}})
}

fn answer(call: &Call, usage: Usage, _: ModelBehavior) -> (&'static str, String) {
    let item = json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "Three.", "annotations": []}]});
    let (input, output) = (usage.input + usage.cache_read, usage.output + usage.reasoning);
    let counts = json!({"input_tokens": input, "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": input + output});
    let response = |status: &str, output: &[&Value], usage: &Value| {
        json!({"id": "resp_1", "object": "response", "created_at": 0, "status": status, "output": output,
            "model": (PROVIDER.model)(call), "usage": usage})
    };
    let done = response("completed", &[&item], &counts);
    if call.body["stream"] != true {
        return whole(&done);
    }
    stream(&[
        json!({"type": "response.created", "response": response("in_progress", &[], &Value::Null)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
        json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "Three."}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": done}),
    ])
}

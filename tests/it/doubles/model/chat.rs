//! OpenAI's Chat Completions, as most other programs call them. Cached tokens are inside the prompt's, reasoning inside the
//! completion's.

use serde_json::{Value, json};

use super::{Call, ModelBehavior, Provider, Usage, openai, stream, whole};

pub(super) const PROVIDER: Provider = Provider { answer, ..openai::PROVIDER };

fn answer(call: &Call, usage: Usage, _: ModelBehavior) -> (&'static str, String) {
    let (prompt, completion) = (usage.input + usage.cache_read, usage.output + usage.reasoning);
    let counts = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning}});
    // No two answers use the same, which makes them distinguishable.
    let id = format!("chatcmpl-{prompt}");
    let body = |object: &str, choices: Value, usage: &Value| json!({"id": id, "object": object, "created": 0, "model": call.body["model"], "choices": choices, "usage": usage});
    let message = json!({"role": "assistant", "content": "Three."});
    if call.body["stream"] != true {
        let choice = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
        return whole(&body("chat.completion", choice, &counts));
    }
    let chunk = |choices, usage| body("chat.completion.chunk", choices, usage);
    let mut chunks = vec![
        chunk(json!([{"index": 0, "delta": message, "finish_reason": null}]), &Value::Null),
        chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), &Value::Null),
    ];
    if call.body["stream_options"]["include_usage"] == true {
        chunks.push(chunk(json!([]), &counts));
    }
    let (kind, events) = stream(&chunks);
    (kind, events + "data: [DONE]\n\n")
}

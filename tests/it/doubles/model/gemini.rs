//! Gemini's contents, as Gemini CLI calls them: a small model answers in JSON how hard the question is, a large one streams.
//! Cached tokens are inside the prompt, thoughts are counted apart from the candidates.

use serde_json::{Value, json};

use super::{Call, ModelBehavior, Provider, Usage, error_kind, stream, whole};

pub(super) const PROVIDER: Provider = Provider { model, is_work, answer, error };

fn model(call: &Call) -> String {
    let name = call.path.split("models/").nth(1).and_then(|rest| rest.split(':').next());
    name.unwrap_or_default().to_owned()
}

fn is_work(call: &Call) -> bool {
    call.path.contains(":streamGenerateContent")
}

fn error(status: u16, wait: u32) -> Value {
    const KINDS: [(u16, &str); 3] = [(429, "RESOURCE_EXHAUSTED"), (401, "UNAUTHENTICATED"), (500, "INTERNAL")];
    let delay = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{wait}s")});
    json!({"error": {"code": status, "message": "not now", "status": error_kind(&KINDS, status), "details": [delay]}})
}

fn answer(call: &Call, usage: Usage, _: ModelBehavior) -> (&'static str, String) {
    let prompt = usage.input + usage.cache_read;
    let chunk = |text: &str, counts: &Value| {
        json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": counts, "modelVersion": model(call), "responseId": "answer-1"})
    };
    let counts = json!({"promptTokenCount": prompt, "cachedContentTokenCount": usage.cache_read,
        "candidatesTokenCount": usage.output, "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": prompt + usage.output + usage.reasoning});
    if !is_work(call) {
        let easy = json!({"complexity_reasoning": "a number", "complexity_score": 1});
        return whole(&chunk(&easy.to_string(), &counts));
    }
    // Its first chunk knows what was read only.
    let mut first = chunk("Th", &json!({"promptTokenCount": prompt, "totalTokenCount": prompt}));
    first["candidates"][0]["finishReason"] = Value::Null;
    stream(&[first, chunk("ree.", &counts)])
}

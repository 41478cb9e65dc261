//! Which attributes hold content: prompts, answers, arguments and outputs, or what names a person or a secret.
//!
//! Decided by the attribute's key: numbers and flags are no content, texts are where a word of the key speaks of it, and
//! long ones always are.

use rustc_hash::FxHashMap;

/// Longest text that is no content, in bytes.
pub const MAX_TEXT: usize = 200;
/// Longest key of an attribute that is kept; longer ones are left out with their value.
pub const MAX_KEY: usize = 128;
/// Keys that are remembered.
const MAX_KNOWN_KEYS: usize = 4_096;

/// Words in keys whose texts are content, or name a person or a secret.
const CONTENT: &[&str] = &[
    "account",
    "address",
    "answer",
    "answers",
    "arg",
    "args",
    "argument",
    "arguments",
    "argv",
    "argv0",
    "auth",
    "authorization",
    "body",
    "command",
    "completion",
    "completions",
    "content",
    "contents",
    "cookie",
    "credential",
    "credentials",
    "cwd",
    "data",
    "definition",
    "definitions",
    "description",
    "document",
    "documents",
    "email",
    "file",
    "filename",
    "filepath",
    "files",
    "header",
    "headers",
    "hidden",
    "input",
    "inputs",
    "installation",
    "instruction",
    "instructions",
    "kwargs",
    "message",
    "messages",
    "organization",
    "output",
    "outputs",
    "owner",
    "parameters",
    "params",
    "password",
    "path",
    "payload",
    "prompt",
    "prompts",
    "query",
    "question",
    "raw",
    "reply",
    "request",
    "requester",
    "response",
    "result",
    "results",
    "secret",
    "sql",
    "stacktrace",
    "statement",
    "stringified",
    "summary",
    "system_instructions",
    "text",
    "thinking",
    "thought",
    "thoughts",
    "token",
    "transcript",
    "uri",
    "url",
    "user",
    "username",
    "value",
    "values",
    "api",
    "key",
    "exception",
    "choices",
    "history",
    "memory",
    "template",
    "variables",
    "code",
    "diff",
    "patch",
    "email",
    "phone",
    "ip",
];

/// Keys whose texts are kept although a word of theirs speaks of content.
const SAFE: &[&str] = &[
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.response.id",
    "gen_ai.response.finish_reasons",
    "gen_ai.request.encoding_formats",
    "gen_ai.output.type",
    "gen_ai.openai.request.service_tier",
    "gen_ai.openai.response.service_tier",
    "gen_ai.openai.response.system_fingerprint",
    "gen_ai.token.type",
    "http.request.method",
    "server.address",
    "code.namespace",
    "code.function.name",
    "request_id",
    "error.code",
    "exception.type",
    "llm.request.type",
    "metadata.agent_id",
    "messaging.message.type",
];

/// Decides for keys of attributes, and remembers.
#[derive(Debug, Default)]
pub struct ContentFilter {
    /// Whether the text of a key may be kept.
    known_keys: FxHashMap<String, bool>,
}

impl ContentFilter {
    /// Whether texts of this key are kept.
    pub fn may_keep(&mut self, key: &str) -> bool {
        if let Some(known) = self.known_keys.get(key) {
            return *known;
        }
        let is_kept = SAFE.contains(&key) || !speaks_of_content(key);
        if self.known_keys.len() < MAX_KNOWN_KEYS {
            self.known_keys.insert(key.to_owned(), is_kept);
        }
        is_kept
    }
}

/// Whether a word of the key speaks of content. Words are separated by what is no letter or digit, and by capitals.
fn speaks_of_content(key: &str) -> bool {
    let mut spaced = String::with_capacity(key.len() + 8);
    let mut was_lower = false;
    for letter in key.chars() {
        if letter.is_uppercase() && was_lower {
            spaced.push(' ');
        }
        was_lower = letter.is_lowercase() || letter.is_ascii_digit();
        spaced.push(if letter.is_alphanumeric() { letter.to_ascii_lowercase() } else { ' ' });
    }
    spaced.split(' ').any(|word| CONTENT.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_speak_of_content_are_known_by_their_words() {
        for key in [
            "gen_ai.input.messages",
            "user_prompt",
            "llm.input_messages.0.message.content",
            "inputValue",
            "full_command",
            "db.statement",
            "user.email",
            "my.system-instructions",
            "tool.parameters",
            "openai.apiKey",
            "http.request.header.authorization",
        ] {
            assert!(speaks_of_content(key), "{key}");
        }
        for key in ["gen_ai.operation.name", "decision", "tool_name_safe", "span.type", "speed", "db.system", "outcome"]
        {
            assert!(!speaks_of_content(key), "{key}");
        }
    }
}

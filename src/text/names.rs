//! Canonical names of models and providers, independent of the source.

use std::borrow::Cow;

use super::clean;
use super::home::without_home;

/// Maximum length of a provider name in bytes.
const MAX_PROVIDER: usize = 64;

/// Providers with their other names in the semantic conventions, LiteLLM and their own libraries.
const PROVIDERS: [(&str, &[&str]); 18] = [
    ("anthropic", &["claude"]),
    ("openai", &["text-completion-openai", "openai_like", "openai-responses"]),
    (
        "azure",
        &["azure.ai.openai", "az.ai.openai", "azure_openai", "azure.ai.inference", "az.ai.inference", "azure_ai"],
    ),
    ("bedrock", &["aws.bedrock", "aws_bedrock", "amazon-bedrock", "bedrock_converse", "amazon"]),
    ("vertex_ai", &["gcp.vertex_ai", "vertexai", "vertex", "google-vertex"]),
    ("google", &["gcp.gemini", "gcp.gen_ai", "gemini", "google_genai", "google-genai", "google_ai_studio"]),
    ("mistral", &["mistral_ai", "mistralai"]),
    ("xai", &["x_ai", "x-ai", "grok"]),
    ("cohere", &["cohere_chat"]),
    ("groq", &[]),
    ("deepseek", &[]),
    ("perplexity", &["perplexity_ai"]),
    ("openrouter", &[]),
    ("together_ai", &["together", "togetherai"]),
    ("fireworks_ai", &["fireworks"]),
    ("ollama", &["ollama_chat"]),
    ("ibm.watsonx.ai", &["watsonx", "ibm_watsonx"]),
    ("huggingface", &["hugging_face"]),
];

/// The canonical name of a provider; `None` for a blank name.
pub fn provider(name: &str) -> Option<Cow<'_, str>> {
    let name = name.trim();
    if name.is_empty() || name.eq_ignore_ascii_case("unknown") {
        return None;
    }
    Some(known(name).map_or_else(|| clean(name, MAX_PROVIDER), Cow::Borrowed))
}

/// The provider in a model name: `anthropic` of `anthropic/claude-opus-5-5`.
pub fn provider_of(model: &str) -> Option<&'static str> {
    known(model.split_once('/')?.0)
}

/// The canonical name of a model: without provider prefixes, without a context window suffix such as `[1m]`, which only some
/// signals include, and without a home directory.
pub fn model(name: &str) -> Cow<'_, str> {
    let mut bare = name.trim();
    bare = bare.split_once('[').map_or(bare, |(bare, _)| bare).trim_end();
    while let Some((first, rest)) = bare.split_once('/')
        && (first == "models" || known(first).is_some())
        && !rest.is_empty()
    {
        bare = rest;
    }
    without_home(bare)
}

/// [`model`] for a name that may be owned.
pub fn model_of(name: Cow<'_, str>) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(name) => model(name),
        Cow::Owned(name) => Cow::Owned(model(&name).into_owned()),
    }
}

fn known(name: &str) -> Option<&'static str> {
    let is_it = |other: &str| other.eq_ignore_ascii_case(name);
    PROVIDERS.iter().find(|(one, others)| is_it(one) || others.iter().any(|it| is_it(it))).map(|(one, _)| *one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_one_canonical_name() {
        for (route, name) in [
            ("claude-opus-5-5", "claude-opus-5-5"),
            ("anthropic/claude-opus-5-5", "claude-opus-5-5"),
            ("openrouter/anthropic/claude-opus-5-5", "claude-opus-5-5"),
            ("claude-opus-4-8[1m]", "claude-opus-4-8"),
            ("models/gemini-3.8-flash", "gemini-3.8-flash"),
            ("gemini/gemini-3.8-flash", "gemini-3.8-flash"),
            ("meta-llama/Llama-3-70b", "meta-llama/Llama-3-70b"),
            ("openai/", "openai/"),
            (concat!("/home", "/dev/models/tiny.gguf"), "~/models/tiny.gguf"),
            (" gpt-4o ", "gpt-4o"),
        ] {
            assert_eq!(model(route), name, "{route}");
        }
    }

    #[test]
    fn a_provider_has_one_canonical_name() {
        for (route, name) in [
            ("Anthropic", Some("anthropic")),
            ("az.ai.openai", Some("azure")),
            ("gcp.gemini", Some("google")),
            ("gemini", Some("google")),
            ("aws.bedrock", Some("bedrock")),
            ("acme", Some("acme")),
            ("unknown", None),
            (" ", None),
        ] {
            assert_eq!(provider(route).as_deref(), name, "{route}");
        }
        assert_eq!(
            [provider_of("anthropic/x"), provider_of("acme/x"), provider_of("x")],
            [Some("anthropic"), None, None]
        );
    }
}

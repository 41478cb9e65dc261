//! `lookout setup`: prints the settings with which a tool reports its agents to this sidecar.
//!
//! Addresses come from the configuration. Tokens are never printed: `TOKEN` stands where the user has to put one.

mod texts;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::ConfigArgs;
use super::health::reachable;
use super::terminal::print;
use crate::config::{Config, Environment};

/// Arguments of `lookout setup`.
#[derive(Args, Clone, Debug)]
pub struct SetupArgs {
    /// The tool to configure
    pub tool: Tool,
    /// Name of the agent: letters, digits, `.`, `_` and `-`
    #[arg(long, value_name = "NAME", default_value = "my-agent", value_parser = name)]
    pub agent: String,
    /// Project of the agent [default: default]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub project: Option<String>,
    /// Host name of the sidecar, if the tool runs on another host
    #[arg(long, value_name = "HOST", value_parser = name)]
    pub host: Option<String>,
    /// Address of the sidecar for hooks and telemetry, in place of the configured ones
    #[arg(long, value_name = "URL", conflicts_with = "host", value_parser = base)]
    pub url: Option<String>,
    /// The configuration with the addresses of the listeners
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// A tool whose settings are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// Anthropic's Claude Code
    ClaudeCode,
    /// OpenAI's Codex CLI
    Codex,
    /// Google's Gemini CLI
    GeminiCli,
    /// GitHub's Copilot, in its CLI and in VS Code
    #[value(alias = "github-copilot")]
    Copilot,
    /// The LiteLLM proxy
    Litellm,
    /// Langflow
    Langflow,
    /// Flowise
    Flowise,
    /// CrewX
    Crewx,
    /// AutoGen, and programs made with it
    #[value(alias = "autogen-studio")]
    Autogen,
    /// Vanna, and programs made with it
    Vanna,
    /// Any program with an OpenTelemetry SDK
    #[value(aliases = ["otel", "otlp", "goose", "gen-ai", "openai-agents", "crewai", "langchain", "langgraph"])]
    Opentelemetry,
}

/// Accepts names that need no quotes in shells, TOML and YAML.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !text.is_empty() && text.len() <= 100 && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("use at most 100 letters, digits, `.`, `_` and `-`".to_owned())
    }
}

/// Accepts addresses that need no quotes in shells, TOML and YAML.
fn base(text: &str) -> Result<String, String> {
    let wrong = || Err("write it like https://lookout.example.com:9797, without user, query or fragment".to_owned());
    let url = text.trim_end_matches('/');
    let Some((scheme, rest)) = url.split_once("://") else { return wrong() };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/[]~".contains(&byte);
    let fits = matches!(scheme, "http" | "https") && rest.len() <= 300 && rest.bytes().all(is_plain);
    if fits && reqwest::Url::parse(url).is_ok_and(|url| url.has_host()) { Ok(url.to_owned()) } else { wrong() }
}

/// Prints the settings.
pub(super) fn run(args: &SetupArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    print(&text(args, &config)?)?;
    Ok(ExitCode::SUCCESS)
}

fn text(args: &SetupArgs, config: &Config) -> anyhow::Result<String> {
    let url = |address: SocketAddr| {
        let address = reachable(address);
        match &args.host {
            Some(host) => format!("{host}:{}", address.port()),
            None => address.to_string(),
        }
    };
    if let Some(elsewhere) = &args.url {
        let is_local = reqwest::Url::parse(elsewhere)
            .is_ok_and(|url| url.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]")));
        // The main listener accepts OTLP over HTTP as well, so one address is enough behind a proxy.
        let needs_token = !config.auth.tokens.is_empty() || !is_local;
        let project = args.project.as_deref();
        let target = texts::SetupTarget { main: elsewhere, http: elsewhere, agent: &args.agent, project, needs_token };
        return Ok(target.of(args.tool));
    }
    // All listeners use the same certificate, and the main one accepts OTLP over HTTP as well.
    let scheme = if config.tls.cert_file.is_some() { "https" } else { "http" };
    let (main, http) = (config.listen.0, config.otlp.http.unwrap_or(config.listen.0));
    if http.port() == 0 {
        let key = if config.otlp.http.is_some() { "otlp.http" } else { "listen" };
        anyhow::bail!("`{key}` has port 0, so its port is not known in advance; configure a fixed port");
    }
    let posts = matches!(args.tool, Tool::ClaudeCode | Tool::Litellm);
    if posts && main.port() == 0 {
        anyhow::bail!("`listen` has port 0, so its port is not known in advance; configure a fixed port");
    }
    let target = texts::SetupTarget {
        main: &format!("{scheme}://{}", url(main)),
        http: &format!("{scheme}://{}", url(http)),
        agent: &args.agent,
        project: args.project.as_deref(),
        // Without configured tokens, only loopback addresses need none.
        needs_token: !config.auth.tokens.is_empty() || !http.ip().is_loopback() || posts && !main.ip().is_loopback(),
    };
    Ok(target.of(args.tool))
}

impl texts::SetupTarget<'_> {
    /// The settings of `tool`.
    fn of(&self, tool: Tool) -> String {
        match tool {
            Tool::ClaudeCode => self.claude_code(),
            Tool::Codex => self.codex(),
            Tool::GeminiCli => self.gemini_cli(),
            Tool::Copilot => self.copilot(),
            Tool::Litellm => self.litellm(),
            Tool::Langflow => self.langflow(),
            Tool::Flowise => self.flowise(),
            Tool::Crewx => self.crewx(),
            Tool::Autogen | Tool::Vanna => self.python(),
            Tool::Opentelemetry => self.opentelemetry(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSource;
    use crate::otlp::OtlpConfig;
    use crate::written::yaml;

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lookout.yaml");
        std::fs::write(&file, text).expect("a file");
        ConfigSource { file: Some(file), env: Environment::default() }.load().expect("valid")
    }

    fn args(tool: Tool) -> SetupArgs {
        let project = Some("shop".to_owned());
        SetupArgs { tool, agent: "builder".to_owned(), project, host: None, url: None, config: ConfigArgs::default() }
    }

    fn shown(tool: Tool, configuration: &str) -> String {
        text(&args(tool), &config(configuration)).expect("a text")
    }

    #[test]
    fn claude_code_gets_variables_and_hooks() {
        let expected = "\
# In the shell that starts the agent, or under \"env\" in its settings.json:
export CLAUDE_CODE_ENABLE_TELEMETRY=1
export OTEL_METRICS_EXPORTER=otlp
export OTEL_LOGS_EXPORTER=otlp
export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318
export OTEL_METRIC_EXPORT_INTERVAL=10000
export OTEL_RESOURCE_ATTRIBUTES=agent.name=builder,project=shop
# Spans, for the count of retried requests:
export CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1
export OTEL_TRACES_EXPORTER=otlp
# Name and project for the hooks:
export AGENT_NAME=builder
export AGENT_PROJECT=shop
";
        let shown = shown(Tool::ClaudeCode, "");
        let (_, hooks) = shown.split_once("\n\n").expect("two parts");
        assert!(shown.starts_with(expected), "{shown}");
        let (place, hooks) = hooks.split_once('\n').expect("where to put it");
        assert!(place.contains(".claude/settings.json"), "{place}");
        let hooks: serde_json::Value = serde_json::from_str(hooks).expect("JSON");
        let events = hooks["hooks"].as_object().expect("events");
        for event in ["PermissionRequest", "PermissionDenied", "Elicitation", "ElicitationResult"] {
            let hook = &events[event][0]["hooks"][0];
            assert_eq!(hook["url"], "http://127.0.0.1:9797/hooks/claude-code");
            assert_eq!(hook["headers"]["x-lookout-agent"], "$AGENT_NAME");
            assert_eq!(hook["allowedEnvVars"], serde_json::json!(["AGENT_NAME", "AGENT_PROJECT"]));
        }
        assert_eq!(events.len(), 17);
        assert_eq!(shown.matches("builder").count(), 2, "once for telemetry and once for hooks");
    }

    #[test]
    fn the_url_replaces_the_configured_addresses() {
        for tool in Tool::value_variants() {
            let url = base("https://watch.example.com/lookout/").ok();
            let text = text(&SetupArgs { url, ..args(*tool) }, &config("")).expect("a text");
            assert!(text.contains("https://watch.example.com/lookout"), "{tool:?}: {text}");
            assert!(!text.contains("127.0.0.1") && text.contains("TOKEN"), "{tool:?}: {text}");
        }
        for wrong in ["", "watch", "ftp://x", "http://", "http://a:b@c", "http://a/?b", "http://$(x)", "http://a b"] {
            base(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn every_tool_exports_to_the_configured_listener() {
        for tool in Tool::value_variants() {
            for (configuration, address) in [
                ("", "http://127.0.0.1:4318"),
                ("otlp: {http: '0.0.0.0:14318'}", "http://127.0.0.1:14318"),
                ("otlp: {http: null}", "http://127.0.0.1:9797"),
                ("tls: {cert_file: c.pem, key_file: k.pem}", "https://127.0.0.1:4318"),
            ] {
                let text = shown(*tool, configuration);
                assert!(text.contains(address), "{tool:?} {configuration}: {text}");
                assert_eq!(text.contains("4318"), address.contains("4318"), "{text}");
            }
            let elsewhere = SetupArgs { host: Some("watch.example.com".to_owned()), ..args(*tool) };
            let text = text(&elsewhere, &config("")).expect("a text");
            assert!(text.contains("http://watch.example.com:4318") && !text.contains("127.0.0.1"), "{text}");
        }
        for (configuration, key) in
            [("otlp: {http: '127.0.0.1:0'}", "otlp.http"), ("{listen: '127.0.0.1:0', otlp: {http: null}}", "listen")]
        {
            let error = text(&args(Tool::Codex), &config(configuration)).expect_err("no port");
            assert!(error.to_string().starts_with(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn tokens_are_placeholders() {
        let tokens = "auth: {tokens: [{name: i, role: ingest, token: hunter2-4711}]}";
        for tool in Tool::value_variants() {
            let text = shown(*tool, tokens);
            assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
            assert!(!shown(*tool, "").contains("TOKEN"));
        }
    }

    #[test]
    fn printed_configuration_files_are_valid() {
        let text = shown(Tool::Codex, "");
        let ours = text.split_once("lookout.yaml").expect("a part").1.split_once('\n').expect("lines").1;
        let config = config(ours);
        let [rule] = &config.otlp.agents[..] else { panic!("one rule: {ours}") };
        assert_eq!((&*rule.agent, rule.project.as_deref()), ("builder", Some("shop")));
        assert_eq!(OtlpConfig { agents: Vec::new(), ..config.otlp.clone() }, OtlpConfig::default());
        let text = shown(Tool::Litellm, "");
        let files: Vec<&str> = text.split("config.yaml").skip(1).collect();
        assert_eq!(files.len(), 2, "spans, or the callback: {text}");
        for theirs in files {
            let theirs = theirs.split_once('\n').expect("lines").1;
            let theirs = theirs.split_once("\n#").map_or(theirs, |(file, _)| file);
            yaml::parse(theirs).expect("YAML");
        }
        let endpoint = "    endpoint: \"http://127.0.0.1:9797/hooks/litellm?project=shop\"\n    headers: {}\n";
        assert!(text.contains(endpoint), "{text}");
        let with_token = shown(Tool::Litellm, "auth: {tokens: [{name: i, role: ingest, token: hunter2-4711}]}");
        assert!(with_token.contains("    headers: {authorization: \"Bearer TOKEN\"}\n"), "{with_token}");
    }

    #[test]
    fn every_tool_names_its_agent() {
        for tool in [
            Tool::ClaudeCode,
            Tool::Codex,
            Tool::GeminiCli,
            Tool::Autogen,
            Tool::Vanna,
            Tool::Crewx,
            Tool::Copilot,
            Tool::Flowise,
            Tool::Opentelemetry,
        ] {
            let text = shown(tool, "");
            let name = "\nexport OTEL_RESOURCE_ATTRIBUTES=agent.name=builder,project=shop\n";
            assert!(text.contains(name), "{tool:?}: {text}");
        }
    }

    #[test]
    fn names_need_no_quotes() {
        assert_eq!(name("build-1.a_B"), Ok("build-1.a_B".to_owned()));
        for wrong in ["", "a b", "a;b", "$(x)", "é", &"x".repeat(101)] {
            name(wrong).expect_err(wrong);
        }
    }
}

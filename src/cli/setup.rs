//! `lookout setup`: what to paste into a tool's settings, so that its agents report here.
//!
//! The addresses are those of the configuration. Refuses to print a token: it shows where one goes, and is to be filled
//! in by whoever pastes.

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
    /// The tool
    pub tool: Tool,
    /// What the agent is to be called: letters, digits, `.`, `_` and `-`
    #[arg(long, value_name = "NAME", default_value = "my-agent", value_parser = name)]
    pub agent: String,
    /// The project that it works on
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub project: Option<String>,
    /// The host by which the tool reaches the sidecar, when it runs elsewhere
    #[arg(long, value_name = "HOST", value_parser = name)]
    pub host: Option<String>,
    /// Which configuration says where telemetry is received
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// A tool whose settings we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// Anthropic's Claude Code
    ClaudeCode,
    /// OpenAI's Codex CLI
    Codex,
    /// Google's Gemini CLI
    GeminiCli,
    /// The LiteLLM proxy
    Litellm,
    /// Any program with an OpenTelemetry SDK
    Opentelemetry,
}

/// A name that needs no quotes in a shell, in TOML and in YAML.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !text.is_empty() && text.len() <= 100 && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("write it with letters, digits, `.`, `_` and `-`, 100 at most".to_owned())
    }
}

/// Prints what to paste.
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
    // All listeners have one certificate, and the main one takes OTLP over HTTP as well.
    let scheme = if config.tls.cert_file.is_some() { "https" } else { "http" };
    let (main, http) = (config.listen.0, config.otlp.http.unwrap_or(config.listen.0));
    if http.port() == 0 {
        let key = if config.otlp.http.is_some() { "otlp.http" } else { "listen" };
        anyhow::bail!("{key} names port 0, so that nobody knows the port beforehand; give it a fixed one");
    }
    let posts = matches!(args.tool, Tool::ClaudeCode | Tool::Litellm);
    if posts && main.port() == 0 {
        anyhow::bail!("listen names port 0, so that nobody knows the port beforehand; give it a fixed one");
    }
    let target = texts::Target {
        main: &format!("{scheme}://{}", url(main)),
        http: &format!("{scheme}://{}", url(http)),
        agent: &args.agent,
        project: args.project.as_deref(),
        // On a loopback address callers may need none, unless it is reached from elsewhere.
        needs_token: !config.auth.tokens.is_empty() || !http.ip().is_loopback() || posts && !main.ip().is_loopback(),
    };
    Ok(match args.tool {
        Tool::ClaudeCode => target.claude_code(),
        Tool::Codex => target.codex(),
        Tool::GeminiCli => target.gemini_cli(),
        Tool::Litellm => target.litellm(),
        Tool::Opentelemetry => target.opentelemetry(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::sources::otlp::OtlpConfig;
    use crate::written::yaml;

    fn config(text: &str) -> Config {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lookout.yaml");
        std::fs::write(&file, text).expect("a file");
        Source { file: Some(file), env: Environment::default() }.load().expect("valid")
    }

    fn args(tool: Tool) -> SetupArgs {
        let project = Some("shop".to_owned());
        SetupArgs { tool, agent: "builder".to_owned(), project, host: None, config: ConfigArgs::default() }
    }

    fn shown(tool: Tool, configuration: &str) -> String {
        text(&args(tool), &config(configuration)).expect("a text")
    }

    #[test]
    fn claude_code_gets_its_environment() {
        let expected = "\
# In the shell that starts the agent, or beneath \"env\" in its settings.json:
export CLAUDE_CODE_ENABLE_TELEMETRY=1
export OTEL_METRICS_EXPORTER=otlp
export OTEL_LOGS_EXPORTER=otlp
export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318
export OTEL_METRIC_EXPORT_INTERVAL=10000
export OTEL_RESOURCE_ATTRIBUTES=agent.name=builder,project=shop
# Spans as well: they alone show requests that were refused and then succeeded.
export CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1
export OTEL_TRACES_EXPORTER=otlp
";
        let shown = shown(Tool::ClaudeCode, "");
        let (_, hooks) = shown.split_once("\n\n").expect("two parts");
        assert!(shown.starts_with(expected), "{shown}");
        let (place, hooks) = hooks.split_once('\n').expect("where to put it");
        assert!(place.contains(".claude/settings.json"), "{place}");
        let hooks: serde_json::Value = serde_json::from_str(hooks).expect("JSON");
        let url = "http://127.0.0.1:9797/hooks/claude-code?agent=builder&project=shop";
        assert_eq!(hooks["hooks"]["PermissionRequest"][0]["hooks"][0]["url"], url);
        assert_eq!(hooks["hooks"].as_object().expect("events").len(), 14);
    }

    #[test]
    fn every_tool_is_sent_to_where_telemetry_is_received() {
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
            assert!(error.to_string().starts_with(key), "{error}");
        }
    }

    #[test]
    fn a_token_is_asked_for_and_never_printed() {
        let tokens = "auth: {tokens: [{name: i, role: ingest, token: hunter2-4711}]}";
        for tool in Tool::value_variants() {
            let text = shown(*tool, tokens);
            assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
            assert!(!shown(*tool, "").contains("TOKEN"));
        }
    }

    #[test]
    fn what_goes_into_our_own_file_is_valid_there() {
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
    fn every_agent_says_who_it_is() {
        for tool in [Tool::ClaudeCode, Tool::Codex, Tool::GeminiCli, Tool::Opentelemetry] {
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

//! What to paste, tool by tool: names of settings as the tools document them.

/// The events of Claude Code that say what it does, of those that it runs HTTP hooks for.
/// `WorktreeCreate` would replace what it tells of, and `MessageDisplay` posts what agents write; the others say no more
/// than that an agent lives.
const EVENTS: [&str; 17] = [
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PostToolBatch",
    "PermissionRequest",
    "PermissionDenied",
    "Elicitation",
    "ElicitationResult",
    "Notification",
    "Stop",
    "StopFailure",
    "SubagentStart",
    "SubagentStop",
    "PreCompact",
    "PostCompact",
    "SessionEnd",
];

/// Where telemetry goes, and whose it is.
pub(super) struct Target<'a> {
    /// The main listener, where hooks and callbacks are posted.
    pub(super) main: &'a str,
    /// Where OTLP over HTTP is received.
    pub(super) http: &'a str,
    pub(super) agent: &'a str,
    pub(super) project: Option<&'a str>,
    pub(super) needs_token: bool,
}

/// The note beside each place of a token.
const TOKEN: &str = "# TOKEN stands for a token of the role ingest.\n";

impl Target<'_> {
    pub(super) fn claude_code(&self) -> String {
        format!(
            "\
# In the shell that starts the agent, or beneath \"env\" in its settings.json:
export CLAUDE_CODE_ENABLE_TELEMETRY=1
export OTEL_METRICS_EXPORTER=otlp
export OTEL_LOGS_EXPORTER=otlp
{}export OTEL_METRIC_EXPORT_INTERVAL=10000
{}# Spans as well: they alone show requests that were refused and then succeeded.
export CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1
export OTEL_TRACES_EXPORTER=otlp
# Whose the hooks are; each agent says its own.
export AGENT_NAME={}
{}
{}# In ~/.claude/settings.json, once for all agents, beside what is there: telemetry never says that one waits.
{{\"hooks\": {{
{}
}}}}
",
            self.exporter(),
            self.attributes(),
            self.agent,
            self.project.map(|project| format!("export AGENT_PROJECT={project}\n")).unwrap_or_default(),
            if self.needs_token { TOKEN } else { "" },
            EVENTS.map(|event| self.hook(event)).join(",\n")
        )
    }

    fn hook(&self, event: &str) -> String {
        let token = if self.needs_token { ", \"authorization\": \"Bearer TOKEN\"" } else { "" };
        format!(
            "  \"{event}\": [{{\"hooks\": [{{\"type\": \"http\", \"url\": \"{}/hooks/claude-code\", \"headers\": \
             {{\"x-lookout-agent\": \"$AGENT_NAME\", \"x-lookout-project\": \"$AGENT_PROJECT\"{token}}}, \
             \"allowedEnvVars\": [\"AGENT_NAME\", \"AGENT_PROJECT\"]}}]}}]",
            self.main
        )
    }

    pub(super) fn codex(&self) -> String {
        let headers = if self.needs_token { ", headers = { \"authorization\" = \"Bearer TOKEN\" }" } else { "" };
        let exporter = |signal: &str| {
            format!("{{ otlp-http = {{ endpoint = \"{}/v1/{signal}\", protocol = \"binary\"{headers} }} }}", self.http)
        };
        let note = if self.needs_token { TOKEN } else { "" };
        format!(
            "\
# In the shell that starts it; a run of `codex exec` that fails drops what it has not sent, so no log is to wait:
{}export OTEL_BLRP_MAX_EXPORT_BATCH_SIZE=1

# In ~/.codex/config.toml:
{note}[otel]
environment = \"{}\"
log_user_prompt = false
exporter = {}
metrics_exporter = {}
# A run that fails loses its metrics all the same; its logs have the same tokens, which count once.

# In lookout.yaml, where Codex is not started by that shell and so does not say which agent it is:
{}",
            self.attributes(),
            self.agent,
            exporter("logs"),
            exporter("metrics"),
            self.rule(&format!("{{service.name: \"codex*\", env: \"{}\"}}", self.agent))
        )
    }

    pub(super) fn gemini_cli(&self) -> String {
        format!(
            "\
# In the shell that starts the agent:
{}{}{}",
            self.gemini_variables(),
            self.headers(),
            self.attributes()
        )
    }

    fn gemini_variables(&self) -> String {
        format!(
            "\
export GEMINI_TELEMETRY_ENABLED=true
export GEMINI_TELEMETRY_TARGET=local
export GEMINI_TELEMETRY_OTLP_PROTOCOL=http
export GEMINI_TELEMETRY_OTLP_ENDPOINT={}
export GEMINI_TELEMETRY_LOG_PROMPTS=false
",
            self.http
        )
    }

    pub(super) fn litellm(&self) -> String {
        format!(
            "\
# In the proxy's config.yaml:
litellm_settings:
  callbacks: [otel]

# In the shell that starts the proxy:
{}{}
# Or, where OpenTelemetry is not installed beside the proxy, or LITELLM_OTEL_V2 is set, in its config.yaml:
litellm_settings:
  callbacks: [lookout]
callback_settings:
  lookout:
    callback_type: generic_api
    endpoint: \"{}/hooks/litellm{}\"
    headers: {{{}}}
    event_types: [llm_api_success, llm_api_failure]
    max_retries: 5
    retry_delay: 1

# Each caller says who it is in its request: \"metadata\": {{\"agent_id\": \"{}\"}}
",
            self.exporter(),
            self.project
                .map(|project| format!("export OTEL_RESOURCE_ATTRIBUTES=project={project}\n"))
                .unwrap_or_default(),
            self.main,
            self.project.map(|project| format!("?project={project}")).unwrap_or_default(),
            if self.needs_token { "authorization: \"Bearer TOKEN\"" } else { "" },
            self.agent
        )
    }

    pub(super) fn opentelemetry(&self) -> String {
        format!(
            "\
# In the shell that starts the program:
export OTEL_METRICS_EXPORTER=otlp
export OTEL_LOGS_EXPORTER=otlp
export OTEL_TRACES_EXPORTER=otlp
{}{}",
            self.exporter(),
            self.attributes()
        )
    }

    pub(super) fn copilot(&self) -> String {
        format!(
            "\
# In the shell that starts `copilot`, or VS Code:
export COPILOT_OTEL_ENABLED=true
{}{}
# Where nothing arrives, a policy may forbid addresses without TLS; then serve lookout over https.
",
            self.exporter(),
            self.attributes()
        )
    }

    pub(super) fn langflow(&self) -> String {
        format!(
            "\
# In the shell that starts Langflow:
{}{}
# In lookout.yaml: each flow as an agent of its own, by the id that its address in the browser ends with.
{}",
            self.exporter(),
            self.project
                .map(|project| format!("export OTEL_RESOURCE_ATTRIBUTES=project={project}\n"))
                .unwrap_or_default(),
            self.rule("{flow_id: \"FLOW-ID\"}")
        )
    }

    pub(super) fn flowise(&self) -> String {
        format!(
            "\
# In the shell that starts Flowise, or in its .env; it sends metrics alone:
export ENABLE_METRICS=true
export METRICS_PROVIDER=open_telemetry
export METRICS_SERVICE_NAME={}
export METRICS_OPEN_TELEMETRY_PROTOCOL=proto
export METRICS_OPEN_TELEMETRY_METRIC_ENDPOINT={}/v1/metrics
{}{}",
            self.agent,
            self.http,
            self.headers(),
            self.attributes()
        )
    }

    pub(super) fn crewx(&self) -> String {
        format!(
            "\
# In the shell that starts crewx; the tools that its agents are made of inherit it and report as one agent:
export CLAUDE_CODE_ENABLE_TELEMETRY=1
export OTEL_METRICS_EXPORTER=otlp
export OTEL_LOGS_EXPORTER=otlp
export COPILOT_OTEL_ENABLED=true
{}{}{}
# Codex reads its own file: see `lookout setup codex`.
",
            self.exporter(),
            self.gemini_variables(),
            self.attributes()
        )
    }

    pub(super) fn python(&self) -> String {
        format!(
            "\
# Once, in its environment:
#   pip install opentelemetry-distro opentelemetry-exporter-otlp && opentelemetry-bootstrap --action=install
# In the shell that starts it, as `opentelemetry-instrument python …`:
export OTEL_METRICS_EXPORTER=otlp
export OTEL_LOGS_EXPORTER=otlp
export OTEL_TRACES_EXPORTER=otlp
{}{}",
            self.exporter(),
            self.attributes()
        )
    }

    /// The variables of every SDK that say where to.
    fn exporter(&self) -> String {
        format!(
            "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nexport OTEL_EXPORTER_OTLP_ENDPOINT={}\n{}",
            self.http,
            self.headers()
        )
    }

    /// The variable with the token, where one is needed.
    fn headers(&self) -> &'static str {
        if self.needs_token {
            "# TOKEN stands for a token of the role ingest.\nexport OTEL_EXPORTER_OTLP_HEADERS=\"authorization=Bearer%20TOKEN\"\n"
        } else {
            ""
        }
    }

    /// The variable that says whose telemetry it is.
    fn attributes(&self) -> String {
        let project = self.project.map(|project| format!(",project={project}")).unwrap_or_default();
        format!("export OTEL_RESOURCE_ATTRIBUTES=agent.name={}{project}\n", self.agent)
    }

    /// A rule of ours that says whose telemetry with these attributes is.
    fn rule(&self, attributes: &str) -> String {
        let project = self.project.map(|project| format!(", project: \"{project}\"")).unwrap_or_default();
        format!("otlp:\n  agents:\n    - {{match: {attributes}, agent: \"{}\"{project}}}\n", self.agent)
    }
}

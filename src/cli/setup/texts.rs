//! The settings of each tool, named as in the tool's documentation.

/// The hook events of Claude Code that lookout uses. Left out are `WorktreeCreate`, whose hooks replace the default
/// action, `MessageDisplay`, which posts the agent's text, and events that show no more than that the agent is alive.
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

/// Where a tool reports to, and as which agent.
pub(super) struct SetupTarget<'a> {
    /// The main listener, for hooks and callbacks.
    pub(super) main: &'a str,
    /// The listener for OTLP over HTTP.
    pub(super) http: &'a str,
    pub(super) agent: &'a str,
    pub(super) project: Option<&'a str>,
    pub(super) needs_token: bool,
}

/// The comment at each place of a token.
const TOKEN: &str = "# Replace TOKEN by a token with the role ingest.\n";

impl SetupTarget<'_> {
    pub(super) fn claude_code(&self) -> String {
        format!(
            "\
# In the shell that starts the agent, or under \"env\" in its settings.json:
export CLAUDE_CODE_ENABLE_TELEMETRY=1
export OTEL_METRICS_EXPORTER=otlp
export OTEL_LOGS_EXPORTER=otlp
{}export OTEL_METRIC_EXPORT_INTERVAL=10000
{}# Spans, for the count of retried requests:
export CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1
export OTEL_TRACES_EXPORTER=otlp
# Name and project for the hooks:
export AGENT_NAME={}
{}
{}# In ~/.claude/settings.json, once for all agents, merged with what is there. Hooks report tasks and waiting for a person:
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
# In the shell that starts Codex. A batch size of 1 sends each log at once: a failing `codex exec` loses unsent ones.
{}export OTEL_BLRP_MAX_EXPORT_BATCH_SIZE=1

# In ~/.codex/config.toml:
{note}[otel]
environment = \"{}\"
log_user_prompt = false
exporter = {}
metrics_exporter = {}
# A failing run loses its metrics in any case; tokens are then taken from its logs. Nothing is counted twice.

# In lookout.yaml, if Codex is started without that shell's variables and so does not name its agent:
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

# In the shell that starts the proxy; the last line has it send the caller's metadata, which links calls to runs:
{}{}export LITELLM_OTEL_BAGGAGE_METADATA_KEYS=requester_metadata.agent_id,requester_metadata.parent_trace_id,requester_metadata.session_id

# Alternatively, if the proxy has no OpenTelemetry packages, or LITELLM_OTEL_V2 is set, in its config.yaml:
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

# Each caller names its agent in the request: \"metadata\": {{\"agent_id\": \"{}\"}}
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
# If nothing arrives, a policy may forbid http:// endpoints; configure `tls` in lookout.yaml then.
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
# In lookout.yaml, one entry per flow, with the id at the end of the flow's URL:
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
# In the shell that starts Flowise, or in its .env; Flowise sends metrics only:
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
# In the shell that starts crewx; the tools that it runs inherit the variables and report as one agent:
export CLAUDE_CODE_ENABLE_TELEMETRY=1
export OTEL_METRICS_EXPORTER=otlp
export OTEL_LOGS_EXPORTER=otlp
export COPILOT_OTEL_ENABLED=true
{}{}{}
# Codex uses its own configuration file: see `lookout setup codex`.
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

    /// The SDK variables for protocol, endpoint and headers.
    fn exporter(&self) -> String {
        format!(
            "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nexport OTEL_EXPORTER_OTLP_ENDPOINT={}\n{}",
            self.http,
            self.headers()
        )
    }

    /// The variable with the token, if one is needed.
    fn headers(&self) -> &'static str {
        if self.needs_token {
            "# Replace TOKEN by a token with the role ingest.\nexport OTEL_EXPORTER_OTLP_HEADERS=\"authorization=Bearer%20TOKEN\"\n"
        } else {
            ""
        }
    }

    /// The variable that names agent and project.
    fn attributes(&self) -> String {
        let project = self.project.map(|project| format!(",project={project}")).unwrap_or_default();
        format!("export OTEL_RESOURCE_ATTRIBUTES=agent.name={}{project}\n", self.agent)
    }

    /// An entry of `otlp.agents` that names the agent of telemetry with these attributes.
    fn rule(&self, attributes: &str) -> String {
        let project = self.project.map(|project| format!(", project: \"{project}\"")).unwrap_or_default();
        format!("otlp:\n  agents:\n    - {{match: {attributes}, agent: \"{}\"{project}}}\n", self.agent)
    }
}

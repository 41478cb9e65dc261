//! What each tool can send and does not, and the setting that makes it.

/// Advice for a tool from which a signal does not arrive.
struct MissingSignal {
    tool: &'static str,
    signal: &'static str,
    /// The advice is given only if this other signal arrives.
    given: Option<&'static str>,
    advice: &'static str,
}

const MISSING: [MissingSignal; 7] = [
    MissingSignal {
        tool: "claude-code",
        signal: "metrics",
        given: None,
        advice: "no metrics arrive; set OTEL_METRICS_EXPORTER=otlp. Until then tokens and cost are taken from other signals",
    },
    MissingSignal {
        tool: "claude-code",
        signal: "logs",
        given: None,
        advice: "no logs arrive, so failed requests are visible in spans only; set OTEL_LOGS_EXPORTER=otlp",
    },
    MissingSignal {
        tool: "claude-code",
        signal: "traces",
        given: None,
        advice: "no spans arrive, so retried requests are not counted; set CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1 and OTEL_TRACES_EXPORTER=otlp",
    },
    MissingSignal {
        tool: "codex",
        signal: "metrics",
        given: Some("logs"),
        advice: "logs arrive but no metrics, so tokens are taken from logs; set `metrics_exporter` in [otel]. A failing `codex exec` loses its metrics in any case",
    },
    MissingSignal {
        tool: "codex",
        signal: "logs",
        given: Some("metrics"),
        advice: "metrics arrive but no logs, so failed requests are not counted; set `exporter` in [otel]",
    },
    MissingSignal {
        tool: "gemini-cli",
        signal: "logs",
        given: Some("metrics"),
        advice: "metrics arrive but no logs; check the collector or proxy between Gemini CLI and lookout",
    },
    MissingSignal {
        tool: "litellm",
        signal: "traces",
        given: Some("callback"),
        advice: "only the callback arrives, and LiteLLM loses calls that end while it posts; add `otel` to `litellm_settings.callbacks` too. Each call is counted once",
    },
];

/// Tools whose calls and a proxy's can be matched by their session.
const IN_SESSIONS: [&str; 2] = ["claude-code", "gemini-cli"];
/// The proxy.
const PROXY: &str = "litellm";

/// For a tool that may call through a proxy: advice where the calls of both can't be matched. `proxy_lacks_session`
/// describes the proxy, `has_metrics` the tool.
pub(super) fn on_proxy(tool: &str, proxy_lacks_session: bool, has_metrics: bool) -> Option<&'static str> {
    match tool {
        PROXY => None,
        tool if IN_SESSIONS.contains(&tool) => proxy_lacks_session.then_some(NO_SESSION),
        _ => has_metrics.then_some(NO_CALL),
    }
}

/// Whether a tool is a proxy.
pub(super) fn is_proxy(tool: &str) -> bool {
    tool == PROXY
}

const NO_SESSION: &str = "LiteLLM reports calls without a session, so calls of this tool through it are counted twice; let LiteLLM forward x-claude-code-session-id, set `metadata.session_id`, or export from only one of the two";
const NO_CALL: &str = "metrics can't be matched to LiteLLM's calls, so calls of this agent through it are counted twice; export only spans, or export from only one of the two";

/// For telemetry of a tool whose hooks would report its status.
pub(super) const NO_HOOKS: &str =
    "no hooks arrive, so tasks and waiting for a person are unknown; add the hooks of `lookout setup claude-code`";
/// For hooks without telemetry.
pub(super) const NO_TELEMETRY: &str =
    "hooks arrive but no telemetry, so tokens and cost are unknown; set the variables of `lookout setup claude-code`";

/// For an expected agent from which nothing arrived.
pub(super) const MISSING_AGENT: &str =
    "expected, but nothing has arrived; start it, or set it up under this name with `lookout setup TOOL --agent NAME`";
/// For an agent whose telemetry has had no tokens, cost or requests yet.
pub(super) const NO_VALUES_YET: &str =
    "telemetry arrives, but no model request has completed yet; send the agent a prompt and check again";
/// For an agent of which only the name is known.
pub(super) const ONLY_NAMED: &str =
    "only its name is reported; report its `status` as well, or set up its telemetry with `lookout setup TOOL`";

/// Advice on signals that do not arrive.
pub(super) fn on_signals(tool: &str, arrives: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static str> {
    MISSING
        .iter()
        .filter(move |it| it.tool == tool && !arrives(it.signal) && it.given.is_none_or(&arrives))
        .map(|it| it.advice)
}

/// Advice for telemetry that does not name its agent.
pub(super) fn on_name(tool: &str) -> &'static str {
    match tool {
        "langflow" => {
            "telemetry names flows by id only, and model requests name no flow; add rules to `otlp.agents` that match flow_id, and one for its service"
        }
        "litellm" => {
            "the calling agent is unknown; send \"metadata\": {\"agent_id\": …} with requests, or add a rule to `otlp.agents`. With LITELLM_OTEL_V2 only the callback names it (see `lookout setup litellm`)"
        }
        _ => {
            "telemetry does not name the agent, so its service's name is used; set agent.name in OTEL_RESOURCE_ATTRIBUTES, or add a rule to `otlp.agents`"
        }
    }
}

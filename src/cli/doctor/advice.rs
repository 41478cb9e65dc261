//! What each tool could send and does not, and the setting for it.

/// A signal that is missing, and what to do; the alternatives that arrive instead make some of it unnecessary.
struct Missing {
    tool: &'static str,
    signal: &'static str,
    /// Only while this one arrives, since without it something else is wrong.
    beside: Option<&'static str>,
    advice: &'static str,
}

const MISSING: [Missing; 7] = [
    Missing {
        tool: "claude-code",
        signal: "metrics",
        beside: None,
        advice: "no metrics arrive; set OTEL_METRICS_EXPORTER=otlp (tokens and cost are taken from other signals meanwhile)",
    },
    Missing {
        tool: "claude-code",
        signal: "logs",
        beside: None,
        advice: "no logs arrive, so that failed requests are known from spans at best; set OTEL_LOGS_EXPORTER=otlp",
    },
    Missing {
        tool: "claude-code",
        signal: "traces",
        beside: None,
        advice: "no spans arrive, and they alone show requests that were refused and then succeeded; set CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1 and OTEL_TRACES_EXPORTER=otlp",
    },
    Missing {
        tool: "codex",
        signal: "metrics",
        beside: Some("logs"),
        advice: "logs arrive and no metrics; tokens are taken from logs. Set `metrics_exporter` beneath [otel]; a run of `codex exec` that fails loses them anyway",
    },
    Missing {
        tool: "codex",
        signal: "logs",
        beside: Some("metrics"),
        advice: "metrics arrive and no logs, so that single refusals are not known; set `exporter` beneath [otel]",
    },
    Missing {
        tool: "gemini-cli",
        signal: "logs",
        beside: Some("metrics"),
        advice: "metrics arrive and no logs; something between Gemini CLI and here drops them",
    },
    Missing {
        tool: "litellm",
        signal: "traces",
        beside: Some("callback"),
        advice: "only the callback arrives, and LiteLLM drops calls that end while it posts others; add `otel` to `litellm_settings.callbacks` as well, each call counts once",
    },
];

/// Tools whose sessions tie what they tell of a call to what a proxy tells of it.
const IN_SESSIONS: [&str; 2] = ["claude-code", "gemini-cli"];
/// The proxy.
const PROXY: &str = "litellm";

/// For a tool beside a proxy: what to do where nothing says that they tell of the same calls. `lacks_session` is said of
/// the proxy, `has_metrics` of the tool.
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

const NO_SESSION: &str = "LiteLLM tells of calls without a session; those that this tool makes through it count twice. Have LiteLLM pass on x-claude-code-session-id, or name a session in `metadata.session_id`, or export from one of both";
const NO_CALL: &str = "its metrics name no call; those that it makes through LiteLLM count twice. Export its spans alone, or from one of both";

/// For telemetry of Claude Code whose status nobody tells.
pub(super) const NO_HOOKS: &str = "no hooks arrive, and they alone show tasks and who waits for a person; paste the hooks of `lookout setup claude-code`";
/// For hooks of Claude Code without telemetry.
pub(super) const HOOKS_ALONE: &str = "hooks arrive and no telemetry, so that tokens and cost are unknown; set the variables of `lookout setup claude-code`";

/// For an agent that is expected and of which nothing was heard.
pub(super) const MISSING_AGENT: &str = "it is expected and nothing is heard of it; start it, or set it up with `lookout setup TOOL --agent NAME` under this very name";
/// For an agent of which telemetry arrives, and no number yet.
pub(super) const SAYS_NOTHING_YET: &str = "its telemetry arrives and says nothing yet that counts: no request to its model has been answered; ask it something and look again";
/// For an agent of which nobody says more than its name.
pub(super) const ONLY_NAMED: &str =
    "it is named and nothing is said of it; report its `status`, or set up its telemetry with `lookout setup TOOL`";

/// What to change so that signals arrive which do not.
pub(super) fn on_signals(tool: &str, arrives: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static str> {
    MISSING
        .iter()
        .filter(move |it| it.tool == tool && !arrives(it.signal) && it.beside.is_none_or(&arrives))
        .map(|it| it.advice)
}

/// What to change so that an agent has a name of its own.
pub(super) fn on_name(tool: &str) -> &'static str {
    match tool {
        "langflow" => {
            "nothing names its flows but ids, and its requests to models name no flow; write rules beneath `otlp.agents` that match flow_id, and one for its service"
        }
        "litellm" => {
            "nothing says which agent calls; send \"metadata\": {\"agent_id\": …} with requests, or write a rule beneath `otlp.agents`; where LITELLM_OTEL_V2 is set, the callback alone says it (`lookout setup litellm` prints it)"
        }
        _ => {
            "nothing says which agent it is, so it is called after its service; set agent.name in OTEL_RESOURCE_ATTRIBUTES, or write a rule beneath `otlp.agents`"
        }
    }
}

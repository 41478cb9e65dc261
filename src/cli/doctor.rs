//! `lookout doctor`: which telemetry arrives from each agent, which of it each value is taken from, and what to fix.

mod advice;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::ConfigArgs;
use super::answer::{NO_AGENTS, ago, count, flag, list, number, parse, short, text, time, wider};
use super::client::{Client, ClientArgs};
use super::table::{Cell, Table, TableColumn};
use super::terminal::{Colour, OutputStyle, print};
use super::test_export::{TargetTrial, try_targets};
use crate::clock::Clock;
use crate::config::Environment;
use crate::ingest::hooks;
use crate::model::{Time, duration};

/// The OTLP signals, and the callback that LiteLLM posts.
const SIGNALS: [&str; 4] = ["metrics", "logs", "traces", "callback"];

/// Arguments of `lookout doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Show only this agent
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Try the exports and the shared registry of this configuration, too [env: LOOKOUT_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to reach the sidecar
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Prints the diagnosis of each agent and source.
pub(super) async fn run(args: &DoctorArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.client, env)?;
    let status = parse(&client.get("/api/status", &[]).await?)?;
    let telemetry = parse(&client.get("/api/telemetry", &[]).await?)?;
    let sources = advice_on_sources(&status);
    let mut exports = advice_on_exports(&status);
    exports.extend(advice_of_trials(args, env).await);
    let mut agents = diagnose(&status, &telemetry);
    agents.retain(|agent| args.agent.as_deref().is_none_or(|wanted| wanted == agent.name));
    if args.client.json {
        let agents = agents.iter().map(|agent| {
            json!({"project": agent.project, "name": agent.name, "telemetry": agent.telemetry, "advice": agent.advice()})
        });
        let agents = agents.collect::<Vec<_>>();
        print(&json!({"agents": agents, "sources": sources, "exports": exports}).to_string())?;
    } else {
        print(&render(&agents, &[sources, exports].concat(), Clock::system().now(), OutputStyle::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known about one agent.
struct AgentDiagnosis<'v> {
    project: &'v str,
    name: &'v str,
    /// Its entry in `/api/status`.
    agent: &'v Value,
    /// Its entries in `/api/telemetry`, one per tool, with its hooks.
    telemetry: Vec<&'v Value>,
    /// Whether a proxy reports calls without a session; `None` if no proxy reports.
    proxy_lacks_session: Option<bool>,
    /// Whether the configuration expects the agent and nothing has arrived from it.
    is_missing: bool,
}

/// Advice on sources whose last poll failed, or that were not polled yet.
fn advice_on_sources(status: &Value) -> Vec<String> {
    let of = |source: &Value| {
        let (name, kind) = (text(source, "name"), text(source, "kind"));
        match flag(source, "up") {
            Some(true) => None,
            None => Some(format!("source {name} ({kind}): no answer yet; its agents appear with its first answer")),
            Some(false) => {
                let error =
                    Some(text(source, "last_error")).filter(|error| !error.is_empty()).unwrap_or("unknown error");
                Some(format!("source {name} ({kind}): polls fail: {error}; check its `url` and whether it runs"))
            }
        }
    };
    list(status, "sources").iter().filter(|source| source.is_object()).filter_map(of).collect()
}

/// Advice on exports whose last request failed.
fn advice_on_exports(status: &Value) -> Vec<String> {
    let of = |export: &Value| {
        let error = Some(text(export, "last_error")).filter(|error| !error.is_empty())?;
        let pending = number(export, "pending").unwrap_or_default();
        let age = number(export, "oldest_age_seconds").unwrap_or_default();
        let age = duration::display(Duration::from_secs(age.clamp(0.0, 1e9) as u64));
        let (name, signal, pending) = (text(export, "name"), text(export, "signal"), short(Some(pending)));
        Some(format!("export {name} ({signal}): {error}; {pending} items wait, the oldest for {age}"))
    };
    list(status, "exports").iter().filter_map(of).collect()
}

/// What is wrong with the targets of the configuration that is given, each tried from here.
async fn advice_of_trials(args: &DoctorArgs, env: &Environment) -> Vec<String> {
    let source = ConfigArgs { config: args.config.clone() }.source(env);
    let Some(file) = source.file.clone() else { return Vec::new() };
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => return error.problems.iter().map(ToString::to_string).collect(),
    };
    match try_targets(&config, None).await {
        Ok(trials) => trials.iter().filter(|trial| trial.outcome.is_err()).map(TargetTrial::line).collect(),
        Err(error) => vec![format!("{}: {error:#}", file.display())],
    }
}

fn diagnose<'v>(status: &'v Value, telemetry: &'v Value) -> Vec<AgentDiagnosis<'v>> {
    let proxies = list(telemetry, "agents").iter().filter(|it| advice::is_proxy(text(it, "type")));
    let proxy_lacks_session =
        proxies.map(|it| flag(it, "lacks_session") == Some(true)).reduce(|one, other| one || other);
    let of = |project: &'v str, name: &'v str, agent: &'v Value, is_missing| {
        let is_of_agent = |it: &&Value| text(it, "project") == project && text(it, "name") == name;
        let telemetry = list(telemetry, "agents").iter().filter(is_of_agent).collect();
        AgentDiagnosis { project, name, agent, telemetry, proxy_lacks_session, is_missing }
    };
    let mut agents = Vec::new();
    for it in list(status, "projects") {
        let project = text(it, "name");
        agents.extend(list(it, "agents").iter().map(|agent| of(project, text(agent, "name"), agent, false)));
        let missing = list(it, "missing").iter().filter_map(Value::as_str);
        agents.extend(missing.map(|name| of(project, name, &Value::Null, true)));
    }
    // Agents that telemetry names and that have no state yet.
    let mut known: std::collections::HashSet<(&str, &str)> =
        agents.iter().map(|agent: &AgentDiagnosis<'_>| (agent.project, agent.name)).collect();
    for it in list(telemetry, "agents") {
        let (project, name) = (text(it, "project"), text(it, "name"));
        if !name.is_empty() && known.insert((project, name)) {
            agents.push(of(project, name, &Value::Null, false));
        }
    }
    agents
}

fn render(agents: &[AgentDiagnosis<'_>], sources: &[String], now: Time, style: OutputStyle) -> String {
    if agents.is_empty() {
        let sources: String = sources.iter().map(|advice| format!("{advice}\n")).collect();
        return format!("{NO_AGENTS}\n{sources}");
    }
    let mut table = Table::new([
        TableColumn::text("AGENT"),
        TableColumn::text("LAST RECEIVED"),
        TableColumn::text("STATUS FROM"),
        TableColumn::text("TOKENS FROM"),
        TableColumn::text("COST FROM").optional(),
        TableColumn::text("REQUESTS FROM").optional(),
        TableColumn::text("TYPE").optional(),
    ]);
    let mut advice: Vec<String> = sources.iter().map(|advice| format!("{advice}\n")).collect();
    for agent in agents {
        let on_agent = agent.advice();
        let name = format!("{}/{}", agent.project, agent.name);
        table.push([
            Cell::new(&name, (!on_agent.is_empty()).then_some(Colour::Warn)),
            agent.last_received(now).into(),
            agent.status_from().into(),
            agent.from("tokens").into(),
            agent.from("cost").into(),
            agent.from("requests").into(),
            agent.agent_type().into(),
        ]);
        advice.extend(on_agent.into_iter().map(|it| format!("{name}: {it}\n")));
    }
    let summary = match advice.len() {
        0 => "nothing to fix".to_owned(),
        some => count(some, "thing") + " to fix",
    };
    let (agents, wider) = (count(agents.len(), "agent"), wider(&table.left_out(style)));
    format!("{}\n{}{agents}, {summary}{wider}\n", table.render(style), advice.concat())
}

impl AgentDiagnosis<'_> {
    /// What arrives from it, and how long ago the last of each did.
    fn last_received(&self, now: Time) -> String {
        let shown = |signal: &str, last: Option<Time>| Some(format!("{signal} {} ago", ago(now, Some(last?))));
        let of_signal = |signal| shown(signal, self.signals(signal).filter_map(|arrival| time(arrival, "last")).max());
        let hooks = shown("hooks", self.hooks().and_then(|hooks| time(hooks, "last")));
        let mut received: Vec<String> = SIGNALS.into_iter().filter_map(of_signal).chain(hooks).collect();
        let source = text(self.agent, "source");
        if received.is_empty() || self.is_reported() {
            let last = ago(now, time(self.agent, "last_seen"));
            let since = if last.is_empty() { String::new() } else { format!(" {last} ago") };
            received.insert(0, format!("{}{since}", if source.is_empty() { "nothing" } else { source }));
        }
        received.join(", ")
    }

    /// Whether a push, a poll or a usage report names it, in addition to what it sends itself.
    fn is_reported(&self) -> bool {
        !matches!(text(self.agent, "source"), "" | "otlp" | "hooks")
    }

    /// Its type, from its state or its telemetry.
    fn agent_type(&self) -> &str {
        let by_telemetry = self.telemetry.iter().map(|it| text(it, "type"));
        Some(text(self.agent, "type")).into_iter().chain(by_telemetry).find(|it| !it.is_empty()).unwrap_or_default()
    }

    /// Whether nothing is known of it but its name.
    fn is_only_named(&self) -> bool {
        let brings = SIGNALS.iter().flat_map(|signal| self.signals(signal)).any(|it| !list(it, "brings").is_empty());
        self.status_from().is_empty() && text(self.agent, "usage_owner").is_empty() && !brings
    }

    /// What its status is taken from: `push`, a source, `telemetry`, `hooks`.
    fn status_from(&self) -> String {
        let hooks = self.hooks().map(|_| "hooks");
        let source = match text(self.agent, "source") {
            _ if text(self.agent, "status").is_empty() => None,
            // Usage reports have no status.
            "" | "usage" | "hooks" => None,
            // Hooks take precedence over telemetry.
            "otlp" => hooks.is_none().then_some("telemetry"),
            source => Some(source),
        };
        source.into_iter().chain(hooks).collect::<Vec<_>>().join(", ")
    }

    /// Its hooks, if any arrived.
    fn hooks(&self) -> Option<&Value> {
        self.telemetry.iter().filter_map(|it| it.get("hooks")).find(|hooks| hooks.is_object())
    }

    /// What `kind` is taken from: `tokens`, `cost` or `requests`.
    fn from(&self, kind: &str) -> String {
        match text(self.agent, "usage_owner") {
            "state" => match text(self.agent, "source") {
                "" | "otlp" | "hooks" | "usage" => "state".to_owned(),
                source => source.to_owned(),
            },
            "usage" => "usage".to_owned(),
            "telemetry" => {
                let brings = |signal: &&str| {
                    self.signals(signal).any(|arrival| list(arrival, "brings").iter().any(|it| it == kind))
                };
                let from = SIGNALS.iter().filter(|signal| brings(signal)).copied().collect::<Vec<_>>().join(", ");
                let is_listed = from.is_empty() && kind == "cost" && number(self.agent, "cost_usd").is_some();
                if is_listed { "otlp.prices".to_owned() } else { from }
            }
            _ => String::new(),
        }
    }

    /// What arrived by `signal`, for each tool.
    fn signals(&self, signal: &str) -> impl Iterator<Item = &Value> {
        self.telemetry.iter().filter_map(move |it| it.get("signals")?.get(signal)).filter(|it| it.is_object())
    }

    /// What to fix.
    fn advice(&self) -> Vec<String> {
        if self.is_missing {
            return vec![advice::MISSING_AGENT.to_owned()];
        }
        let mut advice = Vec::new();
        let arrives = |signal: &str| self.signals(signal).next().is_some();
        let sends = SIGNALS.into_iter().any(arrives);
        for it in self.telemetry.iter().filter(|_| sends) {
            advice.extend(advice::on_signals(text(it, "type"), arrives).map(str::to_owned));
            if flag(it, "named") == Some(false) {
                advice.push(advice::on_name(text(it, "type")).to_owned());
            }
            let has_metrics = it
                .get("signals")
                .and_then(|it| it.get("metrics"))
                .is_some_and(|it| list(it, "brings").iter().any(|it| it == "tokens"));
            let on_proxy =
                self.proxy_lacks_session.and_then(|lacks| advice::on_proxy(text(it, "type"), lacks, has_metrics));
            advice.extend(on_proxy.map(str::to_owned));
            if hooks::is_tool(text(it, "type")) && matches!(&*self.status_from(), "" | "telemetry") {
                advice.push(advice::NO_HOOKS.to_owned());
            }
        }
        if self.is_only_named() {
            advice.push(if sends { advice::NO_VALUES_YET } else { advice::ONLY_NAMED }.to_owned());
        }
        if !sends && self.hooks().is_some() && text(self.agent, "usage_owner").is_empty() {
            advice.push(advice::NO_TELEMETRY.to_owned());
        }
        if let Some(unpriced) = number(self.agent, "unpriced_tokens").filter(|tokens| *tokens > 0.0) {
            let model = Some(text(self.agent, "model")).filter(|model| !model.is_empty()).unwrap_or("the model");
            let tokens = short(Some(unpriced));
            advice.push(format!("cost is incomplete: {tokens} tokens have no price; add {model} to `otlp.prices`"));
        }
        if sends && matches!(text(self.agent, "usage_owner"), "state" | "usage") {
            advice.push(
                "usage arrives twice, by telemetry and by state or usage reports; the telemetry's is rejected. Report \
                 it one way"
                    .to_owned(),
            );
        }
        advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(seconds: u64, brings: &[&str]) -> Value {
        json!({"last": format!("2026-11-21T12:00:{:02}Z", 60 - seconds), "items": 3, "brings": brings})
    }

    fn shown(status: &Value, telemetry: &Value) -> String {
        let now = Time::parse("2026-11-21T12:01:00Z").expect("a time");
        render(
            &diagnose(status, telemetry),
            &advice_on_sources(status),
            now,
            OutputStyle { width: Some(160), colours: false },
        )
    }

    #[test]
    fn missing_telemetry_is_named_with_its_setting() {
        let status = json!({"projects": [{"name": "shop", "agents": [
            {"name": "builder", "type": "claude-code", "source": "otlp", "usage_owner": "telemetry"},
            {"name": "codex_exec", "type": "codex", "source": "otlp", "usage_owner": "telemetry", "model": "gpt-5.1-codex", "cost_usd": 0.1, "unpriced_tokens": 1650},
            {"name": "boss", "type": "custom", "source": "push", "status": "running", "last_seen": "2026-11-21T12:00:50Z", "usage_owner": "state"},
            {"name": "both", "source": "push", "last_seen": "2026-11-21T12:00:50Z", "usage_owner": "state"},
            {"name": "deaf", "type": "claude-code", "source": "otlp", "status": "running", "usage_owner": "telemetry"},
            {"name": "hooked", "type": "claude-code", "source": "hooks", "last_seen": "2026-11-21T12:00:58Z"},
            {"name": "polled", "source": "orchestrator", "status": "running", "last_seen": "2026-11-21T12:00:50Z", "usage_owner": "usage"},
            {"name": "gateway", "type": "litellm", "source": "otlp", "usage_owner": "telemetry"},
        ]}]});
        let telemetry = json!({"agents": [
            {"project": "shop", "name": "builder", "type": "claude-code", "named": true, "signals": {
                "metrics": arrived(5, &["tokens", "cost"]), "logs": arrived(3, &["tokens", "cost", "requests"]), "traces": null},
                "hooks": {"last": "2026-11-21T12:00:58Z", "brings": ["status", "tasks"]}},
            {"project": "shop", "name": "codex_exec", "type": "codex", "named": false, "signals": {
                "metrics": null, "logs": arrived(3, &["tokens", "requests"]), "traces": null}},
            {"project": "shop", "name": "both", "type": "gen-ai", "named": true, "signals": {
                "metrics": null, "logs": null, "traces": arrived(1, &["tokens"])}},
            {"project": "shop", "name": "deaf", "type": "claude-code", "named": true, "signals": {
                "metrics": arrived(5, &["tokens", "cost"]), "logs": arrived(3, &["requests"]), "traces": arrived(1, &[])}, "hooks": null},
            {"project": "shop", "name": "hooked", "type": "claude-code", "named": null, "signals": {
                "metrics": null, "logs": null, "traces": null}, "hooks": {"last": "2026-11-21T12:00:58Z", "brings": ["status"]}},
            {"project": "shop", "name": "polled", "type": "claude-code", "named": null, "signals": {
                "metrics": null, "logs": null, "traces": null}, "hooks": {"last": "2026-11-21T12:00:58Z", "brings": ["status"]}},
            {"project": "shop", "name": "gateway", "type": "litellm", "named": true, "signals": {
                "metrics": null, "logs": null, "traces": null, "callback": arrived(2, &["tokens", "cost", "requests"])}},
        ]});
        insta::assert_snapshot!(shown(&status, &telemetry), @"
        AGENT            LAST RECEIVED                               STATUS FROM          TOKENS FROM    COST FROM      REQUESTS FROM  TYPE
        shop/builder     metrics 5s ago, logs 3s ago, hooks 2s ago   hooks                metrics, logs  metrics, logs  logs           claude-code
        shop/codex_exec  logs 3s ago                                                      logs           otlp.prices    logs           codex
        shop/boss        push 10s ago                                push                 push           push           push           custom
        shop/both        push 10s ago, traces 1s ago                                      push           push           push           gen-ai
        shop/deaf        metrics 5s ago, logs 3s ago, traces 1s ago  telemetry            metrics        metrics        logs           claude-code
        shop/hooked      hooks 2s ago                                hooks                                                             claude-code
        shop/polled      orchestrator 10s ago, hooks 2s ago          orchestrator, hooks  usage          usage          usage          claude-code
        shop/gateway     callback 2s ago                                                  callback       callback       callback       litellm

        shop/builder: no spans arrive, so retried requests are not counted; set CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1 and OTEL_TRACES_EXPORTER=otlp
        shop/codex_exec: logs arrive but no metrics, so tokens are taken from logs; set `metrics_exporter` in [otel]. A failing `codex exec` loses its metrics in any case
        shop/codex_exec: telemetry does not name the agent, so its service's name is used; set agent.name in OTEL_RESOURCE_ATTRIBUTES, or add a rule to `otlp.agents`
        shop/codex_exec: cost is incomplete: 1.6k tokens have no price; add gpt-5.1-codex to `otlp.prices`
        shop/both: usage arrives twice, by telemetry and by state or usage reports; the telemetry's is rejected. Report it one way
        shop/deaf: no hooks arrive, so tasks and waiting for a person are unknown; add the hooks of `lookout setup claude-code`
        shop/hooked: hooks arrive but no telemetry, so tokens and cost are unknown; set the variables of `lookout setup claude-code`
        shop/gateway: only the callback arrives, and LiteLLM loses calls that end while it posts; add `otel` to `litellm_settings.callbacks` too. Each call is counted once
        8 agents, 8 things to fix
        ");
    }

    #[test]
    fn calls_that_a_proxy_reports_too_are_named_unless_a_session_links_them() {
        let agents = ["builder", "desk", "gateway"];
        let agents = agents.map(|name| json!({"name": name, "source": "otlp", "usage_owner": "telemetry"}));
        let status = json!({"projects": [{"name": "shop", "agents": agents}]});
        let advice = |lacks_session: bool| {
            let of = |name: &str, tool: &str| {
                json!({"project": "shop", "name": name, "type": tool, "named": true,
                "lacks_session": lacks_session, "signals": {"metrics": arrived(1, &["tokens"]), "logs": arrived(1, &[]), "traces": arrived(1, &[])}})
            };
            let telemetry =
                json!({"agents": [of("builder", "claude-code"), of("desk", "gen-ai"), of("gateway", "litellm")]});
            let report = shown(&status, &telemetry);
            ["builder", "desk", "gateway"].map(|name| {
                report.lines().any(|line| line.starts_with(&format!("shop/{name}:")) && line.contains("counted twice"))
            })
        };
        assert_eq!(advice(true), [true, true, false]);
        assert_eq!(advice(false), [false, true, false]);
    }

    #[test]
    fn agents_without_data_and_sources_without_answers_are_named() {
        let status = json!({
            "projects": [{"name": "shop", "missing": ["nightly"], "agents": [{"name": "pushed", "source": "push", "last_seen": "2026-11-21T12:00:50Z"}]}],
            "sources": [
                {"name": "flows", "kind": "http-json", "up": null},
                {"name": "orch", "kind": "orchestrator-cc", "up": false, "last_error": "connection refused"},
                {"name": "well", "kind": "http-json", "up": true},
            ],
        });
        let none = json!({"metrics": null, "logs": null, "traces": null, "callback": null});
        let telemetry = json!({"agents": [
            {"project": "shop", "name": "fresh", "type": "gemini-cli", "named": true, "signals": {"metrics": arrived(5, &[]), "logs": arrived(5, &[]), "traces": null}, "hooks": null},
            {"project": "shop", "name": "asleep", "type": "claude-code", "named": null, "signals": none, "hooks": null},
        ]});
        insta::assert_snapshot!(shown(&status, &telemetry), @"
        AGENT         LAST RECEIVED                STATUS FROM  TOKENS FROM  TYPE
        shop/pushed   push 10s ago
        shop/nightly  nothing
        shop/fresh    metrics 5s ago, logs 5s ago                            gemini-cli
        shop/asleep   nothing                                                claude-code

        source flows (http-json): no answer yet; its agents appear with its first answer
        source orch (orchestrator-cc): polls fail: connection refused; check its `url` and whether it runs
        shop/pushed: only its name is reported; report its `status` as well, or set up its telemetry with `lookout setup TOOL`
        shop/nightly: expected, but nothing has arrived; start it, or set it up under this name with `lookout setup TOOL --agent NAME`
        shop/fresh: telemetry arrives, but no model request has completed yet; send the agent a prompt and check again
        shop/asleep: only its name is reported; report its `status` as well, or set up its telemetry with `lookout setup TOOL`
        4 agents, 6 things to fix
        ");
        assert!(
            shown(&json!({"sources": status["sources"]}), &Value::Null).contains("flows (http-json): no answer yet")
        );
    }

    #[test]
    fn exports_that_fail_are_named_with_what_waits() {
        let status = json!({"exports": [
            {"name": "otlp", "signal": "traces", "pending": 12_400, "oldest_age_seconds": 3_725.4,
                "last_error": "collector answered 401; check headers or headers_file"},
            {"name": "otlp", "signal": "logs", "pending": 0, "last_error": null},
            null,
        ]});
        assert_eq!(
            advice_on_exports(&status),
            [
                "export otlp (traces): collector answered 401; check headers or headers_file; 12.4k items wait, the oldest for \
              1h2m"
            ]
        );
    }

    #[test]
    fn unexpected_answers_cause_no_panic() {
        assert_eq!(shown(&Value::Null, &Value::Null), format!("{NO_AGENTS}\n"));
        let status = json!({"projects": [3, {"agents": [null, {"name": 3, "unpriced_tokens": "many"}]}]});
        let telemetry =
            json!({"agents": [null, {"signals": 3, "hooks": 3}, {"name": "", "project": "", "signals": {"logs": []}}]});
        assert!(shown(&status, &telemetry).contains("2 agents"));
    }
}

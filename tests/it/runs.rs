//! Runs: recordings of real agents, the walk of a platform, and what a crash leaves.

mod why;

use serde_json::{Value, json};

use crate::callbacks::sample;
use crate::doubles::slack::Slack;
use crate::durability;
use crate::http::Response;
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{metric, receiver};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("runs: recordings of real agents become runs", &[], recordings),
        trial("runs: a platform registers, starts, calls through a proxy, ends", &[], platform_walk),
        trial("runs: what was answered outlives a kill, and counts once", &[], kill),
        trial("runs: hooks and spans of one prompt are one run", &[], hooks_and_spans),
        trial("runs: sampling drops spans and no number", &[], sampling),
        trial("runs: sums that outgrow integers are still answered", &[], large_sums),
        trial("runs: lists are filtered and paged", &[], lists),
        trial("runs: no prompt, answer, argument or key is stored by default", &[], private),
        trial("runs: commands show the same with and without a sidecar", &[], commands),
        trial(
            "runs: failed runs notify Slack, and good ones resolve it, also after a restart",
            &[],
            failed_runs_notify,
        ),
        trial("runs: `lookout why` explains rules about runs", &[], why::why_reads_well),
        trial("runs: a task has its runs, alerts and an estimate", &[], tasks),
        trial("runs: the registry keeps, patches and removes agents", &[], registry),
        trial("runs: routes need their roles", &[], roles),
        trial("runs: malformed requests name what is wrong", &[], malformed),
        trial("runs: on a full disk spans are refused, and stored once there is room", &[], full_disk),
        trial("runs: readers see whole groups while spans are written", &[], readers),
        trial("runs: what was answered before a kill is exported after it", &[], exported_after_a_kill),
    ]
}

const PROTOBUF: [(&str, &str); 1] = [("content-type", "application/x-protobuf")];
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn export(lookout: &Lookout, path: &str) {
    let headers = if path.contains(".json") { JSON } else { PROTOBUF };
    let answer = lookout.send("POST", "/v1/traces", &headers, &sample(&format!("otlp/{path}")));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
}

fn runs(lookout: &Lookout, query: &str) -> Vec<Value> {
    let answer = lookout.get(&format!("/api/traces{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["runs"].as_array().expect("runs").clone()
}

fn run(lookout: &Lookout, id: &str) -> Value {
    let answer = lookout.get(&format!("/api/traces/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// An export of spans, each `(trace, span, parent, name, attributes)`, a second after each other.
fn spans(service: &str, spans: &[(&str, &str, &str, &str, Value)]) -> Value {
    let base = 1_796_000_000_000_000_000_u64;
    let attributes = |pairs: &Value| -> Value {
        let pair = |(key, value): (&String, &Value)| match value {
            Value::Number(number) => json!({"key": key, "value": {"intValue": number.to_string()}}),
            other => json!({"key": key, "value": {"stringValue": other}}),
        };
        pairs.as_object().expect("pairs").iter().map(pair).collect()
    };
    let spans: Vec<Value> = spans
        .iter()
        .zip(0_u64..)
        .map(|((trace, span, parent, name, pairs), at)| {
            json!({
                "traceId": trace, "spanId": span, "parentSpanId": parent, "name": name,
                "startTimeUnixNano": (base + at * 1_000_000_000).to_string(),
                "endTimeUnixNano": (base + at * 1_000_000_000 + 500_000_000).to_string(),
                "attributes": attributes(pairs),
            })
        })
        .collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"scope": {"name": service}, "spans": spans}],
    }]})
}

fn recordings() {
    let lookout = Setup::new("").start();
    for path in [
        "claude-code/success-http-json-001-traces.json.gz",
        "gemini-cli/success-http-001-traces.json.gz",
        "litellm/six-calls-001-traces.pb.gz",
        "autogen/team-tool-001-traces.pb.gz",
        "langflow/run-success-033-traces.pb.gz",
        "langflow/run-success-035-traces.pb.gz",
    ] {
        export(&lookout, path);
        // Sent again it adds nothing.
        export(&lookout, path);
    }
    let by_type =
        |kind: &str| -> Vec<Value> { runs(&lookout, "").into_iter().filter(|run| run["agent_type"] == kind).collect() };
    let claude = &by_type("claude-code")[0];
    assert_eq!(
        (&claude["name"], &claude["status"], &claude["calls"]),
        (&json!("claude_code.interaction"), &json!("ok"), &json!(1))
    );
    assert_eq!((&claude["provider"], claude["session_id"].is_string()), (&json!("anthropic"), true));
    let claude = run(&lookout, claude["run_id"].as_str().expect("an id"));
    let root = &claude["tree"][0];
    assert_eq!((&root["kind"], &root["children"][0]["kind"]), (&json!("agent"), &json!("llm")));
    assert_eq!(root["total_tokens"], claude["tokens"], "the tree adds up to the run");
    let gemini = by_type("gemini-cli");
    assert_eq!(gemini.len(), 1, "its traces, one per call, are one run: {gemini:?}");
    let autogen = runs(&lookout, "?q=shop_run");
    let team = run(&lookout, autogen[0]["run_id"].as_str().expect("an id"));
    let agents: Vec<&Value> =
        team["child_runs"].as_array().expect("runs").iter().map(|run| &run["agent_name"]).collect();
    assert!(agents.contains(&&json!("clerk")) && agents.contains(&&json!("manager")), "{agents:?}");
    assert_eq!(runs(&lookout, "?tool=count_stock").len(), 1);
    let flows = by_type("langflow");
    assert!(flows.iter().any(|run| run["name"] == "flow.execute"), "{flows:?}");
    // Of a web server's own spans there is no run.
    assert!(runs(&lookout, "").iter().all(|run| run["name"] != "GET /health/liveliness"));
    let stats = lookout.get("/api/agents/stats?agents=default/clerk&range=400d&by=tool").json();
    assert_eq!(stats["agents"][0]["points"][0]["tool"], json!("count_stock"));
}

/// Starts and ends a run of an agent, which is `project/name`.
fn one_run(lookout: &Lookout, agent: &str, name: &str, status: &str) {
    let started = lookout.post(&format!("/agents/{agent}/trace/start"), &json!({"name": name}));
    assert_eq!(started.status, 200, "{}", started.text());
    let error = if status == "error" { json!("no such table: stock") } else { Value::Null };
    let end = json!({"trace_id": started.json()["run_id"], "status": status, "error": error});
    assert_eq!(lookout.post(&format!("/agents/{agent}/trace/end"), &end).status, 200);
}

fn tasks() {
    let prices = "otlp: {prices: {large: {input: 3, output: 15, cache_read: 0.3}, small: {input: 1, output: 5}}}\n";
    let lookout = Setup::new(prices).start();
    assert_eq!(register(&lookout, &json!({"name": "stock", "project": "shop"})).status, 201);
    assert_eq!(lookout.get("/api/tasks/t-1").status, 404);
    for _ in 0..4 {
        one_run(&lookout, "shop/stock", "report", "ok");
    }
    let begin = json!({"name": "report", "task_id": "t-1"});
    let begun = lookout.post("/agents/shop/stock/trace/start", &begin).json();
    let task = lookout.get("/api/tasks/t-1").json();
    assert_eq!((&task["status"], &task["run_counts"]["running"]), (&json!("open"), &json!(1)), "{task}");
    let progress = &task["progress"];
    assert_eq!(progress["is_estimate"], json!(true), "{task}");
    assert_eq!(progress["basis"], json!("median of 4 earlier runs named report"));
    let state = json!({"project": "shop", "agents": [{"name": "stock", "status": "failed", "reason": "no disk", "task_id": "t-1"}]});
    assert_eq!(lookout.post("/api/state", &state).status, 200);
    let alerts = lookout.get("/api/alerts?task=t-1").json();
    let of_task: Vec<&Value> = alerts["alerts"].as_array().expect("alerts").iter().map(|it| &it["rule"]).collect();
    assert_eq!(of_task, [&json!("AgentDown")], "{alerts}");
    assert_eq!(alerts["alerts"][0]["task_id"], json!("t-1"));
    assert_eq!(lookout.get("/api/alerts?task=other").json()["total"], json!(0));
    let task = lookout.get("/api/tasks/t-1").json();
    assert_eq!(task["alerts"][0]["rule"], json!("AgentDown"), "{task}");
    // A resolved one is of the task that its agent worked on when it fired.
    let state = json!({"project": "shop", "agents": [{"name": "stock", "status": "running", "task_id": "t-2"}]});
    assert_eq!(lookout.post("/api/state", &state).status, 200);
    let resolved = eventually("it is resolved", || {
        let found = lookout.get("/api/alerts?state=resolved&task=t-1").json();
        (found["total"] == json!(1)).then_some(found)
    });
    assert_eq!(resolved["alerts"][0]["task_id"], json!("t-1"), "{resolved}");
    assert_eq!(lookout.get("/api/alerts?task=t-2").json()["total"], json!(0));
    let end = json!({"trace_id": begun["run_id"], "status": "error", "cost_usd": 0.5});
    assert_eq!(lookout.post("/agents/shop/stock/trace/end", &end).status, 200);
    let stats = lookout.get("/api/agents/stats?agents=shop/stock&advice=1&by=total").json();
    let texts: Vec<&Value> =
        stats["agents"][0]["advice"].as_array().expect("advice").iter().map(|one| &one["text"]).collect();
    assert!(texts.iter().any(|text| text.as_str().is_some_and(|text| text.contains("of 5 runs failed"))), "{stats}");
    assert!(stats["agents"][0]["completion_rate"].is_number() && stats["agents"][0]["runs_per_hour"].is_number());
}

fn failed_runs_notify() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("rules: [mine.yaml]\nreceivers:\n{}", receiver("team", &slack)));
    setup.write(
        "mine.yaml",
        "rules:\n  - {name: Failures, for_each: agent, signal: run_error_ratio, when: at_least, levels: {error: 60%}}\n",
    );
    let lookout = setup.start();
    for name in ["stock", "quiet"] {
        let is_on = name == "stock";
        let agent = json!({"name": name, "project": "shop", "monitoring_enabled": is_on});
        assert_eq!(register(&lookout, &agent).status, 201);
    }
    for _ in 0..10 {
        one_run(&lookout, "shop/quiet", "import", "error");
    }
    for _ in 0..10 {
        one_run(&lookout, "shop/stock", "import", "error");
    }
    let about = |agent: &str, words: &str| {
        let texts: Vec<String> = slack.taken().iter().map(|seen| seen.text().to_owned()).collect();
        texts.into_iter().find(|text| text.contains(agent) && text.contains(words))
    };
    let message = eventually("the team is notified", || about("shop/stock", "of its runs failed"));
    for words in ["CRITICAL", "100 % of its runs failed within 1h (limit 50 %), last import: no such table: stock"] {
        assert!(message.contains(words), "{message}");
    }
    let alerts = lookout.get("/api/alerts?agent=quiet").json();
    assert!(alerts["alerts"][0]["silenced_by"].is_string(), "it is not monitored: {alerts}");
    let series = r#"orchestrator_agent_runs_total{project="shop",agent_name="stock",status="error"}"#;
    assert_eq!(metric(&lookout, series), Some(10.0));
    let history = setup.path().join("lookout.history.db");
    let saved = "SELECT count(*) FROM agents WHERE body LIKE '%\"ended\":[0,10,0]%'";
    eventually("both agents on disk", || (durability::number(&history, saved) == Some(2)).then_some(()));
    lookout.kill9();
    let lookout = setup.start();
    assert_eq!(metric(&lookout, series), Some(10.0));
    for _ in 0..7 {
        one_run(&lookout, "shop/stock", "import", "ok");
    }
    eventually("the own rule is resolved", || about("shop/stock", "no longer breaks the rule Failures"));
    assert_eq!(about("shop/quiet", "of its runs failed"), None);
}

fn register(lookout: &Lookout, body: &Value) -> Response {
    lookout.post("/agents/register", body)
}

fn platform_walk() {
    let lookout = Setup::new("").start();
    let agent = register(&lookout, &json!({"name": "stock", "type": "vanna", "project_id": "default-project"}));
    assert_eq!(agent.status, 201);
    let id = agent.json()["id"].as_str().expect("an id").to_owned();
    let started =
        lookout.post(&format!("/agents/{id}/trace/start"), &json!({"name": "How many apples?", "platform": "slack"}));
    let started = started.json();
    let (run_id, trace) = (started["run_id"].as_str().expect("a run"), started["trace_id"].as_str().expect("a trace"));
    assert_eq!(run_id, trace);
    assert_eq!(started["traceparent"], format!("00-{trace}-{}-01", started["span_id"].as_str().expect("a span")));
    assert_eq!(run(&lookout, run_id)["status"], "running");
    // LiteLLM sends the metadata of its caller as an attribute, in a trace of its own.
    let call = json!({
        "litellm.metadata.agent_id": "stock", "litellm.metadata.parent_trace_id": trace, "litellm.call_id": "call-1",
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 128, "gen_ai.usage.output_tokens": 32,
    });
    let other = "0af7651916cd43dd8448eb211c80319c";
    let proxied = spans(
        "litellm",
        &[
            (other, "00000000000000a1", "", "POST /v1/chat/completions", json!({})),
            (other, "00000000000000a2", "00000000000000a1", "chat gpt-4o-mini", call),
        ],
    );
    assert_eq!(lookout.post("/v1/traces", &proxied).status, 200);
    let end = json!({"trace_id": trace, "status": "ok", "tokens": {"prompt_tokens": 1}, "cost_usd": 9.0});
    assert_eq!(lookout.post(&format!("/agents/{id}/trace/end"), &end).status, 200);
    assert_eq!(lookout.post("/agents/default/stock/trace/end", &end).status, 200, "ending twice is the same end");
    let shown = run(&lookout, trace);
    assert_eq!((&shown["status"], &shown["calls"], &shown["platform"]), (&json!("ok"), &json!(1), &json!("slack")));
    assert_eq!(shown["tokens"], json!({"input": 128, "output": 32, "total": 160}), "what a span reports is used");
    assert_eq!(
        shown["trace_ids"],
        json!([other, trace])
            .as_array()
            .map(|ids| {
                let mut ids = ids.clone();
                ids.sort_by_key(ToString::to_string);
                Value::Array(ids)
            })
            .expect("ids")
    );
    let root = &shown["tree"][0];
    assert_eq!((&root["name"], &root["agent_name"]), (&json!("How many apples?"), &json!("stock")));
    assert_eq!(root["children"][0]["children"][0]["name"], json!("chat gpt-4o-mini"));
    assert_eq!(run(&lookout, other)["run_id"], json!(run_id), "by the call's trace it is the same run");
    let agent = lookout.get(&format!("/agents/{id}")).json();
    assert_eq!((&agent["last_24h"]["runs"], &agent["last_24h"]["calls"]), (&json!(1), &json!(1)));
    assert!(agent["last_used_at"].is_string());
    let unknown = lookout.post(&format!("/agents/{id}/trace/end"), &json!({"trace_id": "ab".repeat(16)}));
    assert_eq!(unknown.status, 404);
}

fn kill() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let (trace, caller) = (
        "4bf92f3577b34da6a3ce929d0e0e4736",
        json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"}),
    );
    let call = |model: &str| json!({"gen_ai.operation.name": "chat", "gen_ai.request.model": model, "gen_ai.usage.input_tokens": 100});
    let first = spans("shop", &[(trace, "00000000000000b2", "00000000000000b1", "chat", call("gpt"))]);
    let rest = spans(
        "shop",
        &[
            (trace, "00000000000000b3", "00000000000000b1", "chat", call("gpt")),
            (trace, "00000000000000b1", "", "invoke_agent clerk", caller),
        ],
    );
    assert_eq!(register(&lookout, &json!({"name": "stock"})).status, 201);
    let started = lookout.post("/agents/default/stock/trace/start", &json!({})).json();
    assert_eq!(lookout.post("/v1/traces", &first).status, 200);
    lookout.kill9();
    let lookout = setup.start();
    // The sender had no answer to the last export before the kill, so far as it knows.
    assert_eq!(lookout.post("/v1/traces", &first).status, 200);
    assert_eq!(lookout.post("/v1/traces", &rest).status, 200);
    lookout.kill9();
    let lookout = setup.start();
    assert_eq!(lookout.post("/v1/traces", &rest).status, 200);
    let shown = run(&lookout, trace);
    assert_eq!((&shown["calls"], &shown["agent_name"], &shown["spans"]), (&json!(2), &json!("clerk"), &json!(3)));
    assert_eq!(shown["tokens"], json!({"input": 200, "total": 200}));
    let stats = lookout.get("/api/agents/stats?agents=clerk&range=400d&by=total").json();
    assert_eq!((&stats["agents"][0]["calls"], &stats["agents"][0]["runs"]), (&json!(2), &json!(1)));
    let end = json!({"trace_id": started["trace_id"], "status": "error", "error": "no rows"});
    let ended = lookout.post("/agents/default/stock/trace/end", &end);
    assert_eq!((ended.status, &ended.json()["error"]), (200, &json!("no rows")));
    assert_eq!(runs(&lookout, "?status=error").len(), 1);
}

fn hooks_and_spans() {
    let lookout = Setup::new("").start();
    let session = "5f0c2a44-6d3b-4d1c-9f5e-0123456789ab";
    let hook = |event: &str, more: Value| {
        let mut body = json!({"session_id": session, "hook_event_name": event, "cwd": "/srv/shop"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        assert_eq!(lookout.post("/hooks/claude-code?agent=builder&project=shop", &body).status, 204, "{event}");
    };
    hook("UserPromptSubmit", json!({"prompt": "count the apples"}));
    hook("PreToolUse", json!({"tool_name": "Bash", "tool_input": {"command": "ls"}}));
    hook("PostToolUse", json!({"tool_name": "Bash", "tool_input": {"command": "ls"}}));
    let tools = |run: &Value| run["tools"].as_u64().expect("a number");
    let running = eventually("the run of the prompt", || {
        runs(&lookout, "?agent=shop/builder").into_iter().find(|run| tools(run) == 1)
    });
    assert_eq!((&running["status"], &running["source"]), (&json!("running"), &json!("hook")));
    hook("Stop", json!({}));
    eventually("its end", || runs(&lookout, "?agent=shop/builder&status=ok").pop());
    // The spans of the same prompt come later, as exports do.
    let now = lookout::clock::Clock::system().wall().as_millis() * 1_000_000;
    let mut export = spans(
        "com.anthropic.claude_code",
        &[
            (
                "cccccccccccccccccccccccccccccc01",
                "00000000000000f1",
                "",
                "claude_code.interaction",
                json!({"session.id": session}),
            ),
            (
                "cccccccccccccccccccccccccccccc01",
                "00000000000000f2",
                "00000000000000f1",
                "claude_code.tool",
                json!({"session.id": session, "tool_name": "Bash"}),
            ),
            (
                "cccccccccccccccccccccccccccccc01",
                "00000000000000f3",
                "00000000000000f1",
                "claude_code.llm_request",
                json!({"session.id": session, "model": "claude-opus-5-5", "input_tokens": 100, "output_tokens": 7}),
            ),
        ],
    );
    for span in export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().expect("spans") {
        span["startTimeUnixNano"] = json!(now.to_string());
        span["endTimeUnixNano"] = json!(now.to_string());
    }
    assert_eq!(lookout.post("/v1/traces", &export).status, 200);
    let found = runs(&lookout, "");
    assert_eq!(found.len(), 1, "{found:?}");
    let both = run(&lookout, "cccccccccccccccccccccccccccccc01");
    assert_eq!((&both["run_id"], tools(&both), &both["calls"]), (&running["run_id"], 1, &json!(1)));
    assert_eq!((&both["session_id"], &both["tokens"]["input"]), (&json!(session), &json!(100)));
    let answer = lookout.get("/api/traces").text().to_owned();
    assert!(!answer.contains("apples"), "{answer}");
}

fn sampling() {
    let setup = Setup::new("runs: {sample: 0.0}");
    let lookout = setup.start();
    let root = |status: &str| json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk", "success": status});
    let call = json!({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt", "gen_ai.usage.input_tokens": 5});
    let (good, failed) = ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb1");
    for (trace, success) in [(good, "true"), (failed, "false")] {
        let body = spans(
            "shop",
            &[
                (trace, "00000000000000e1", "", "invoke_agent", root(success)),
                (trace, "00000000000000e2", "00000000000000e1", "chat", call.clone()),
            ],
        );
        assert_eq!(lookout.post("/v1/traces", &body).status, 200);
        assert_eq!(lookout.post("/v1/traces", &body).status, 200, "sent again");
    }
    let check = |lookout: &Lookout| {
        let (dropped, kept) = (run(lookout, good), run(lookout, failed));
        assert_eq!((&dropped["spans_kept"], &dropped["tree"]), (&json!(false), &json!([])));
        assert_eq!((&dropped["calls"], &dropped["tokens"]["input"]), (&json!(1), &json!(5)), "its numbers stay");
        assert_eq!((&kept["spans_kept"], &kept["tree"][0]["children"][0]["name"]), (&json!(true), &json!("chat")));
        let stats = lookout.get("/api/agents/stats?agents=clerk&range=400d&by=total").json();
        assert_eq!((&stats["agents"][0]["runs"], &stats["agents"][0]["calls"]), (&json!(2), &json!(2)));
    };
    check(&lookout);
    let reported = json!({
        "run_id": "ddddddddddddddddddddddddddddddd1", "project": "lab", "agent_name": "reporter", "name": "import",
        "status": "ok", "started_at": "2026-11-01T10:00:00Z", "ended_at": "2026-11-01T10:00:05Z", "tokens": {"input": 5},
    });
    assert_eq!(lookout.post("/api/traces", &reported).status, 200);
    lookout.kill9();
    let lookout = setup.start();
    let again = lookout.post("/api/traces", &reported);
    assert_eq!((again.status, &again.json()["run_id"]), (200, &reported["run_id"]), "{}", again.text());
    let stats = lookout.get("/api/agents/stats?agents=lab/reporter&range=400d&by=total").json();
    assert_eq!((&stats["agents"][0]["runs"], &stats["agents"][0]["tokens"]["input"]), (&json!(1), &json!(5)), "once");
    let late = spans("shop", &[(good, "00000000000000e2", "00000000000000e1", "chat", call)]);
    assert_eq!(lookout.post("/v1/traces", &late).status, 200);
    check(&lookout);
}

fn large_sums() {
    let lookout = Setup::new("").start();
    for number in 0..12 {
        let report = json!({
            "run_id": format!("{:032x}", number + 1), "project": "shop", "agent_name": "clerk", "name": "import",
            "status": "ok", "started_at": "2026-11-01T10:00:00Z", "ended_at": "2026-11-01T10:00:05Z",
            "tokens": {"input": i64::MAX}, "metadata": {"response_time_ms": 1_000_000_000},
        });
        // Each is a commit of its own.
        assert_eq!(lookout.post("/api/traces", &report).status, 200);
    }
    let stats = lookout.get("/api/agents/stats?range=400d");
    assert_eq!(stats.status, 200, "{}", stats.text());
    assert_eq!(stats.json()["agents"][0]["runs"], 12);
}

fn lists() {
    let lookout = Setup::new("").start();
    let id = |number: u32| format!("{number:032x}");
    let root = |agent: &str| json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent});
    let many: Vec<String> = (1..=7).map(id).collect();
    let agents = ["clerk", "writer"];
    let all: Vec<(&str, &str, &str, &str, Value)> = many
        .iter()
        .enumerate()
        .map(|(at, trace)| (&**trace, "00000000000000c1", "", "invoke_agent", root(agents[at % 2])))
        .collect();
    assert_eq!(lookout.post("/v1/traces", &spans("shop", &all)).status, 200);
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = lookout.get(&format!("/api/traces?limit=3{cursor}")).json();
        seen.extend(
            page["runs"].as_array().expect("runs").iter().map(|run| run["run_id"].as_str().expect("an id").to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let newest_first: Vec<String> = many.iter().rev().cloned().collect();
    assert_eq!(seen, newest_first);
    for (query, expected) in [
        ("?agent=clerk", 4),
        ("?agent=default/writer", 3),
        ("?project=default-project", 7),
        ("?project=other", 0),
        ("?status=ok", 7),
        ("?status=error", 0),
        ("?q=INVOKE", 7),
        ("?q=nothing", 0),
        ("?min_duration=400ms", 7),
        ("?min_duration=1m", 0),
        ("?min_cost=0.01", 0),
        ("?since=2026-11-29T00:00:00Z", 7),
        ("?until=2020-01-01T00:00:00Z", 0),
        ("?model=gpt", 0),
        ("?session=s&task=t&platform=cli&provider=openai&tool=Bash", 0),
    ] {
        assert_eq!(runs(&lookout, query).len(), expected, "{query}");
    }
}

const SECRETS: [&str; 6] = [
    "count the apples",
    "there are seven",
    "sk-proj-abcdefghijklmnopqrstuvwxyz012345",
    "rm -rf",
    "ann@example.com",
    "SELECT * FROM",
];

fn private() {
    let content = |key: &str| {
        json!({
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt",
            "gen_ai.input.messages": "[{\"role\": \"user\", \"content\": \"count the apples\"}]",
            "gen_ai.output.messages": "there are seven",
            "llm.input_messages.0.message.content": "count the apples",
            "input.value": "count the apples",
            "tool.arguments": "rm -rf /",
            "user.email": "ann@example.com",
            "db.statement": "SELECT * FROM stock",
            "custom.note": key,
        })
    };
    let key = format!("authorization: Bearer {}", SECRETS[2]);
    let body = spans("shop", &[("5bf92f3577b34da6a3ce929d0e0e4736", "00000000000000d1", "", "chat", content(&key))]);
    for (config, is_kept) in [("", false), ("runs: {capture: full}", true)] {
        let setup = Setup::new(config);
        let lookout = setup.start();
        assert_eq!(lookout.post("/v1/traces", &body).status, 200);
        let shown = run(&lookout, "5bf92f3577b34da6a3ce929d0e0e4736").to_string();
        assert_eq!(shown.contains("count the apples"), is_kept, "{shown}");
        assert!(!shown.contains(SECRETS[2]), "a key is never kept: {shown}");
        lookout.sigterm();
        if !is_kept {
            for entry in std::fs::read_dir(setup.path()).expect("a folder").flatten().filter(|it| it.path().is_file()) {
                let bytes = std::fs::read(entry.path()).expect("a file");
                for secret in SECRETS {
                    let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                    assert!(!found, "{secret} in {}", entry.path().display());
                }
            }
        }
    }
}

fn commands() {
    let setup = Setup::new("");
    let lookout = setup.start();
    export(&lookout, "claude-code/success-http-json-001-traces.json.gz");
    assert_eq!(register(&lookout, &json!({"name": "stock", "type": "vanna"})).status, 201);
    let command = |arguments: &[&str]| {
        let output =
            setup.command(arguments).env("LOOKOUT_URL", lookout.url()).env("COLUMNS", "140").output().expect("runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let id = runs(&lookout, "")[0]["run_id"].as_str().expect("an id").to_owned();
    eventually("the agent of the telemetry in the registry", || {
        let agents = lookout.get("/agents?type=claude-code").json();
        (agents["total"] == 1).then_some(())
    });
    let show = ["trace", "show", &id[..6]];
    let shown = command(&show);
    assert!(shown.contains("claude_code.llm_request") && shown.contains('█'), "{shown}");
    assert!(command(&["agents", "show", "stock"]).contains("vanna"));
    let agent = runs(&lookout, "")[0]["agent_name"].as_str().expect("a name").to_owned();
    let compared = command(&["agents", "compare", &agent, "stock", "--range", "400d"]);
    assert!(compared.contains("default/stock") && compared.contains("tokens"), "{compared}");
    for arguments in [&["trace", "ls", "--json"][..], &["trace", "show", &id, "--json"]] {
        let by_file = [arguments, &["--store", "lookout.traces.db"]].concat();
        assert_eq!(command(arguments), command(&by_file), "{arguments:?}");
    }
    // Deleting from the file is refused while the sidecar has it.
    let clean = ["trace", "clean", "--before", "1s", "--store", "lookout.traces.db"];
    let refused = setup.command(&clean).output().expect("runs");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("lookout"));
    assert_eq!(command(&["trace", "clean", "--before", "1s"]).trim(), "deleted 1 run");
    assert!(runs(&lookout, "").is_empty());
    lookout.sigterm();
    let offline = setup.command(&["agents", "show", "stock", "--store", "lookout.traces.db"]).output().expect("runs");
    assert!(String::from_utf8_lossy(&offline.stdout).contains("default/stock"));
}

fn registry() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let config = json!({"db": "stock", "nested": {"a": [1, 2]}});
    let first =
        register(&lookout, &json!({"name": "käse 🧀", "type": "flowise", "project_id": "shop", "config": config}))
            .json();
    let again = register(&lookout, &json!({"name": "käse 🧀", "type": "flowise", "project_id": "shop"}));
    assert_eq!((again.status, &again.json()["id"], &again.json()["config"]), (200, &first["id"], &config));
    let id = first["id"].as_str().expect("an id");
    let patched = lookout.send("PATCH", &format!("/agents/{id}"), &JSON, br#"{"monitoring_enabled": false}"#);
    assert_eq!((patched.status, &patched.json()["monitoring_enabled"]), (200, &json!(false)));
    let silences = lookout.get("/api/silences").json();
    assert_eq!(silences["silences"][0]["matchers"], json!({"agent_name": "käse 🧀", "project": "shop"}));
    let patched = lookout.send("PATCH", &format!("/agents/{id}"), &JSON, br#"{"monitoring_enabled": true}"#);
    assert_eq!(patched.status, 200);
    assert_eq!(lookout.get("/api/silences").json()["total"], 0);
    lookout.kill9();
    let lookout = setup.start();
    assert_eq!(lookout.send("DELETE", &format!("/agents/{id}"), &[], b"").json()["status"], "inactive");
    assert_eq!(lookout.get("/agents?status=active").json()["total"], 0);
    assert_eq!(lookout.get("/agents?q=K%C3%84SE").json()["agents"][0]["config"], config);
    // Who pushes is registered as well.
    let pushed =
        lookout.post("/api/state", &json!({"project": "shop", "agents": [{"name": "pusher", "status": "running"}]}));
    assert_eq!(pushed.status, 200);
    eventually("the agent that pushed", || {
        let found = lookout.get("/agents?q=pusher").json();
        (found["total"] == 1).then_some(())
    });
}

fn roles() {
    let tokens = "auth: {tokens: [{name: r, role: read, token: rrrrrrrrrrrrrrrr}, {name: i, role: ingest, token: iiiiiiiiiiiiiiii}, \
                  {name: a, role: admin, token: aaaaaaaaaaaaaaaa}]}";
    let lookout = Setup::new(tokens).start();
    let bodies = (r#"{"name": "x"}"#, r#"{"status": "inactive"}"#);
    for (method, path, body, allowed) in [
        ("POST", "/agents/register", bodies.0, "ia"),
        ("POST", "/agents/default/x/trace/start", "{}", "ia"),
        ("GET", "/agents", "", "ria"),
        ("GET", "/agents/default/x", "", "ria"),
        ("GET", "/api/traces", "", "ria"),
        ("GET", "/api/agents/stats", "", "ria"),
        ("PATCH", "/agents/default/x", bodies.1, "a"),
        ("DELETE", "/agents/default/x", "", "a"),
        ("DELETE", "/api/traces?before=1d", "", "a"),
    ] {
        for role in ["i", "r", "a"] {
            let token = format!("Bearer {}", role.repeat(16));
            let headers = [("authorization", &*token), ("content-type", "application/json")];
            let answer = lookout.send(method, path, &headers, body.as_bytes());
            let is_allowed = allowed.contains(role);
            assert_eq!(answer.status != 403, is_allowed, "{method} {path} as {role}: {}", answer.text());
            assert!(!is_allowed || answer.status < 300, "{method} {path} as {role}: {}", answer.text());
        }
    }
    let headers = [("authorization", "Bearer iiiiiiiiiiiiiiii"), ("content-type", "application/json")];
    let refused = lookout.send("POST", "/agents/register", &headers, br#"{"name": "y", "monitoring_enabled": false}"#);
    assert_eq!(refused.status, 403);
}

fn malformed() {
    let lookout = Setup::new("").start();
    for (body, part) in [
        (json!({}), "missing field `name`"),
        (json!({"name": " "}), "name must be"),
        (json!({"name": "x", "config": [1]}), "config must be a JSON object"),
        (json!({"name": "x", "config": {"a": "b".repeat(70_000)}}), "config is larger"),
    ] {
        let answer = register(&lookout, &body);
        assert!(answer.status == 400 && answer.text().contains(part), "{}", answer.text());
    }
    for (path, part) in [
        ("/api/traces?agnet=x", "unknown parameter `agnet`"),
        ("/api/traces?status=bad", "running, ok, error or abandoned"),
        ("/api/traces?since=yesterday", "invalid since `yesterday`"),
        ("/api/traces?limit=0", "from 1 to 1000"),
        ("/api/traces?cursor=x", "next_cursor"),
        ("/api/traces/xyz", "32 hexadecimal digits"),
        ("/api/agents/stats?by=colour", "unknown by `colour`"),
        ("/agents?state=x", "unknown parameter `state`"),
    ] {
        let answer = lookout.get(path);
        assert!(answer.status == 400 && answer.text().contains(part), "{path}: {} {}", answer.status, answer.text());
    }
    let unknown = lookout.post("/agents/unknown/trace/start", &json!({}));
    assert!(unknown.status == 404 && unknown.text().contains("POST /agents/register"), "{}", unknown.text());
}

fn full_disk() {
    let setup = Setup::new("");
    let lookout = setup.start();
    assert_eq!(register(&lookout, &json!({"name": "stock"})).status, 201);
    let call =
        json!({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt", "gen_ai.usage.input_tokens": 100});
    let export = |number: usize| {
        let root = json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"});
        let trace = format!("{:032x}", 0xa1_0000 + number);
        spans(
            "shop",
            &[
                (&trace, "00000000000000b1", "", "invoke_agent clerk", root),
                (&trace, "00000000000000b2", "00000000000000b1", "chat", call.clone()),
            ],
        )
    };
    assert_eq!(lookout.post("/v1/traces", &export(0)).status, 200);
    crate::faults::disk::fill(&lookout, true);
    // Room that the files have already takes some of them.
    let mut sent = 0;
    let refused = eventually("an export is refused", || {
        sent += 1;
        let answer = lookout.post("/v1/traces", &export(sent));
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "a sender waits and tries again");
    let started = lookout.post("/agents/default/stock/trace/start", &json!({}));
    assert_eq!(started.status, 503, "{}", started.text());
    eventually("it is not ready", || (lookout.get("/-/ready").status == 503).then_some(()));
    assert_eq!(lookout.get("/api/traces?limit=1000").status, 200, "what is on disk can be read");
    crate::faults::disk::fill(&lookout, false);
    eventually("it is ready", || (lookout.get("/-/ready").status == 200).then_some(()));
    for number in 0..=sent {
        assert_eq!(lookout.post("/v1/traces", &export(number)).status, 200, "sent again");
    }
    lookout.kill9();
    let lookout = setup.start();
    let stats = lookout.get("/api/agents/stats?agents=clerk&range=400d&by=total").json();
    let stats = &stats["agents"][0];
    assert_eq!((&stats["runs"], &stats["calls"]), (&json!(sent + 1), &json!(sent + 1)));
    assert_eq!(stats["tokens"]["input"], json!((sent + 1) * 100));
}

fn readers() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let (rounds, stop) = (60, std::sync::atomic::AtomicBool::new(false));
    let trace = |number: usize| format!("{:032x}", 0xa1_0000 + number);
    let store = setup.path().join("lookout.traces.db").display().to_string();
    std::thread::scope(|scope| {
        // By the API and by another process: a run that is there has both of its spans.
        let by_api = scope.spawn(|| {
            let mut seen = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for run in runs(&lookout, "?limit=5") {
                    let id = run["run_id"].as_str().expect("an id");
                    assert_eq!(self::run(&lookout, id)["spans"], json!(2), "{run}");
                    seen += 1;
                }
            }
            seen
        });
        let by_file = scope.spawn(|| {
            let mut seen = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let output = setup.command(&["trace", "ls", "--store", &store, "--json"]).output().expect("a program");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
                for run in listed["runs"].as_array().expect("runs") {
                    assert_eq!((&run["spans"], &run["calls"]), (&json!(2), &json!(1)), "{run}");
                    seen += 1;
                }
            }
            seen
        });
        for number in 0..rounds {
            let root = json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"});
            let call = json!({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt"});
            let body = spans(
                "shop",
                &[
                    (&trace(number), "00000000000000b1", "", "invoke_agent clerk", root),
                    (&trace(number), "00000000000000b2", "00000000000000b1", "chat", call),
                ],
            );
            assert_eq!(lookout.post("/v1/traces", &body).status, 200);
            // A reader of the API sees what was answered.
            assert_eq!(self::run(&lookout, &trace(number))["calls"], json!(1));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(by_api.join().expect("no panic") > 0 && by_file.join().expect("no panic") > 0);
    });
    assert_eq!(runs(&lookout, "?limit=1000").len(), rounds);
}

fn exported_after_a_kill() {
    let sink = Setup::new("").start();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let setup = Setup::new(&format!("export: {{otlp: {{endpoint: 'http://{dead}'}}}}\n"));
    let lookout = setup.start();
    assert_eq!(register(&lookout, &json!({"name": "stock"})).status, 201);
    let root = json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"});
    let rounds = 5;
    let mut lookout = Some(lookout);
    for number in 0..rounds {
        let running = lookout.take().expect("it runs");
        let started = running.post("/agents/default/stock/trace/start", &json!({"name": "count"})).json();
        let end = json!({"trace_id": started["trace_id"], "status": "ok"});
        let trace = format!("{:032x}", 0xa1_0000 + number);
        let body = spans("shop", &[(&trace, "00000000000000b1", "", "invoke_agent clerk", root.clone())]);
        if number % 2 == 0 {
            assert_eq!(running.post("/agents/default/stock/trace/end", &end).status, 200);
            assert_eq!(running.post("/v1/traces", &body).status, 200);
        } else {
            assert_eq!(running.post("/v1/traces", &body).status, 200);
            assert_eq!(running.post("/agents/default/stock/trace/end", &end).status, 200);
        }
        running.kill9();
        if number == rounds - 1 {
            let export = format!("export: {{otlp: {{endpoint: '{}'}}}}\n", sink.url());
            setup.write("lookout.yaml", &format!("listen: 127.0.0.1:0\nlog: {{format: json}}\n{export}"));
        }
        lookout = Some(setup.start());
    }
    eventually("all runs are there", || {
        let count = |agent: &str| runs(&sink, &format!("?agent={agent}&limit=1000")).len();
        (count("clerk") == rounds && count("stock") == rounds).then_some(())
    });
}

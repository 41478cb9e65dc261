//! Turns of piped agents as runs: recorded ones, and the real Claude Code and Codex, whose hooks and spans report the same.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Pipe, pass, sample, unused_address};
use crate::counterparts::{Need, run};
use crate::doubles::model::{Model, ModelBehavior, Usage};
use crate::hooks::claude_code::Home;
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

pub(super) fn trials() -> Vec<Case> {
    vec![
        trial("pipe: turns of recorded streams are runs with spans, and no words of theirs", &[], recorded),
        trial("pipe: a run is seen while it goes on, and ends with the stream", &[], while_it_goes_on),
        trial("pipe: a run that began before the sidecar is reported as a whole", &[], before_the_sidecar),
        trial("pipe: runs outlive a restart of the sidecar", &[], over_a_restart),
        trial(
            "pipe: hooks, spans and output of the real Claude Code are one run",
            &[Need::ClaudeCode],
            claude_code_by_all,
        ),
        trial("pipe: a turn of the real Codex is one run with its spans", &[Need::Codex], codex),
    ]
}

fn runs(lookout: &Lookout, query: &str) -> Vec<Value> {
    lookout.get(&format!("/api/traces{query}")).json()["runs"].as_array().expect("runs").clone()
}

/// The only run of an agent, once it is as `is_it` says.
fn only_run(lookout: &Lookout, agent: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let found = eventually(&format!("the run of {agent}"), || {
        let found = runs(lookout, &format!("?agent={agent}"));
        found.iter().any(&is_it).then_some(found)
    });
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

/// The waterfall of a run, without times.
fn spans(lookout: &Lookout, run: &Value) -> Vec<String> {
    fn add(span: &Value, depth: usize, to: &mut Vec<String>) {
        let word = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
        let error = span["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
        to.push(format!("{}{} {} by {}{error}", "  ".repeat(depth), word("kind"), word("name"), word("source")));
        for child in span["children"].as_array().expect("children") {
            add(child, depth + 1, to);
        }
    }
    let shown = lookout.get(&format!("/api/traces/{}", run["run_id"].as_str().expect("an id"))).json();
    let mut all = Vec::new();
    shown["tree"].as_array().expect("a tree").iter().for_each(|span| add(span, 0, &mut all));
    all
}

fn recorded() {
    let setup = Setup::new("");
    let lookout = setup.start();
    for (file, tokens, expected) in [
        (
            "claude-code-tool.jsonl",
            json!({"input": 3748, "output": 114, "cache_read": 40960, "cache_creation": 624, "total": 45446}),
            vec!["agent prompt by pipe", "  llm chat claude-opus-5-5 by pipe", "  tool Bash by pipe"],
        ),
        (
            "codex-tool.jsonl",
            json!({"input": 2268, "output": 96, "cache_read": 8192, "reasoning": 32, "total": 10588}),
            vec!["agent prompt by pipe", "  tool command_execution by pipe"],
        ),
    ] {
        let name = file.trim_end_matches(".jsonl");
        pass(&setup, &lookout.url(), &["--agent", name, "--task", "t-1"], &sample(file));
        let run = only_run(&lookout, name, |run| run["status"] == "ok");
        assert_eq!(
            (&run["source"], &run["task_id"], &run["tokens"]),
            (&json!("pipe"), &json!("t-1"), &tokens),
            "{run}"
        );
        assert!(run["session_id"].as_str().is_some_and(|session| session.len() == 36), "{run}");
        let shown = spans(&lookout, &run);
        assert!(expected.iter().all(|line| shown.iter().any(|shown| shown == line)), "{shown:#?}");
    }
    // Each process and each turn is a run of its own.
    for _ in 0..2 {
        pass(&setup, &lookout.url(), &["--agent", "two"], &sample("claude-code-two-turns.jsonl"));
    }
    assert_eq!(runs(&lookout, "?agent=two&status=ok").len(), 4);
    pass(&setup, &lookout.url(), &["--agent", "hard"], &sample("claude-code-429-hard.jsonl"));
    let failed = only_run(&lookout, "hard", |run| run["status"] == "error");
    assert_eq!((&failed["error"], &failed["failed_calls"]), (&json!("429, rate limit"), &json!(1)));
    let by_api = lookout.get("/api/agents/stats?agents=default/claude-code-tool&range=1h&by=tool").json();
    assert_eq!(by_api["agents"][0]["points"][0]["tool"], json!("Bash"), "{by_api}");
    // The fleet counts what the state of the agent has, and no more.
    assert_eq!(super::tokens(&lookout, "claude-code-tool"), [3748.0, 114.0, 40_960.0, 624.0, 0.0]);
    let all = runs(&lookout, "").iter().map(|run| spans(&lookout, run).concat()).collect::<String>();
    for word in ["apples", "stock", "echo", "account", "/srv/dev", "req_"] {
        assert!(!all.contains(word), "`{word}` got out");
    }
    // Text without a sign of its end.
    pass(&setup, &lookout.url(), &["--agent", "text", "--pattern", "failed=^(panic)"], b"working\npanic: at line 7\n");
    assert_eq!(only_run(&lookout, "text", |run| run["status"] == "error")["error"], json!("panic"));
}

fn while_it_goes_on() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let sample = sample("claude-code-tool.jsonl");
    let lines: Vec<&[u8]> = sample.split_inclusive(|byte| *byte == b'\n').collect();
    let mut pipe = Pipe::start(&setup, &lookout.url(), &["--agent", "a"]);
    pipe.write(lines[0]);
    let running = only_run(&lookout, "a", |run| run["status"] == "running");
    pipe.write(lines[1]);
    assert!(pipe.end().2.success());
    let ended = only_run(&lookout, "a", |run| run["status"] == "error");
    assert_eq!((&ended["run_id"], &ended["error"]), (&running["run_id"], &json!("ended without a result")));
    assert_eq!(ended["calls"], json!(1));
    // A second interrupt ends the program; the run ends with it.
    let mut pipe = Pipe::start(&setup, &lookout.url(), &["--agent", "b"]);
    pipe.write(lines[0]);
    only_run(&lookout, "b", |run| run["status"] == "running");
    // Two that arrive at once are one.
    let ended = only_run(&lookout, "b", |run| {
        pipe.signal("INT");
        run["status"] == "error"
    });
    assert_eq!(ended["error"], json!("interrupted"));
}

fn before_the_sidecar() {
    let url = unused_address();
    let address = url.trim_start_matches("http://");
    let setup = Setup::new("").env("LOOKOUT_LISTEN", address);
    let mut pipe = Pipe::start(&setup, &url, &["--agent", "a", "--quiet"]);
    let sample = sample("claude-code-two-turns.jsonl");
    pipe.write(&sample);
    pipe.expect(&sample);
    let lookout = setup.start();
    eventually("both turns", || (runs(&lookout, "?agent=a&status=ok").len() == 2).then_some(()));
    assert!(pipe.end().2.success());
    assert_eq!(runs(&lookout, "?agent=a").len(), 2);
}

fn over_a_restart() {
    let url = unused_address();
    let setup = Setup::new("").env("LOOKOUT_LISTEN", url.trim_start_matches("http://"));
    let lookout = setup.start();
    let sample = sample("claude-code-tool.jsonl");
    let lines: Vec<&[u8]> = sample.split_inclusive(|byte| *byte == b'\n').collect();
    let mut pipe = Pipe::start(&setup, &url, &["--agent", "a", "--quiet"]);
    pipe.write(&lines[..3].concat());
    let before = only_run(&lookout, "a", |run| run["status"] == "running");
    lookout.kill9();
    let lookout = setup.start();
    pipe.write(&lines[3..].concat());
    assert!(pipe.end().2.success());
    let after = only_run(&lookout, "a", |run| run["status"] == "ok");
    assert_eq!(
        (&after["run_id"], &after["calls"], &after["tools"]),
        (&before["run_id"], &json!(2), &json!(1)),
        "{after}"
    );
    assert_eq!(after["tokens"]["input"], json!(3748));
}

fn claude_code_by_all() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let home = Home::hooked(&lookout, ModelBehavior::UsesShell);
    let line = "claude -p count --allowedTools Bash --output-format stream-json --verbose \
                | \"$1\" pipe --agent shop --project till --url \"$2\"";
    let mut shell = home.command("sh");
    shell.args(["-c", line, "sh"]).arg(crate::program::lookout()).arg(lookout.url());
    shell.envs([("CLAUDE_CODE_ENABLE_TELEMETRY", "1"), ("CLAUDE_CODE_ENHANCED_TELEMETRY_BETA", "1")]);
    shell.envs([("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]);
    shell.env("OTEL_EXPORTER_OTLP_ENDPOINT", lookout.url());
    shell.env("OTEL_RESOURCE_ATTRIBUTES", "agent.name=shop,project=till");
    run(shell.stdin(Stdio::null()));
    let used = home.model.totals();
    let whole = only_run(&lookout, "shop", |run| {
        run["status"] == "ok" && run["trace_ids"].as_array().is_some_and(|traces| traces.len() == 3)
    });
    let sum = used.sum();
    assert_eq!(whole["tools"], json!(1), "{whole}");
    assert_eq!(whole["tokens"]["output"], json!(sum.output), "{used:?}: {whole}");
    assert_eq!(whole["tokens"]["input"], json!(sum.input), "{used:?}: {whole}");
    let shown = spans(&lookout, &whole);
    assert_eq!(shown.iter().filter(|span| span.trim_start().starts_with("tool ")).count(), 1, "{shown:#?}");
    let stats = lookout.get("/api/agents/stats?agents=till/shop&range=1h&by=total").json();
    assert_eq!(stats["agents"][0]["points"][0]["runs"], json!(1), "{stats}");
}

fn codex() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let used = Usage { input: 1_134, output: 48, cache_read: 4_096, cache_creation: 0, reasoning: 16 };
    let model = Model::using(ModelBehavior::Answers, used);
    let home = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(home.path().join(".codex")).expect("a folder");
    let settings = format!(
        "model = \"gpt-5.1-codex\"\nmodel_provider = \"ours\"\ncheck_for_update_on_startup = false\n\
         [model_providers.ours]\nname = \"ours\"\nbase_url = \"{}/v1\"\nenv_key = \"KEY\"\nwire_api = \"responses\"\n\
         request_max_retries = 0\nstream_max_retries = 1\n\
         [otel]\ntrace_exporter = {{ otlp-http = {{ endpoint = \"{}/v1/traces\", protocol = \"binary\" }} }}\n",
        model.url(),
        lookout.url()
    );
    fs::write(home.path().join(".codex/config.toml"), settings).expect("a file");
    let line = "codex exec --json --skip-git-repo-check count | \"$1\" pipe --agent coder --url \"$2\"";
    let mut shell = std::process::Command::new("timeout");
    shell.args(["60", "sh", "-c", line, "sh"]).arg(crate::program::lookout()).arg(lookout.url());
    shell.env_clear().env("HOME", home.path()).env("KEY", "opens-nothing").current_dir(home.path());
    shell.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("OTEL_RESOURCE_ATTRIBUTES", "agent.name=coder");
    run(shell.stdin(Stdio::null()));
    let whole = only_run(&lookout, "coder", |run| run["status"] == "ok" && run["calls"] == 1);
    let by_type = json!({"input": 1134, "output": 48, "cache_read": 4096, "reasoning": 16, "total": 5294});
    assert_eq!((&whole["source"], &whole["tokens"], &whole["calls"]), (&json!("pipe"), &by_type, &json!(1)), "{whole}");
    // Not all of its spans: it may end before it has exported that of the turn itself.
    eventually("its telemetry", || {
        spans(&lookout, &whole).iter().any(|span| span.starts_with(' ') && span.ends_with(" by otlp")).then_some(())
    });
}

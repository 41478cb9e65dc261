//! The examples of clients that report their runs, against the real program and a model.

use std::process::Command;

use serde_json::{Value, json};

use crate::counterparts::{self, Need};
use crate::doubles::flows::{FlowServer, Page};
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, tidy, trial};

pub(crate) fn trials() -> Vec<Case> {
    const VANNA: &[Need] = &[Need::OpenTelemetry];
    vec![
        trial("run clients: python", &[], || client("python3", "runs.py")),
        trial("run clients: node", &[Need::OpenTelemetryNode], || client("node", "runs.mjs")),
        trial("run clients: bash", &[Need::Curl], bash),
        trial("run clients: vanna's provider of observability, with a stub of vanna", VANNA, vanna),
    ]
}

fn run(lookout: &Lookout, query: &str) -> Value {
    eventually("the run", || lookout.get(&format!("/api/traces{query}")).json()["runs"].as_array()?.last().cloned())
}

fn client(program: &str, example: &str) {
    let reply = json!({"choices": [{"message": {"content": "There are 12 apples."}}],
        "usage": {"prompt_tokens": 128, "completion_tokens": 16}});
    let model = FlowServer::start(&[("/v1/chat/completions", Page::Json(reply.to_string()))]);
    let setup = Setup::new("");
    let lookout = setup.start();
    let ask = || {
        Command::new(program)
            .arg(tidy::root().join("examples/clients").join(example))
            .args(["How many", "apples?"])
            .env("LOOKOUT_URL", lookout.url())
            .env("MODEL_URL", format!("{}/v1", model.url()))
            .output()
            .expect("it runs")
    };
    let output = ask();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "There are 12 apples.");
    let ended = run(&lookout, "?status=ok");
    assert_eq!([&ended["agent_name"], &ended["platform"]], ["stock", "cli"]);
    assert_eq!([&ended["tokens"]["input"], &ended["tokens"]["output"]], [128, 16]);
    let asked: Value = serde_json::from_slice(&model.asked("/v1").remove(0).body).expect("JSON");
    assert_eq!(asked["metadata"]["parent_trace_id"], ended["run_id"], "by which LiteLLM's calls are part of the run");
    model.set(|it| it.pages.insert("/v1/chat/completions".to_owned(), Page::Status(500, "{}".to_owned())));
    assert!(!ask().status.success());
    assert!(run(&lookout, "?status=error")["error"].as_str().is_some_and(|error| error.contains("500")));
    // Without lookout the service works.
    model.set(|it| it.pages.insert("/v1/chat/completions".to_owned(), Page::Json(reply.to_string())));
    lookout.sigterm();
    assert!(ask_alone(program, example, &model).contains("There are 12 apples."));
}

fn ask_alone(program: &str, example: &str, model: &FlowServer) -> String {
    let output = Command::new(program)
        .arg(tidy::root().join("examples/clients").join(example))
        .env("LOOKOUT_URL", "http://127.0.0.1:9")
        .env("MODEL_URL", format!("{}/v1", model.url()))
        .output()
        .expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn bash() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let make = |line: &str| {
        Command::new("bash")
            .arg(tidy::root().join("examples/clients/runs.sh"))
            .args(["sh", "-c", line])
            .env("LOOKOUT_URL", lookout.url())
            .env("AGENT_NAME", "nightly")
            .output()
            .expect("it runs")
    };
    let output = make("echo $TRACEPARENT");
    let ended = run(&lookout, "?status=ok");
    let id = ended["run_id"].as_str().expect("an id");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with(&format!("00-{id}-")), "{output:?}");
    assert_eq!(make("exit 3").status.code(), Some(3));
    assert_eq!(run(&lookout, "?status=error")["error"], "exit code 3");
}

fn vanna() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let stub = "
class ObservabilityProvider: pass
class Span:
    def __init__(self, name, attributes=None):
        self.name, self.attributes, self.id = name, dict(attributes or {}), str(id(self))
    def end(self): pass
";
    std::fs::create_dir_all(setup.path().join("vanna/core")).expect("folders");
    for (name, text) in
        [("vanna/__init__.py", ""), ("vanna/core/__init__.py", ""), ("vanna/core/observability.py", stub)]
    {
        setup.write(name, text);
    }
    let script = setup.write(
        "main.py",
        "
import asyncio
from types import SimpleNamespace
from vanna_runs import LookoutProvider

class Llm:
    model = 'gpt-4o-mini'
    async def send_request(self, request):
        return SimpleNamespace(usage={'prompt_tokens': 120, 'completion_tokens': 16, 'total_tokens': 136})

async def main():
    provider = LookoutProvider('stock')
    llm = provider.counting(Llm())
    message = await provider.create_span('agent.send_message', {'conversation_id': 'conversation-of-a-user'})
    call = await provider.create_span('llm.request', {'model': 'gpt-4o-mini', 'prompt': 'How many apples?'})
    await llm.send_request({'messages': ['How many apples?'], 'model': llm.model})
    await provider.end_span(call)
    tool = await provider.create_span('agent.tool.execute', {'tool': 'run_sql', 'success': True})
    await provider.end_span(tool)
    await provider.end_span(message)
    provider.shutdown()

asyncio.run(main())
",
    );
    let path = format!("{}:{}", tidy::root().join("examples/clients").display(), setup.path().display());
    let output = Command::new(counterparts::python().join("python"))
        .arg(script)
        .env("PYTHONPATH", path)
        .env("LOOKOUT_URL", lookout.url())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ended = eventually("the run", || Some(run(&lookout, "")).filter(|run| run["name"] == "agent.send_message"));
    assert_eq!([&ended["agent_name"], &ended["session_id"]], ["stock", "conversation-of-a-user"]);
    assert_eq!([&ended["calls"], &ended["tools"]], [1, 1]);
    assert_eq!([&ended["tokens"]["input"], &ended["tokens"]["output"]], [120, 16]);
    let tree = lookout.get(&format!("/api/traces/{}", ended["run_id"].as_str().expect("an id"))).json();
    assert_eq!(tree["tree"][0]["children"].as_array().map(Vec::len), Some(2), "they are below the message: {tree}");
    assert!(!tree.to_string().contains("apples"));
}

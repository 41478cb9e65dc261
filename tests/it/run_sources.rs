//! Runs from flow servers and databases, by their recorded answers.

use serde_json::{Value, json};

use crate::doubles::flows::{FlowServer, Page, recorded, since_yesterday};
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("run sources: langflow: flows are agents, traces are runs", &[], langflow),
        trial("run sources: flowise: executions are runs, from their beginning", &[], flowise),
        trial("run sources: autogen studio: teams are agents, messages are calls", &[], autogen_studio),
        trial("run sources: crewx: tasks are runs, old and new", &[], crewx),
        trial("run sources: ag2: calls belong to the agent above them, and count once", &[], ag2),
        trial("run sources: invoke: a flow's answer comes back unchanged, and is one run", &[], invoke),
        trial("run sources: invoke: streams, failures, and clients that leave", &[], invoke_streams),
        trial("run sources: invoke: only flows of servers in the configuration run", &[], invoke_refused),
    ]
}

fn runs(lookout: &Lookout, query: &str) -> Vec<Value> {
    let answer = lookout.get(&format!("/api/traces{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["runs"].as_array().expect("runs").clone()
}

/// All agents, as `project/name`.
fn agents(lookout: &Lookout) -> Vec<(String, Value)> {
    let status = lookout.get("/api/status").json();
    let mut agents = Vec::new();
    for project in status["projects"].as_array().expect("projects") {
        for agent in project["agents"].as_array().expect("agents") {
            let name = |of: &Value| of["name"].as_str().expect("a name").to_owned();
            agents.push((format!("{}/{}", name(project), name(agent)), agent.clone()));
        }
    }
    agents.sort_by(|one, other| one.0.cmp(&other.0));
    agents
}

fn source(lookout: &Lookout) -> Value {
    lookout.get("/api/status").json()["sources"][0].clone()
}

/// `lookout trace show`, without what differs between days.
fn shown(setup: &Setup, lookout: &Lookout, id: &str) -> String {
    let command = ["trace", "show", id];
    let output = setup.command(&command).env("LOOKOUT_URL", lookout.url()).env("COLUMNS", "100").output();
    let output = output.expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let line = |line: &str| match line.split_once(", started ") {
        Some((before, _)) => before.to_owned(),
        None => line.trim_end().to_owned(),
    };
    text.lines().map(line).filter(|line| !line.starts_with("run: ")).collect::<Vec<_>>().join("\n")
}

fn check_shown(shown: &str, expected: &str) {
    assert_eq!(shown.trim(), expected.trim(), "\n{shown}\n");
}

fn id_of(run: &Value) -> String {
    run["run_id"].as_str().expect("an id").to_owned()
}

/// Waits for a number of runs.
fn wait_for_runs(lookout: &Lookout, count: usize) -> Vec<Value> {
    eventually("runs", || Some(runs(lookout, "")).filter(|runs| runs.len() == count))
}

/// Nothing that people or models wrote is in the files of the store.
fn keeps_no_content(setup: &Setup, words: &[&str]) {
    for file in std::fs::read_dir(setup.path()).expect("a folder") {
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with("lookout.") && name.contains("db") {
            let bytes = std::fs::read(&path).expect("its bytes");
            for word in words {
                let found = memchr::memmem::find(&bytes, word.as_bytes());
                assert!(found.is_none(), "{name} has {word:?}");
            }
        }
    }
}

const TRACE: &str = "e4882f39-c53c-4d9f-87b0-ab98e64d525b";

fn langflow_pages() -> Vec<(&'static str, Page)> {
    vec![
        ("/api/v1/flows/", Page::Json(recorded("langflow-flows-header.json"))),
        ("/api/v1/monitor/traces", Page::Json(recorded("langflow-traces.json"))),
        ("/api/v1/monitor/traces/e4882f39-c53c-4d9f-87b0-ab98e64d525b", Page::Json(recorded("langflow-trace.json"))),
    ]
}

fn langflow() {
    let server = FlowServer::start(&langflow_pages());
    server.set(|it| it.key = Some(("x-api-key", "sk-hunter2".to_owned())));
    let setup = Setup::new(&format!(
        "sources: [{{name: flows, kind: langflow, url: \"{}\", interval: 100ms, api_key_file: key}}]",
        server.url()
    ));
    setup.write("key", "sk-wrong");
    let lookout = setup.start();
    let error = eventually("the wrong key", || source(&lookout)["last_error"].as_str().map(str::to_owned));
    assert!(error.contains("HTTP 403") && error.contains("`api_key_file`") && !error.contains("sk-"), "{error}");
    setup.write("key", "sk-hunter2\n");
    let run = wait_for_runs(&lookout, 1).remove(0);
    assert_eq!(id_of(&run), TRACE.replace('-', ""), "its id is the server's");
    assert_eq!([&run["status"], &run["session_id"]], ["ok", "shop-session-1"]);
    assert_eq!([&run["model"], &run["agent_name"]], ["gpt-4o-mini", "shop-clerk (2)"]);
    assert_eq!(
        [&run["calls"], &run["tokens"]["input"], &run["tokens"]["output"]],
        [1, 128, 16],
        "each call once: {run}"
    );
    check_shown(&shown(&setup, &lookout, TRACE), LANGFLOW_SHOWN);
    let names: Vec<String> = agents(&lookout).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["flows/shop-clerk", "flows/shop-clerk (1)", "flows/shop-clerk (2)"]);
    let clerk = &agents(&lookout)[2].1;
    assert_eq!([&clerk["status"], &clerk["type"], &clerk["model"]], ["idle", "langflow", "gpt-4o-mini"]);
    let details = server.asked("/api/v1/monitor/traces/").len();
    // Langflow's own export of the same run.
    let asked = server.asked("").len();
    eventually("more polls", || (server.asked("").len() > asked + 6).then_some(()));
    assert_eq!(server.asked("/api/v1/monitor/traces/").len(), details, "a run is read once");
    lookout.sigterm();
    let lookout = setup.start();
    eventually("it is read again", || (server.asked("/api/v1/monitor/traces/").len() > details).then_some(()));
    eventually("agents", || (agents(&lookout).len() == 3).then_some(()));
    let again = wait_for_runs(&lookout, 1).remove(0);
    assert_eq!(again, run, "after a restart nothing is there twice");
    assert!(server.asked("").iter().all(|asked| asked.method == "GET"));
    keeps_no_content(&setup, &["How many apples", "apples, pears and plums"]);
}

fn flowise() {
    let executions: Value = serde_json::from_str(&recorded("flowise-executions.json")).expect("JSON");
    let mut running = executions.clone();
    running["data"][0]["state"] = json!("INPROGRESS");
    running["data"][0]["executionData"] = json!("[]");
    running["data"][0]["updatedDate"] = json!(format!("{:.0}", lookout::clock::Clock::system().wall().to_jiff()));
    let server = FlowServer::start(&[
        ("/api/v1/chatflows", Page::Json(recorded("flowise-chatflows.json"))),
        ("/api/v1/executions", Page::Json(running.to_string())),
    ]);
    server.set(|it| it.key = Some(("authorization", "Bearer fl-key".to_owned())));
    let setup = Setup::new(&format!(
        "sources: [{{name: flows, kind: flowise, url: \"{}\", interval: 100ms, api_key: fl-key}}]",
        server.url()
    ));
    let lookout = setup.start();
    let found = wait_for_runs(&lookout, 2);
    let running = found.iter().find(|run| run["status"] == "running").expect("one is running");
    let id = id_of(running);
    assert_eq!(id, "d7bbc36307d442c390947802b3c97fc8");
    eventually("its agent works", || {
        let is_running = |(_, agent): &(String, Value)| agent["status"] == "running" && agent["task_id"] == *id;
        agents(&lookout).iter().any(is_running).then_some(())
    });
    server.set(|it| it.pages.insert("/api/v1/executions".to_owned(), Page::Json(executions.to_string())));
    let ended = eventually("its end", || runs(&lookout, "?status=ok").pop());
    assert_eq!((id_of(&ended), &ended["cost_usd"]), (id.clone(), &json!(2.88e-5)));
    assert_eq!([&ended["tokens"]["input"], &ended["tokens"]["cache_read"], &ended["tokens"]["output"]], [64, 64, 16]);
    check_shown(&shown(&setup, &lookout, &id), FLOWISE_SHOWN);
    let failed = runs(&lookout, "?status=error").remove(0);
    assert_eq!(failed["error"], "Error in LLM node: llmMessages.some is not a function");
    let of_failed = shown(&setup, &lookout, &id_of(&failed));
    assert!(of_failed.contains("LLM") && of_failed.contains("llmMessages.some is not a function"), "{of_failed}");
    let names: Vec<String> = agents(&lookout).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["flows/shop-clerk", "flows/shop-clerk (6d940e3d)"], "two flows of one name are two agents");
    assert!(server.asked("").iter().all(|asked| asked.method == "GET"));
    keeps_no_content(&setup, &["How many apples", "apples, pears and plums"]);
}

fn autogen_studio() {
    let teams = json!({"status": true, "data": [{"id": 1, "user_id": "guestuser@gmail.com", "component": {
        "provider": "autogen_agentchat.teams.RoundRobinGroupChat", "component_type": "team", "label": "shop-team",
        "config": {"participants": [{"label": "clerk", "config": {"name": "clerk",
            "model_client": {"config": {"model": "gpt-4o-mini"}}}}]}}}]});
    let sessions = json!({"status": true, "data": [
        {"id": 2, "team_id": 1, "created_at": "2026-11-29T20:46:18", "name": "s"},
        {"id": 3, "team_id": 1, "created_at": "2026-11-29T20:46:35", "name": "s"},
        {"name": "an entry without an id"},
    ]});
    let server = FlowServer::start(&[
        ("/api/teams/", Page::Json(teams.to_string())),
        ("/api/sessions/", Page::Json(since_yesterday(&sessions.to_string()))),
        ("/api/sessions/2/runs", Page::Json(recorded("autogen-studio-session-2-runs.json"))),
        ("/api/sessions/3/runs", Page::Json(recorded("autogen-studio-session-3-runs.json"))),
    ]);
    let setup = Setup::new(&format!(
        "sources: [{{name: studio, kind: autogen-studio, url: \"{}\", interval: 100ms}}]",
        server.url()
    ));
    let lookout = setup.start();
    let found = wait_for_runs(&lookout, 2);
    let [complete, stopped] = &found[..] else { panic!("{found:?}") };
    assert_eq!([&complete["status"], &complete["model"]], ["ok", "gpt-4o-mini"]);
    assert_eq!([&complete["calls"], &complete["tokens"]["input"]], [2, 256]);
    assert_eq!([&stopped["status"], &stopped["error"]], ["error", "cancelled by user"]);
    check_shown(&shown(&setup, &lookout, &id_of(complete)), STUDIO_SHOWN);
    let team = agents(&lookout).remove(0);
    assert_eq!((team.0.as_str(), &team.1["type"]), ("studio/shop-team", &json!("autogen")));
    let error = source(&lookout)["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("a session without a valid `id`"), "the others are read: {error}");
    assert!(server.asked("").iter().all(|it| it.method == "GET" && it.path.contains("user_id=guestuser%40gmail.com")));
    keeps_no_content(&setup, &["How many apples", "apples, pears and plums"]);
}

/// A recorded database, with its times moved to yesterday.
fn database(setup: &Setup, sample: &str, name: &str) -> rusqlite::Connection {
    let path = setup.path().join(name);
    std::fs::write(&path, crate::callbacks::sample(&format!("flows/{sample}"))).expect("written");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    for (table, columns) in [
        ("tasks", &["started_at", "completed_at"][..]),
        ("spans", &["started_at", "completed_at"]),
        ("tool_calls", &["timestamp"]),
    ] {
        for column in columns {
            let date = &since_yesterday("2026-11-29");
            let sql = format!("UPDATE {table} SET {column} = replace({column}, '2026-11-29', ?1)");
            // The newer one has tasks alone.
            connection.execute(&sql, [date]).unwrap_or(0);
        }
    }
    connection
}

fn names_in(folder: &std::path::Path, start: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("a folder").map(|it| it.expect("a file").file_name());
    let mut names: Vec<String> = names.map(|it| it.to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with(start));
    names.sort();
    names
}

fn crewx() {
    let setup = Setup::new(
        "sources:\n- {name: crew, kind: crewx, path: traces.db, interval: 100ms}\n- {name: newer, kind: crewx, path: crewx.db, interval: 100ms}",
    );
    let older = database(&setup, "crewx-0.8.0-rc.30.db.gz", "traces.db");
    // A process that lives, for a task that does not end.
    let mut process = std::process::Command::new("sleep").arg("600").spawn().expect("a process");
    let at = format!("{:.3}", lookout::clock::Clock::system().wall().to_jiff());
    older
        .execute(
            "INSERT INTO tasks (id, agent_id, prompt, mode, status, started_at, trace_id, platform, pid)
             VALUES ('task_live', 'porter', 'CARRY', 'execute', 'running', ?1, 'c0ffee00-0000-4000-8000-000000000001', 'slack', ?2)",
            rusqlite::params![at, process.id()],
        )
        .expect("a row");
    drop(older);
    drop(database(&setup, "crewx-0.8.0.db.gz", "crewx.db"));
    let before = names_in(setup.path(), "traces.db");
    let lookout = setup.start();
    eventually("all runs", || (runs(&lookout, "?limit=100").len() == 9).then_some(()));
    let of_task = |task: &str| runs(&lookout, &format!("?task={task}")).pop().unwrap_or_default();
    let boss = of_task("task_1795984023721_ts81aptm3");
    assert_eq!(
        [&boss["project"], &boss["agent_name"], &boss["status"], &boss["platform"]],
        ["crew", "boss", "ok", "cli"]
    );
    assert_eq!(boss["tokens"], Value::Null, "0 is unknown: {boss}");
    let clerk = of_task("task_1795984025635_nl0s2it8l");
    assert_eq!(clerk["parent_run_id"], boss["run_id"], "{clerk}");
    check_shown(&shown(&setup, &lookout, &id_of(&boss)), CREWX_SHOWN);
    let killed = eventually("the killed one", || {
        Some(of_task("task_1795984069337_4cs58gum8")).filter(|run| run["status"] == "error")
    });
    assert_eq!(killed["error"], "its process is gone");
    let newer = of_task("tsk_a1b2c3d4");
    assert_eq!([&newer["project"], &newer["model"]], ["shop", "claude-sonnet-4-6"], "a workspace is a project");
    assert_eq!([&newer["tokens"]["input"], &newer["tokens"]["cache_read"]], [400, 800]);
    assert_eq!(of_task("tsk_e5f6a7b8")["error"], "provider down");
    let agent = |name: &str| agents(&lookout).into_iter().find(|(found, _)| found == name).map(|it| it.1);
    let porter = eventually("an agent", || agent("crew/porter"));
    assert_eq!([&porter["status"], &porter["task_id"]], ["running", "task_live"]);
    eventually("the agent of the killed one is down", || {
        let clerk = agent("crew/clerk")?;
        (clerk["status"] == "failed" && clerk["reason"] == "its process is gone").then_some(())
    });
    // While it is read there may be.
    eventually("nothing is left next to the file", || (names_in(setup.path(), "traces.db") == before).then_some(()));
    // It is killed, and its process is gone.
    process.kill().expect("killed");
    process.wait().expect("its end");
    eventually("its run failed", || (of_task("task_live")["status"] == "error").then_some(()));
    eventually("its agent failed", || (agent("crew/porter")?["status"] == "failed").then_some(()));
    keeps_no_content(&setup, &["apples", "CARRY", "system_prompt"]);
}

const LANGFLOW_SHOWN: &str = "
flows/shop-clerk (2)  shop-clerk (2)  ok
1.38s, 1 call, 144 tokens
session: shop-session-1

SPAN                        TIMELINE                    TIME  TOKENS
shop-clerk (2)              █████████████████████████  1.38s     144
└ Language Model            ····················█████  201ms
  └ ChatOpenAI gpt-4o-mini  ·····················████  183ms     144

5 spans of neither calls nor tools are not shown; see --all
";

const FLOWISE_SHOWN: &str = "
flows/shop-clerk (6d940e3d)  shop-clerk (6d940e3d)  ok
204ms, 1 call, 144 tokens, <$0.0001
session: shop-ses-1

SPAN                   TIMELINE                    TIME  TOKENS      COST  DETAIL
shop-clerk (6d940e3d)  █████████████████████████  204ms
└ LLM                  █████████████████████████  204ms     144  <$0.0001  gpt-4o-mini, openai
";

const STUDIO_SHOWN: &str = "
studio/shop-team  shop-team  ok
596ms, 2 calls, 288 tokens
session: studio-3

SPAN       TIMELINE                    TIME  TOKENS  DETAIL
shop-team  █████████████████████████  595ms     288
├ clerk    ········█████████········  173ms     144  gpt-4o-mini
└ clerk    ················█████████  210ms     144  gpt-4o-mini
";

const CREWX_SHOWN: &str = "
crew/boss  query  ok
1.98s, 2 tool uses
session: 5f0c6b1e-0000-4000-8000-000000000002
task: task_1795984023721_ts81aptm3
platform: cli

SPAN           TIMELINE                    TIME  DETAIL
query          █························  1.98s  boss
├ query        █························   39ms  clerk
├ Bash         ························█  0.0ms
└ skill:hello  ························█   96ms
";

const FLOW: &str = "/api/v1/run/shop-clerk-2";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn flow_config(server: &FlowServer, more: &str) -> String {
    format!(
        "flows: [{{name: flows, kind: langflow, url: \"{url}\", api_key: sk-hunter2, timeout: 2s}},
            {{name: chats, kind: flowise, url: \"{url}\", timeout: 2s}}]\n{more}",
        url = server.url()
    )
}

fn with_flow(lookout: &Lookout, name: &str, flow: &str, id: &str) {
    let config = json!({"flow": flow, "flow_id": id});
    let answer = lookout.post("/agents/register", &json!({"name": name, "type": "langflow", "config": config}));
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn ended(lookout: &Lookout, status: &str) -> Value {
    eventually("the end of the run", || runs(lookout, &format!("?status={status}")).pop())
}

fn invoke() {
    let mut pages = langflow_pages();
    pages.push((FLOW, Page::Json(recorded("langflow-run.json"))));
    let server = FlowServer::start(&pages);
    server.set(|it| it.key = Some(("x-api-key", "sk-hunter2".to_owned())));
    let source = format!(
        "sources: [{{name: list, kind: langflow, url: \"{}\", interval: 500ms, api_key: sk-hunter2}}]",
        server.url()
    );
    let setup = Setup::new(&flow_config(&server, ""));
    let lookout = setup.start();
    with_flow(&lookout, "clerk", "flows", "shop-clerk-2");
    let asked = json!({"input_value": "How many apples?", "session_id": "shop-session-1"});
    let answer = lookout.post("/agents/default/clerk/invoke?stream=false", &asked);
    assert_eq!((answer.status, answer.text()), (200, recorded("langflow-run.json").as_str()), "unchanged");
    let sent = server.asked(FLOW).remove(0);
    assert_eq!(serde_json::from_slice::<Value>(&sent.body).expect("JSON"), asked);
    assert_eq!(sent.path, format!("{FLOW}?stream=false"));
    let run = ended(&lookout, "ok");
    let id = id_of(&run);
    assert!(sent.headers["traceparent"].starts_with(&format!("00-{id}-")), "{sent:?}");
    assert_eq!(answer.header("x-lookout-run-id"), Some(id.as_str()));
    assert_eq!((&run["tokens"]["input"], &run["tokens"]["output"]), (&json!(128), &json!(16)));
    assert_eq!(run["agent_name"], "clerk");
    assert_eq!(run["session_id"], "shop-session-1");
    // The server's list has the same run.
    setup.write("lookout.yaml", &flow_config(&server, &source));
    lookout.signal("HUP");
    let merged = eventually("its calls", || runs(&lookout, "").into_iter().find(|run| run["calls"] == 1));
    assert_eq!((id_of(&merged), runs(&lookout, "").len()), (id, 1), "one run: {merged}");
    assert_eq!(
        [&merged["agent_name"], &merged["model"], &merged["tokens"]["input"]],
        [&json!("clerk"), &json!("gpt-4o-mini"), &json!(128)]
    );
    keeps_no_content(&setup, &["How many apples", "apples, pears and plums"]);
}

fn invoke_streams() {
    let events =
        ["data: {\"event\": \"token\", \"data\": \"The\"}\n\n", "data: {\"event\": \"end\"}\n\n"].map(str::to_owned);
    let pause = std::time::Duration::from_millis(300);
    let server = FlowServer::start(&[
        ("/api/v1/prediction/chat", Page::Pieces(200, "text/event-stream", events.to_vec(), pause)),
        ("/api/v1/prediction/bad", Page::Status(500, r#"{"success":false,"message":"no such model"}"#.to_owned())),
        ("/api/v1/prediction/slow", Page::Hang),
    ]);
    let setup = Setup::new(&flow_config(&server, ""));
    let lookout = setup.start();
    for flow in ["chat", "bad", "slow"] {
        with_flow(&lookout, flow, "chats", flow);
    }
    let body = br#"{"question": "How many apples?", "streaming": true}"#;
    let answer = lookout.send("POST", "/agents/default/chat/invoke", &JSON, body);
    assert_eq!((answer.status, answer.text()), (200, events.concat().as_str()));
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(ended(&lookout, "ok")["agent_name"], "chat");
    let answer = lookout.send("POST", "/agents/default/bad/invoke", &JSON, body);
    assert_eq!((answer.status, answer.json()["message"].as_str()), (500, Some("no such model")));
    assert_eq!(ended(&lookout, "error")["error"], "no such model");
    let answer = lookout.send("POST", "/agents/default/slow/invoke", &JSON, body);
    assert_eq!(answer.status, 504, "{}", answer.text());
    let failed =
        eventually("it failed", || runs(&lookout, "?status=error").into_iter().find(|run| run["agent_name"] == "slow"));
    assert_eq!(failed["error"], "flow server `chats`: no answer within 2s");
    // The client goes away.
    let address = lookout.url().trim_start_matches("http://").to_owned();
    let mut stream = std::net::TcpStream::connect(&address).expect("a connection");
    let head = format!(
        "POST /agents/default/slow/invoke HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    std::io::Write::write_all(&mut stream, head.as_bytes()).expect("sent");
    eventually("it runs", || runs(&lookout, "?status=running").pop());
    drop(stream);
    assert_eq!(ended(&lookout, "abandoned")["agent_name"], "slow");
    eventually("the flow server is left too", || (server.set(|it| it.left) > 0).then_some(()));
}

fn invoke_refused() {
    let server = FlowServer::start(&[]);
    let lookout = Setup::new(&flow_config(&server, "")).start();
    assert_eq!(lookout.post("/agents/register", &json!({"name": "plain"})).status, 201);
    for (name, flow, id) in [
        ("unknown", "elsewhere", "x"),
        ("up", "flows", "../../login"),
        ("slash", "flows", "a/b"),
        ("dots", "flows", ".."),
    ] {
        with_flow(&lookout, name, flow, id);
    }
    for (agent, status, part) in [
        ("plain", 400, "the agent has no flow"),
        ("unknown", 400, "has no `elsewhere`"),
        ("up", 400, "not the id of a flow"),
        ("slash", 400, "not the id of a flow"),
        ("dots", 400, "not the id of a flow"),
        ("nothing", 404, "no agent has the id"),
    ] {
        let answer = lookout.post(&format!("/agents/default/{agent}/invoke"), &json!({}));
        assert_eq!(answer.status, status, "{agent}: {}", answer.text());
        assert!(answer.text().contains(part), "{agent}: {}", answer.text());
    }
    assert!(server.asked("").is_empty() && runs(&lookout, "").is_empty());
    with_flow(&lookout, "good", "flows", "x");
    let text = lookout.send("POST", "/agents/default/good/invoke", &[("content-type", "text/plain")], b"x");
    assert_eq!(text.status, 415);
    let query = lookout.post("/agents/default/good/invoke?url=http://x", &json!({}));
    assert_eq!(query.status, 400);
    assert!(server.asked("").is_empty());
}

fn ag2() {
    let lookout = Setup::new("").start();
    let span = |id: &str, parent: &str, name: &str, pairs: Value| {
        let pair = |(key, value): (&String, &Value)| match value {
            Value::Number(number) => json!({"key": key, "value": {"intValue": number.to_string()}}),
            other => json!({"key": key, "value": {"stringValue": other}}),
        };
        let attributes: Vec<Value> = pairs.as_object().expect("pairs").iter().map(pair).collect();
        json!({"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": id, "parentSpanId": parent, "name": name,
            "startTimeUnixNano": "1796000000000000000", "endTimeUnixNano": "1796000001000000000", "attributes": attributes})
    };
    let usage = json!({"gen_ai.usage.input_tokens": 128, "gen_ai.usage.output_tokens": 16});
    let mut call = usage.clone();
    call["gen_ai.operation.name"] = json!("chat");
    call["gen_ai.request.model"] = json!("gpt-4o-mini");
    let mut repeated = usage;
    repeated["ag2.span.type"] = json!("usage");
    let agent = json!({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"});
    let spans = [
        span("00000000000000a3", "00000000000000a2", "record_usage model_call", repeated),
        span("00000000000000a2", "00000000000000a1", "chat gpt-4o-mini", call),
        span("00000000000000a1", "", "invoke_agent clerk", agent),
    ];
    let export = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "unknown_service"}}]},
        "scopeSpans": [{"scope": {"name": "opentelemetry.instrumentation.ag2"}, "spans": spans}],
    }]});
    assert_eq!(lookout.post("/v1/traces", &export).status, 200);
    let found = eventually("its agent", || Some(agents(&lookout)).filter(|agents| !agents.is_empty()));
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["default/clerk"], "the call is the agent's");
    let run = wait_for_runs(&lookout, 1).remove(0);
    assert_eq!([&run["calls"], &run["tokens"]["input"], &run["tokens"]["output"]], [1, 128, 16]);
    let page = lookout.get("/metrics").text().to_owned();
    let tokens: f64 = page
        .lines()
        .filter(|line| {
            line.starts_with("orchestrator_agent_tokens_total") || line.starts_with("orchestrator_tokens_total")
        })
        .filter(|line| line.contains("clerk"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert_eq!(tokens, 144.0, "once: {page}");
}

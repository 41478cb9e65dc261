//! The page for browsers: what it shows of the fleet, that text of others stays text, and that nothing comes from elsewhere.

use serde_json::{Value, json};

use crate::http::Response;
use crate::program::{Lookout, PATIENCE, Setup, eventually};
use crate::stream::client::{Event, EventSource};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("page: browsers get HTML at the root, programs the list of routes", &[], negotiation),
        trial("page: who needs you stands above those who work", &[], the_queue),
        trial("page: an alert about no agent of the fleet is on it", &[], other_alerts),
        trial("page: what is silenced says so", &[], silenced),
        trial("page: filters are in the address", &[], filters),
        trial("page: every view shows an agent with alerts and runs", &[], views),
        trial("page: names and reasons of agents are text", &[], hostile_names),
        trial("page: style and script are immutable, and nothing is loaded from elsewhere", &[], assets),
        trial("page: an empty fleet says how to begin", &[], empty_fleet),
        trial("page: each change is sent as HTML, from where the page was rendered", &[], fragments),
        trial("page: a silence is previewed by its matchers", &[], preview),
    ]
}

/// The page at `path`, as a browser asks for it.
fn page(lookout: &Lookout, path: &str) -> Response {
    lookout.send("GET", path, &[("accept", "text/html,application/xhtml+xml")], b"")
}

fn html(lookout: &Lookout, path: &str) -> String {
    let answer = page(lookout, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
    assert!(!answer.text().contains(">None<") && !answer.text().contains("undefined"), "{path}: {}", answer.text());
    text(&answer)
}

/// A page with slashes as they are: templates escape them too.
fn text(answer: &Response) -> String {
    answer.text().replace("&#x2f;", "/")
}

/// A fleet with an agent of each kind.
fn fleet() -> (Setup, Lookout) {
    let setup = Setup::new("receivers: []\n");
    let lookout = setup.start();
    let answer = lookout.post(
        "/api/state",
        &json!({"project": "shop", "agents": [
            {"name": "asking_ann", "status": "waiting_question", "reason": "permission to run Bash"},
            {"name": "failing_fay", "status": "running", "task_id": "t1"},
            {"name": "working_wil", "status": "running", "type": "codex", "phase": "test"},
            {"name": "idle_ida", "status": "idle"},
            {"name": "done_dan", "status": "completed"}]}),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let failed =
        json!({"project": "shop", "agents": [{"name": "failing_fay", "status": "failed", "reason": "exit code 137"}]});
    assert_eq!(lookout.post("/api/state", &failed).status, 200);
    (setup, lookout)
}

fn negotiation() {
    let (_setup, lookout) = fleet();
    let listed = lookout.get("/");
    assert_eq!(listed.json()["name"], "lookout");
    let shown = page(&lookout, "/");
    let policy = shown.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(shown.header("cache-control"), Some("no-store"));
    assert!(shown.header("vary").is_some_and(|vary| vary.contains("accept")));
    let missing = page(&lookout, "/agent?project=shop&agent=gone_gus");
    assert_eq!(missing.status, 404);
    assert!(text(&missing).contains("unknown agent shop/gone_gus"), "{}", missing.text());
}

fn the_queue() {
    let (_setup, lookout) = fleet();
    let shown = eventually("both alerts' agents on the page", || {
        let shown = html(&lookout, "/");
        (shown.contains("AgentDown error")).then_some(shown)
    });
    let place = |text: &str| shown.find(text).unwrap_or_else(|| panic!("no {text:?} in {shown}"));
    let order = ["1 needs you", "asking_ann", "failing_fay", "working_wil", "idle_ida", "done_dan"];
    let places: Vec<usize> = order.iter().map(|text| place(text)).collect();
    assert!(places.is_sorted(), "{order:?}: {places:?}");
    assert!(shown.contains("<title>1 needs you · 1 failed · lookout</title>"), "{shown}");
    assert!(shown.contains("permission to run Bash") && shown.contains("exit code 137"), "{shown}");
    assert!(shown.contains(r#"class="row s-failed l-error""#), "{shown}");
}

fn other_alerts() {
    let setup = Setup::new("receivers: []\n");
    let lookout = setup.start();
    let push = json!({"project": "shop", "agents": [{"name": "a", "status": "running"}],
                      "components": [{"name": "DatabaseManager", "status": "ERROR", "details": "pool is full"}]});
    assert_eq!(lookout.post("/api/state", &push).status, 200);
    let shown = eventually("the alert of a component", || {
        let shown = html(&lookout, "/");
        shown.contains("ComponentStatus").then_some(shown)
    });
    assert!(shown.contains("alert") && !shown.contains("All well"), "{shown}");
    assert!(shown.contains(r#"id="alert""#) && shown.contains(r#"data-component="DatabaseManager""#), "{shown}");
    assert!(!html(&lookout, "/runs").contains("icon.svg?n=0"));
}

fn silenced() {
    let (_setup, lookout) = fleet();
    eventually("an alert", || html(&lookout, "/").contains("AgentDown error").then_some(()));
    let silence = json!({"matchers": {"agent_name": "failing_fay"}, "duration": "1h", "comment": "planned"});
    assert_eq!(lookout.post("/api/silences", &silence).status, 200);
    let shown = eventually("the silence on the row", || {
        let shown = html(&lookout, "/");
        shown.contains(">silenced<").then_some(shown)
    });
    assert!(shown.contains(r#"id="failed""#), "it stays failed: {shown}");
    assert!(html(&lookout, "/alerts").contains("planned"));
}

fn filters() {
    let (_setup, lookout) = fleet();
    for (query, expected, others) in [
        ("q=ANN", "asking_ann", "working_wil"),
        ("state=failed", "failing_fay", "asking_ann"),
        ("type=codex", "working_wil", "idle_ida"),
        ("q=exit+code", "failing_fay", "asking_ann"),
    ] {
        let shown = html(&lookout, &format!("/?{query}"));
        assert!(shown.contains(expected) && !shown.contains(others), "{query}: {shown}");
    }
    let config = json!({"host": "h07", "owner": "ann"});
    let agent = json!({"name": "idle_ida", "type": "custom", "project_id": "shop", "config": config});
    assert!(lookout.post("/agents/register", &agent).status < 300);
    let of_host = eventually("the host of an agent", || {
        let shown = html(&lookout, "/?host=h07&state=idle");
        shown.contains("idle_ida").then_some(shown)
    });
    assert!(of_host.contains(r#"<span class="host">h07</span>"#) && !of_host.contains("working_wil"), "{of_host}");
    let without = html(&lookout, "/?type=-&group=owner");
    assert!(without.contains("asking_ann") && without.contains("no owner"), "{without}");
    assert!(!without.contains("working_wil"), "{without}");
    let shown = html(&lookout, "/?project=lab");
    assert!(!shown.contains("asking_ann") && shown.contains("No agent matches"), "{shown}");
}

fn views() {
    let (_setup, lookout) = fleet();
    let registered =
        lookout.post("/agents/register", &json!({"name": "working_wil", "type": "codex", "project_id": "shop"}));
    assert!(registered.status < 300, "{}", registered.text());
    let mut ids = Vec::new();
    for name in ["nightly build", "morning build"] {
        let started = lookout.post("/agents/shop/working_wil/trace/start", &json!({"name": name}));
        assert_eq!(started.status, 200, "{}", started.text());
        let id = started.json()["trace_id"].as_str().expect("an id").to_owned();
        let tokens = json!({"input": 100, "output": 20});
        let end = json!({"trace_id": id, "status": "error", "error": "no space left", "tokens": tokens});
        assert_eq!(lookout.post("/agents/shop/working_wil/trace/end", &end).status, 200);
        ids.push(id);
    }
    let alert = eventually("an alert", || {
        let alerts = lookout.get("/api/alerts?rule=AgentDown").json();
        alerts["alerts"][0]["fingerprint"].as_str().map(ToOwned::to_owned)
    });
    for (path, texts) in [
        ("/alerts".to_owned(), &["AgentDown", "shop/failing_fay", "Firing: 1 error"][..]),
        (format!("/alert?id={alert}"), &["AgentDown", "Who was notified", "firing at error"]),
        (
            "/agent?project=shop&agent=working_wil".to_owned(),
            &["Working", "nightly build", "no space left", "last 24 hours"],
        ),
        ("/runs".to_owned(), &["nightly build", "morning build", "no space left"]),
        ("/runs?status=ok".to_owned(), &["No run matches"]),
        (format!("/run?id={}", ids[0]), &["nightly build", "Waterfall", "no space left"]),
        (format!("/compare?run={}&run={}", ids[0], ids[1]), &["nightly build", "morning build", "Tokens", "1 ×"]),
        (
            "/compare?agents=shop%2Fworking_wil&agents=shop/idle_ida".to_owned(),
            &["Agents compared", "shop/working_wil", "shop/idle_ida", "Tokens a call"],
        ),
        ("/setup".to_owned(), &["5 agents in 1 project.", "lookout setup litellm"]),
    ] {
        let shown = html(&lookout, &path);
        for text in texts {
            assert!(shown.contains(text), "{path} without {text:?}: {shown}");
        }
    }
    for (path, status) in [("/alert?id=zz", 400), ("/alert?id=0123456789abcdef", 404), ("/run?id=1", 400)] {
        assert_eq!(page(&lookout, path).status, status, "{path}");
    }
}

fn hostile_names() {
    let setup = Setup::new("receivers: []\n");
    let lookout = setup.start();
    let name = r#"<script>alert("1")</script>&'"#;
    let push = json!({"project": "a&b", "agents": [
        {"name": name, "status": "failed", "reason": "<img src=x onerror=alert(2)>", "task_id": "{{ 7 * 7 }}"},
        {"name": "calm<b>", "status": "running", "phase": "\" onmouseover=\"alert(3)"}]});
    let answer = lookout.post("/api/state", &push);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let agent = "/agent?project=a%26b&agent=%3Cscript%3Ealert(%221%22)%3C%2Fscript%3E%26%27";
    for path in ["/", "/alerts", "/runs?q=%3Cscript%3E", "/setup", agent, "/?q=%22%3E%3Cscript%3E"] {
        let shown = html(&lookout, path);
        for markup in ["<script>alert", "<img src", "\"><script", "\" onmouseover", "<b>\"", "49"] {
            let is_there = shown.contains(markup) && markup != "49" || shown.contains("task 49");
            assert!(!is_there, "{path} has {markup}: {shown}");
        }
    }
    assert!(html(&lookout, agent).contains("&lt;script&gt;"));
}

fn assets() {
    let (_setup, lookout) = fleet();
    let shown = html(&lookout, "/");
    assert!(!shown.contains("http://") && !shown.contains("https://") && !shown.contains(" style="), "{shown}");
    for (before, kind) in
        [("<link rel=\"stylesheet\" href=\"", "text/css"), ("<script type=\"module\" src=\"", "text/javascript")]
    {
        let path = shown.split_once(before).and_then(|(_, rest)| rest.split_once('"')).expect("an asset").0;
        let answer = lookout.send("GET", &format!("/{path}"), &[("accept-encoding", "gzip")], b"");
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").is_some_and(|it| it.starts_with(kind)), "{path}");
        assert!(answer.header("cache-control").is_some_and(|it| it.contains("immutable")), "{path}");
        assert_eq!(answer.header("content-encoding"), Some("gzip"), "{path}");
        let plain = lookout.get(&format!("/{path}"));
        assert!(!plain.text().contains("://"), "{path} names an address of elsewhere");
    }
    assert_eq!(lookout.get("/assets/style-00000000.css").status, 404);
    assert!(lookout.get("/icon.svg?n=3&critical=1").text().contains(">3</text>"));
}

fn empty_fleet() {
    let setup = Setup::new("receivers: []\n");
    let lookout = setup.start();
    let shown = html(&lookout, "/");
    assert!(shown.contains("No agents yet") && shown.contains("lookout setup claude-code"), "{shown}");
}

fn fragments() {
    let (_setup, lookout) = fleet();
    let path = "/api/monitoring/stream?as=page";
    let mut first = EventSource::open(lookout.address(), path, &[]).expect("a stream");
    let push = |status: &str, reason: &str| {
        let agents = json!([{"name": "working_wil", "status": status, "type": "codex", "reason": reason}]);
        assert_eq!(lookout.post("/api/state", &json!({"project": "shop", "agents": agents})).status, 200);
    };
    // What is placed, and the element, once the agent is in this state; its last day may follow.
    let next = |source: &mut EventSource, state: &str| loop {
        let Event { kind, data, text, .. } = source.next(PATIENCE).expect("an event");
        if kind == "row" && data["key"] == "shop/working_wil" && data["state"] == state {
            return (data, text.split_once('\n').expect("an element").1.to_owned());
        }
    };
    let since = eventually("an id to follow from", || {
        let shown = html(&lookout, "/");
        let (_, rest) = shown.split_once("data-since=\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    });
    push("waiting_question", "may <I>?");
    let (placed, row) = next(&mut first, "needs");
    assert_eq!(placed["facets"]["type"], "codex");
    assert!(row.starts_with("<li class=\"row s-needs\"") && row.contains("may &lt;I&gt;?"), "{row}");
    push("running", "");
    let (_, square) = next(&mut first, "working");
    assert!(square.starts_with("<a id=") && square.contains("working_wil"), "{square}");
    let path = format!("{path}&last_event_id={since}");
    let mut late = EventSource::open(lookout.address(), &path, &[]).expect("a stream");
    assert!(next(&mut late, "needs").1.contains("working_wil"), "what changed since the page was rendered");
    assert_eq!(lookout.get("/api/monitoring/stream?as=page&project=shop").status, 400);
}

fn preview() {
    let (_setup, lookout) = fleet();
    eventually("an alert", || html(&lookout, "/").contains("AgentDown error").then_some(()));
    let ask = |matchers: Value| lookout.post("/api/silences/preview", &json!({"matchers": matchers}));
    let found = ask(json!({"project": "shop", "agent_name": "failing_fa?"})).json();
    assert_eq!((&found["firing"], &found["examples"]), (&json!(1), &json!(["AgentDown of shop/failing_fay"])));
    assert_eq!(ask(json!({"project": "lab"})).json()["firing"], 0);
    assert_eq!(ask(json!({"agent": "x"})).status, 400);
    assert_eq!(lookout.get("/api/silences").json()["total"], 0);
}

//! orchestrator-cc, as its real versions respond, through restarts and upgrades.

use serde_json::{Value, json};

use super::{agents, names, source};
use crate::doubles::orchestrator_cc::{OrchestratorCc, Trouble, Version};
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("polling: orchestrator-cc: teams, with and without a built frontend", &[], teams),
        trial("polling: orchestrator-cc: a restart removes no agent and resolves no alert", &[], restarts),
        trial("polling: orchestrator-cc: an upgrade while it is polled", &[], upgrades),
        trial("polling: orchestrator-cc: a failing route affects no other team", &[], failing_routes),
        trial("polling: orchestrator-cc: many teams are polled in turn", &[], many_teams),
    ]
}

fn setup(server: &OrchestratorCc) -> Setup {
    Setup::new(&format!(
        "sources: [{{name: orch, kind: orchestrator-cc, url: \"{}\", interval: 100ms, timeout: 4s}}]",
        server.url()
    ))
}

fn team(name: &str, members: &[&str]) -> Value {
    let members: Vec<Value> = members
        .iter()
        .map(|member| {
            json!({"agentId": format!("{member}@{name}"), "name": member, "agentType": "general-purpose",
                "model": "claude-sonnet-4-6", "joinedAt": 1_795_231_455_000_u64, "cwd": "/srv/shop"})
        })
        .collect();
    json!({"name": name, "description": "", "leadAgentId": format!("lead@{name}"), "members": members})
}

fn task(id: &str, owner: &str, status: &str) -> Value {
    json!({"taskId": id, "subject": "Count", "description": "", "status": status, "owner": owner})
}

/// Waits until a poll that started after this call has ended.
fn polled_again(server: &OrchestratorCc, path: &str) {
    let before = server.count(path);
    eventually("it is polled again", || (server.count(path) >= before + 3).then_some(()));
}

fn agent(lookout: &Lookout, project: &str, name: &str) -> Value {
    agents(lookout, project).into_iter().find(|(found, _)| found == name).map(|(_, agent)| agent).unwrap_or_default()
}

fn down(lookout: &Lookout, state: &str) -> usize {
    let alerts = lookout.get(&format!("/api/alerts?rule=AgentDown&state={state}")).json();
    alerts["alerts"].as_array().expect("alerts").len()
}

fn teams() {
    for version in [Version::Newer, Version::NewerBuilt, Version::Both] {
        let server = OrchestratorCc::start(version);
        server.set(|it| {
            it.teams = json!([team("shop", &["lead", "clerk"]), team("lab", &["lead"])]);
            it.tasks
                .insert("shop".to_owned(), json!([task("7", "clerk", "in_progress"), task("8", "lead", "completed")]));
            it.messages.insert(
                "shop".to_owned(),
                json!([{"id": "", "sender": "clerk", "content": "done", "timestamp": "2026-01-01T00:00:00.000Z"}]),
            );
        });
        let lookout = setup(&server).start();
        eventually("its members are agents", || {
            (names(&lookout, "shop") == ["clerk", "lead"] && names(&lookout, "lab") == ["lead"]).then_some(())
        });
        let clerk = agent(&lookout, "shop", "clerk");
        assert_eq!([&clerk["status"], &clerk["task_id"]], ["running", "7"], "{version:?}: {clerk}");
        assert_eq!([&clerk["type"], &clerk["model"]], ["general-purpose", "claude-sonnet-4-6"]);
        assert!(clerk["last_activity"].as_str().is_some_and(|at| at.starts_with("2026-01-01T00:00:00")), "{clerk}");
        assert_eq!(agent(&lookout, "shop", "lead")["status"], "idle");
        assert_eq!(source(&lookout)["last_error"], Value::Null);
        server.set(|it| it.tasks.insert("shop".to_owned(), json!([task("7", "clerk", "completed")])));
        eventually("its task is done", || (agent(&lookout, "shop", "clerk")["status"] == "idle").then_some(()));
        server.set(|it| it.teams = json!([team("shop", &["lead"])]));
        eventually("a member that left is removed", || {
            (names(&lookout, "shop") == ["lead"] && names(&lookout, "lab").is_empty()).then_some(())
        });
        let posted = server.set(|it| it.asked.iter().filter(|asked| !asked.starts_with("GET ")).count());
        assert_eq!(posted, 0, "nothing is posted");
    }
}

fn restarts() {
    let server = OrchestratorCc::start(Version::Newer);
    let listed = json!([team("shop", &["lead", "clerk"])]);
    server.set(|it| {
        it.teams = listed.clone();
        it.health = json!({"shop": {"clerk": {"isHealthy": false, "lastActivity": "2026-01-01T00:00:00.5", "timeoutThreshold": 60.0, "elapsed": 90.0}}});
    });
    let lookout = setup(&server).start();
    eventually("the agent without a heartbeat is down", || (down(&lookout, "firing") == 1).then_some(()));
    // The stages of a start: not ready, without teams, with a team that is being written, without heartbeats.
    server.set(|it| (it.is_ready, it.health) = (false, json!({})));
    eventually("it is not ready", || (source(&lookout)["up"] == false).then_some(()));
    let being_written = json!([{"name": "shop", "members": []}]);
    server.set(|it| (it.is_ready, it.without_teams, it.teams) = (true, 1, being_written));
    polled_again(&server, "/api/teams");
    assert_eq!(names(&lookout, "shop"), ["clerk", "lead"], "no agent is removed");
    server.set(|it| it.teams = listed);
    polled_again(&server, "/api/teams");
    eventually("it is up", || (source(&lookout)["up"] == true).then_some(()));
    assert_eq!(names(&lookout, "shop"), ["clerk", "lead"]);
    let resolved = lookout.get("/api/alerts?rule=AgentDown&state=resolved").json();
    let messages: Vec<&Value> =
        resolved["alerts"].as_array().expect("alerts").iter().map(|it| &it["message"]).collect();
    assert!(!resolved.to_string().contains("no longer"), "none ended as removed: {messages:?}");
}

fn upgrades() {
    let server = OrchestratorCc::start(Version::Older);
    let old = |running: bool| json!([{"name": "grand_boss", "role": "boss", "running": running, "restart_count": 0, "last_activity": 1_767_225_600.5}]);
    server.set(|it| {
        it.agents = old(true);
        it.teams = json!([team("shop", &["lead"])]);
    });
    let lookout = setup(&server).start();
    eventually("the older version is polled", || (names(&lookout, "orch") == ["grand_boss"]).then_some(()));
    let boss = agent(&lookout, "orch", "grand_boss");
    assert_eq!([&boss["type"], &boss["status"]], ["boss", "running"]);
    server.set(|it| it.version = Version::Both);
    // While it is starting, the agents of the older version are not removed.
    server.set(|it| it.is_ready = false);
    eventually("it starts", || (source(&lookout)["up"] == false).then_some(()));
    assert_eq!(names(&lookout, "orch"), ["grand_boss"]);
    server.set(|it| (it.is_ready, it.agents) = (true, old(false)));
    eventually("it is down", || (down(&lookout, "firing") == 1).then_some(()));
    server.set(|it| it.version = Version::Newer);
    eventually("the newer version is polled", || {
        (names(&lookout, "shop") == ["lead"] && names(&lookout, "orch").is_empty()).then_some(())
    });
    server.set(|it| (it.version, it.agents) = (Version::Older, old(true)));
    eventually("and the older one again", || (names(&lookout, "orch") == ["grand_boss"]).then_some(()));
}

fn failing_routes() {
    let server = OrchestratorCc::start(Version::Newer);
    server.set(|it| {
        it.teams = json!([team("bad", &["a"]), team("good", &["b"]), team("slow", &["c"]), team("ünï/cöde", &["d"])]);
        for (name, owner) in [("bad", "a"), ("good", "b"), ("slow", "c")] {
            it.tasks.insert(name.to_owned(), json!([task("1", owner, "in_progress")]));
        }
        it.trouble.insert("/api/teams/bad/tasks".to_owned(), Trouble::Status(500));
        it.trouble.insert("/api/teams/slow/messages".to_owned(), Trouble::Hang);
        it.trouble.insert("/api/health".to_owned(), Trouble::Status(500));
    });
    let lookout = setup(&server).start();
    eventually("every team is there", || {
        let all = ["bad", "good", "slow", "ünï/cöde"].iter().all(|team| names(&lookout, team).len() == 1);
        all.then_some(())
    });
    let status = |team: &str, name: &str| agent(&lookout, team, name)["status"].clone();
    assert_eq!([status("good", "b"), status("slow", "c")], ["running", "running"]);
    assert_eq!(status("bad", "a"), Value::Null, "its state is unknown");
    let now = source(&lookout);
    assert_eq!(now["up"], true, "{now}");
    assert!(now["last_error"].as_str().is_some_and(|error| error.contains("more")), "{now}");
    assert!(server.count("/api/teams/%C3%BCn%C3%AF%2Fc%C3%B6de/tasks") > 0, "names are escaped");
}

fn many_teams() {
    let server = OrchestratorCc::start(Version::Newer);
    let count = 60;
    server.set(|it| {
        it.teams = (0..count).map(|number| team(&format!("team-{number}"), &["lead"])).collect();
        for number in 0..count {
            it.tasks.insert(format!("team-{number}"), json!([task("1", "lead", "in_progress")]));
        }
    });
    let lookout = setup(&server).start();
    eventually("all teams are polled in the end", || {
        let running = |number: usize| agent(&lookout, &format!("team-{number}"), "lead")["status"] == "running";
        (0..count).all(running).then_some(())
    });
    let (polls, details) = server.set(|it| {
        let polls = it.asked.iter().filter(|asked| asked.ends_with("/api/teams")).count();
        (polls, it.asked.iter().filter(|asked| asked.ends_with("/tasks")).count())
    });
    assert!(details <= polls * 25, "{details} requests for tasks in {polls} polls");
}

//! The API of orchestrator-cc's versions: the older one with agents in panes, the newer one with Claude
//! Code's teams, and the one between them with both families of routes. It can restart, not be ready, and have routes
//! that fail or hang.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Which version answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Agents alone; an unknown route is 404.
    Older,
    /// Both families of routes.
    Both,
    /// Teams alone, without a built frontend: an unknown route is 200 with an error about the missing build.
    Newer,
    /// The same with a built frontend: an unknown route is its page.
    NewerBuilt,
}

/// The fault of a route.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    Status(u16),
    Hang,
}

#[derive(Debug)]
pub(crate) struct Dashboard {
    pub(crate) version: Version,
    /// Whether its parts have started.
    pub(crate) is_ready: bool,
    /// As `/api/agents` lists them.
    pub(crate) agents: Value,
    /// As `/api/teams` lists them.
    pub(crate) teams: Value,
    /// The number of further responses with an empty list, as before its files are read.
    pub(crate) without_teams: usize,
    /// By team.
    pub(crate) tasks: BTreeMap<String, Value>,
    pub(crate) messages: BTreeMap<String, Value>,
    pub(crate) health: Value,
    /// By path.
    pub(crate) trouble: BTreeMap<String, Trouble>,
    /// Method and path of each request.
    pub(crate) asked: Vec<String>,
}

/// A dashboard on a port.
pub(crate) struct OrchestratorCc {
    address: SocketAddr,
    dashboard: Arc<Mutex<Dashboard>>,
}

impl OrchestratorCc {
    pub(crate) fn start(version: Version) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let dashboard = Arc::new(Mutex::new(Dashboard {
            version,
            is_ready: true,
            agents: json!([]),
            teams: json!([]),
            without_teams: 0,
            tasks: BTreeMap::new(),
            messages: BTreeMap::new(),
            health: json!({}),
            trouble: BTreeMap::new(),
            asked: Vec::new(),
        }));
        let shared = Arc::clone(&dashboard);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, dashboard }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes its state.
    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut Dashboard) -> T) -> T {
        change(&mut self.dashboard.lock().unwrap())
    }

    /// How often `path` was requested.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.set(|it| it.asked.iter().filter(|asked| asked.ends_with(path)).count())
    }
}

fn serve(mut stream: TcpStream, dashboard: &Mutex<Dashboard>) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) if head.len() < 16 * 1024 => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (trouble, (status, kind, body)) = {
        let mut dashboard = dashboard.lock().unwrap();
        dashboard.asked.push(format!("{method} {path}"));
        let answer = answer(&dashboard, path);
        if path == "/api/teams" {
            dashboard.without_teams = dashboard.without_teams.saturating_sub(1);
        }
        (dashboard.trouble.get(path).copied(), answer)
    };
    let (status, body) = match trouble {
        Some(Trouble::Hang) => return drop(stream.read(&mut byte)),
        Some(Trouble::Status(status)) => (status, "Internal Server Error".to_owned()),
        None => (status, body),
    };
    // The client may have timed out.
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    drop(stream.write_all(answer.as_bytes()));
}

fn answer(it: &Dashboard, path: &str) -> (u16, &'static str, String) {
    let json = |body: Value| (200, "application/json", body.to_string());
    let part = |part: Value, name: &str| {
        json(if it.is_ready { part } else { json!({"error": format!("{name} not initialized")}) })
    };
    let has_agents = matches!(it.version, Version::Older | Version::Both);
    let has_teams = it.version != Version::Older;
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["api", "agents"] if has_agents => part(json!({"agents": it.agents}), "Cluster manager"),
        ["api", "teams"] if has_teams => {
            let teams = if it.without_teams > 0 { json!([]) } else { it.teams.clone() };
            part(json!({"teams": teams}), "Teams monitor")
        }
        ["api", "health"] if has_teams => part(it.health.clone(), "Health monitor"),
        ["api", "teams", team, "tasks"] if has_teams => {
            let tasks = it.tasks.get(*team).cloned().unwrap_or_else(|| json!([]));
            part(json!({"teamName": team, "tasks": tasks}), "Teams monitor")
        }
        ["api", "teams", team, "messages"] if has_teams => {
            let messages = it.messages.get(*team).cloned().unwrap_or_else(|| json!([]));
            part(json!({"teamName": team, "messages": messages}), "Teams monitor")
        }
        _ => match it.version {
            Version::Older | Version::Both => (404, "application/json", r#"{"detail":"Not Found"}"#.to_owned()),
            Version::Newer => json(json!({"error": "Frontend dist directory not found"})),
            Version::NewerBuilt => (200, "text/html", "<!doctype html><title>Orchestrator CC</title>".to_owned()),
        },
    }
}

//! The real Claude Code, with hooks from `lookout setup` and a fake provider.
//!
//! It runs in a home directory of its own with an invalid key and no other environment, so that it is independent of the
//! machine.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use serde_json::json;
use tempfile::TempDir;

use super::{agent, budgets, shown};
use crate::counterparts::{Need, run};
use crate::doubles::model::{Model, ModelBehavior};
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::ClaudeCode];

pub(super) fn trials() -> Vec<Case> {
    vec![
        trial("hooks: the real Claude Code runs, waits, idles, is rate-limited and exits", NEEDS, at_a_terminal),
        trial("hooks: a run of the real Claude Code that a rate limit ends has failed", NEEDS, limited_run),
        trial(
            "hooks: the real Claude Code stops before its next tool and shows the reason",
            NEEDS,
            stopped_at_a_terminal,
        ),
        trial("hooks: an endless run of the real Claude Code is stopped by its budget", NEEDS, endless_run),
    ]
}

const KEY: &str = "sk-ant-api03-opens-nothing-at-all-hooksecret";

/// A home directory with a working directory and a fake provider.
pub(crate) struct Home {
    dir: TempDir,
    pub(crate) model: Model,
}

impl Home {
    /// A home directory without hooks.
    pub(crate) fn new(behavior: ModelBehavior) -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let shop = dir.path().join("shop");
        fs::create_dir_all(dir.path().join(".claude")).unwrap();
        fs::create_dir(&shop).unwrap();
        // Skips the dialogs of the first start.
        let approved = &KEY[KEY.len() - 20..];
        let known = json!({"hasCompletedOnboarding": true, "theme": "dark", "customApiKeyResponses": {"approved": [approved]},
            "projects": {shop.canonicalize().unwrap().to_str().unwrap(): {"hasTrustDialogAccepted": true}}});
        fs::write(dir.path().join(".claude.json"), known.to_string()).unwrap();
        Self { dir, model: Model::start(behavior) }
    }

    /// A home directory with the hooks that `lookout setup` prints.
    pub(crate) fn hooked(lookout: &Lookout, behavior: ModelBehavior) -> Self {
        let home = Self::new(behavior);
        let dir = home.dir.path();
        fs::write(dir.join("fixed.yaml"), format!("listen: {}\n", lookout.address())).unwrap();
        let mut setup = Command::new(crate::program::lookout());
        setup.args(["setup", "claude-code", "--agent", "shop", "--project", "till", "--config", "fixed.yaml"]);
        let text = run(setup.env_clear().current_dir(dir));
        let (_, hooks) = text.split_once("settings.json, once").and_then(|it| it.1.split_once('\n')).expect("hooks");
        fs::write(dir.join(".claude/settings.json"), hooks).unwrap();
        home
    }

    /// A command in the working directory, with the environment of a user.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path().join("shop")).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.dir.path());
        command.envs([
            ("ANTHROPIC_API_KEY", KEY),
            ("ANTHROPIC_BASE_URL", &self.model.url()),
            ("TERM", "xterm-256color"),
        ]);
        command.envs([("CLAUDE_CODE_MAX_RETRIES", "1"), ("DISABLE_AUTOUPDATER", "1")]);
        command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        // The agent and project of the hooks, as `lookout setup` describes.
        command.envs([("AGENT_NAME", "shop"), ("AGENT_PROJECT", "till")]);
        command
    }
}

/// A program in a terminal. Dropping it kills the program.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a terminal");
        let keys = child.stdin.take().expect("a keyboard");
        let mut output = child.stdout.take().expect("a screen");
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { child, keys, screen }
    }

    fn sees(&self, text: &str) {
        let sees = || self.screen.lock().unwrap().contains(text).then_some(());
        eventually(&format!("`{text}` on the screen"), sees);
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("it still runs");
    }

    /// Types a line, and submits it once it is on the screen: sent at once, it would be taken for pasted text.
    fn type_line(&mut self, line: &str) {
        self.screen.lock().unwrap().clear();
        self.types(line);
        self.sees(line);
        self.types("\r");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have exited already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn at_a_terminal() {
    let lookout = Setup::new("").start();
    let home = Home::hooked(&lookout, ModelBehavior::Waits);
    let mut script = home.command("script");
    script.args(["-qfc", "stty cols 120 rows 40; exec claude --permission-mode default", "/dev/null"]);
    let mut terminal = Terminal::start(script);
    let waits = |expected: &str| {
        eventually(expected, || (shown(&agent(&lookout, "till", "shop")) == expected).then_some(()));
    };
    terminal.sees("❯");
    terminal.type_line("count");
    waits("running");
    home.model.set(ModelBehavior::UsesShell);
    waits("waiting_question: permission to run Bash");
    assert_eq!(agent(&lookout, "till", "shop")["task_id"], "shop#1");
    // Some versions ignore input right after a question is shown.
    let mut probes = 0_u32;
    eventually("idle", || {
        if probes.is_multiple_of(100) {
            terminal.types("\r");
        }
        probes += 1;
        (shown(&agent(&lookout, "till", "shop")) == "idle").then_some(())
    });
    home.model.set(ModelBehavior::Fails(429));
    terminal.type_line("again");
    waits("waiting_dependency: rate-limited");
    assert_eq!(lookout.get("/api/alerts?state=firing").json()["alerts"][0]["rule"], "RateLimited");
    terminal.type_line("/exit");
    waits("completed");
    let page = lookout.get("/metrics").text().to_owned();
    assert!(!page.contains("hooksecret") && !lookout.log().contains("hooksecret"), "{page}");
    for line in [
        "orchestrator_agent_tasks_total{project=\"till\",agent_name=\"shop\",outcome=\"completed\"} 1",
        "orchestrator_agent_tasks_total{project=\"till\",agent_name=\"shop\",outcome=\"failed\"} 1",
        "orchestrator_agent_rate_limit_hits_total{project=\"till\",agent_name=\"shop\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

fn limited_run() {
    let lookout = Setup::new("").start();
    let home = Home::hooked(&lookout, ModelBehavior::UsesShell);
    run(home.command("claude").args(["-p", "count", "--allowedTools", "Bash"]).stdin(Stdio::null()));
    let now = agent(&lookout, "till", "shop");
    assert_eq!((shown(&now).as_str(), &now["type"]), ("completed", &json!("claude-code")));
    home.model.set(ModelBehavior::Fails(429));
    let status = home.command("claude").args(["-p", "count"]).stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(!status.expect("it ran").success());
    assert_eq!(shown(&agent(&lookout, "till", "shop")), "failed: rate-limited");
    assert_eq!(lookout.get("/metrics").text().matches("orchestrator_agent_up{").count(), 1);
}

fn stopped_at_a_terminal() {
    let stops = |limit: u32| format!("{{limit: {limit}, action: stop}}");
    let budgets = format!("budgets: {{tokens_per_task: {}, tokens_per_day: {}}}\n", stops(100), stops(1_000));
    let lookout = Setup::new(&budgets).start();
    let home = Home::hooked(&lookout, ModelBehavior::Waits);
    let mut script = home.command("script");
    script.args(["-qfc", "stty cols 200 rows 40; exec claude --permission-mode acceptEdits", "/dev/null"]);
    let mut terminal = Terminal::start(script);
    let is = |expected: &str| {
        eventually(expected, || (shown(&agent(&lookout, "till", "shop")) == expected).then_some(()));
    };
    terminal.sees("❯");
    terminal.type_line("count");
    is("running");
    eventually("the model is asked", || (home.model.calls() == 1).then_some(()));
    budgets::uses(&lookout, "till", "shop", 120);
    home.model.set(ModelBehavior::UsesShell);
    is("paused: stopped by lookout: over its budget of tokens for this task");
    terminal.sees("stopped by lookout: shop used 120 of its 100 tokens for this task (budgets.tokens_per_task)");
    // The next prompt shows that no request was sent in between.
    home.model.set(ModelBehavior::Answers);
    terminal.type_line("again");
    is("idle");
    assert_eq!(home.model.calls(), 2);
    assert!(!home.dir.path().join("shop/made-by-the-model").exists(), "the tool was not run");
    budgets::uses(&lookout, "till", "shop", 1_000);
    terminal.type_line("more");
    terminal.sees("stopped by lookout: shop used 1120 of its 1000 tokens for today (budgets.tokens_per_day)");
    is("paused: stopped by lookout: over its budget of tokens for today");
    terminal.type_line("/exit");
    is("completed");
    assert_eq!(home.model.calls(), 2, "the last prompt was not sent");
}

fn endless_run() {
    let lookout = Setup::new("budgets: {tokens_per_task: {limit: 25, action: stop}}\n").start();
    let home = Home::hooked(&lookout, ModelBehavior::NeverEnds);
    let mut command = home.command("claude");
    command.args(["-p", "count", "--allowedTools", "Bash", "--max-turns", "2000"]).stdin(Stdio::null());
    command.envs([("CLAUDE_CODE_ENABLE_TELEMETRY", "1"), ("OTEL_LOGS_EXPORTER", "otlp")]);
    command.envs([("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_LOGS_EXPORT_INTERVAL", "100")]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", lookout.url());
    command.env("OTEL_RESOURCE_ATTRIBUTES", "agent.name=shop,project=till");
    run(&mut command);
    let ended = agent(&lookout, "till", "shop");
    assert_eq!(shown(&ended), "completed: stopped by lookout: over its budget of tokens for this task");
    let tools = fs::read_to_string(home.dir.path().join("shop/made-by-the-model")).unwrap().lines().count();
    let calls = home.model.calls();
    // It stops before the tool of the last call, or after that tool and before the next call.
    assert!(calls == tools || calls == tools + 1, "{calls} calls, {tools} tools");
    // Each call has seven tokens of input and three of output: two calls are within the budget.
    assert!((3..2000).contains(&calls), "{calls}");
    let page = lookout.get("/metrics").text().to_owned();
    let stops = "lookout_stops_total{budget=\"tokens_per_task\"} ";
    assert!(page.lines().any(|line| line.strip_prefix(stops).is_some_and(|count| count != "0")), "{page}");
}

//! Real agents, a proxy, and programs with OpenTelemetry's SDK, as published on npm and PyPI, with the settings that
//! `lookout setup` prints and a fake provider. The usage on `/metrics` must equal what the provider handed out, over each
//! protocol, through errors and restarts.
//!
//! Each runs in a home directory of its own with no other environment, so that it is independent of the machine.

mod autogen;
mod claude_code;
mod codex;
mod gemini_cli;
pub(crate) mod litellm;
mod opentelemetry;

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

use crate::Case;
use crate::counterparts::{self, run};
use crate::doubles::model::Usage;
use crate::durability;
use crate::program::{Lookout, Setup, eventually};
use crate::prometheus;

pub(crate) fn trials() -> Vec<Case> {
    // The slowest first.
    let trials = [
        litellm::trials(),
        autogen::trials(),
        claude_code::trials(),
        codex::trials(),
        gemini_cli::trials(),
        opentelemetry::trials(),
    ];
    trials.into_iter().flatten().collect()
}

/// The name and project of every agent here.
const AGENT: &str = "builder";
const PROJECT: &str = "shop";

/// The program, on addresses that stay the same across restarts.
pub(crate) struct Sidecar {
    setup: Setup,
    lookout: Option<Lookout>,
    http: SocketAddr,
    grpc: SocketAddr,
}

/// The expected usage of the agent on `/metrics`.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    tokens: Usage,
    cost: f64,
    requests: u64,
    errors: u64,
    rate_limit_hits: u64,
    retries: u64,
}

impl Sidecar {
    pub(crate) fn start(config: &str) -> Self {
        let [main, http, grpc] = [free(), free(), free()];
        let mut setup = Setup::new(config);
        for (name, address) in [("LISTEN", main), ("OTLP__HTTP", http), ("OTLP__GRPC", grpc)] {
            setup = setup.env(&format!("LOOKOUT_{name}"), &address.to_string());
        }
        let lookout = Some(setup.start());
        Self { setup, lookout, http, grpc }
    }

    pub(crate) fn lookout(&self) -> &Lookout {
        self.lookout.as_ref().expect("it runs")
    }

    /// Kills it once the usage of the agent is on disk, and starts it again.
    fn crash(&mut self) {
        let history = self.setup.path().join("lookout.history.db");
        let [input, output, requests] =
            [("tokens_total", "\"input\""), ("tokens_total", "\"output\""), ("requests_total", "")]
                .map(|(family, label)| self.value(family, label).expect("a number"));
        let numbers = format!("%\"tokens\":[[{input},%],[{output},%\"requests\":[{requests},%");
        let saved = format!("SELECT count(*) FROM agents WHERE body LIKE '{numbers}'");
        eventually("its numbers on disk", || (durability::number(&history, &saved) == Some(1)).then_some(()));
        self.lookout.take().expect("it runs").kill9();
        self.lookout = Some(self.setup.start());
    }

    /// The output of `lookout setup` for a tool.
    pub(crate) fn printed(&self, tool: &str) -> String {
        let arguments = ["setup", tool, "--agent", AGENT, "--project", PROJECT, "--config", "lookout.yaml"];
        run(&mut self.setup.command(&arguments))
    }

    /// Checks that neither doctor nor promtool reports a problem.
    fn is_well(&self) {
        self.doctor_reports("1 agent, nothing to fix");
    }

    /// Checks that doctor reports exactly this, and promtool nothing.
    fn doctor_reports(&self, expected: &str) {
        let report = self.doctor();
        assert!(report.ends_with(&format!("\n{expected}\n")), "{report}");
        prometheus::reads(self.lookout().get("/metrics").text());
    }

    /// The output of `lookout doctor`.
    fn doctor(&self) -> String {
        run(&mut self.setup.command(&["doctor", "--url", &self.lookout().url()]))
    }

    /// A value of the agent.
    fn value(&self, family: &str, label: &str) -> Option<f64> {
        self.series(&format!("orchestrator_agent_{family}{{project=\"{PROJECT}\",agent_name=\"{AGENT}\""), label)
    }

    /// The value of the first series with this prefix and label.
    fn series(&self, start: &str, label: &str) -> Option<f64> {
        let page = self.lookout().get("/metrics");
        let line = page.text().lines().find(|line| line.starts_with(start) && line.contains(label))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until `/metrics` has exactly this usage, of this agent and no other.
    fn shows(&self, what: &str, expected: &Shown) {
        let tokens = expected.tokens;
        let numbers = [
            ("tokens_total", "token_type=\"input\"", tokens.input),
            ("tokens_total", "token_type=\"output\"", tokens.output),
            ("tokens_total", "token_type=\"cache_read\"", tokens.cache_read),
            ("tokens_total", "token_type=\"cache_creation\"", tokens.cache_creation),
            ("tokens_total", "token_type=\"reasoning\"", tokens.reasoning),
            ("requests_total", "", expected.requests),
            ("request_errors_total", "", expected.errors),
            ("rate_limit_hits_total", "", expected.rate_limit_hits),
            ("retries_total", "", expected.retries),
        ];
        let mut seen = String::new();
        let agrees = || {
            let cost = self.value("cost_usd_total", "").unwrap_or_default();
            let wrong = numbers.iter().find(|(family, label, number)| {
                let shown = self.value(family, label).unwrap_or_default();
                seen = format!("{family} {label} {shown}, not {number}; cost {cost}, not {}", expected.cost);
                shown != *number as f64
            });
            (wrong.is_none() && (cost - expected.cost).abs() < 1e-9).then_some(())
        };
        let agrees = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually(what, agrees)));
        assert!(agrees.is_ok(), "{what}: {seen}\n{}\n{}", self.doctor(), self.lookout().get("/metrics").text());
        let page = self.lookout().get("/metrics");
        assert_eq!(page.text().matches("orchestrator_agent_up{").count(), 1, "{what}: {}", page.text());
    }
}

/// A free address for a listener that is restarted: outside of the range of ephemeral ports, so that no connection takes
/// it in between.
pub(crate) fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 100) as u16 * 100;
    let candidates = (0..10_000).map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let mut free = candidates.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    free.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

/// A home directory for an agent, with a working directory.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        std::fs::create_dir(dir.path().join("shop")).expect("a folder to work in");
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// A program in the working directory, for at most `seconds`, with the variables that `printed` exports.
    fn command(&self, program: &str, printed: &str, seconds: u32) -> Command {
        let mut command = Command::new("timeout");
        command
            .args([&seconds.to_string(), program])
            .current_dir(self.0.path().join("shop"))
            .env_clear()
            .stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.0.path());
        command.env("NODE_PATH", std::env::join_paths(counterparts::node_modules()).expect("no colons"));
        let exports = printed.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        command.envs(exports.map(|(name, value)| (name, value.trim_matches('"'))));
        command
    }
}

/// Runs a program that must fail; returns its output.
fn fails(command: &mut Command) -> Output {
    let output = command.output().expect("it runs");
    assert!(!output.status.success(), "{command:?}: {output:?}");
    assert_ne!(output.status.code(), Some(124), "it takes too long: {output:?}");
    output
}

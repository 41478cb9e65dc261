//! External programs and modules that tests run against, and how to install each.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program or Python module that a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Prometheus' own checker of rules, configuration and metrics.
    Promtool,
    /// Prometheus.
    Prometheus,
    /// Alertmanager, under Debian's name for it.
    Alertmanager,
    /// Alertmanager's command line.
    Amtool,
    /// A browser.
    Chromium,
    /// Drives Chromium by WebDriver.
    Chromedriver,
    /// Finds what keeps people out of a page.
    Axe,
    /// A builder of images that needs no engine.
    Buildah,
    /// The HTTP client.
    Curl,
    /// SQLite's shell.
    Sqlite,
    /// Generates certificates.
    Openssl,
    /// A wall clock that can be set for one program.
    Faketime,
    /// Permission for a mount namespace.
    Namespaces,
    /// A mail server.
    Aiosmtpd,
    /// The reference parsers of both text formats.
    PrometheusClient,
    /// OpenTelemetry's SDK with its exporters over HTTP and gRPC.
    OpenTelemetry,
    /// Anthropic's agent for the terminal.
    ClaudeCode,
    /// OpenAI's.
    Codex,
    /// Google's.
    GeminiCli,
    /// OpenTelemetry's SDK for Node, with all its exporters.
    OpenTelemetryNode,
    /// A proxy between agents and models.
    LiteLlm,
    /// Microsoft's framework for agents, with the instrumentation of its client.
    AutoGen,
    /// The database of platforms.
    MariaDb,
    /// ClickHouse's engine as a Python module.
    ChDb,
    /// A collector of OpenTelemetry.
    Rotel,
    /// A reverse proxy.
    Nginx,
}

/// Where a counterpart comes from.
enum Origin {
    /// A program, and its Debian package.
    Program(&'static str, &'static str),
    /// A Python module, and its name in the package index.
    Module(&'static str, &'static str),
    /// A program, and its npm package.
    Node(&'static str, &'static str),
    /// A module of Node, and its npm packages.
    NodeModule(&'static str, &'static str),
    /// A Python package in a virtual environment of its own, since it has many dependencies.
    Python(&'static str),
}

impl Need {
    /// All of them.
    const ALL: [Self; 26] = [
        Self::Promtool,
        Self::Prometheus,
        Self::Alertmanager,
        Self::Amtool,
        Self::Chromium,
        Self::Chromedriver,
        Self::Axe,
        Self::Buildah,
        Self::Curl,
        Self::Sqlite,
        Self::Openssl,
        Self::Faketime,
        Self::Namespaces,
        Self::Aiosmtpd,
        Self::PrometheusClient,
        Self::OpenTelemetry,
        Self::ClaudeCode,
        Self::Codex,
        Self::GeminiCli,
        Self::OpenTelemetryNode,
        Self::LiteLlm,
        Self::AutoGen,
        Self::MariaDb,
        Self::ChDb,
        Self::Rotel,
        Self::Nginx,
    ];

    const fn origin(self) -> Origin {
        match self {
            Self::Promtool => Origin::Program("promtool", "prometheus"),
            Self::Prometheus => Origin::Program("prometheus", "prometheus"),
            Self::Alertmanager => Origin::Program("prometheus-alertmanager", "prometheus-alertmanager"),
            Self::Amtool => Origin::Program("amtool", "prometheus-alertmanager"),
            Self::Chromium => Origin::Program("chromium", "chromium"),
            Self::Chromedriver => Origin::Program("chromedriver", "chromium-driver"),
            Self::Axe => Origin::NodeModule("axe-core", "axe-core@4.14.1"),
            Self::Buildah => Origin::Program("buildah", "buildah"),
            Self::Curl => Origin::Program("curl", "curl"),
            Self::Sqlite => Origin::Program("sqlite3", "sqlite3"),
            Self::Openssl => Origin::Program("openssl", "openssl"),
            Self::Faketime => Origin::Program("faketime", "faketime"),
            Self::Namespaces => Origin::Program("unshare", "util-linux"),
            Self::Aiosmtpd => Origin::Module("aiosmtpd", "aiosmtpd"),
            Self::PrometheusClient => Origin::Module("prometheus_client", "prometheus-client"),
            // The SDK is a dependency of the exporter.
            Self::OpenTelemetry => Origin::Module("opentelemetry.exporter.otlp", "opentelemetry-exporter-otlp"),
            Self::ClaudeCode => Origin::Node("claude", "@anthropic-ai/claude-code@2.1.329"),
            Self::Codex => Origin::Node("codex", "@openai/codex@0.169.0"),
            Self::GeminiCli => Origin::Node("gemini", "@google/gemini-cli@0.61.0"),
            Self::LiteLlm => Origin::Python("litellm"),
            Self::AutoGen => Origin::Python("autogen_agentchat"),
            Self::MariaDb => Origin::Program("mariadbd", "mariadb-server"),
            Self::ChDb => Origin::Python("chdb"),
            Self::Rotel => Origin::Python("rotel"),
            Self::Nginx => Origin::Program("nginx", "nginx-light"),
            Self::OpenTelemetryNode => Origin::NodeModule(
                "@opentelemetry/sdk-node",
                "@opentelemetry/sdk-node@0.301.0 @opentelemetry/api@1.10.0",
            ),
        }
    }

    fn is_installed(self) -> bool {
        match self.origin() {
            // The program is everywhere; the permission to use it is not.
            Origin::Program("unshare", _) => succeeds(Command::new("unshare").args(["-rm", "true"])),
            Origin::Program(program, _) | Origin::Node(program, _) => {
                env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
            }
            Origin::Python(package) => package_folder(package).is_some(),
            Origin::NodeModule(module, _) => node_modules().iter().any(|dir| dir.join(module).is_dir()),
            Origin::Module(module, _) => succeeds(Command::new("python3").args(["-c", &format!("import {module}")])),
        }
    }
}

/// The folder of programs of that virtual environment.
pub(crate) fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/counterparts/python/bin")
}

/// The folder of a package in that virtual environment.
fn package_folder(package: &str) -> Option<PathBuf> {
    let of_version = fs::read_dir(python().join("../lib")).into_iter().flatten().flatten();
    of_version.map(|it| it.path().join("site-packages").join(package)).find(|dir| dir.is_dir())
}

/// The program of rotel's package.
pub(crate) fn rotel() -> Option<PathBuf> {
    package_folder("rotel").map(|dir| dir.join("rotel-agent"))
}

/// The folder of Node modules that belongs to the programs on the path: next to them, or npm's global one.
pub(crate) fn node_modules() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).flat_map(|dir| [dir.join(".."), dir.join("../lib/node_modules")]);
    found.filter_map(|dir| dir.canonicalize().ok()).filter(|dir| dir.ends_with("node_modules")).collect()
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The counterparts that are not installed.
pub(crate) fn absent() -> BTreeSet<Need> {
    Need::ALL.into_iter().filter(|need| !need.is_installed()).collect()
}

/// What is missing and the commands that install it, in one line.
pub(crate) fn advice(missing: &BTreeSet<Need>) -> String {
    let mut names = Vec::new();
    let mut packages = BTreeSet::new();
    let mut modules = BTreeSet::new();
    let mut node = BTreeSet::new();
    let mut has_python = true;
    for need in missing {
        match need.origin() {
            Origin::Program(program, package) => {
                names.push(program);
                packages.insert(package);
            }
            Origin::Module(module, package) => {
                names.push(module);
                modules.insert(package);
            }
            Origin::Python(package) => {
                names.push(package);
                has_python = false;
            }
            Origin::Node(program, package) | Origin::NodeModule(program, package) => {
                names.push(program);
                node.insert(package);
            }
        }
    }
    let mut commands = Vec::new();
    if !packages.is_empty() {
        commands.push(packages.iter().fold("sudo apt-get install".to_owned(), |line, package| line + " " + package));
    }
    if !modules.is_empty() {
        commands.push(modules.iter().fold("python3 -m pip install".to_owned(), |line, package| line + " " + package));
    }
    if !node.is_empty() {
        commands.push(node.iter().fold("sudo npm install --global".to_owned(), |line, package| line + " " + package));
    }
    if !has_python {
        let place = "python3 -m venv target/counterparts/python && target/counterparts/python/bin/pip install";
        commands.push(format!("{place} -r tests/it/agents/python.txt"));
    }
    let mut line = format!("not installed: {}", names.join(", "));
    write!(line, "; install with: {}", commands.join(" && ")).expect("a string takes all");
    line
}

/// Runs a program to its end and returns the output of both streams; the test fails if the program fails.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{text}", output.status);
    text
}

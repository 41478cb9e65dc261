//! The real program in a folder of its own on a free port: starts it, sends requests, ends it by SIGTERM or SIGKILL.
//!
//! The caller's environment is not used: tests must never notify a webhook that is set on a developer's machine.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use lookout::clock::Stopwatch;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Response};
use crate::{Case, trial};

/// How long a test waits for a condition; long, as a busy machine is slow and only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test: the one that was built with the tests, or the one that `LOOKOUT_PROGRAM` names.
pub(crate) fn lookout() -> PathBuf {
    std::env::var_os("LOOKOUT_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_lookout").into(), PathBuf::from)
}

/// The tests of the harness itself.
pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("program: the log has the address of the listener", &[], the_address_is_read_from_the_log),
        trial("program: an early exit is reported with the last log lines", &[], an_early_end_is_reported),
    ]
}

/// A folder with a configuration, from which the program can be started again and again.
pub(crate) struct Setup {
    dir: TempDir,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// A script that the shell runs before it executes the program.
    prelude: String,
}

impl Setup {
    /// A folder whose `lookout.yaml` listens on a free port, logs JSON and continues with `config`.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let setup = Self {
            dir,
            program: lookout(),
            arguments: vec!["run".to_owned(), "--config".to_owned(), "lookout.yaml".to_owned()],
            environment: Vec::new(),
            prelude: String::new(),
        };
        setup.write("lookout.yaml", &format!("listen: 127.0.0.1:0\nlog: {{format: json, level: info}}\n{config}"));
        setup
    }

    /// Sets a variable of its environment, which otherwise has only `PATH`.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it with these arguments in place of `run --config lookout.yaml`.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// Limits its open files, sockets included; it can't raise that limit.
    pub(crate) fn open_files(self, files: u32) -> Self {
        self.shell(&format!("ulimit -n {files}"))
    }

    /// Sets a script that the shell runs before it executes the program.
    pub(crate) fn shell(mut self, line: &str) -> Self {
        self.prelude += &format!("{line} && ");
        self
    }

    /// Undoes [`Setup::shell`].
    pub(crate) fn without_shell(mut self) -> Self {
        self.prelude.clear();
        self
    }

    /// Sets another program to start.
    pub(crate) fn program(mut self, program: impl AsRef<Path>) -> Self {
        self.program = program.as_ref().to_owned();
        self
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("a file in the test's folder");
        path
    }

    /// The folder, which is the program's working directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The program with these arguments, in the folder, with the environment of this setup.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = if self.prelude.is_empty() {
            Command::new(&self.program)
        } else {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{}exec \"$@\"", self.prelude), "sh"]).arg(&self.program);
            shell
        };
        command.args(arguments).current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // Tests run in parallel and cannot share the default ports of OTLP.
        command.envs([("LOOKOUT_OTLP__HTTP", "null"), ("LOOKOUT_OTLP__GRPC", "null")]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&self) -> Lookout {
        let lookout = self.spawn().unwrap_or_else(|error| panic!("{error}"));
        eventually("ready", || (lookout.try_get("/-/ready").ok()?.status == 200).then_some(()));
        lookout
    }

    /// Starts it and waits only until its address is logged.
    pub(crate) fn spawn(&self) -> Result<Lookout, String> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut command = self.command(&arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Log::of(child.stderr.take().expect("the child's standard error"));
        let output = Log::of(child.stdout.take().expect("the child's standard output"));
        let address = log.find(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let field = |name| line.get(name).or_else(|| line.get("fields")?.get(name))?.as_str();
            if field("message")? == "listening" { field("address")?.parse().ok() } else { None }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut lookout = Lookout { child, address: nowhere, log, output, at_start: 0 };
        lookout.address = address.ok_or_else(|| format!("no address in the log:\n{}", lookout.log()))?;
        lookout.at_start = lookout.peak_memory().unwrap_or_default();
        Ok(lookout)
    }
}

/// The running program. Dropping it kills it.
pub(crate) struct Lookout {
    child: Child,
    address: SocketAddr,
    log: Arc<Log>,
    output: Arc<Log>,
    /// Its peak memory right after the start, in bytes.
    at_start: u64,
}

impl Lookout {
    /// Its main listener.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its root, for programs that take a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its log so far. A line may come in after the response that it precedes: see [`Self::wait_for_log`].
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until its log contains each of these texts, and returns the log.
    pub(crate) fn wait_for_log(&self, texts: &[&str]) -> String {
        let missing = || texts.iter().find(|text| !self.log().contains(**text));
        let watch = Stopwatch::start();
        while let Some(text) = missing() {
            assert!(watch.elapsed() < PATIENCE, "not logged: {text}\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
        self.log()
    }

    /// Its output so far.
    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    /// The growth of its peak memory since the start, in bytes: the memory at the start depends on the build and on the
    /// machine.
    pub(crate) fn grown(&self) -> u64 {
        self.peak_memory().expect("the state of a running program").saturating_sub(self.at_start)
    }

    /// Its peak memory in bytes; `None` when it has ended.
    fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
    }

    /// Its answer to a GET.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.log()))
    }

    /// Its answer to a GET, or the reason why there is none.
    pub(crate) fn try_get(&self, path: &str) -> std::io::Result<Response> {
        http::request(self.address, "GET", path, &[], b"")
    }

    /// Its answer to a POST of JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        let headers = [("content-type", "application/json")];
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// Its answer to a request of any kind.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        http::request(self.address, method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// Kills it as a crash would: nothing is written or sent after this moment.
    pub(crate) fn kill9(mut self) {
        self.child.kill().expect("a child to kill");
        self.child.wait().expect("the end of a killed child");
    }

    /// Sends SIGTERM, and returns the exit status.
    pub(crate) fn sigterm(mut self) -> ExitStatus {
        self.signal("TERM");
        eventually("its end", || self.ended())
    }

    /// Its exit status, if it ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child to wait for")
    }

    /// Sends it a signal by name, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's builtin; not every machine has a program `kill`.
        let line = format!("kill -s {name} {}", self.child.id());
        crate::counterparts::run(Command::new("sh").args(["-c", &line]));
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The lines of a stream so far, and whether it ended.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grew: Condvar,
}

impl Log {
    /// The lines of a stream as they come.
    fn of(stream: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                writer.push(line);
            }
            writer.end();
        });
        log
    }

    fn push(&self, line: String) {
        self.lines.lock().unwrap().0.push(line);
        self.grew.notify_all();
    }

    fn end(&self) {
        self.lines.lock().unwrap().1 = true;
        self.grew.notify_all();
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().0.join("\n")
    }

    /// The first result of `pick` for a line; `None` when the stream ended or time ran out.
    fn find<T>(&self, mut pick: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let mut found = None;
        let mut seen = 0;
        let wait = self.grew.wait_timeout_while(self.lines.lock().unwrap(), PATIENCE, |(lines, ended)| {
            found = lines[seen..].iter().find_map(|line| pick(line));
            seen = lines.len();
            found.is_none() && !*ended
        });
        drop(wait.unwrap());
        found
    }
}

/// Calls `probe` until it returns a value; the test fails if it does not in time.
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// Calls `probe` until it returns a value; the test fails if it does not within `patience`.
pub(crate) fn within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(watch.elapsed() < patience, "not within {patience:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn the_address_is_read_from_the_log() {
    let line = r#"{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:4711"}}"#;
    let script = format!("echo first >&2; echo '{line}' >&2; exec sleep 600");
    let lookout = Setup::new("").program("sh").arguments(&["-c", &script]).spawn().unwrap();
    assert_eq!(lookout.address().to_string(), "127.0.0.1:4711");
    lookout.wait_for_log(&["first"]);
    assert!(!lookout.sigterm().success(), "sleep ends by the signal");
}

fn an_early_end_is_reported() {
    let setup = Setup::new("").program("sh").arguments(&["-c", "echo no such file >&2; exit 1"]);
    let message = setup.spawn().map(|lookout| lookout.address()).unwrap_err();
    assert!(message.contains("no such file"), "{message}");
}

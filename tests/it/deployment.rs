//! The shipped systemd unit: the sidecar works under the unit's system call filter.
//!
//! This binary applies the filter to itself and then executes the sidecar. Here a forbidden call kills the process, while
//! the unit only makes it fail, so that the test notices every such call.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode};

use serde_json::json;

use crate::counterparts::Need;
use crate::doubles::slack::Slack;
use crate::doubles::smtp::{PASSWORD, Smtp};
use crate::program::{Setup, eventually};
use crate::slack::{idle, push, receiver};
use crate::{Case, trial};

/// The argument by which this binary applies the filter to itself and executes the program that follows.
const UNDER_FILTER: &str = "--under-filter";

const UNIT: &str = include_str!("../../deploy/lookout.service");
const GROUPS: &str = include_str!("samples/syscall-groups.txt");

pub(crate) fn trials() -> Vec<Case> {
    let needs = &[Need::Aiosmtpd, Need::Openssl];
    vec![
        trial("deployment: the sidecar works under the unit's system call filter", needs, under_the_filter),
        trial("deployment: a forbidden system call ends the process in this test", &[], what_the_filter_forbids),
    ]
}

/// The calls that the unit allows, in the way that systemd reads its lines: the first decides whether a list allows, and
/// each later one adds to it, or takes away with `~`.
fn allowed() -> BTreeSet<&'static str> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut group = "";
    for word in GROUPS.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace) {
        match word.strip_suffix(':') {
            Some(name) => group = name,
            None => groups.entry(group).or_default().push(word),
        }
    }
    let mut allowed = BTreeSet::new();
    for line in UNIT.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (takes_away, names) = line.strip_prefix('~').map_or((false, line), |names| (true, names));
        for name in names.split_whitespace() {
            let one = [name];
            let calls =
                if name.starts_with('@') { groups.get(name).expect("a group that is expanded") } else { &one[..] };
            for call in calls {
                if takes_away {
                    allowed.remove(call)
                } else {
                    allowed.insert(*call)
                };
            }
        }
    }
    allowed
}

/// Applies the unit's filter to this process and executes the program in the arguments, if they ask for it.
pub(crate) fn program_under_filter() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != UNDER_FILTER {
        return None;
    }
    let architecture = std::env::consts::ARCH.try_into().expect("an architecture with filters");
    let compile = |calls: &[&str]| {
        let rules: Vec<_> = calls.iter().map(|call| json!({"syscall": call})).collect();
        let filter = json!({"unit": {"mismatch_action": "kill_process", "match_action": "allow", "filter": rules}});
        seccompiler::compile_from_json(filter.to_string().as_bytes(), architecture)
    };
    // A group names calls of all architectures.
    let mut calls: Vec<&str> = allowed().into_iter().filter(|call| compile(&[call]).is_ok()).collect();
    // SQLite hands its files to the owner of the database, which only root can, and the unit's user is not root.
    if rustix::process::geteuid().is_root() {
        calls.push("fchown");
    }
    let filters = compile(&calls).expect("a filter");
    seccompiler::apply_filter(&filters["unit"]).expect("leave to lay a filter");
    let error = Command::new(arguments.next().expect("a program")).args(arguments).exec();
    panic!("the program did not start: {error}");
}

/// A setup whose program runs under the filter.
fn filtered(config: &str, program: &str, arguments: &[&str]) -> Setup {
    let this = std::env::current_exe().expect("this binary");
    let arguments = [&[UNDER_FILTER, program], arguments].concat();
    Setup::new(config).program(this.to_str().expect("a path in UTF-8")).arguments(&arguments)
}

fn what_the_filter_forbids() {
    let setup = filtered("", "sh", &["-c", "exit 7"]);
    let run = |arguments: &[&str]| setup.command(arguments).status().expect("it runs");
    assert_eq!(run(&[UNDER_FILTER, "sh", "-c", "exit 7"]).code(), Some(7), "what is allowed works");
    let forbidden = run(&[UNDER_FILTER, "python3", "-c", "import os; os.sched_setaffinity(0, {0})"]);
    assert_ne!(forbidden.code(), Some(0), "an allowed call of @resources would weaken the unit");
    assert!(!allowed().contains("mount") && !allowed().contains("setrlimit") && allowed().contains("setpriority"));
}

fn under_the_filter() {
    let (slack, mail) = (Slack::start(), Smtp::start(&[]));
    let port = mail.port;
    let config = format!(
        "sources: [{{name: s, kind: orchestrator-cc, url: 'http://127.0.0.1:9', interval: 100ms}}]\n\
         record: {{path: recording}}\nreceivers:\n{}  - name: mail\n    email: {{to: [ops@example.com], \
         from: lookout@example.com, smtp: {{host: localhost, port: {port}, username: lookout, password_file: password, ca_file: '{}'}}}}\n",
        receiver("ops", &slack),
        mail.ca_file().display()
    );
    let setup = filtered(&config, &crate::program::lookout().to_string_lossy(), &["run", "--config", "lookout.yaml"])
        .env("LOOKOUT_OTLP__HTTP", "127.0.0.1:0")
        .env("LOOKOUT_OTLP__GRPC", "127.0.0.1:0");
    setup.write("password", PASSWORD);
    let mut lookout = setup.start();
    push(&lookout, &idle("a", 400));
    slack.wait(1);
    mail.wait(1);
    let usage = json!({"project": "shop", "usage": [{"agent": "a", "input": 1, "id": "one"}]});
    assert_eq!(lookout.post("/api/usage", &usage).status, 200);
    let hook = json!({"hook_event_name": "UserPromptSubmit", "session_id": "s", "prompt": "go"});
    assert!([200, 204].contains(&lookout.post("/hooks/claude-code?agent=b", &hook).status));
    for signal in ["metrics", "traces", "logs"] {
        assert_eq!(lookout.post(&format!("/v1/{signal}"), &json!({})).status, 200, "{signal}");
    }
    for headers in [&[][..], &[("accept-encoding", "gzip")]] {
        assert_eq!(lookout.send("GET", "/metrics", headers, b"").status, 200);
    }
    for path in ["/api/status", "/api/alerts", "/api/telemetry", "/api/silences", "/-/healthy", "/-/ready"] {
        assert_eq!(lookout.get(path).status, 200, "{path}");
    }
    let silence = json!({"matchers": {"rule": "AgentIdle"}, "duration": "1h", "created_by": "me", "comment": "c"});
    assert_eq!(lookout.post("/api/silences", &silence).status / 100, 2);
    assert_eq!(lookout.send("POST", "/-/reload", &[], b"").status, 200);
    lookout.signal("HUP");
    eventually("the reload by signal", || {
        assert_eq!(lookout.ended(), None, "it ended: a call is forbidden");
        (lookout.log().matches("configuration reloaded").count() == 2).then_some(())
    });
    let ended = lookout.sigterm();
    assert!(ended.success(), "signal {:?}: {ended}", ended.signal());
    for file in ["lookout.db", "lookout.history.db", "recording"] {
        assert!(setup.path().join(file).is_file(), "{file}");
    }
}

//! Signals: what the agent prints after one is still passed through.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::{Pipe, ended, sample, seen};
use crate::counterparts::run;
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

pub(super) fn trials() -> Vec<Case> {
    vec![
        trial("pipe: after a signal the agent's last output is passed through", &[], they_wait_for_last_words),
        trial("pipe: an agent that dies of the same signal is reported as interrupted", &[], the_same_signal),
        trial("pipe: a run with a result before the signal is completed", &[], a_result_stands),
        trial("pipe: ignored signals stay ignored", &[], ignored_signals_stay_ignored),
    ]
}

/// An agent that has printed a line.
fn ready(setup: &Setup, lookout: &Lookout, name: &str) -> Pipe {
    let mut pipe = Pipe::start(setup, &lookout.url(), &["--agent", name]);
    pipe.write(b"one\n");
    pipe.expect(b"one\n");
    seen(lookout, name, "running", None);
    pipe
}

fn they_wait_for_last_words() {
    let setup = Setup::new("");
    let lookout = setup.start();
    // The first one is the agent's, and a terminal that is gone ends nothing that is still read.
    for signal in ["INT", "HUP"] {
        let mut pipe = ready(&setup, &lookout, signal);
        pipe.signal(signal);
        pipe.write(b"last words\n");
        pipe.expect(b"last words\n");
        assert!(pipe.end().2.success());
        seen(&lookout, signal, "failed", Some("interrupted"));
    }
    // Pending signals of one kind are merged, so each is sent until it is handled.
    let mut pipe = ready(&setup, &lookout, "twice");
    let status = eventually("its end", || {
        pipe.signal("INT");
        pipe.child.try_wait().expect("a child")
    });
    assert_eq!(status.code(), Some(130));
    seen(&lookout, "twice", "failed", Some("interrupted"));
    let mut pipe = ready(&setup, &lookout, "term");
    pipe.signal("TERM");
    pipe.write(b"last words\n");
    pipe.expect(b"last words\n");
    let status = eventually("its end", || pipe.child.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(143));
    seen(&lookout, "term", "failed", Some("interrupted"));
}

fn the_same_signal() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let piped = |name: &str| {
        let mut agent = Command::new("sleep").arg("60").stdout(Stdio::piped()).process_group(0).spawn().expect("sleep");
        let mut command = setup.command(&["pipe", "--agent", name, "--url", &lookout.url()]);
        command.stdin(agent.stdout.take().expect("its output")).stdout(Stdio::null()).process_group(agent.id() as i32);
        (agent, command.spawn().expect("lookout"))
    };
    // As from a terminal: the agent may end, and with it the stream, before we have looked at our signal.
    let (mut agent, mut pipe) = piped("group");
    seen(&lookout, "group", "starting", None);
    run(Command::new("sh").args(["-c", &format!("kill -s INT -- -{}", agent.id())]));
    assert!(pipe.wait().expect("its end").success());
    seen(&lookout, "group", "failed", Some("interrupted"));
    agent.wait().expect("its end");
    // As from a supervisor: one after the other, the agent first.
    let (mut agent, mut pipe) = piped("each");
    seen(&lookout, "each", "starting", None);
    run(Command::new("sh").args(["-c", &format!("kill -s KILL {}; kill -s TERM {}", agent.id(), pipe.id())]));
    assert!(pipe.wait().expect("its end").success());
    seen(&lookout, "each", "failed", Some("interrupted"));
    agent.wait().expect("its end");
}

fn a_result_stands() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut pipe = Pipe::start(&setup, &lookout.url(), &["--agent", "a"]);
    let run = sample("claude-code-tool.jsonl");
    pipe.write(&run);
    pipe.expect(&run);
    seen(&lookout, "a", "completed", None);
    pipe.signal("INT");
    assert!(pipe.end().2.success());
    seen(&lookout, "a", "completed", None);
}

fn ignored_signals_stay_ignored() {
    // As in a script's background, or under nohup: the agent ignores them, too.
    let lookout = Setup::new("").start();
    let setup = Setup::new("").shell("trap '' INT TERM HUP");
    let mut pipe = Pipe::start(&setup, &lookout.url(), &["--agent", "a"]);
    for signal in ["INT", "INT", "HUP", "TERM"] {
        pipe.write(b"one\n");
        pipe.expect(b"one\n");
        pipe.signal(signal);
    }
    pipe.write(b"last words\n");
    pipe.expect(b"last words\n");
    assert!(pipe.end().2.success());
    ended(&lookout, "a");
}

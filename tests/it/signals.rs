//! Resets signals for the programs that tests start. A shell's background job ignores SIGINT, `nohup` SIGHUP, and child
//! processes inherit that; programs of tests must have the default action of every signal.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::counterparts::run;
use crate::{Case, trial};

const NAME: &str = "signals: programs of tests get them as they are by default";
/// Marks the process in which this test runs alone.
const INNER: &str = "LOOKOUT_TEST_OF_SIGNALS";
/// The signals that are reset.
const ALL: [i32; 8] = [SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

pub(crate) fn trials() -> Vec<Case> {
    vec![trial(NAME, &[], they_are_default)]
}

/// Installs an empty handler for each ignored signal: executing a program resets a signal with a handler, but keeps an
/// ignored one ignored.
pub(crate) fn reset_for_programs() {
    for signal in ALL.into_iter().filter(|signal| ignored("self") & bit(*signal) != 0) {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).expect("a handler");
    }
}

/// The ignored signals of a process, a bit for each.
fn ignored(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the state of a process");
    mask(&status)
}

fn mask(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("what it ignores");
    u64::from_str_radix(mask.trim(), 16).expect("a mask")
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn they_are_default() {
    if std::env::var_os(INNER).is_some() {
        let output = Command::new("cat").arg("/proc/self/status").output().expect("cat");
        let mask = mask(&String::from_utf8_lossy(&output.stdout));
        assert!(ALL.iter().all(|signal| mask & bit(*signal) == 0), "{mask:x}");
        return;
    }
    // As nohup in a background job that has no terminal leaves them.
    let this = std::env::current_exe().expect("this program");
    let line = "trap '' ALRM CHLD HUP INT QUIT TERM USR1 USR2; exec \"$@\" < /dev/null";
    run(Command::new("sh").args(["-c", line, "sh"]).arg(this).args(["--exact", NAME]).env(INNER, "1"));
}

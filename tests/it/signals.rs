//! Signals as the programs of the tests get them. A shell's background job ignores SIGINT, `nohup` SIGHUP, and both
//! are inherited over any number of programs; what a test starts is to have every signal as it is by default.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::counterparts::run;
use crate::{Case, trial};

const NAME: &str = "signals: programs of tests get them as they are by default";
/// Marks the process in which this test runs alone.
const INNER: &str = "LOOKOUT_TEST_OF_SIGNALS";
/// Those that are taken care of.
const ALL: [i32; 8] = [SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

pub(crate) fn trials() -> Vec<Case> {
    vec![trial(NAME, &[], they_are_default)]
}

/// From now on programs started from here get each signal as it is by default, and this one ignores what it ignored:
/// a signal with a handler is reset for a new program, an ignored one is not. The handler does nothing.
pub(crate) fn reset_for_programs() {
    for signal in ALL.into_iter().filter(|signal| ignored("self") & bit(*signal) != 0) {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).expect("a handler");
    }
}

/// What a process ignores, a bit for each signal.
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

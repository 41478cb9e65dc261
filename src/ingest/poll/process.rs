//! Whether a process of this machine is alive, and since when.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};

use crate::clock::Time;
use crate::files;

/// A task's process begins at most this long after the task; what began later has its id by chance.
const LATEST: Duration = Duration::from_secs(120);
/// How far the clock of the system may have been set meanwhile.
const SKEW: Duration = Duration::from_secs(5);
/// Largest file of `/proc` that is read, in bytes.
const MAX_FILE: u64 = 256 << 10;
/// Clock ticks a second in `/proc`, on all architectures of Linux that are built for.
const TICKS: u64 = 100;

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessState {
    /// There is none with this id.
    Gone,
    /// There is one; `since` is unknown where the system does not say.
    Alive { since: Option<Time> },
    /// It can't be known.
    Unknown,
}

/// The state of the process with this id.
pub(super) fn state(pid: i32) -> ProcessState {
    let Some(id) = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else { return ProcessState::Unknown };
    match test_kill_process(id) {
        Ok(()) | Err(rustix::io::Errno::PERM) => {
            let is_zombie = field(pid, 0).as_deref() == Some("Z");
            if is_zombie { ProcessState::Gone } else { ProcessState::Alive { since: began(pid) } }
        }
        Err(rustix::io::Errno::SRCH) => ProcessState::Gone,
        Err(_) => ProcessState::Unknown,
    }
}

/// Whether a process that began at `since` may be that of a task that began at `task`.
pub(super) fn may_have_begun(since: Option<Time>, task: Time) -> bool {
    since.is_none_or(|since| since.plus(SKEW) >= task && since <= task.plus(LATEST))
}

fn read(path: &str) -> Option<String> {
    String::from_utf8(files::read_blocking(Path::new(path), MAX_FILE).ok()?).ok()
}

/// A field of `/proc/PID/stat` after the command, which may contain spaces and parentheses; the state is the first.
fn field(pid: i32, number: usize) -> Option<String> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(number).map(str::to_owned)
}

fn began(pid: i32) -> Option<Time> {
    let ticks: u64 = field(pid, 19)?.parse().ok()?;
    let stat = read("/proc/stat")?;
    let boot: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let millis = boot.checked_mul(1_000)?.checked_add(ticks.checked_mul(1_000)? / TICKS)?;
    Some(Time::from_millis(i64::try_from(millis).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn this_process_is_alive_since_it_began_and_others_are_not() {
        let pid = i32::try_from(std::process::id()).expect("an id");
        let ProcessState::Alive { since } = state(pid) else { panic!("it runs") };
        let now = Clock::system().wall();
        if cfg!(target_os = "linux") {
            assert!(since.is_some_and(|since| since <= now.plus(SKEW)));
            assert!(may_have_begun(since, since.expect("a time")));
            assert!(!may_have_begun(since, now.plus(Duration::from_secs(3600))), "it began before the task");
            let earlier = since.expect("a time").minus(Duration::from_secs(3600));
            assert!(!may_have_begun(since, earlier), "it began long after the task");
        }
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let child_id = i32::try_from(child.id()).expect("an id");
        child.wait().expect("its end");
        assert_eq!(state(child_id), ProcessState::Gone);
        assert_eq!((state(0), state(-1)), (ProcessState::Unknown, ProcessState::Unknown));
    }
}

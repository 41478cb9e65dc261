//! Disks that can't be written or contain damaged files. Alerts are sent nevertheless.

use std::io::Write as _;
use std::process::Command;

use crate::counterparts::{self, Need};
use crate::doubles::slack::Slack;
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{idle, metric, push, receiver};
use crate::{Case, trial};

pub(super) fn trials() -> Vec<Case> {
    vec![
        trial(
            "faults: on a full disk alerts are sent, the disk is an alert, and all is saved once there is room",
            &[Need::Namespaces],
            full,
        ),
        trial("faults: a start on a full disk restores what was notified and continues", &[], || unwritable(FULL)),
        trial(
            "faults: a start on a read-only disk restores what was notified and continues",
            &[Need::Namespaces],
            || {
                unwritable(READ_ONLY);
            },
        ),
        trial(
            "faults: a first start without a writable store is an error with a remedy",
            &[Need::Namespaces],
            first_start,
        ),
        trial("faults: readiness follows the disk even without input", &[], readiness),
        trial("faults: after a start on a full disk, state is written once there is room", &[], full_at_start),
        trial("faults: files removed at run time are created again, and nothing is lost", &[], removed),
        trial("faults: a file size limit does not stop the sidecar", &[], limited_size),
        trial("faults: every damaged ledger is kept under its own name", &[], damaged_again),
    ]
}

/// A shell that executes a program whose every write to a file fails.
const FULL: &str = "trap '' XFSZ && ulimit -f 0";
/// A shell in a mount namespace of its own, in which its folder is read-only.
const READ_ONLY: &str =
    "exec unshare -rm sh -c 'mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" && exec \"$@\"' sh \"$@\"";
/// The same with a small disk in `disk`.
const SMALL: &str =
    "exec unshare -rm sh -c 'mkdir -p disk && mount -t tmpfs -o size=3m none disk && exec \"$@\"' sh \"$@\"";

/// Lets every write of the program to a file fail from now on, or none.
pub(crate) fn fill(lookout: &Lookout, full: bool) {
    let (id, limit) = (lookout.id(), if full { "1:" } else { "unlimited:" });
    counterparts::run(Command::new("prlimit").args([&format!("--pid={id}"), &format!("--fsize={limit}")]));
}

/// One receiver, and the alert of a failing store without its `for`.
fn setup(slack: &Slack, store: &str) -> Setup {
    let config = format!("{store}rules: [mine.yaml]\nreceivers:\n{}", receiver("ops", slack));
    let setup = Setup::new(&config);
    setup.write(
        "mine.yaml",
        "rules:\n  - {name: StoreFailing, for_each: sidecar, signal: store_failing_seconds, when: at_least, \
         levels: {error: 100ms}, cooldown: 0s, summary: 'the store fails'}\n",
    );
    setup
}

fn notified(slack: &Slack, alert: &str) -> usize {
    slack.delivered().iter().filter(|one| *one == alert).count()
}

fn wait_for(slack: &Slack, alert: &str) {
    eventually(alert, || (notified(slack, alert) > 0).then_some(()));
}

fn full() {
    let slack = Slack::start();
    let setup = setup(&slack, "store: {path: disk/lookout.db}\n").shell(SMALL);
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    wait_for(&slack, "[WARNING] a");
    // The disk is in the program's own namespace.
    let disk = format!("/proc/{}/root{}/disk/filler", lookout.id(), setup.path().display());
    let mut filler = std::fs::File::create(&disk).expect("a file on the small disk");
    while filler.write_all(&[0; 512]).is_ok() {}
    push(&lookout, &idle("b", 650));
    push(&lookout, &idle("a", 0));
    wait_for(&slack, "[ERROR] b");
    wait_for(&slack, "[RESOLVED] a");
    // Preallocated space takes some commits; after that the alert fires.
    let mut seconds = 651;
    eventually("the store fails", || {
        seconds += 1;
        push(&lookout, &idle(&format!("c{seconds}"), seconds));
        (notified(&slack, "[ERROR] lookout") > 0).then_some(())
    });
    assert!(metric(&lookout, "lookout_store_errors_total").is_some_and(|errors| errors >= 1.0));
    lookout.wait_for_log(&["the disk is full: free some space"]);
    drop(filler);
    std::fs::remove_file(&disk).expect("room again");
    push(&lookout, &idle("b", 0));
    wait_for(&slack, "[RESOLVED] b");
    wait_for(&slack, "[RESOLVED] lookout");
    lookout.wait_for_log(&["store file is writable again"]);
    assert!(lookout.sigterm().success());
    for alert in ["[WARNING] a", "[ERROR] b", "[RESOLVED] a", "[RESOLVED] b"] {
        assert_eq!(notified(&slack, alert), 1, "{alert}: {:?}", slack.delivered());
    }
}

fn unwritable(disk: &str) {
    for is_killed in [false, true] {
        let slack = Slack::start();
        let mut setup = setup(&slack, "");
        let lookout = setup.start();
        push(&lookout, &idle("a", 400));
        wait_for(&slack, "[WARNING] a");
        eventually("it is ticked off", || {
            (metric(&lookout, "lookout_notifications_total{receiver=\"ops\"}")? > 0.0).then_some(())
        });
        crate::durability::wait_until_settled(&setup, 1);
        if is_killed {
            lookout.kill9();
        } else {
            assert!(lookout.sigterm().success());
        }
        setup = setup.shell(disk);
        // It is not ready, but works.
        let lookout = setup.spawn().unwrap_or_else(|error| panic!("{error}"));
        lookout.wait_for_log(&["store file is not writable", "lookout.db"]);
        wait_for(&slack, "[ERROR] lookout");
        assert_eq!(lookout.get("/api/status").json()["store_ok"], false);
        assert!(metric(&lookout, "lookout_store_errors_total").is_some_and(|errors| errors >= 1.0));
        push(&lookout, &idle("a", 401));
        push(&lookout, &idle("b", 650));
        wait_for(&slack, "[ERROR] b");
        push(&lookout, &idle("a", 0));
        wait_for(&slack, "[RESOLVED] a");
        assert_eq!(notified(&slack, "[WARNING] a"), 1, "killed: {is_killed}; {:?}", slack.delivered());
        assert!(lookout.sigterm().success());
        // A disk that is writable again is written.
        let lookout = setup.without_shell().start();
        assert!(!lookout.log().contains("store file is not writable"), "{}", lookout.log());
        push(&lookout, &idle("c", 950));
        wait_for(&slack, "[CRITICAL] c");
        assert!(lookout.sigterm().success());
    }
}

fn is_ready(lookout: &Lookout, ready: bool) -> Option<()> {
    (lookout.get("/-/ready").status == if ready { 200 } else { 503 }).then_some(())
}

fn readiness() {
    let slack = Slack::start();
    let lookout = setup(&slack, "").start();
    for round in 0..2 {
        fill(&lookout, true);
        let mut seconds = 400 + round;
        eventually("not ready", || {
            seconds += 1;
            push(&lookout, &idle(&format!("a{seconds}"), seconds));
            is_ready(&lookout, false)
        });
        fill(&lookout, false);
        // No input arrives; the program checks the disk itself.
        eventually("ready", || is_ready(&lookout, true));
    }
    lookout.wait_for_log(&["store file is not writable", "the limit on file size", "store file is writable again"]);
    assert!(lookout.sigterm().success());
}

fn full_at_start() {
    let slack = Slack::start();
    let mut setup = setup(&slack, "");
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    wait_for(&slack, "[WARNING] a");
    assert!(lookout.sigterm().success());
    // Freed later, to make room.
    setup = setup.shell("trap '' XFSZ && ulimit -S -f 0");
    let lookout = setup.spawn().unwrap_or_else(|error| panic!("{error}"));
    push(&lookout, &idle("b", 650));
    wait_for(&slack, "[ERROR] b");
    eventually("not ready", || is_ready(&lookout, false));
    fill(&lookout, false);
    eventually("ready", || is_ready(&lookout, true));
    eventually("all is on disk", || {
        let path = setup.path().join("lookout.db");
        (crate::durability::number(&path, "SELECT count(*) FROM alerts WHERE state = 'firing'")? >= 2).then_some(())
    });
    crate::durability::wait_until_settled(&setup, 2);
    crate::durability::wait_until_saved(&setup, 2);
    lookout.kill9();
    let lookout = setup.without_shell().start();
    push(&lookout, &idle("a", 0));
    push(&lookout, &idle("b", 0));
    wait_for(&slack, "[RESOLVED] a");
    wait_for(&slack, "[RESOLVED] b");
    assert_eq!((notified(&slack, "[WARNING] a"), notified(&slack, "[ERROR] b")), (1, 1), "{:?}", slack.delivered());
    assert!(lookout.sigterm().success());
}

fn removed() {
    let slack = Slack::start();
    let setup = setup(&slack, "store: {path: data/lookout.db}\n").shell("mkdir -p data");
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    wait_for(&slack, "[WARNING] a");
    std::fs::remove_dir_all(setup.path().join("data")).unwrap();
    push(&lookout, &idle("b", 650));
    wait_for(&slack, "[ERROR] b");
    eventually("the files are there again", || {
        let path = setup.path().join("data/lookout.db");
        let firing = crate::durability::number(&path, "SELECT count(*) FROM alerts WHERE state = 'firing'")?;
        let settled = crate::durability::number(&path, "SELECT count(*) FROM outbox WHERE settled_at IS NOT NULL")?;
        let history = setup.path().join("data/lookout.history.db");
        let agents = crate::durability::number(&history, "SELECT count(*) FROM agents")?;
        (firing >= 2 && settled >= 2 && agents == 2).then_some(())
    });
    lookout.wait_for_log(&["store file was removed or moved"]);
    lookout.kill9();
    let lookout = setup.start();
    push(&lookout, &idle("a", 0));
    push(&lookout, &idle("b", 0));
    wait_for(&slack, "[RESOLVED] a");
    wait_for(&slack, "[RESOLVED] b");
    assert_eq!((notified(&slack, "[WARNING] a"), notified(&slack, "[ERROR] b")), (1, 1), "{:?}", slack.delivered());
    assert!(lookout.sigterm().success());
}

fn limited_size() {
    let slack = Slack::start();
    // The shell of the test may ignore the signal, and what it ignores the program inherits.
    let setup = setup(&slack, "").shell("trap - XFSZ");
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    wait_for(&slack, "[WARNING] a");
    fill(&lookout, true);
    push(&lookout, &idle("b", 650));
    wait_for(&slack, "[ERROR] b");
    eventually("not ready", || is_ready(&lookout, false));
    assert!(lookout.sigterm().success());
}

fn first_start() {
    let setup = Setup::new("").shell(READ_ONLY);
    let error = setup.spawn().map(|lookout| lookout.log()).expect_err("nothing can be written");
    for part in ["store.path", "lookout.db", "directory is not writable"] {
        assert!(error.contains(part), "`{part}` in {error}");
    }
}

fn damaged_again() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("receivers:\n{}", receiver("ops", &slack)));
    assert!(setup.start().sigterm().success());
    let path = setup.path().join("lookout.db");
    let mut contents = Vec::new();
    for round in 0..3 {
        let rubbish = format!("what was written in round {round} ").repeat(400);
        std::fs::write(&path, &rubbish).unwrap();
        contents.push(rubbish);
        let lookout = setup.start();
        let entries = std::fs::read_dir(setup.path()).unwrap().flatten();
        let mut aside: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lookout.db.damaged-"))
            })
            .collect();
        aside.sort();
        let kept: Vec<String> = aside.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert_eq!(kept, contents, "in the order of their names, which contain the time");
        let name = aside.last().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        lookout.wait_for_log(&["store file was damaged and moved aside; starting with an empty one", &name]);
        assert!(lookout.sigterm().success());
    }
}

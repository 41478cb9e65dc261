//! Changes are shown without a reload, and as fast as the figures say that are printed.

use std::time::Duration;

use lookout::clock::Clock;
use serde_json::json;

use super::driver::{Browser, NEEDS, in_browser};
use super::{Kept, open_live, push, push_fleet, quantiles, start};
use crate::Case;

pub(crate) fn trials() -> Vec<Case> {
    vec![
        in_browser("browser: a change is shown without a reload", NEEDS, changes_are_shown),
        in_browser("browser: how long a change takes to be seen", NEEDS, time_to_be_seen),
    ]
}

fn changes_are_shown(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    push(&lookout, &json!([{"name": "ann", "status": "running"}]));
    open_live(browser, &lookout.url());
    browser.eval("window.isSame = true");
    assert!(browser.text("#summary").contains("All well"), "{}", browser.text("#summary"));
    push(&lookout, &json!([{"name": "ann", "status": "waiting_question", "reason": "permission to run Bash"}]));
    browser.until_text("#needs .row", "permission to run Bash");
    browser.until("return document.title.startsWith('1 needs you')");
    browser.until_text("#summary", "1 needs you");
    push(&lookout, &json!([{"name": "ann", "status": "running"}, {"name": "bob", "status": "idle"}]));
    browser.until_gone("#needs");
    browser.until_text("#summary", "1 idle");
    push_fleet(&lookout);
    browser.until_text("#failed .row", "exit code 137");
    assert_eq!(browser.eval("return window.isSame"), true, "the page was not loaded again");
    (setup, lookout)
}

/// Prints the time from a push to the change in the document, by the wall clock of the one machine.
fn time_to_be_seen(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    let agents: Vec<_> = (0..100).map(|at| json!({"name": format!("a{at}"), "status": "running"})).collect();
    push(&lookout, &json!(agents));
    open_live(browser, &lookout.url());
    browser.eval(
        "window.seen = {};
         new MutationObserver(() => {
           for (const reason of document.querySelectorAll('.row .reason')) {
             const found = /change (\\d+)\\./.exec(reason.textContent);
             if (found) window.seen[found[1]] ??= (performance.timeOrigin + performance.now()) / 1000;
           }
         }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });",
    );
    let clock = Clock::system();
    let mut number = 0;
    for (what, changes, pause) in [("in a row", 80, 0), ("after a quiet half second", 20, 500)] {
        let mut times = Vec::new();
        for _ in 0..changes {
            number += 1;
            // A pause of the load, which is measured; nothing is expected to have happened after it.
            std::thread::sleep(Duration::from_millis(pause));
            let pushed = clock.wall().as_secs_f64();
            push(
                &lookout,
                &json!([{"name": "a7", "status": "waiting_question", "reason": format!("change {number}.")}]),
            );
            let seen = browser.until(&format!("return window.seen[{number}] ?? null")).as_f64().expect("a time");
            times.push(Duration::from_secs_f64((seen - pushed).max(0.0)));
        }
        let (median, p99) = quantiles(times);
        println!("browser: push to DOM, {changes} changes {what}: median {median:.1?}, p99 {p99:.1?}");
    }
    (setup, lookout)
}

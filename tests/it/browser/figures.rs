//! Figures that only a browser can take. They are printed, never asserted.

use std::time::Duration;

use serde_json::{Value, json};

use super::driver::{Browser, NEEDS, in_browser};
use super::{Kept, push, quantiles, start};
use crate::Case;
use crate::program::Lookout;

pub(crate) fn trials() -> Vec<Case> {
    vec![in_browser("browser: how long until something is painted", NEEDS, first_paint)]
}

/// How often a page is loaded.
const LOADS: usize = 11;

fn first_paint(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    browser.devtools("Network.setCacheDisabled", &json!({"cacheDisabled": true}));
    for (count, before) in [(100, 0), (10_000, 100)] {
        push_agents(&lookout, before..count);
        let mut paints = Vec::new();
        for _ in 0..LOADS {
            browser.go(&lookout.url());
            let script = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null";
            let milliseconds = browser.until(script).as_f64().expect("a time");
            paints.push(Duration::from_secs_f64(milliseconds / 1e3));
        }
        let (median, worst) = quantiles(paints);
        let answer = browser.eval("return performance.getEntriesByType('navigation')[0].responseEnd").as_f64();
        let (requests, bytes) = sent(browser, &lookout);
        println!(
            "browser: first contentful paint, {count} agents, nothing cached, {LOADS} loads: median {median:.1?}, worst \
             {worst:.1?}, of which the answer of the last {:.1} ms; {requests} requests, {} kB",
            answer.unwrap_or_default(),
            bytes / 1000,
        );
    }
    (setup, lookout)
}

/// One in fifty needs attention.
fn push_agents(lookout: &Lookout, range: std::ops::Range<usize>) {
    let all: Vec<usize> = range.collect();
    for part in all.chunks(1_000) {
        let agent = |at: &usize| match at % 50 {
            0 => {
                json!({"name": format!("agent{at}"), "status": "waiting_question", "reason": "permission to run Bash"})
            }
            1 => json!({"name": format!("agent{at}"), "status": "idle", "tokens": {"input": at, "output": 7}}),
            _ => json!({"name": format!("agent{at}"), "status": "running", "tokens": {"input": at, "output": 7}}),
        };
        push(lookout, &json!(part.iter().map(agent).collect::<Vec<Value>>()));
    }
}

/// The requests and bytes of the page as it is loaded, compressed, with its icon.
fn sent(browser: &Browser, lookout: &Lookout) -> (u64, u64) {
    let found = browser.eval(
        "const all = performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))
           .filter((it) => it.initiatorType !== 'fetch' && !it.name.includes('/icon.svg') && !it.name.includes('/stream'));
         const icon = document.querySelector('link[rel=icon]').getAttribute('href');
         return { count: all.length, bytes: all.reduce((sum, it) => sum + it.transferSize, 0), icon };",
    );
    let icon = format!("/{}", found["icon"].as_str().expect("an icon"));
    let icon = lookout.send("GET", &icon, &[("accept-encoding", "gzip")], b"");
    (
        found["count"].as_u64().unwrap_or_default() + 1,
        found["bytes"].as_u64().unwrap_or_default() + icon.body.len() as u64,
    )
}

//! `lookout demo` under a live Prometheus: its story starts, and every panel shows data. A unit test of the demo checks
//! each line of the story on a virtual clock.

use std::time::Duration;

use lookout::clock::{Clock, Stopwatch};
use serde_json::Value;

use crate::counterparts::Need;
use crate::program::{PATIENCE, Setup, eventually};
use crate::prometheus::Prometheus;
use crate::{Case, bundles, trial};

/// What must be printed: the beginning of a line, and what it shows.
const STORY: [(&str, &str); 10] = [
    ("► [WARNING] shop/idle_ida", "an idle agent"),
    ("► [ERROR] shop/idle_ida", "one that stays idle"),
    ("► [RESOLVED] shop/idle_ida", "the end of it"),
    ("► [WARNING] shop/restless_rob", "restarts"),
    ("► [ERROR] shop/restless_rob", "more restarts"),
    ("► [ERROR] shop/failing_fay", "a failure"),
    ("► [WARNING] shop/spending_sam", "a budget at 90 %"),
    ("► [WARNING] shop/limited_lee", "a 429"),
    ("► [ERROR] shop/limited_lee", "four of them"),
    ("► [WARNING] shop/asking_ann", "one that waits for a person"),
];

pub(crate) fn trials() -> Vec<Case> {
    vec![trial("demo: its story is printed, and every panel shows data", &[Need::Prometheus], story_and_panels)]
}

fn story_and_panels() {
    let setup = Setup::new("")
        .arguments(&["demo"])
        .env("LOOKOUT_LISTEN", "127.0.0.1:0")
        .env("LOOKOUT_LOG__LEVEL", "info")
        .env("LOOKOUT_LOG__FORMAT", "json");
    let clock = Clock::system();
    let start = clock.now().as_secs_f64();
    let demo = setup.start();
    let prometheus = Prometheus::scraping(demo.address());
    let welcome = demo.output();
    assert!(welcome.contains(&format!("{}/metrics", demo.url())), "the address is printed: {welcome}");

    let missing = |output: &str| -> Vec<&str> {
        STORY.iter().filter(|(line, _)| !output.contains(line)).map(|(_, what)| *what).collect()
    };
    let watch = Stopwatch::start();
    eventually("the story", || {
        let output = demo.output();
        let late = watch.elapsed() + Duration::from_secs(1) > PATIENCE;
        assert!(!late || missing(&output).is_empty(), "not printed: {:?}\n{output}\n{}", missing(&output), demo.log());
        missing(&output).is_empty().then_some(())
    });
    let output = demo.output();
    let budget = output.lines().find(|line| line.contains("[WARNING] shop/spending_sam")).expect("found above");
    assert!(budget.contains("k of 200k tokens"), "the warning has the used share of the budget: {budget}");
    let count = |line: &str| output.matches(line).count();
    assert_eq!(count("► [WARNING] shop/idle_ida"), 1, "once per problem: {output}");
    assert_eq!(count("► [ERROR] shop/failing_fay"), 1, "once per problem: {output}");

    // As often as a range of a panel has steps.
    let waits = "count_over_time(count(orchestrator_agent_waiting_info{agent_name=\"asking_ann\"})[1m:1s])";
    eventually("scrapes of all of it", || (prometheus.value(waits)? >= 8.0).then_some(()));
    let end = clock.now().as_secs_f64();
    let has_number = |series: &Value| {
        let values = series["values"].as_array().map_or(&[][..], Vec::as_slice);
        values.iter().any(|value| value[1].as_str().is_some_and(|number| number != "NaN"))
    };
    let empty: Vec<String> = bundles::panel_queries()
        .into_iter()
        .filter(|(_, query)| !prometheus.query_range(query, start, end).iter().any(has_number))
        .map(|(title, query)| format!("`{title}`: {query}"))
        .collect();
    assert!(empty.is_empty(), "panels without data:\n{}", empty.join("\n"));
    // `or vector(0)` would also answer for a series that is not there.
    for (expression, least) in [
        ("max_over_time(sum(orchestrator_agent_up)[2m:1s])", 12.0),
        ("max_over_time(count(orchestrator_agent_up < orchestrator_agent_expected)[2m:1s])", 1.0),
        ("max_over_time(sum(orchestrator_alerts_active)[2m:1s])", 2.0),
        ("sum(lookout_notifications_total)", STORY.len() as f64),
    ] {
        let value = prometheus.value(expression);
        assert!(value.is_some_and(|value| value >= least), "{expression} is {value:?}, not {least} or more");
    }
    assert!(demo.sigterm().success(), "it stops cleanly");
}

//! A flood of alerts at once: one message where it is one problem, a few where they are many, and none is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::doubles::slack::{Seen, Slack};
use crate::program::{Lookout, Setup};
use crate::slack::{idle, push, receiver};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial(
            "storms: 10,000 agents that break one rule are one message, right in count, and so is recovery",
            &[],
            one_rule,
        ),
        trial("storms: the remaining alerts of an incident are listed by name", &[], breaks_up),
        trial(
            "storms: 200 alerts through a webhook of one message a second are a few, the worst first",
            &[],
            a_slow_webhook,
        ),
    ]
}

/// Pushes agents `from..to`, in parts, last active so many seconds ago.
fn push_all(lookout: &Lookout, from: usize, to: usize, seconds: u64) {
    let last_activity = idle("x", seconds)["agents"][0]["last_activity"].clone();
    for first in (from..to).step_by(2_500) {
        let agents: Vec<Value> = (first..to.min(first + 2_500))
            .map(|n| json!({"name": format!("agent-{n:05}"), "status": "running", "last_activity": last_activity}))
            .collect();
        push(lookout, &json!({"project": "shop", "ttl": "1h", "agents": agents}));
    }
}

fn titles(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(Seen::title).collect()
}

fn start(slack: &Slack) -> Lookout {
    Setup::new(&format!("store: {{path: null}}\nreceivers:\n{}", receiver("ops", slack))).start()
}

fn one_rule() {
    let slack = Slack::start();
    let lookout = start(&slack);
    push_all(&lookout, 0, 10_000, 0);
    // One request, so that whatever the machine does they break the rule at once.
    let last_activity = idle("x", 400)["agents"][0]["last_activity"].clone();
    let agents: Vec<Value> =
        (0..10_000).map(|n| json!({"name": format!("agent-{n:05}"), "last_activity": last_activity})).collect();
    push(&lookout, &json!({"project": "shop", "ttl": "1h", "agents": agents}));
    let first = titles(&slack.wait(1));
    assert!(
        first.len() == 1 && first[0].starts_with("[WARNING] shop: AgentIdle fires for 10000 of 10000 agents"),
        "{first:?}"
    );
    push_all(&lookout, 0, 2_500, 0);
    push_all(&lookout, 2_500, 3_000, 0);
    // What is due goes out before the program ends.
    slack.wait(2);
    assert!(lookout.sigterm().success());
    // On a busy machine, lookout also reports that it evaluates late.
    let mut over = slack.taken().split_off(1);
    over.retain(|seen| !seen.text().contains("EvaluationLate"));
    let recovered: usize = over
        .iter()
        .map(|seen| {
            let title = seen.title();
            let (_, count) = title.split_once("[RESOLVED] shop: ").unwrap_or_else(|| panic!("a recovery, not {title}"));
            count.split(' ').next().and_then(|count| count.parse::<usize>().ok()).expect("a count")
        })
        .sum();
    assert_eq!(recovered, 3_000);
    assert!(over.len() <= 2, "{:?}", titles(&over));
    let last = over.last().expect("a message");
    assert!(last.text().contains("7000 of 10000 still firing"), "{}", last.text());
}

fn breaks_up() {
    let slack = Slack::start();
    let setup =
        Setup::new(&format!("rules: [mine.yaml]\nstore: {{path: null}}\nreceivers:\n{}", receiver("ops", &slack)));
    setup.write(
        "mine.yaml",
        "rules:\n  - {name: AgentIdle, for_each: agent, signal: idle_seconds, when: at_least, levels: {warning: 5m}, cooldown: 0s}\n",
    );
    let lookout = setup.start();
    push_all(&lookout, 0, 40, 0);
    push_all(&lookout, 0, 20, 400);
    slack.wait_for("the incident", |seen| {
        titles(seen).iter().any(|it| it.starts_with("[WARNING] shop: AgentIdle fires for 20 of 40 agents"))
    });
    push_all(&lookout, 0, 17, 0);
    slack.wait_for("those that are left", |seen| {
        let text: String = seen.iter().map(|one| one.text() + "\n").collect();
        (17..20).all(|n| text.contains(&format!("[WARNING] shop/agent-{n:05}")))
    });
}

fn a_slow_webhook() {
    let slack = Slack::start();
    slack.paced(Duration::from_secs(1));
    let lookout = start(&slack);
    push_all(&lookout, 0, 1_000, 0);
    for first in (0..200).step_by(20) {
        push_all(&lookout, first, first + 20, 400);
    }
    // The most severe alert comes last, and is notified first.
    push(&lookout, &json!({"project": "lab", "agents": [{"name": "boss", "running": false}]}));
    let names: BTreeSet<String> = (0..200).map(|n| format!("agent-{n:05}")).collect();
    let seen = slack.wait_for("everyone", |seen| {
        let notified: BTreeSet<String> =
            taken(seen).flat_map(Seen::alerts).filter_map(|it| Some(it.split_once("] ")?.1.to_owned())).collect();
        names.is_subset(&notified) && notified.contains("boss")
    });
    let taken: Vec<&Seen> = taken(&seen).collect();
    assert!(taken.len() <= 5, "{} messages", taken.len());
    let boss = taken.iter().position(|seen| seen.text().contains("[ERROR] lab/boss")).expect("it was notified");
    assert!(
        taken[boss].text().find("[ERROR] lab/boss") < taken[boss].text().find("[WARNING]"),
        "{}",
        taken[boss].text()
    );
    assert_eq!(boss, 0, "what is worst is in the first message");
}

fn taken(seen: &[Seen]) -> impl Iterator<Item = &Seen> {
    seen.iter().filter(|seen| seen.was_taken())
}

//! What the README tells a newcomer to do, done as written; and what it says in numbers.

use std::os::unix::fs::PermissionsExt as _;

use lookout::fleet::SERIES_PER_AGENT;

use crate::counterparts::run;
use crate::program::Setup;
use crate::{Case, tidy, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("readme: what a newcomer sends first is taken, shown, and alarms nobody", &[], the_first_report),
        trial("readme: receivers are shown as they are accepted", &[], receivers_as_shown),
        trial("readme: an agent counts for as many series as it says", &[], series_of_an_agent),
    ]
}

fn readme() -> String {
    tidy::text("README.md").expect("the README")
}

/// The code blocks of shell in it.
fn blocks(readme: &str) -> impl Iterator<Item = &str> {
    readme.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0))
}

fn the_first_report() {
    let setup = Setup::new("");
    let lookout = setup.start();
    // It stands for curl, and says what was to be sent.
    let curl = setup.write("curl", "#!/bin/sh\nexec cat\n");
    std::fs::set_permissions(&curl, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let readme = readme();
    let reports: Vec<&str> = blocks(&readme).filter(|block| block.contains("/api/state -d @-")).collect();
    assert!(!reports.is_empty(), "the README shows how to report");
    for report in reports {
        let path = format!("{}:{}", setup.path().display(), std::env::var("PATH").expect("a path"));
        let body = run(std::process::Command::new("sh").args(["-c", report]).env("PATH", path));
        let answer = lookout.send("POST", "/api/state", &[("content-type", "application/json")], body.as_bytes());
        assert_eq!((answer.status, answer.text()), (200, "{\"accepted\":1}"), "{body}");
    }
    let alerts = lookout.get("/api/alerts").json();
    assert_eq!(alerts["total"], 0, "{alerts}");
    let (_, agents) = crate::quiet::run(&setup, &lookout, &["agents"]);
    assert!(agents.contains("grand_boss") && agents.contains("running"), "{agents}");
}

fn receivers_as_shown() {
    let readme = readme();
    let blocks: Vec<&str> = readme
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("```")?.0))
        .filter(|block| block.starts_with("receivers:\n"))
        .collect();
    assert!(!blocks.is_empty(), "the README shows receivers");
    let setup = Setup::new("").env("LOOKOUT_LISTEN", "127.0.0.1:0");
    for block in blocks {
        // Secrets are where the test may write, each with the word that all of their readers accept.
        for file in block.split("/run/secrets/").skip(1) {
            let name: String = file.chars().take_while(|letter| !", }\n".contains(*letter)).collect();
            setup.write(&name, "https://chat.example.com/hooks/x");
        }
        let file = setup.write("shown.yaml", &block.replace("/run/secrets/", ""));
        let told = crate::slack::output(setup.command(&["check", "--config", &file.display().to_string()]));
        assert!(told.contains("configuration is valid"), "{block}\n{told}");
    }
}

fn series_of_an_agent() {
    let said = format!("({SERIES_PER_AGENT} per agent)");
    assert!(readme().contains(&said), "the README does not say `{said}`");
}

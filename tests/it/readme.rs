//! Runs the commands of the README as they are written.

use std::os::unix::fs::PermissionsExt as _;

use crate::counterparts::run;
use crate::program::Setup;
use crate::{Case, tidy, trial};

pub(crate) fn trials() -> Vec<Case> {
    let name = "readme: what a newcomer sends first is accepted, shown, and raises no alert";
    vec![trial(name, &[], the_first_report)]
}

/// The code blocks of shell in it.
fn blocks(readme: &str) -> impl Iterator<Item = &str> {
    readme.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0))
}

fn the_first_report() {
    let setup = Setup::new("");
    let lookout = setup.start();
    // In place of curl; prints the arguments.
    let curl = setup.write("curl", "#!/bin/sh\nexec cat\n");
    std::fs::set_permissions(&curl, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let readme = tidy::text("README.md").expect("the README");
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

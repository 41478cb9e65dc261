//! Two programs get the same inputs; what each serves, decides, prints and sends must be the same.
//!
//! `LOOKOUT_BASELINE=/path/to/lookout` names the other program, such as the build before a change of structure; without
//! it there is nothing to compare with, and nothing is run. The program itself as its own baseline shows that the same
//! inputs have the same effects. `LOOKOUT_TRANSCRIPTS=/some/folder` keeps what was compared, for `diff -r`.
//!
//! Times differ from run to run and are replaced by a mark before anything is compared.

mod inputs;
mod transcript;

use std::path::{Path, PathBuf};
use std::thread;

use transcript::Transcript;

use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    if std::env::var_os("LOOKOUT_BASELINE").is_none() {
        return Vec::new();
    }
    vec![
        trial("differential: pushes, alerts and every receiver's messages", &[], || compare("pushes", inputs::pushes)),
        trial("differential: hooks, telemetry, callbacks and streams", &[], || {
            compare("recordings", inputs::recordings)
        }),
        trial("differential: polled pages and their failures", &[], || compare("polls", inputs::polls)),
        trial("differential: invalid input is rejected alike", &[], || compare("rubbish", inputs::rubbish)),
        trial("differential: rule tests, replays and printed settings", &[], || compare("offline", inputs::offline)),
    ]
}

/// Runs `scenario` against both programs in parallel and compares their outputs, section by section.
fn compare(name: &str, scenario: fn(&Path, &mut Transcript)) {
    let program = crate::program::lookout();
    let baseline = std::env::var_os("LOOKOUT_BASELINE").map_or_else(|| program.clone(), PathBuf::from);
    let record = |program: PathBuf| {
        thread::spawn(move || {
            let mut transcript = Transcript::default();
            scenario(&program, &mut transcript);
            transcript
        })
    };
    let (old, new) = (record(baseline), record(program));
    let old = old.join().expect("the baseline's run");
    let new = new.join().expect("the program's run");
    if let Some(folder) = std::env::var_os("LOOKOUT_TRANSCRIPTS") {
        old.write(&Path::new(&folder).join("old").join(name));
        new.write(&Path::new(&folder).join("new").join(name));
    }
    println!("differential: {name}: {}", new.extent());
    let differences = old.differences(&new);
    assert!(differences.is_empty(), "{} sections differ:\n{}", differences.len(), differences.join("\n"));
}

//! The integration tests: they run the real program and check shipped files, with real counterparts.
//!
//! A test whose counterpart is not installed is ignored, and the last line of output names what is missing and how to
//! install it. With `LOOKOUT_REQUIRE_COUNTERPARTS=1` such a test fails. `LOOKOUT_TEST_TIMES=1` prints the ten slowest tests.
//! `LOOKOUT_PROGRAM=/path/to/lookout` tests that program, such as an installed one, in place of the one built here.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::string_slice,
    reason = "a panic is how a test fails, and this binary's output is its report"
)]

mod agents;
mod alertmanager;
mod api;
mod browser;
mod bundles;
mod callbacks;
mod chats;
mod clickhouse;
mod counterparts;
mod custom_metrics;
mod demo;
#[cfg(target_os = "linux")]
mod deployment;
mod differential;
mod docs;
#[allow(dead_code, reason = "a double offers what tests take up")]
mod doubles;
mod durability;
mod export;
mod faults;
mod hooks;
mod hostile;
mod house;
#[allow(dead_code, reason = "the harness offers what tests of the program take up")]
mod http;
mod login;
mod mail;
mod nginx;
mod otlp;
mod outages;
mod page;
mod pipe;
mod platform;
mod platforms;
mod polling;
#[allow(dead_code, reason = "the harness offers what tests of the program take up")]
mod program;
mod prometheus;
mod quiet;
mod readme;
mod registry_mysql;
mod reload;
mod ruletools;
mod run_clients;
mod run_sources;
mod runs;
mod scrape;
mod signals;
mod slack;
mod storms;
mod stream;
mod supervision;
mod tidy;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use lookout::clock::Stopwatch;

use counterparts::Need;

/// A test and the counterparts that it needs.
pub(crate) struct Case {
    name: String,
    needs: &'static [Need],
    run: Box<dyn FnOnce() + Send>,
}

/// A test that fails when `run` panics; it runs only where all that it `needs` is installed.
pub(crate) fn trial(name: &str, needs: &'static [Need], run: impl FnOnce() + Send + 'static) -> Case {
    Case { name: name.to_owned(), needs, run: Box::new(run) }
}

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(program) = deployment::program_under_filter() {
        return program;
    }
    signals::reset_for_programs();
    let arguments = Arguments::from_args();
    let required = std::env::var_os("LOOKOUT_REQUIRE_COUNTERPARTS").is_some_and(|value| value == "1");
    let cases = [
        // The longest test starts first.
        demo::trials(),
        tidy::trials(),
        house::trials(),
        bundles::trials(),
        program::trials(),
        signals::trials(),
        platform::trials(),
        agents::trials(),
        alertmanager::trials(),
        api::trials(),
        hooks::trials(),
        hostile::trials(),
        polling::trials(),
        scrape::trials(),
        slack::trials(),
        chats::trials(),
        storms::trials(),
        stream::trials(),
        mail::trials(),
        durability::trials(),
        export::trials(),
        faults::trials(),
        reload::trials(),
        runs::trials(),
        registry_mysql::trials(),
        clickhouse::trials(),
        custom_metrics::trials(),
        outages::trials(),
        run_sources::trials(),
        run_clients::trials(),
        supervision::trials(),
        #[cfg(target_os = "linux")]
        deployment::trials(),
        login::trials(),
        otlp::trials(),
        page::trials(),
        browser::trials(),
        pipe::trials(),
        platforms::trials(),
        callbacks::trials(),
        ruletools::trials(),
        quiet::trials(),
        docs::trials(),
        readme::trials(),
        differential::trials(),
    ];
    let cases = cases.into_iter().flatten();

    let absent = counterparts::absent();
    let mut left_out = 0;
    let mut wanting = BTreeSet::new();
    let mut trials = Vec::new();
    let took = Arc::new(Mutex::new(Vec::new()));
    for Case { name, needs, run } in cases {
        let missing: BTreeSet<Need> = needs.iter().copied().filter(|need| absent.contains(need)).collect();
        if missing.is_empty() {
            let took = Arc::clone(&took);
            trials.push(Trial::test(name.clone(), move || {
                let watch = Stopwatch::start();
                run();
                took.lock().unwrap().push((watch.elapsed(), name));
                Ok(())
            }));
            continue;
        }
        let advice = counterparts::advice(&missing);
        let trial = if required {
            Trial::test(name, move || Err(Failed::from(advice)))
        } else {
            Trial::ignorable_test(name, move || Ok(Completion::ignored_with(advice)))
        };
        if !required && !arguments.is_filtered_out(&trial) {
            left_out += 1;
            wanting.extend(missing);
        }
        trials.push(trial);
    }

    let listed = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if left_out > 0 && !listed {
        let tests = if left_out == 1 { "1 test was" } else { &format!("{left_out} tests were") };
        println!("{tests} left out: {}", counterparts::advice(&wanting));
    }
    if std::env::var_os("LOOKOUT_TEST_TIMES").is_some_and(|value| value == "1") {
        let mut took = took.lock().unwrap();
        took.sort_unstable_by(|one, other| other.cmp(one));
        took.iter().take(10).for_each(|(time, name)| println!("{:6.1} s  {name}", time.as_secs_f64()));
    }
    conclusion.exit_code()
}

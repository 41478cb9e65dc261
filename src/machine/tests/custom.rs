//! Rules about custom metrics, of agents, components and projects.

use super::*;
use crate::ingest::decode_metrics;

const TEXT: &str = r#"
rules:
  - {name: Pool, for_each: agent, signal: {metric: pool_size}, when: at_least, levels: {warning: 5, error: 10}, clear_below: 4}
  - {name: PoolOfDb, for_each: agent, signal: {metric: poolSize, labels: {pool: "d*"}}, when: at_most, levels: {info: 2}}
  - {name: Mode, for_each: agent, signal: {metric: mode}, when: equals, levels: {warning: 1, error: 3}}
  - {name: Lost, for_each: agent, signal: {metric: beat}, when: absent, levels: {error: true}}
  - {name: Jobs, for_each: agent, signal: {increase_of: {metric: jobs}, over: 60s}, when: at_least, levels: {warning: 5}}
  - {name: JobRate, for_each: agent, signal: {rate_of: {metric: jobs_total, labels: {queue: a}}, over: 10s}, when: at_least, levels: {info: 1}}
  - {name: Mean, for_each: agent, signal: {average_of: {metric: pool_size}, over: 60s}, when: at_least, levels: {info: 50}}
  - {name: Bad, for_each: agent, signal: {ratio_of: [{metric: bad_jobs_total}, {metric: jobs}], over: 60s, min_samples: 10}, when: at_least, levels: {error: 50%}}
  - {name: Queue, for_each: cluster, signal: {metric: queue}, when: at_least, levels: {warning: 100}}
  - {name: NoQueue, for_each: cluster, signal: {metric: queue}, when: absent, levels: {critical: true}}
  - {name: Lag, for_each: component, signal: {metric: lag}, when: at_least, levels: {warning: 1m}}
"#;

impl RuleSimulation {
    fn metrics(&mut self, seconds: i64, body: &str) -> &mut Self {
        let batch = decode_metrics(body).expect("a body");
        assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
        self.take(seconds, MachineEvent::Metrics(batch))
    }

    /// A metric of the agent `a` with this value of the label `pool`, if any.
    fn of_a(&mut self, seconds: i64, name: &str, pool: &str, value: f64) -> &mut Self {
        let labels = if pool.is_empty() { String::new() } else { format!(r#", "labels": {{"pool": "{pool}"}}"#) };
        self.metrics(
            seconds,
            &format!(r#"{{"project": "shop", "agent": "a", "name": "{name}", "value": {value}{labels}}}"#),
        )
    }
}

fn test() -> RuleSimulation {
    RuleSimulation::new(settings(), TEXT)
}

#[test]
fn the_value_that_breaks_a_rule_most_counts() {
    let mut test = test();
    test.of_a(0, "pool_size", "db", 4.0).of_a(1, "pool_size", "cache", 7.0).of_a(2, "pool_size", "db", 12.0);
    test.of_a(3, "pool_size", "db", 2.0).of_a(4, "pool_size", "cache", 4.5).of_a(5, "pool_size", "cache", 3.0);
    assert_eq!(
        test.findings(&["Pool", "PoolOfDb"]),
        ["1 Pool a warning", "2 Pool a error", "3 Pool a warning", "3 PoolOfDb a info", "5 Pool a resolved"]
    );
}

#[test]
fn values_are_equal_or_absent() {
    let mut test = test();
    let beat = r#"{"project": "shop", "agent": "a", "name": "beat", "value": 1, "ttl": "30s"}"#;
    test.of_a(0, "mode", "", 1.0).of_a(1, "mode", "", 2.0).of_a(2, "mode", "", 3.0);
    test.metrics(3, beat).metrics(20, beat).until(100).metrics(120, beat);
    assert_eq!(
        test.findings(&["Mode", "Lost"]),
        ["0 Mode a warning", "1 Mode a resolved", "2 Mode a error", "50 Lost a error", "120 Lost a resolved"]
    );
}

#[test]
fn counters_are_compared_over_time() {
    let mut test = test();
    let jobs = |queue: &str, value: u32| {
        format!(
            r#"{{"project": "shop", "agent": "a", "name": "jobs", "kind": "counter", "value": {value}, "labels": {{"queue": "{queue}"}}}}"#
        )
    };
    // The first value is no increase, also that of a queue that comes later.
    test.metrics(0, &jobs("a", 100)).metrics(1, &jobs("b", 70)).metrics(2, &jobs("a", 104)).metrics(3, &jobs("b", 71));
    test.until(100);
    assert_eq!(test.findings(&["Jobs"]), ["3 Jobs a warning", "62 Jobs a resolved"]);
    // After a reset all of the new value is one.
    test.metrics(200, &jobs("a", 3)).metrics(201, &jobs("a", 10)).until(300);
    assert_eq!(
        test.findings(&["Jobs", "JobRate"]),
        ["201 Jobs a warning", "201 JobRate a info", "210 JobRate a resolved", "261 Jobs a resolved"]
    );
}

#[test]
fn ratios_and_averages_take_custom_metrics() {
    let mut test = test();
    let both = |seconds: i64, bad: u32, jobs: u32, test: &mut RuleSimulation| {
        test.metrics(
            seconds,
            &format!(
                r#"{{"project": "shop", "agent": "a", "metrics": {{"bad_jobs_total": {bad}, "jobs_total": {jobs}}}}}"#
            ),
        );
    };
    both(0, 0, 0, &mut test);
    both(10, 4, 8, &mut test);
    both(20, 6, 12, &mut test);
    both(30, 6, 30, &mut test);
    assert_eq!(test.findings(&["Bad"]), ["20 Bad a error", "30 Bad a resolved"]);
    test.of_a(100, "pool_size", "db", 100.0).of_a(100, "pool_size", "cache", 20.0).until(200);
    assert_eq!(test.findings(&["Mean"]).first().map(String::as_str), Some("100 Mean a info"));
}

#[test]
fn projects_and_components_have_metrics() {
    let mut test = test();
    let queue = |value: u32| format!(r#"{{"project": "shop", "name": "queue", "value": {value}, "ttl": 60}}"#);
    test.push_batch(0, component(ComponentStatus::Ok)).metrics(1, &queue(5)).metrics(2, &queue(150));
    test.metrics(3, r#"{"project": "shop", "component": "db", "name": "lag", "value": 90}"#);
    test.metrics(4, r#"{"project": "shop", "component": "db", "name": "lag", "value": 30}"#);
    test.until(70).metrics(80, &queue(1));
    assert_eq!(
        test.findings(&["Queue", "NoQueue", "Lag"]),
        [
            "2 Queue shop warning",
            "3 Lag db warning",
            "4 Lag db resolved",
            "62 Queue shop resolved",
            "62 NoQueue shop critical",
            "80 NoQueue shop resolved"
        ]
    );
}

#[test]
fn an_alert_and_its_window_survive_a_restart() {
    let mut test = test();
    test.of_a(0, "pool_size", "db", 12.0);
    let jobs = |value: u32| {
        format!(r#"{{"project": "shop", "agent": "a", "name": "jobs", "kind": "counter", "value": {value}}}"#)
    };
    test.metrics(1, &jobs(100)).metrics(2, &jobs(104));
    test.restart(10);
    assert_eq!(test.findings(&["Pool", "Jobs"]), [""; 0], "the alert goes on");
    test.metrics(11, &jobs(105)).of_a(12, "pool_size", "db", 1.0);
    assert_eq!(test.findings(&["Pool", "Jobs"]), ["11 Jobs a warning", "12 Pool a resolved"]);
}

#[test]
fn a_mean_crosses_its_threshold_between_reports() {
    let mut test = test();
    test.of_a(0, "pool_size", "", 0.0).of_a(31, "pool_size", "", 60.0).until(90);
    test.of_a(100, "pool_size", "", 0.0).until(300);
    assert_eq!(test.findings(&["Mean"]), ["81 Mean a info", "110.001 Mean a resolved"]);
}

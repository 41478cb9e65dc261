//! Rule files: parsed, compiled, evaluated over a small fleet, and described.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lookout::config::Config;
use lookout::fleet::Fleet;
use lookout::ingest::decode_state;
use lookout::model::{Level, Subject};
use lookout::rules::compile::RuleSettings;
use lookout::rules::{RuleSet, Rules, TemplateData};
use lookout_fuzz::begin;

const STATE: &str = r#"{"agents": [
    {"name": "a", "status": "running", "task_id": "t", "progress": 5, "restart_count": 4, "model": "m",
     "tokens": {"input": 900, "output": 80, "cost_usd": 0.5}, "requests": {"total": 50, "errors": 9, "rate_limited": 3}},
    {"name": "b", "status": "failed", "reason": "it fell"}, {"name": "c"}],
  "components": [{"name": "db", "status": "ERROR"}]}"#;

fuzz_target!(|text: &str| {
    let agents = Config::default().agents;
    let settings = RuleSettings { max_idle: agents.max_idle, timeout: agents.timeout };
    let set = match RuleSet::load(&[("fuzz.yaml".to_owned(), text.to_owned())], settings) {
        Ok(set) => set,
        Err(errors) => {
            for error in errors {
                let text = error.to_string();
                assert!(text.len() < 8_000, "{text}");
            }
            return;
        }
    };
    let names: Vec<String> = set.names().map(str::to_owned).collect();
    let mut rules = Rules::new(set);
    let mut fleet = Fleet::new(begin(), Config::default().fleet_settings());
    let (mut now, mut findings) = (begin(), Vec::new());
    for _ in 0..3 {
        fleet.push(now, decode_state(STATE, now).expect("a batch"));
        rules.evaluate(now, fleet.state(), fleet.changes(), &mut findings);
        fleet.clear_changes();
        now = now.plus(Duration::from_secs(700));
        fleet.tick(now);
        rules.tick(now, fleet.state(), &mut findings);
    }
    let subject = Subject::Agent { project: "default".into(), name: "a".into() };
    for name in names {
        let facts = TemplateData {
            value: Some(f64::MAX),
            status: Some("failed"),
            reason: Some("it fell"),
            task: Some("task-1"),
            progress: Some(0.5),
            used: Some(f64::MAX),
            provider: Some("anthropic"),
            until: Some(now),
            agents: &["a".to_owned()],
            ..TemplateData::new(&subject, Level::Error, now, fleet.time_zone())
        };
        let texts = rules.describe(&name, &facts);
        assert!(texts.summary.len() <= 2_000 && texts.action.len() <= 2_000, "{texts:?}");
    }
});

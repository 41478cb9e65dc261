//! Rate limits: when one is in effect for an agent, by which reports, and what ends it.

use super::*;
use crate::fleet::tests::hooks::hook;
use crate::model::hook::{SessionEvent, TurnFailure};
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentTelemetry, Hook, RateLimit, RateLimitHit};

/// The rate limit in effect: since when and until when, in seconds.
fn limited(watch: &TestFleet) -> Option<(i64, Option<i64>)> {
    let seconds = |time: Time| (time.as_millis() - at(0).as_millis()) / 1000;
    let limited = watch.agent("a").limited.as_ref()?;
    assert_eq!(watch.project().limited, 1);
    Some((seconds(limited.since), limited.until.map(seconds)))
}

fn counted(requests: u64, errors: u64, rate_limited: u64) -> AgentUpdate<'static> {
    AgentUpdate {
        requests: Some(requests),
        request_errors: Some(errors),
        rate_limit_hits: Some(rate_limited),
        ..a(AgentStatus::Running)
    }
}

fn left(remaining: u64, reset_at: Option<i64>) -> AgentUpdate<'static> {
    let limit = RateLimitUpdate {
        provider: "anthropic".into(),
        limit_type: "tokens".into(),
        remaining: Some(remaining),
        reset_at: reset_at.map(at),
        ..RateLimitUpdate::default()
    };
    AgentUpdate { rate_limits: Some(vec![limit]), ..a(AgentStatus::Running) }
}

impl TestFleet {
    fn rate_limited(&mut self, seconds: i64, retry_at: Option<i64>) {
        self.until(seconds);
        self.fleet.clear_changes();
        let failed = hook(SessionEvent::TurnFailed(TurnFailure::RateLimit));
        self.fleet.hook(at(seconds), &Hook { retry_at: retry_at.map(at), ..failed });
    }

    fn apply_hook(&mut self, seconds: i64, event: SessionEvent) {
        self.until(seconds);
        self.fleet.clear_changes();
        self.fleet.hook(at(seconds), &hook(event));
    }

    fn apply_telemetry(&mut self, seconds: i64, telemetry: AgentTelemetry) {
        self.until(seconds);
        self.fleet.clear_changes();
        self.fleet.telemetry(at(seconds), &[AgentTelemetry { project: "shop".into(), agent: "a".into(), ..telemetry }]);
    }
}

fn hit(seconds: i64, until: Option<i64>) -> AgentTelemetry {
    let hit = RateLimitHit { provider: Some("openai".into()), until: until.map(at) };
    AgentTelemetry {
        requests: 1,
        request_errors: 1,
        rate_limit_hits: 1,
        rate_limited: Some((at(seconds), hit)),
        ..AgentTelemetry::default()
    }
}

fn success(seconds: i64) -> AgentTelemetry {
    AgentTelemetry { requests: 1, answered: Some(at(seconds)), ..AgentTelemetry::default() }
}

#[test]
fn an_exhausted_limit_is_in_effect_until_its_period_ends() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, left(3, Some(60)));
    assert_eq!(limited(&watch), None);
    watch.push(10, left(0, Some(60)));
    assert_eq!(limited(&watch), Some((10, Some(60))));
    assert_eq!(watch.agent("a").limited.as_ref().and_then(|limited| limited.provider.as_deref()), Some("anthropic"));
    assert_eq!(watch.until(60), [60], "it ends without a report");
    assert_eq!((limited(&watch), watch.project().limited), (None, 0));
    watch.push(61, left(0, Some(60)));
    assert_eq!(limited(&watch), None, "a past period is not in effect");
    watch.push(62, left(0, Some(900)));
    watch.push(63, left(5, Some(900)));
    assert_eq!((limited(&watch), watch.project().limited), (None, 0), "something remains of it");
}

#[test]
fn rate_limited_requests_are_in_effect_until_one_succeeds() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, counted(10, 5, 5));
    assert_eq!(limited(&watch), None, "earlier counts are not recent");
    watch.push(10, counted(11, 6, 6));
    assert_eq!(limited(&watch), Some((10, None)));
    watch.push(20, counted(12, 7, 6));
    assert_eq!(limited(&watch), Some((10, None)), "another error is not a success");
    watch.push(30, counted(13, 7, 6));
    assert_eq!(limited(&watch), None);
    watch.push(40, counted(14, 8, 7));
    watch.push(50, a(AgentStatus::Completed));
    assert_eq!(limited(&watch), None, "an agent that has ended is not waiting");
}

/// Whether the agent is limited, down, and expected to be up.
fn down(watch: &TestFleet) -> (bool, bool, bool) {
    let agent = watch.agent("a");
    assert_eq!(watch.project().down, u32::from(agent.is_down()));
    (agent.limited.is_some(), agent.is_down(), agent.is_expected())
}

#[test]
fn an_agent_whose_run_ended_by_a_limit_is_not_down_until_the_limit_ends() {
    let failed = |reason: &'static str| AgentUpdate { reason: Patch::Set(reason.into()), ..a(AgentStatus::Failed) };
    let spent = |update: AgentUpdate<'static>| AgentUpdate { rate_limits: left(0, Some(900)).rate_limits, ..update };
    // One report has both the failure and the limit, once or twice, with any reason.
    for times in 1..3 {
        let mut watch = TestFleet::new(settings());
        watch.push(0, a(AgentStatus::Running));
        for time in 0..times {
            watch.push(10 + time, spent(failed("exit code 1")));
        }
        assert_eq!(down(&watch), (true, false, false), "reported {times} times");
        watch.until(900);
        assert_eq!(down(&watch), (false, true, true), "it was not restarted");
    }
    // A count alone is enough, and so is a limit that was in effect.
    let mut watch = TestFleet::new(settings());
    watch.push(0, counted(1, 0, 0));
    watch.push(10, AgentUpdate { status: Some(AgentStatus::Failed), ..counted(2, 1, 1) });
    assert_eq!(down(&watch), (true, false, false));
    watch.push(20, a(AgentStatus::Running));
    watch.push(30, counted(3, 2, 2));
    watch.push(40, AgentUpdate { running: Some(false), status: None, ..a(AgentStatus::Running) });
    assert_eq!(down(&watch), (true, false, false), "not running, without another reason");
    watch.push(50, a(AgentStatus::Running));
    watch.push(60, counted(4, 3, 3));
    watch.push(70, failed("out of memory"));
    assert_eq!(down(&watch), (false, true, true), "the limit is not the cause");
}

#[test]
fn a_reason_that_names_a_limit_puts_it_in_effect() {
    let mut watch = TestFleet::new(settings());
    let held = |status, until: Option<i64>| AgentUpdate {
        reason: Patch::Set("You've hit your limit".into()),
        rate_limit_hit: Some(RateLimitHit { provider: None, until: until.map(at) }),
        ..a(status)
    };
    watch.push(0, a(AgentStatus::Running));
    watch.push(10, held(AgentStatus::WaitingDependency, Some(300)));
    watch.push(20, held(AgentStatus::WaitingDependency, Some(300)));
    assert_eq!(limited(&watch), Some((10, Some(300))));
    watch.push(30, AgentUpdate { reason: Patch::Clear, ..a(AgentStatus::Running) });
    assert_eq!(limited(&watch), None, "it works again");
    watch.push(40, held(AgentStatus::Failed, None));
    assert_eq!(down(&watch), (true, false, false));
    for seconds in (50..=640).step_by(10) {
        watch.push(seconds, held(AgentStatus::Failed, None));
    }
    assert_eq!(down(&watch), (false, true, true), "a repeated report is not a new hit");
}

#[test]
fn a_headless_run_that_ended_by_a_limit_is_not_down() {
    let mut watch = TestFleet::new(settings());
    watch.apply_hook(0, SessionEvent::Prompted);
    watch.rate_limited(10, Some(300));
    watch.apply_hook(11, SessionEvent::Ended(crate::model::hook::SessionEnd::Exited));
    assert_eq!(watch.agent("a").status, Some(AgentStatus::Failed));
    assert_eq!(down(&watch), (true, false, false));
    watch.until(300);
    assert_eq!(down(&watch), (false, true, true));
}

#[test]
fn a_failure_is_not_down_once_telemetry_reports_the_limit() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, a(AgentStatus::Running));
    watch.push(10, a(AgentStatus::Failed));
    assert_eq!(down(&watch), (false, true, true));
    watch.apply_telemetry(15, hit(9, Some(300)));
    assert_eq!(down(&watch), (true, false, false));
}

#[test]
fn the_end_of_a_limit_ends_the_wait_for_it() {
    let shown = |watch: &TestFleet| {
        let agent = watch.agent("a");
        (agent.status.map(AgentStatus::as_str), agent.reason.as_deref().map(str::to_owned))
    };
    let mut watch = TestFleet::new(settings());
    watch.apply_telemetry(10, AgentTelemetry { active: Some(at(9)), ..hit(9, Some(12)) });
    assert_eq!(shown(&watch).0, Some("waiting_dependency"));
    watch.until(12);
    assert_eq!((shown(&watch), limited(&watch)), ((Some("running"), None), None), "it was active just before");
    // A session is idle, and the next hook does not bring the wait back.
    let mut watch = TestFleet::new(settings());
    watch.apply_hook(0, SessionEvent::Prompted);
    watch.rate_limited(10, Some(60));
    assert_eq!(shown(&watch), (Some("waiting_dependency"), Some("rate-limited".into())));
    watch.until(60);
    assert_eq!(shown(&watch), (Some("idle"), None));
    watch.apply_hook(70, SessionEvent::StillIdle);
    assert_eq!(shown(&watch), (Some("idle"), None));
    // A success in telemetry ends it as well.
    watch.rate_limited(80, Some(900));
    watch.apply_telemetry(90, success(85));
    assert_eq!((shown(&watch), limited(&watch)), ((Some("idle"), None), None));
}

#[test]
fn an_unknown_end_is_neither_success_nor_failure() {
    let mut watch = TestFleet::new(settings());
    let task = |update: AgentUpdate<'static>| AgentUpdate { task_id: Patch::Set("t".into()), ..update };
    watch.push(0, task(a(AgentStatus::Running)));
    let ended = AgentUpdate { ended: true, ..AgentUpdate { status: None, ..a(AgentStatus::Running) } };
    watch.push(10, ended.clone());
    let agent = watch.agent("a");
    assert_eq!((agent.status, agent.is_up(), agent.is_expected(), agent.has_open_task()), (None, false, false, false));
    assert_eq!((agent.tasks_completed.get(), agent.tasks_failed.get()), (None, None));
    watch.until(1_000);
    assert!(!watch.agent("a").is_down(), "it is not expected to report");
    watch.push(1_010, a(AgentStatus::Running));
    assert!(watch.agent("a").is_up() && watch.agent("a").status == Some(AgentStatus::Running));
}

#[test]
fn a_limit_without_a_reported_end_ends_after_ten_minutes() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, counted(1, 0, 0));
    watch.push(10, AgentUpdate { name: "a".into(), ..counted(2, 1, 1) });
    let ttl = Some(Duration::from_secs(10_000));
    let batch = Batch { project: "shop".into(), agents: vec![counted(3, 2, 2)], ttl, ..Batch::default() };
    watch.push_batch(20, batch);
    watch.until(619);
    assert_eq!(limited(&watch), Some((10, None)));
    watch.until(620);
    assert_eq!(limited(&watch), None, "ten minutes after the last hit");
}

#[test]
fn hooks_report_a_limit_and_its_end() {
    let mut watch = TestFleet::new(settings());
    watch.apply_hook(0, SessionEvent::Prompted);
    watch.rate_limited(10, Some(300));
    assert_eq!(limited(&watch), Some((10, Some(300))));
    watch.apply_hook(20, SessionEvent::Prompted);
    assert_eq!(limited(&watch), Some((10, Some(300))), "a prompt is not a successful request");
    watch.apply_hook(30, SessionEvent::ToolBegan { tool: "Bash".into(), asks: None });
    assert_eq!(limited(&watch), None);
    watch.rate_limited(40, None);
    assert_eq!(limited(&watch), Some((40, None)));
    watch.apply_hook(50, SessionEvent::TurnEnded { in_background: false });
    assert_eq!(limited(&watch), None);
}

#[test]
fn late_telemetry_does_not_end_a_newer_limit() {
    let mut watch = TestFleet::new(settings());
    watch.rate_limited(100, Some(400));
    watch.apply_telemetry(110, success(90));
    assert_eq!(limited(&watch), Some((100, Some(400))), "the success was before the hit");
    watch.apply_telemetry(120, success(115));
    assert_eq!(limited(&watch), None);
    watch.apply_telemetry(130, hit(125, Some(200)));
    assert_eq!(limited(&watch), Some((125, Some(200))));
    watch.apply_telemetry(140, AgentTelemetry { answered: Some(at(139)), ..hit(135, Some(300)) });
    assert_eq!(limited(&watch), None, "a retry in the same export succeeded");
    watch.apply_telemetry(1_000, hit(300, None));
    assert_eq!(limited(&watch), None, "a hit of long ago");
    watch.apply_telemetry(1_010, hit(5_000, Some(1_100)));
    assert_eq!(limited(&watch), Some((1_010, Some(1_100))), "from a clock that is ahead");
    assert_eq!(watch.agent("a").rate_limit_hits.get(), Some(4), "the hit in hook and telemetry is the same");
}

#[test]
fn a_metric_with_hits_and_successes_changes_nothing() {
    let mut watch = TestFleet::new(settings());
    let both = |seconds| AgentTelemetry { answered: Some(at(seconds)), ..hit(seconds, None) };
    watch.apply_telemetry(10, success(10));
    watch.apply_telemetry(20, both(20));
    assert_eq!(limited(&watch), None);
    watch.rate_limited(30, Some(400));
    watch.apply_telemetry(40, both(40));
    assert_eq!(limited(&watch), Some((30, Some(400))));
}

#[test]
fn telemetry_reports_limits_one_by_one() {
    let mut watch = TestFleet::new(settings());
    let limit = |kind: &str, remaining, reset| RateLimit {
        provider: "openai".into(),
        limit_type: kind.into(),
        limit: Some(50),
        remaining: Some(remaining),
        reset_at: Some(at(reset)),
    };
    watch.apply_telemetry(0, AgentTelemetry { rate_limits: vec![limit("requests", 49, 60)], ..success(0) });
    watch.apply_telemetry(1, AgentTelemetry { rate_limits: vec![limit("tokens", 0, 30)], ..success(1) });
    let kinds: Vec<&str> = watch.agent("a").rate_limits.iter().map(|limit| &*limit.limit_type).collect();
    assert_eq!((kinds, limited(&watch)), (vec!["requests", "tokens"], Some((1, Some(30)))));
    watch.apply_telemetry(2, AgentTelemetry { rate_limits: vec![limit("tokens", 10, 60)], ..success(2) });
    assert_eq!((watch.agent("a").rate_limits.len(), limited(&watch)), (2, None));
}

#[test]
fn limits_survive_a_restart() {
    let mut watch = TestFleet::new(settings());
    watch.rate_limited(10, Some(3_000));
    let (project, agent) = (watch.project().clone(), watch.agent("a").clone());
    let saved = serde_json::to_string(&agent).expect("JSON");
    let agent: Agent = serde_json::from_str(&saved).expect("an agent");
    let mut again = TestFleet { fleet: Fleet::new(at(20), settings()) };
    again.fleet.restore(at(20), vec![project], vec![agent], Vec::new(), []);
    assert_eq!(limited(&again), Some((10, Some(3_000))));
    again.until(3_000);
    assert_eq!(limited(&again), None);
}

#[test]
fn an_agent_known_from_telemetry_is_running_then_idle() {
    let mut watch = TestFleet::new(settings());
    let shown = |watch: &TestFleet| {
        let agent = watch.agent("a");
        (agent.status.map(AgentStatus::as_str), agent.reason.as_deref().map(str::to_owned))
    };
    watch.apply_telemetry(10, AgentTelemetry { active: Some(at(8)), ..success(8) });
    assert_eq!((shown(&watch).0, watch.agent("a").last_activity), (Some("running"), Some(at(8))));
    assert_eq!(watch.agent("a").idle_seconds(at(500)), None, "a pause between exports is not idleness");
    watch.apply_telemetry(20, AgentTelemetry { active: Some(at(19)), ..hit(19, Some(900)) });
    assert_eq!(shown(&watch), (Some("waiting_dependency"), Some("its requests are rate-limited".into())));
    watch.until(899);
    assert_eq!(shown(&watch).0, Some("waiting_dependency"), "it waits for its provider");
    watch.until(900);
    assert_eq!(shown(&watch), (Some("idle"), Some("no activity in its telemetry".into())));
    assert_eq!(watch.project().by_status[AgentStatus::Idle as usize], 1);
    watch.apply_telemetry(1_000, AgentTelemetry { active: Some(at(990)), ..success(990) });
    assert_eq!(shown(&watch), (Some("running"), None));
    assert_eq!(watch.until(1_290), [1_290]);
    assert_eq!(shown(&watch).0, Some("idle"));
    watch.apply_telemetry(1_300, AgentTelemetry::default());
    assert_eq!(shown(&watch).0, Some("idle"), "an export without increments is not an activity");
    watch.push(1_400, a(AgentStatus::Paused));
    watch.apply_telemetry(1_410, AgentTelemetry { active: Some(at(1_405)), ..success(1_405) });
    assert_eq!(shown(&watch).0, Some("paused"), "another source reports its status");
}

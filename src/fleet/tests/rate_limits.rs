//! Rate limits: what holds an agent up, from whom that is known, and what ends it.

use super::*;
use crate::fleet::tests::hooks::hook;
use crate::model::hook::{SessionEvent, TurnFailure};
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentTelemetry, Hook, RateLimit, RateLimitHit};

/// Whether the agent is limited: since when and until when, in seconds.
fn limited(watch: &TestFleet) -> Option<(i64, Option<i64>)> {
    let seconds = |time: Time| (time.as_millis() - at(0).as_millis()) / 1000;
    let limited = watch.agent("a").limited.as_ref()?;
    assert_eq!(watch.project().limited, 1);
    Some((seconds(limited.since), limited.until.map(seconds)))
}

fn counted(requests: u64, errors: u64, refused: u64) -> AgentUpdate<'static> {
    AgentUpdate {
        requests: Some(requests),
        request_errors: Some(errors),
        rate_limit_hits: Some(refused),
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
    fn refused(&mut self, seconds: i64, retry_at: Option<i64>) {
        self.until(seconds);
        self.fleet.clear_changes();
        let refusal = hook(SessionEvent::TurnFailed(TurnFailure::RateLimit));
        self.fleet.hook(at(seconds), &Hook { retry_at: retry_at.map(at), ..refusal });
    }

    fn step(&mut self, seconds: i64, step: SessionEvent) {
        self.until(seconds);
        self.fleet.clear_changes();
        self.fleet.hook(at(seconds), &hook(step));
    }

    fn told(&mut self, seconds: i64, said: AgentTelemetry) {
        self.until(seconds);
        self.fleet.clear_changes();
        self.fleet.telemetry(at(seconds), &[AgentTelemetry { project: "shop".into(), agent: "a".into(), ..said }]);
    }
}

fn refusal(seconds: i64, until: Option<i64>) -> AgentTelemetry {
    let refusal = RateLimitHit { provider: Some("openai".into()), until: until.map(at) };
    AgentTelemetry {
        requests: 1,
        request_errors: 1,
        rate_limit_hits: 1,
        rate_limited: Some((at(seconds), refusal)),
        ..AgentTelemetry::default()
    }
}

fn answer(seconds: i64) -> AgentTelemetry {
    AgentTelemetry { requests: 1, answered: Some(at(seconds)), ..AgentTelemetry::default() }
}

#[test]
fn a_limit_with_nothing_left_holds_the_agent_until_its_period_ends() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, left(3, Some(60)));
    assert_eq!(limited(&watch), None);
    watch.push(10, left(0, Some(60)));
    assert_eq!(limited(&watch), Some((10, Some(60))));
    assert_eq!(watch.agent("a").limited.as_ref().and_then(|limited| limited.provider.as_deref()), Some("anthropic"));
    assert_eq!(watch.until(60), [60], "its end is noticed though nothing happens");
    assert_eq!((limited(&watch), watch.project().limited), (None, 0));
    watch.push(61, left(0, Some(60)));
    assert_eq!(limited(&watch), None, "a period that is over limits nobody");
    watch.push(62, left(0, Some(900)));
    watch.push(63, left(5, Some(900)));
    assert_eq!((limited(&watch), watch.project().limited), (None, 0), "the provider says that there is some left");
}

#[test]
fn refused_requests_hold_the_agent_until_one_is_answered() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, counted(10, 5, 5));
    assert_eq!(limited(&watch), None, "what was counted before says nothing of now");
    watch.push(10, counted(11, 6, 6));
    assert_eq!(limited(&watch), Some((10, None)));
    watch.push(20, counted(12, 7, 6));
    assert_eq!(limited(&watch), Some((10, None)), "another error is no answer");
    watch.push(30, counted(13, 7, 6));
    assert_eq!(limited(&watch), None);
    watch.push(40, counted(14, 8, 7));
    watch.push(50, a(AgentStatus::Completed));
    assert_eq!(limited(&watch), None, "who has ended waits for nothing");
}

/// Whether the agent is limited, down, and expected to be up.
fn down(watch: &TestFleet) -> (bool, bool, bool) {
    let agent = watch.agent("a");
    assert_eq!(watch.project().down, u32::from(agent.is_down()));
    (agent.limited.is_some(), agent.is_down(), agent.is_expected())
}

#[test]
fn a_run_that_a_limit_ended_is_limited_and_not_down_until_the_limit_is_over() {
    let failed = |reason: &'static str| AgentUpdate { reason: Patch::Set(reason.into()), ..a(AgentStatus::Failed) };
    let spent = |update: AgentUpdate<'static>| AgentUpdate { rate_limits: left(0, Some(900)).rate_limits, ..update };
    // One report says both, once or twice, whatever its reason.
    for times in 1..3 {
        let mut watch = TestFleet::new(settings());
        watch.push(0, a(AgentStatus::Running));
        for time in 0..times {
            watch.push(10 + time, spent(failed("exit code 1")));
        }
        assert_eq!(down(&watch), (true, false, false), "told {times} times");
        watch.until(900);
        assert_eq!(down(&watch), (false, true, true), "nobody began it again");
    }
    // A count alone says it, too, and so does a limit that held until then.
    let mut watch = TestFleet::new(settings());
    watch.push(0, counted(1, 0, 0));
    watch.push(10, AgentUpdate { status: Some(AgentStatus::Failed), ..counted(2, 1, 1) });
    assert_eq!(down(&watch), (true, false, false));
    watch.push(20, a(AgentStatus::Running));
    watch.push(30, counted(3, 2, 2));
    watch.push(40, AgentUpdate { running: Some(false), status: None, ..a(AgentStatus::Running) });
    assert_eq!(down(&watch), (true, false, false), "it does not run, and that is all that is known");
    watch.push(50, a(AgentStatus::Running));
    watch.push(60, counted(4, 3, 3));
    watch.push(70, failed("out of memory"));
    assert_eq!(down(&watch), (false, true, true), "another reason is another reason");
}

#[test]
fn a_reason_that_speaks_of_a_limit_is_one() {
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
    assert_eq!(limited(&watch), None, "it goes on");
    watch.push(40, held(AgentStatus::Failed, None));
    assert_eq!(down(&watch), (true, false, false));
    for seconds in (50..=640).step_by(10) {
        watch.push(seconds, held(AgentStatus::Failed, None));
    }
    assert_eq!(down(&watch), (false, true, true), "the same report again and again is no new refusal");
}

#[test]
fn a_headless_run_that_a_limit_ended_is_not_down() {
    let mut watch = TestFleet::new(settings());
    watch.step(0, SessionEvent::Prompted);
    watch.refused(10, Some(300));
    watch.step(11, SessionEvent::Ended(crate::model::hook::SessionEnd::Exited));
    assert_eq!(watch.agent("a").status, Some(AgentStatus::Failed));
    assert_eq!(down(&watch), (true, false, false));
    watch.until(300);
    assert_eq!(down(&watch), (false, true, true));
}

#[test]
fn a_failure_that_telemetry_explains_later_is_no_more_down() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, a(AgentStatus::Running));
    watch.push(10, a(AgentStatus::Failed));
    assert_eq!(down(&watch), (false, true, true));
    watch.told(15, refusal(9, Some(300)));
    assert_eq!(down(&watch), (true, false, false));
}

#[test]
fn the_end_of_a_limit_ends_the_wait() {
    let shown = |watch: &TestFleet| {
        let agent = watch.agent("a");
        (agent.status.map(AgentStatus::as_str), agent.reason.as_deref().map(str::to_owned))
    };
    let mut watch = TestFleet::new(settings());
    watch.told(10, AgentTelemetry { active: Some(at(9)), ..refusal(9, Some(12)) });
    assert_eq!(shown(&watch).0, Some("waiting_dependency"));
    watch.until(12);
    assert_eq!((shown(&watch), limited(&watch)), ((Some("running"), None), None), "for it told something just now");
    // A session sits idle, and the next hook does not bring the wait back.
    let mut watch = TestFleet::new(settings());
    watch.step(0, SessionEvent::Prompted);
    watch.refused(10, Some(60));
    assert_eq!(shown(&watch), (Some("waiting_dependency"), Some("rate-limited".into())));
    watch.until(60);
    assert_eq!(shown(&watch), (Some("idle"), None));
    watch.step(70, SessionEvent::StillIdle);
    assert_eq!(shown(&watch), (Some("idle"), None));
    // An answer that telemetry tells of ends it as well.
    watch.refused(80, Some(900));
    watch.told(90, answer(85));
    assert_eq!((shown(&watch), limited(&watch)), ((Some("idle"), None), None));
}

#[test]
fn an_end_that_nobody_can_tell_of_is_neither_success_nor_failure() {
    let mut watch = TestFleet::new(settings());
    let task = |update: AgentUpdate<'static>| AgentUpdate { task_id: Patch::Set("t".into()), ..update };
    watch.push(0, task(a(AgentStatus::Running)));
    let ended = AgentUpdate { ended: true, ..AgentUpdate { status: None, ..a(AgentStatus::Running) } };
    watch.push(10, ended.clone());
    let agent = watch.agent("a");
    assert_eq!((agent.status, agent.is_up(), agent.is_expected(), agent.has_open_task()), (None, false, false, false));
    assert_eq!((agent.tasks_completed.get(), agent.tasks_failed.get()), (None, None));
    watch.until(1_000);
    assert!(!watch.agent("a").is_down(), "it is silent, and may be");
    watch.push(1_010, a(AgentStatus::Running));
    assert!(watch.agent("a").is_up() && watch.agent("a").status == Some(AgentStatus::Running));
}

#[test]
fn an_end_that_nobody_tells_comes_by_itself() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, counted(1, 0, 0));
    watch.push(10, AgentUpdate { name: "a".into(), ..counted(2, 1, 1) });
    let ttl = Some(Duration::from_secs(10_000));
    let batch = Batch { project: "shop".into(), agents: vec![counted(3, 2, 2)], ttl, ..Batch::default() };
    watch.push_batch(20, batch);
    watch.until(619);
    assert_eq!(limited(&watch), Some((10, None)));
    watch.until(620);
    assert_eq!(limited(&watch), None, "ten minutes after the last refusal");
}

#[test]
fn hooks_tell_of_a_limit_and_of_its_end() {
    let mut watch = TestFleet::new(settings());
    watch.step(0, SessionEvent::Prompted);
    watch.refused(10, Some(300));
    assert_eq!(limited(&watch), Some((10, Some(300))));
    watch.step(20, SessionEvent::Prompted);
    assert_eq!(limited(&watch), Some((10, Some(300))), "that a person asks is no answer of the model");
    watch.step(30, SessionEvent::ToolBegan { tool: "Bash".into(), asks: None });
    assert_eq!(limited(&watch), None);
    watch.refused(40, None);
    assert_eq!(limited(&watch), Some((40, None)));
    watch.step(50, SessionEvent::TurnEnded { in_background: false });
    assert_eq!(limited(&watch), None);
}

#[test]
fn telemetry_that_comes_late_ends_nothing_that_came_after() {
    let mut watch = TestFleet::new(settings());
    watch.refused(100, Some(400));
    watch.told(110, answer(90));
    assert_eq!(limited(&watch), Some((100, Some(400))), "the answer was before the refusal");
    watch.told(120, answer(115));
    assert_eq!(limited(&watch), None);
    watch.told(130, refusal(125, Some(200)));
    assert_eq!(limited(&watch), Some((125, Some(200))));
    watch.told(140, AgentTelemetry { answered: Some(at(139)), ..refusal(135, Some(300)) });
    assert_eq!(limited(&watch), None, "a retry of the same export was answered");
    watch.told(1_000, refusal(300, None));
    assert_eq!(limited(&watch), None, "a refusal of long ago");
    watch.told(1_010, refusal(5_000, Some(1_100)));
    assert_eq!(limited(&watch), Some((1_010, Some(1_100))), "a clock that is ahead");
    assert_eq!(watch.agent("a").rate_limit_hits.get(), Some(4), "the hook's refusal and that of telemetry are one");
}

#[test]
fn a_metric_of_refusals_and_answers_says_not_which_was_last() {
    let mut watch = TestFleet::new(settings());
    let both = |seconds| AgentTelemetry { answered: Some(at(seconds)), ..refusal(seconds, None) };
    watch.told(10, answer(10));
    watch.told(20, both(20));
    assert_eq!(limited(&watch), None);
    watch.refused(30, Some(400));
    watch.told(40, both(40));
    assert_eq!(limited(&watch), Some((30, Some(400))));
}

#[test]
fn telemetry_tells_of_limits_one_by_one() {
    let mut watch = TestFleet::new(settings());
    let limit = |kind: &str, remaining, reset| RateLimit {
        provider: "openai".into(),
        limit_type: kind.into(),
        limit: Some(50),
        remaining: Some(remaining),
        reset_at: Some(at(reset)),
    };
    watch.told(0, AgentTelemetry { rate_limits: vec![limit("requests", 49, 60)], ..answer(0) });
    watch.told(1, AgentTelemetry { rate_limits: vec![limit("tokens", 0, 30)], ..answer(1) });
    let kinds: Vec<&str> = watch.agent("a").rate_limits.iter().map(|limit| &*limit.limit_type).collect();
    assert_eq!((kinds, limited(&watch)), (vec!["requests", "tokens"], Some((1, Some(30)))));
    watch.told(2, AgentTelemetry { rate_limits: vec![limit("tokens", 10, 60)], ..answer(2) });
    assert_eq!((watch.agent("a").rate_limits.len(), limited(&watch)), (2, None));
}

#[test]
fn a_restart_forgets_no_limit() {
    let mut watch = TestFleet::new(settings());
    watch.refused(10, Some(3_000));
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
fn telemetry_alone_tells_who_runs_and_time_who_rests() {
    let mut watch = TestFleet::new(settings());
    let shown = |watch: &TestFleet| {
        let agent = watch.agent("a");
        (agent.status.map(AgentStatus::as_str), agent.reason.as_deref().map(str::to_owned))
    };
    watch.told(10, AgentTelemetry { active: Some(at(8)), ..answer(8) });
    assert_eq!((shown(&watch).0, watch.agent("a").last_activity), (Some("running"), Some(at(8))));
    assert_eq!(watch.agent("a").idle_seconds(at(500)), None, "a pause between two exports is nobody's idleness");
    watch.told(20, AgentTelemetry { active: Some(at(19)), ..refusal(19, Some(900)) });
    assert_eq!(shown(&watch), (Some("waiting_dependency"), Some("its requests are rate-limited".into())));
    watch.until(899);
    assert_eq!(shown(&watch).0, Some("waiting_dependency"), "its provider makes it wait");
    watch.until(900);
    assert_eq!(shown(&watch), (Some("idle"), Some("no activity in its telemetry".into())));
    assert_eq!(watch.project().by_status[AgentStatus::Idle as usize], 1);
    watch.told(1_000, AgentTelemetry { active: Some(at(990)), ..answer(990) });
    assert_eq!(shown(&watch), (Some("running"), None));
    assert_eq!(watch.until(1_290), [1_290]);
    assert_eq!(shown(&watch).0, Some("idle"));
    watch.told(1_300, AgentTelemetry::default());
    assert_eq!(shown(&watch).0, Some("idle"), "an export that adds nothing is no activity");
    watch.push(1_400, a(AgentStatus::Paused));
    watch.told(1_410, AgentTelemetry { active: Some(at(1_405)), ..answer(1_405) });
    assert_eq!(shown(&watch).0, Some("paused"), "who is reported by others is what they say");
}

//! Reported times while the wall clock is set, and state that was saved by a clock that was ahead.

use super::*;
use crate::model::AgentStatus::Running;

const HOUR: i64 = 3_600;

fn active(seconds: i64) -> AgentUpdate<'static> {
    let task = Patch::Set("t1".into());
    AgentUpdate { last_activity: Some(at(seconds)), task_id: task, task_started_at: Some(at(seconds)), ..a(Running) }
}

#[test]
fn reported_times_are_not_in_the_future() {
    let mut watch = TestFleet::new(settings());
    let agent = watch.push(5, active(60)).clone();
    assert_eq!((agent.last_activity, agent.task.unwrap().started_at), (Some(at(5)), at(5)));
}

#[test]
fn a_step_of_the_clock_does_not_change_idle_times() {
    for by in [HOUR, -HOUR] {
        let mut watch = TestFleet::new(settings());
        watch.push(120, active(0));
        assert!(watch.fleet.observe_wall_clock(at(120), at(120 + by)));
        let idle = |watch: &TestFleet, seconds| watch.agent("a").idle_seconds(at(seconds));
        assert_eq!(idle(&watch, 120), Some(120.0));
        watch.push(121, active(0));
        assert_eq!(idle(&watch, 121), Some(121.0), "the same report again");
        watch.push(122, active(by));
        assert_eq!(idle(&watch, 122), Some(122.0), "the same time by the new clock");
        assert_eq!(watch.agent("a").task.as_ref().unwrap().started_at, at(0));
        watch.push(123, active(by + 123));
        assert_eq!(idle(&watch, 123), Some(0.0), "a new activity");
        let shown = watch.fleet.state().wall.to_wall(watch.agent("a").last_activity.unwrap());
        assert_eq!(shown, at(by + 123), "shown as reported");
    }
}

#[test]
fn state_saved_by_a_clock_ahead_is_from_before_the_start() {
    let mut before = TestFleet::new(settings());
    before.push(HOUR, active(HOUR));
    let agent = before.agent("a").clone();
    let mut fleet = Fleet::new(at(0), settings());
    fleet.restore(at(0), Vec::new(), vec![agent], Vec::new(), Vec::new());
    let mut watch = TestFleet { fleet };
    let agent = watch.agent("a");
    assert!(agent.last_seen < at(0) && agent.last_activity == Some(at(0)));
    // It goes stale after the usual time, not an hour later.
    watch.until(61);
    assert!(watch.agent("a").stale);
}

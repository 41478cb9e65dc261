//! Sequences of hooks and the resulting status.

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn at(seconds: u64) -> Time {
    Time::from_millis(1_000_000_000).plus(Duration::from_secs(seconds))
}

fn hook(session: u64, step: SessionEvent) -> Hook {
    let (project, agent, agent_type) = ("shop".into(), "a".into(), "claude-code".into());
    Hook { project, agent, agent_type, session, subagent: None, event: step, retry_at: None, stop: None }
}

fn by(subagent: u64, session: u64, step: SessionEvent) -> Hook {
    Hook { subagent: Some(subagent), ..hook(session, step) }
}

fn begins(tool: &str) -> SessionEvent {
    SessionEvent::ToolBegan { tool: tool.into(), asks: None }
}

fn stopped() -> SessionEvent {
    SessionEvent::TurnEnded { in_background: false }
}

/// The same hook, answered with a stop order.
fn stopped_by_budget(hook: Hook) -> Hook {
    let stop = StopOrder { budget: Budget::TokensPerTask, about: 7, why: "used 2 of its 1 tokens".into() };
    Hook { stop: Some(stop), ..hook }
}

/// The status and its reason.
fn shown(outcome: &HookOutcome) -> String {
    match &outcome.status {
        None => String::new(),
        Some((status, None)) => status.as_str().to_owned(),
        Some((status, Some(reason))) => format!("{}: {reason}", status.as_str()),
    }
}

/// Applies the hooks, one per second, and compares after each: the status, the number of the open prompt, and whether a
/// prompt that ended succeeded.
fn check(history: &[(Hook, &str, Option<u64>, Option<bool>)]) {
    let mut sessions = Sessions::default();
    for (second, (hook, status, open, ended)) in history.iter().enumerate() {
        let outcome = sessions.apply(at(second as u64), HOUR, hook);
        let found = (shown(&outcome), outcome.prompt.map(|it| it.number), outcome.ended.map(|(_, is_done)| is_done));
        assert_eq!(found, ((*status).to_owned(), *open, *ended), "after {second}: {hook:?}");
        // Saving and restoring changes nothing.
        let saved = serde_json::to_string(&sessions).expect("it is written");
        assert_eq!(serde_json::from_str::<Sessions>(&saved).expect("it is read"), sessions);
    }
}

#[test]
fn events_of_a_subagent_do_not_end_the_session() {
    let open = Some(1);
    for step in [
        stopped(),
        SessionEvent::TurnEnded { in_background: true },
        SessionEvent::TurnFailed(TurnFailure::Error("failed by server error".into())),
        SessionEvent::TurnFailed(TurnFailure::RateLimit),
        SessionEvent::Ended(SessionEnd::Exited),
        SessionEvent::Ended(SessionEnd::UserExit),
        SessionEvent::Began,
        SessionEvent::Prompted,
        SessionEvent::CompactionBegan,
        SessionEvent::CompactionEnded,
        SessionEvent::StillIdle,
        SessionEvent::SubagentEnded,
        SessionEvent::Alive,
    ] {
        check(&[
            (hook(1, SessionEvent::Prompted), "running", open, None),
            (hook(1, begins("Task")), "running", open, None),
            (by(7, 1, SessionEvent::SubagentBegan), "running", open, None),
            (by(7, 1, step.clone()), "running", open, None),
            (by(7, 1, SessionEvent::SubagentEnded), "running", open, None),
            (hook(1, stopped()), "idle", None, Some(true)),
        ]);
        // Nor of a session that is not known yet.
        let mut sessions = Sessions::default();
        let outcome = sessions.apply(at(0), HOUR, &by(7, 1, step));
        assert!(outcome.ended.is_none() && !shown(&outcome).starts_with("failed"), "{outcome:?}");
    }
    // A question of a subagent ends with the subagent.
    check(&[
        (hook(1, SessionEvent::Prompted), "running", open, None),
        (
            by(7, 1, SessionEvent::PermissionRequested("Bash".into())),
            "waiting_question: permission to run Bash",
            open,
            None,
        ),
        (by(7, 1, stopped()), "running", open, None),
        (by(8, 1, SessionEvent::InputRequested), "waiting_question: input", open, None),
        (by(7, 1, SessionEvent::InputGiven), "waiting_question: input", open, None),
        (by(8, 1, SessionEvent::InputGiven), "running", open, None),
        (hook(1, SessionEvent::CompactionBegan), "running: compacting its context", open, None),
        (by(8, 1, SessionEvent::ToolsEnded), "running: compacting its context", open, None),
        (hook(1, SessionEvent::CompactionEnded), "running", open, None),
    ]);
}

#[test]
fn two_sessions_within_one_millisecond_are_both_alive() {
    let mut sessions = Sessions::default();
    for hook in [
        hook(1, SessionEvent::Prompted),
        hook(2, SessionEvent::Prompted),
        hook(2, SessionEvent::PermissionRequested("Bash".into())),
    ] {
        sessions.apply(at(0), HOUR, &hook);
    }
    let outcome = sessions.apply(at(0), HOUR, &hook(1, begins("Read")));
    assert_eq!(shown(&outcome), "waiting_question: permission to run Bash");
    // A session that begins after the question, in the same millisecond, is another one.
    let outcome = sessions.apply(at(0), HOUR, &hook(3, begins("Read")));
    assert_eq!(shown(&outcome), "running");
}

#[test]
fn a_killed_session_with_an_open_question_is_lost_once_another_works() {
    let asks = || SessionEvent::PermissionRequested("Bash".into());
    let waits = "waiting_question: permission to run Bash";
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (hook(1, asks()), waits, Some(1), None),
        // It is killed there, and the user begins another one.
        (hook(2, SessionEvent::Prompted), waits, Some(1), None),
        (hook(2, begins("Edit")), "running", Some(2), None),
        (hook(2, stopped()), "idle", None, Some(true)),
        (hook(2, SessionEvent::Ended(SessionEnd::Exited)), "completed", None, None),
        // If it is alive after all, a reminder follows the question after six seconds.
        (hook(1, SessionEvent::PermissionStillPending), waits, Some(1), None),
        (hook(1, SessionEvent::ToolEnded("Bash".into())), "running", Some(1), None),
    ]);
    // Of sessions that run in parallel, any open question counts.
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (hook(2, SessionEvent::Prompted), "running", Some(1), None),
        (hook(1, asks()), waits, Some(1), None),
        (hook(2, begins("Edit")), waits, Some(1), None),
        (hook(2, stopped()), waits, Some(1), Some(true)),
    ]);
}

#[test]
fn a_working_session_without_events_is_lost_after_half_an_hour() {
    let mut sessions = Sessions::default();
    let day = HOUR * 24;
    sessions.apply(at(0), day, &hook(1, SessionEvent::Prompted));
    sessions.apply(at(60), day, &hook(2, SessionEvent::Prompted));
    assert_eq!(shown(&sessions.apply(at(120), day, &hook(2, stopped()))), "running", "the first may still work");
    sessions.apply(at(1_700), day, &hook(2, SessionEvent::Prompted));
    let outcome = sessions.apply(at(1_900), day, &hook(2, stopped()));
    assert_eq!((shown(&outcome).as_str(), outcome.prompt), ("idle", None), "half an hour without an event");
    assert!(!sessions.can_idle());
    let outcome = sessions.apply(at(2_000), day, &hook(1, SessionEvent::ToolsEnded));
    assert_eq!(
        (shown(&outcome).as_str(), outcome.prompt.map(|it| it.number)),
        ("running", Some(1)),
        "it is alive after all"
    );
}

#[test]
fn a_session_is_idle_when_its_rate_limit_ends() {
    let mut sessions = Sessions::default();
    sessions.apply(at(0), HOUR, &hook(1, SessionEvent::Prompted));
    assert_eq!(sessions.rate_limit_ended(), None, "no session is waiting");
    let outcome = sessions.apply(at(1), HOUR, &hook(1, SessionEvent::TurnFailed(TurnFailure::RateLimit)));
    assert_eq!(shown(&outcome), "waiting_dependency: rate-limited");
    assert_eq!(sessions.rate_limit_ended(), Some((AgentStatus::Idle, None)));
    assert_eq!(
        shown(&sessions.apply(at(2), HOUR, &hook(1, SessionEvent::StillIdle))),
        "idle",
        "the wait does not come back"
    );
}

#[test]
fn status_follows_the_events_of_a_session() {
    let bash = || SessionEvent::PermissionRequested("Bash".into());
    let needs = "waiting_question: permission to run Bash";
    let asks = |tool: &str, what: &str| SessionEvent::ToolBegan { tool: tool.into(), asks: Some(what.into()) };
    check(&[
        (hook(1, SessionEvent::Alive), "", None, None),
        (hook(1, SessionEvent::Began), "idle", None, None),
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (hook(1, begins("Bash")), "running", Some(1), None),
        (hook(1, bash()), needs, Some(1), None),
        (hook(1, SessionEvent::PermissionStillPending), needs, Some(1), None),
        (hook(1, SessionEvent::ToolEnded("Read".into())), needs, Some(1), None),
        (hook(1, SessionEvent::ToolEnded("Bash".into())), "running", Some(1), None),
        (hook(1, bash()), needs, Some(1), None),
        (hook(1, SessionEvent::ToolsEnded), "running", Some(1), None),
        (hook(1, SessionEvent::CompactionBegan), "running: compacting its context", Some(1), None),
        (hook(1, SessionEvent::CompactionEnded), "running", Some(1), None),
        (hook(1, asks("Question", "an answer")), "waiting_question: an answer", Some(1), None),
        (hook(1, SessionEvent::PermissionRequested("Question".into())), "waiting_question: an answer", Some(1), None),
        (hook(1, SessionEvent::ToolEnded("Question".into())), "running", Some(1), None),
        (hook(1, SessionEvent::InputRequested), "waiting_question: input", Some(1), None),
        (hook(1, SessionEvent::InputGiven), "running", Some(1), None),
        (
            hook(1, SessionEvent::TurnEnded { in_background: true }),
            "running: a background task is running",
            None,
            Some(true),
        ),
        (hook(1, begins("Bash")), "running", Some(2), None),
        (hook(1, stopped()), "idle", None, Some(true)),
        (hook(1, SessionEvent::StillIdle), "idle", None, None),
        (hook(1, SessionEvent::Prompted), "running", Some(3), None),
        (hook(1, SessionEvent::Prompted), "running", Some(4), None),
        (hook(1, SessionEvent::StillIdle), "idle", None, None),
        (hook(1, SessionEvent::PermissionStillPending), "waiting_question: permission", None, None),
        (hook(1, SessionEvent::Ended(SessionEnd::UserExit)), "completed", None, None),
        (hook(2, SessionEvent::Ended(SessionEnd::Replaced)), "idle", None, None),
    ]);
}

#[test]
fn a_failed_turn_waits_for_the_provider_or_is_a_failure() {
    let billing = || SessionEvent::TurnFailed(TurnFailure::Error("failed by billing".into()));
    let limited = "waiting_dependency: rate-limited";
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (hook(1, SessionEvent::TurnFailed(TurnFailure::RateLimit)), limited, None, Some(false)),
        (hook(1, SessionEvent::StillIdle), limited, None, None),
        (hook(1, SessionEvent::Prompted), "running", Some(2), None),
        (
            hook(1, SessionEvent::TurnFailed(TurnFailure::Overload)),
            "waiting_dependency: provider overloaded",
            None,
            Some(false),
        ),
        (hook(1, SessionEvent::Prompted), "running", Some(3), None),
        (hook(1, billing()), "failed: failed by billing", None, Some(false)),
        (hook(1, SessionEvent::Ended(SessionEnd::UserExit)), "completed", None, None),
        (hook(2, SessionEvent::Prompted), "running", Some(4), None),
        (hook(2, SessionEvent::TurnFailed(TurnFailure::RateLimit)), limited, None, Some(false)),
        (hook(2, SessionEvent::Ended(SessionEnd::Exited)), "failed: rate-limited", None, None),
        (hook(3, SessionEvent::Prompted), "running", Some(5), None),
        (hook(3, SessionEvent::Ended(SessionEnd::Exited)), "failed: session ended during a task", None, Some(false)),
        (hook(4, SessionEvent::Prompted), "running", Some(6), None),
        (hook(4, stopped()), "idle", None, Some(true)),
        (hook(4, SessionEvent::Ended(SessionEnd::Exited)), "completed", None, None),
    ]);
}

#[test]
fn a_stopped_session_is_paused_until_the_next_prompt() {
    let tool = || SessionEvent::ToolEnded("Bash".into());
    let paused = "paused: stopped by lookout: over its budget of tokens for this task";
    let completed = "completed: stopped by lookout: over its budget of tokens for this task";
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (
            hook(1, SessionEvent::PermissionRequested("Bash".into())),
            "waiting_question: permission to run Bash",
            Some(1),
            None,
        ),
        (stopped_by_budget(hook(1, begins("Bash"))), paused, Some(1), None),
        (hook(1, tool()), paused, Some(1), None),
        (hook(1, SessionEvent::ToolsEnded), paused, Some(1), None),
        (hook(1, SessionEvent::StillIdle), paused, Some(1), None),
        (hook(1, stopped()), paused, Some(1), None),
        (stopped_by_budget(hook(1, SessionEvent::Prompted)), paused, Some(1), None),
        (hook(1, SessionEvent::Prompted), "running", Some(2), Some(false)),
        (hook(1, stopped()), "idle", None, Some(true)),
        (stopped_by_budget(hook(1, SessionEvent::Prompted)), paused, None, None),
        (hook(1, SessionEvent::Ended(SessionEnd::Exited)), completed, None, None),
        (hook(2, SessionEvent::Prompted), "running", Some(3), None),
        (stopped_by_budget(hook(2, tool())), paused, Some(3), None),
        (hook(2, begins("Bash")), "running", Some(3), None),
        (stopped_by_budget(hook(2, tool())), paused, Some(3), None),
        (hook(2, SessionEvent::Ended(SessionEnd::Exited)), completed, None, Some(false)),
        (hook(3, SessionEvent::Prompted), "running", Some(4), None),
        (stopped_by_budget(hook(3, tool())), paused, Some(4), None),
        (hook(3, SessionEvent::Ended(SessionEnd::UserExit)), "completed", None, Some(false)),
    ]);
    // Another session continues with its prompt.
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (hook(2, SessionEvent::Prompted), "running", Some(1), None),
        (stopped_by_budget(hook(1, begins("Bash"))), "running", Some(2), None),
        (hook(2, stopped()), paused, Some(1), Some(true)),
    ]);
    // A stopped subagent ends without another event.
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (by(7, 1, SessionEvent::SubagentBegan), "running", Some(1), None),
        (stopped_by_budget(hook(1, begins("Bash"))), "running: a subagent is working", Some(1), None),
        (stopped_by_budget(by(7, 1, begins("Bash"))), paused, Some(1), None),
    ]);
}

#[test]
fn last_hook_time_is_kept_after_the_session_ends() {
    let mut sessions = Sessions::default();
    assert_eq!(sessions.last_hook_at(), None);
    for (second, step) in
        [SessionEvent::Prompted, SessionEvent::Alive, SessionEvent::Ended(SessionEnd::UserExit)].into_iter().enumerate()
    {
        sessions.apply(at(second as u64), HOUR, &hook(1, step));
        assert_eq!(sessions.last_hook_at(), Some(at(second as u64)));
    }
    sessions.clamp_times(at(1));
    assert_eq!(sessions.last_hook_at(), Some(at(1)), "clamped to now");
}

#[test]
fn a_session_is_running_while_a_subagent_works() {
    let ask = by(7, 1, SessionEvent::PermissionRequested("Bash".into()));
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (by(7, 1, SessionEvent::SubagentBegan), "running", Some(1), None),
        (hook(1, stopped()), "running: a subagent is working", None, Some(true)),
        (ask, "waiting_question: permission to run Bash", None, None),
        (hook(1, SessionEvent::ToolEnded("Bash".into())), "waiting_question: permission to run Bash", Some(2), None),
        (by(7, 1, SessionEvent::SubagentEnded), "running", Some(2), None),
        (hook(1, stopped()), "idle", None, Some(true)),
    ]);
}

#[test]
fn sessions_are_combined_into_one_status() {
    let edit = "waiting_question: permission to run Edit";
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (hook(2, SessionEvent::Began), "running", Some(1), None),
        (hook(2, SessionEvent::Prompted), "running", Some(1), None),
        (hook(2, SessionEvent::PermissionRequested("Edit".into())), edit, Some(1), None),
        (hook(1, begins("Bash")), edit, Some(1), None),
        (hook(1, stopped()), edit, Some(2), Some(true)),
        (
            hook(2, SessionEvent::TurnFailed(TurnFailure::RateLimit)),
            "waiting_dependency: rate-limited",
            None,
            Some(false),
        ),
        (hook(1, SessionEvent::Prompted), "running", Some(3), None),
        (hook(2, SessionEvent::Ended(SessionEnd::Exited)), "running", Some(3), None),
        (hook(1, stopped()), "idle", None, Some(true)),
        (hook(1, SessionEvent::Ended(SessionEnd::Exited)), "completed", None, None),
    ]);
}

#[test]
fn an_agent_can_be_idle_only_with_an_open_prompt_and_no_subagent() {
    let mut sessions = Sessions::default();
    let steps = [
        (hook(1, SessionEvent::Began), false),
        (hook(1, SessionEvent::Prompted), true),
        (by(7, 1, SessionEvent::SubagentBegan), false),
        (by(7, 1, SessionEvent::SubagentEnded), true),
        (hook(1, SessionEvent::PermissionRequested("Bash".into())), true),
        (hook(1, stopped()), false),
    ];
    for (hook, expected) in steps {
        sessions.apply(at(0), HOUR, &hook);
        assert_eq!(sessions.can_idle(), expected, "{hook:?}");
    }
}

#[test]
fn a_reminder_is_not_an_activity() {
    let mut sessions = Sessions::default();
    for (step, expected) in [
        (SessionEvent::Prompted, true),
        (SessionEvent::StillIdle, false),
        (SessionEvent::PermissionStillPending, false),
    ] {
        assert_eq!(sessions.apply(at(0), HOUR, &hook(1, step)).is_activity, expected);
    }
}

#[test]
fn a_rate_limit_reported_by_hook_and_telemetry_is_matched_once() {
    let mut sessions = Sessions::default();
    for second in 0..3 {
        assert!(
            sessions
                .apply(at(second), HOUR, &hook(1, SessionEvent::TurnFailed(TurnFailure::RateLimit)))
                .rate_limit_hit
                .is_some()
        );
    }
    assert_eq!(
        [
            sessions.match_rate_limits(at(3), 1),
            sessions.match_rate_limits(at(3), 5),
            sessions.match_rate_limits(at(3), 1)
        ],
        [1, 2, 0]
    );
    sessions.apply(at(4), HOUR, &hook(1, SessionEvent::TurnFailed(TurnFailure::RateLimit)));
    assert_eq!(sessions.match_rate_limits(at(4).plus(TELEMETRY_DELAY), 1), 0, "too late to be the same one");
}

#[test]
fn sessions_are_bounded_and_expire() {
    let mut sessions = Sessions::default();
    for session in 0..100 {
        sessions.apply(at(session), HOUR, &hook(session, SessionEvent::Prompted));
        sessions.apply(at(session), HOUR, &by(session, 99, SessionEvent::SubagentBegan));
    }
    assert_eq!(sessions.sessions.len(), MAX_SESSIONS);
    assert!(serde_json::to_string(&sessions).expect("it is written").len() < 4_000);
    let outcome = sessions.apply(at(99).plus(HOUR), HOUR, &hook(1, stopped()));
    assert_eq!(shown(&outcome), "idle", "sessions without events are dropped");
}

#[test]
fn restored_times_are_not_in_the_future() {
    let mut sessions = Sessions::default();
    sessions.apply(at(1_000), HOUR, &hook(1, SessionEvent::Prompted));
    sessions.clamp_times(at(10));
    let outcome = sessions.apply(at(20), HOUR, &hook(1, begins("Bash")));
    assert_eq!(outcome.prompt.map(|prompt| prompt.since), Some(at(10)));
}

fn any_step() -> impl Strategy<Value = SessionEvent> {
    let tool = || prop::sample::select(vec!["Bash", "Read"]).prop_map(Arc::<str>::from);
    prop_oneof![
        Just(SessionEvent::Began),
        Just(SessionEvent::Prompted),
        tool().prop_map(|tool| SessionEvent::ToolBegan { tool, asks: None }),
        tool().prop_map(|tool| SessionEvent::ToolBegan { tool, asks: Some("it".into()) }),
        tool().prop_map(SessionEvent::ToolEnded),
        Just(SessionEvent::ToolsEnded),
        tool().prop_map(SessionEvent::PermissionRequested),
        Just(SessionEvent::InputRequested),
        Just(SessionEvent::InputGiven),
        Just(SessionEvent::PermissionStillPending),
        Just(SessionEvent::StillIdle),
        any::<bool>().prop_map(|in_background| SessionEvent::TurnEnded { in_background }),
        Just(SessionEvent::TurnFailed(TurnFailure::RateLimit)),
        Just(SessionEvent::TurnFailed(TurnFailure::Error("failed".into()))),
        Just(SessionEvent::SubagentBegan),
        Just(SessionEvent::SubagentEnded),
        Just(SessionEvent::CompactionBegan),
        Just(SessionEvent::CompactionEnded),
        Just(SessionEvent::Alive),
        prop::sample::select(vec![SessionEnd::Replaced, SessionEnd::UserExit, SessionEnd::Exited])
            .prop_map(SessionEvent::Ended),
    ]
}

proptest! {
    /// The most important status of any session is the agent's, and each prompt ends at most once.
    #[test]
    fn combined_status_holds_for_random_histories(
        history in prop::collection::vec((0..3_u64, prop::option::of(0..3_u64), any_step(), any::<bool>()), 0..60),
    ) {
        let mut all = Sessions::default();
        let mut alone: [Sessions; 3] = Default::default();
        let mut ended = Vec::new();
        for (second, (session, subagent, step, is_stopped)) in history.into_iter().enumerate() {
            // The events that may be answered with a stop order.
            let waits = matches!(step, SessionEvent::Prompted | SessionEvent::ToolBegan { .. } | SessionEvent::ToolEnded(_) | SessionEvent::ToolsEnded);
            let hook = Hook { subagent, ..hook(session, step) };
            let hook = if is_stopped && waits { stopped_by_budget(hook) } else { hook };
            let outcome = all.apply(at(second as u64), HOUR, &hook);
            alone[session as usize].apply(at(second as u64), HOUR, &hook);
            if let Some((prompt, _)) = outcome.ended {
                prop_assert!(!ended.contains(&prompt.number));
                ended.push(prompt.number);
                prop_assert!(outcome.prompt.is_none_or(|open| open.number != prompt.number));
            }
            // Lost sessions do not count until their next event.
            let is_live = |session: usize| all.live().any(|one| one.id == session as u64);
            let live = alone.iter().enumerate().filter(|(session, _)| is_live(*session));
            let statuses: Vec<_> = live.filter_map(|(_, one)| Some(one.combined_status()?.0)).collect();
            let most = [AgentStatus::WaitingQuestion, AgentStatus::Running, AgentStatus::Failed];
            let expected = most.into_iter().find(|status| statuses.contains(status));
            if let (Some(expected), Some((status, _))) = (expected, &outcome.status) {
                prop_assert_eq!(expected, *status);
            }
            prop_assert_eq!(all.live().any(|one| one.prompt.is_some()), outcome.prompt.is_some());
        }
    }
}

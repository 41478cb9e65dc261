//! Histories of hooks and what they add up to.

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

/// The same, answered by a stop.
fn told(hook: Hook) -> Hook {
    let stop = Stop { budget: Budget::TokensPerTask, about: 7, why: "used 2 of its 1 tokens".into() };
    Hook { stop: Some(stop), ..hook }
}

/// The status and its reason.
fn shown(heard: &HookOutcome) -> String {
    match &heard.status {
        None => String::new(),
        Some((status, None)) => status.as_str().to_owned(),
        Some((status, Some(reason))) => format!("{}: {reason}", status.as_str()),
    }
}

/// Plays a history, one hook a second; after each hook the status, the number of the prompt that is open and how one
/// ended.
fn check(history: &[(Hook, &str, Option<u64>, Option<bool>)]) {
    let mut sessions = Sessions::default();
    for (second, (hook, status, open, ended)) in history.iter().enumerate() {
        let heard = sessions.take(at(second as u64), HOUR, hook);
        let found = (shown(&heard), heard.prompt.map(|it| it.number), heard.ended.map(|(_, is_done)| is_done));
        assert_eq!(found, ((*status).to_owned(), *open, *ended), "after {second}: {hook:?}");
        // What was saved goes on the same.
        let saved = serde_json::to_string(&sessions).expect("it is written");
        assert_eq!(serde_json::from_str::<Sessions>(&saved).expect("it is read"), sessions);
    }
}

#[test]
fn what_a_subagent_begins_and_ends_is_its_own() {
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
        // Nor does it make a session of one that is not known yet fail or ask.
        let mut sessions = Sessions::default();
        let heard = sessions.take(at(0), HOUR, &by(7, 1, step));
        assert!(heard.ended.is_none() && !shown(&heard).starts_with("failed"), "{heard:?}");
    }
    // Its question is its own as well, and ends with it.
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
fn a_dead_session_that_asked_holds_nobody() {
    let asks = || SessionEvent::PermissionRequested("Bash".into());
    let waits = "waiting_question: permission to run Bash";
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (hook(1, asks()), waits, Some(1), None),
        // It is killed there; whoever sits before it begins another one.
        (hook(2, SessionEvent::Prompted), waits, Some(1), None),
        (hook(2, begins("Edit")), "running", Some(2), None),
        (hook(2, stopped()), "idle", None, Some(true)),
        (hook(2, SessionEvent::Ended(SessionEnd::Exited)), "completed", None, None),
        // If it lives, it says so: the notification follows the question by six seconds.
        (hook(1, SessionEvent::PermissionStillPending), waits, Some(1), None),
        (hook(1, SessionEvent::ToolEnded("Bash".into())), "running", Some(1), None),
    ]);
    // Of sessions that run side by side each question counts.
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (hook(2, SessionEvent::Prompted), "running", Some(1), None),
        (hook(1, asks()), waits, Some(1), None),
        (hook(2, begins("Edit")), waits, Some(1), None),
        (hook(2, stopped()), waits, Some(1), Some(true)),
    ]);
}

#[test]
fn a_session_that_vanished_in_its_work_ends_with_time() {
    let mut sessions = Sessions::default();
    let day = HOUR * 24;
    sessions.take(at(0), day, &hook(1, SessionEvent::Prompted));
    sessions.take(at(60), day, &hook(2, SessionEvent::Prompted));
    assert_eq!(shown(&sessions.take(at(120), day, &hook(2, stopped()))), "running", "the first may still work");
    sessions.take(at(1_700), day, &hook(2, SessionEvent::Prompted));
    let heard = sessions.take(at(1_900), day, &hook(2, stopped()));
    assert_eq!((shown(&heard).as_str(), heard.prompt), ("idle", None), "half an hour without a word");
    assert!(!sessions.can_idle());
    let heard = sessions.take(at(2_000), day, &hook(1, SessionEvent::ToolsEnded));
    assert_eq!((shown(&heard).as_str(), heard.prompt.map(|it| it.number)), ("running", Some(1)), "it lives after all");
}

#[test]
fn the_end_of_a_limit_ends_the_wait_for_it() {
    let mut sessions = Sessions::default();
    sessions.take(at(0), HOUR, &hook(1, SessionEvent::Prompted));
    assert_eq!(sessions.limit_is_over(), None, "nobody waits");
    let heard = sessions.take(at(1), HOUR, &hook(1, SessionEvent::TurnFailed(TurnFailure::RateLimit)));
    assert_eq!(shown(&heard), "waiting_dependency: rate-limited");
    assert_eq!(sessions.limit_is_over(), Some((AgentStatus::Idle, None)));
    assert_eq!(shown(&sessions.take(at(2), HOUR, &hook(1, SessionEvent::StillIdle))), "idle", "it is not said again");
}

#[test]
fn a_session_works_waits_and_ends() {
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
        (hook(1, SessionEvent::TurnEnded { in_background: true }), "running: a background task runs", None, Some(true)),
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
fn a_failed_turn_waits_for_its_provider_or_is_down() {
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
        (
            hook(3, SessionEvent::Ended(SessionEnd::Exited)),
            "failed: ended in the middle of its work",
            None,
            Some(false),
        ),
        (hook(4, SessionEvent::Prompted), "running", Some(6), None),
        (hook(4, stopped()), "idle", None, Some(true)),
        (hook(4, SessionEvent::Ended(SessionEnd::Exited)), "completed", None, None),
    ]);
}

#[test]
fn whoever_is_told_to_stop_stands_still_until_it_is_told_something_else() {
    let tool = || SessionEvent::ToolEnded("Bash".into());
    let stands = "paused: stopped by lookout: over its budget of tokens for this task";
    let ends = "completed: stopped by lookout: over its budget of tokens for this task";
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (
            hook(1, SessionEvent::PermissionRequested("Bash".into())),
            "waiting_question: permission to run Bash",
            Some(1),
            None,
        ),
        (told(hook(1, begins("Bash"))), stands, Some(1), None),
        (hook(1, tool()), stands, Some(1), None),
        (hook(1, SessionEvent::ToolsEnded), stands, Some(1), None),
        (hook(1, SessionEvent::StillIdle), stands, Some(1), None),
        (hook(1, stopped()), stands, Some(1), None),
        (told(hook(1, SessionEvent::Prompted)), stands, Some(1), None),
        (hook(1, SessionEvent::Prompted), "running", Some(2), Some(false)),
        (hook(1, stopped()), "idle", None, Some(true)),
        (told(hook(1, SessionEvent::Prompted)), stands, None, None),
        (hook(1, SessionEvent::Ended(SessionEnd::Exited)), ends, None, None),
        (hook(2, SessionEvent::Prompted), "running", Some(3), None),
        (told(hook(2, tool())), stands, Some(3), None),
        (hook(2, begins("Bash")), "running", Some(3), None),
        (told(hook(2, tool())), stands, Some(3), None),
        (hook(2, SessionEvent::Ended(SessionEnd::Exited)), ends, None, Some(false)),
        (hook(3, SessionEvent::Prompted), "running", Some(4), None),
        (told(hook(3, tool())), stands, Some(4), None),
        (hook(3, SessionEvent::Ended(SessionEnd::UserExit)), "completed", None, Some(false)),
    ]);
    // Another session goes on with what it was told.
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (hook(2, SessionEvent::Prompted), "running", Some(1), None),
        (told(hook(1, begins("Bash"))), "running", Some(2), None),
        (hook(2, stopped()), stands, Some(1), Some(true)),
    ]);
    // A subagent ends by a stop, of which no other hook tells.
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (by(7, 1, SessionEvent::SubagentBegan), "running", Some(1), None),
        (told(hook(1, begins("Bash"))), "running: a subagent works", Some(1), None),
        (told(by(7, 1, begins("Bash"))), stands, Some(1), None),
    ]);
}

#[test]
fn when_a_hook_last_came_outlives_its_session() {
    let mut sessions = Sessions::default();
    assert_eq!(sessions.last_hook_at(), None);
    for (second, step) in
        [SessionEvent::Prompted, SessionEvent::Alive, SessionEvent::Ended(SessionEnd::UserExit)].into_iter().enumerate()
    {
        sessions.take(at(second as u64), HOUR, &hook(1, step));
        assert_eq!(sessions.last_hook_at(), Some(at(second as u64)));
    }
    sessions.restored(at(1));
    assert_eq!(sessions.last_hook_at(), Some(at(1)), "nothing lies ahead");
}

#[test]
fn subagents_keep_their_session_at_work() {
    let ask = by(7, 1, SessionEvent::PermissionRequested("Bash".into()));
    check(&[
        (hook(1, SessionEvent::Prompted), "running", Some(1), None),
        (by(7, 1, SessionEvent::SubagentBegan), "running", Some(1), None),
        (hook(1, stopped()), "running: a subagent works", None, Some(true)),
        (ask, "waiting_question: permission to run Bash", None, None),
        (hook(1, SessionEvent::ToolEnded("Bash".into())), "waiting_question: permission to run Bash", Some(2), None),
        (by(7, 1, SessionEvent::SubagentEnded), "running", Some(2), None),
        (hook(1, stopped()), "idle", None, Some(true)),
    ]);
}

#[test]
fn sessions_add_up_and_never_fight() {
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
fn silence_is_idleness_only_while_something_is_to_be_done_by_itself() {
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
        sessions.take(at(0), HOUR, &hook);
        assert_eq!(sessions.can_idle(), expected, "{hook:?}");
    }
}

#[test]
fn a_notification_is_no_activity() {
    let mut sessions = Sessions::default();
    for (step, expected) in [
        (SessionEvent::Prompted, true),
        (SessionEvent::StillIdle, false),
        (SessionEvent::PermissionStillPending, false),
    ] {
        assert_eq!(sessions.take(at(0), HOUR, &hook(1, step)).is_activity, expected);
    }
}

#[test]
fn a_refusal_that_telemetry_tells_again_counts_once() {
    let mut sessions = Sessions::default();
    for second in 0..3 {
        assert!(
            sessions
                .take(at(second), HOUR, &hook(1, SessionEvent::TurnFailed(TurnFailure::RateLimit)))
                .refusal
                .is_some()
        );
    }
    assert_eq!(
        [
            sessions.take_reported_by_hooks(at(3), 1),
            sessions.take_reported_by_hooks(at(3), 5),
            sessions.take_reported_by_hooks(at(3), 1)
        ],
        [1, 2, 0]
    );
    sessions.take(at(4), HOUR, &hook(1, SessionEvent::TurnFailed(TurnFailure::RateLimit)));
    assert_eq!(sessions.take_reported_by_hooks(at(4).plus(TOLD_AGAIN), 1), 0, "that is another one");
}

#[test]
fn sessions_are_bounded_and_expire() {
    let mut sessions = Sessions::default();
    for session in 0..100 {
        sessions.take(at(session), HOUR, &hook(session, SessionEvent::Prompted));
        sessions.take(at(session), HOUR, &by(session, 99, SessionEvent::SubagentBegan));
    }
    assert_eq!(sessions.sessions.len(), MAX_SESSIONS);
    assert!(serde_json::to_string(&sessions).expect("it is written").len() < 4_000);
    let heard = sessions.take(at(99).plus(HOUR), HOUR, &hook(1, stopped()));
    assert_eq!(shown(&heard), "idle", "those that ran were ended without a word");
}

#[test]
fn what_a_clock_ahead_of_ours_saved_lies_not_ahead() {
    let mut sessions = Sessions::default();
    sessions.take(at(1_000), HOUR, &hook(1, SessionEvent::Prompted));
    sessions.restored(at(10));
    let heard = sessions.take(at(20), HOUR, &hook(1, begins("Bash")));
    assert_eq!(heard.prompt.map(|prompt| prompt.since), Some(at(10)));
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
    /// What one session does is never hidden by what another says, and each prompt ends once at most.
    #[test]
    fn folding_holds_for_every_history(
        history in prop::collection::vec((0..3_u64, prop::option::of(0..3_u64), any_step(), any::<bool>()), 0..60),
    ) {
        let mut all = Sessions::default();
        let mut alone: [Sessions; 3] = Default::default();
        let mut ended = Vec::new();
        for (second, (session, subagent, step, is_stopped)) in history.into_iter().enumerate() {
            // The events that are answered by a stop.
            let waits = matches!(step, SessionEvent::Prompted | SessionEvent::ToolBegan { .. } | SessionEvent::ToolEnded(_) | SessionEvent::ToolsEnded);
            let hook = Hook { subagent, ..hook(session, step) };
            let hook = if is_stopped && waits { told(hook) } else { hook };
            let heard = all.take(at(second as u64), HOUR, &hook);
            alone[session as usize].take(at(second as u64), HOUR, &hook);
            if let Some((prompt, _)) = heard.ended {
                prop_assert!(!ended.contains(&prompt.number));
                ended.push(prompt.number);
                prop_assert!(heard.prompt.is_none_or(|open| open.number != prompt.number));
            }
            // Those whose place a newer one took say nothing until they are heard of again.
            let is_live = |session: usize| all.live().any(|one| one.id == session as u64);
            let live = alone.iter().enumerate().filter(|(session, _)| is_live(*session));
            let statuses: Vec<_> = live.filter_map(|(_, one)| Some(one.fold()?.0)).collect();
            let most = [AgentStatus::WaitingQuestion, AgentStatus::Running, AgentStatus::Failed];
            let expected = most.into_iter().find(|status| statuses.contains(status));
            if let (Some(expected), Some((status, _))) = (expected, &heard.status) {
                prop_assert_eq!(expected, *status);
            }
            prop_assert_eq!(all.live().any(|one| one.prompt.is_some()), heard.prompt.is_some());
        }
    }
}

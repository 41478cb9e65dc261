//! A pushed batch that is applied in chunks equals one that is applied at once.

use proptest::prelude::*;

use super::*;
use crate::fleet::ChunkedPush;

fn batch(names: &[u8], complete: bool) -> Batch<'static> {
    let agents = names.iter().map(|name| {
        let status = if name % 3 == 0 { AgentStatus::Failed } else { AgentStatus::Running };
        AgentUpdate { name: format!("agent{name}").into(), status: Some(status), ..AgentUpdate::default() }
    });
    Batch { project: "shop".into(), complete, agents: agents.collect(), ..Batch::default() }
}

/// Agents with their status, and the counts of the project.
fn shown(watch: &TestFleet) -> (Vec<String>, String) {
    let agents = watch.fleet.state().agents.iter().map(|agent| format!("{} {:?}", agent.name, agent.status));
    let mut agents: Vec<String> = agents.collect();
    agents.sort();
    (agents, format!("{:?}", watch.fleet.state().projects))
}

proptest! {
    #[test]
    fn a_chunked_push_equals_the_whole_push(
        before in prop::collection::vec(0..12u8, 0..8),
        names in prop::collection::vec(0..12u8, 0..12),
        complete: bool,
        most in 1..5usize,
    ) {
        let (mut whole, mut parts) = (TestFleet::new(settings()), TestFleet::new(settings()));
        for watch in [&mut whole, &mut parts] {
            watch.push_batch(0, batch(&before, false));
        }
        let outcome = whole.push_batch(1, batch(&names, complete));
        parts.until(1);
        parts.fleet.clear_changes();
        let mut push = ChunkedPush::from(batch(&names, complete));
        while !push.is_done() {
            parts.fleet.push_part(at(1), &mut push, most);
            parts.fleet.clear_changes();
        }
        let in_parts = push.into_outcome();
        prop_assert_eq!((outcome.accepted, outcome.reasons), (in_parts.accepted, in_parts.reasons));
        prop_assert_eq!(shown(&whole), shown(&parts));
    }
}

#[test]
fn an_agent_reported_between_two_chunks_of_a_complete_batch_is_kept() {
    let mut watch = TestFleet::new(settings());
    watch.push_batch(0, batch(&[1, 2, 3], false));
    watch.fleet.clear_changes();
    let mut push = ChunkedPush::from(batch(&[1, 4], true));
    watch.fleet.push_part(at(1), &mut push, 1);
    watch.fleet.clear_changes();
    watch.push_batch(1, batch(&[2], false));
    assert!(!push.is_done() && watch.has("agent3"));
    watch.fleet.clear_changes();
    watch.fleet.push_part(at(1), &mut push, 1);
    assert!(push.is_done());
    assert_eq!(["agent1", "agent2", "agent3", "agent4"].map(|name| watch.has(name)), [true, true, false, true]);
}

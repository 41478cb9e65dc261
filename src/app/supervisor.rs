//! Notices when a part of the program ends that nobody told to: its task or thread panicked or returned.

use std::sync::Arc;

use tokio::sync::watch;

/// Knows whether all parts run. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Supervisor(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The first part that failed.
    failed: Option<&'static str>,
    /// Whether parts may end.
    is_stopping: bool,
}

/// A part of the program. Its task or thread holds it for as long as it runs.
#[derive(Debug)]
#[must_use = "a part that is dropped has failed"]
pub(super) struct Part {
    name: &'static str,
    supervisor: Supervisor,
    may_end: bool,
}

impl Supervisor {
    /// A part that is named so in the log.
    pub(super) fn part(&self, name: &'static str) -> Part {
        Part { name, supervisor: self.clone(), may_end: false }
    }

    /// Notes that the part of that name has failed.
    pub(super) fn fail(&self, name: &'static str) {
        let is_first = self.0.send_if_modified(|state| {
            let is_first = state.failed.is_none() && !state.is_stopping;
            if is_first {
                state.failed = Some(name);
            }
            is_first
        });
        if is_first {
            tracing::error!(part = name, "a part of the program ended unexpectedly; the program ends");
        }
    }

    /// From now on parts end because they are told to.
    pub(super) fn stopping(&self) {
        self.0.send_modify(|state| state.is_stopping = true);
    }

    /// The part that failed, if one did.
    pub(super) fn failed(&self) -> Option<&'static str> {
        self.0.borrow().failed
    }

    /// Waits for a part to fail.
    pub(super) async fn failure(&self) -> &'static str {
        let mut states = self.0.subscribe();
        loop {
            if let Some(name) = states.borrow_and_update().failed {
                return name;
            }
            if states.changed().await.is_err() {
                // It is its own sender, which lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Part {
    /// Ends the part as it should: it was told to, or has done its work.
    pub(super) fn done(mut self) {
        self.may_end = true;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.may_end {
            self.supervisor.fail(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_or_returns_has_failed_and_one_that_is_done_has_not() {
        let supervisor = Supervisor::default();
        supervisor.part("done").done();
        assert_eq!(supervisor.failed(), None);
        let part = supervisor.part("panics");
        let panics = tokio::spawn(async move {
            let _part = part;
            panic!("a test of what a panic does");
        });
        assert_eq!(supervisor.failure().await, "panics");
        assert!(panics.await.is_err());
        drop(supervisor.part("returns"));
        assert_eq!(supervisor.failed(), Some("panics"), "what follows from the first is not the cause");
    }

    #[test]
    fn what_ends_while_the_program_stops_has_not_failed() {
        let supervisor = Supervisor::default();
        let part = supervisor.part("engine");
        supervisor.stopping();
        drop(part);
        assert_eq!(supervisor.failed(), None);
    }
}

//! Detects tasks and threads that end unexpectedly, by a panic or by returning.

use std::sync::Arc;

use tokio::sync::watch;

/// Knows whether all watched tasks run. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Supervisor(Arc<watch::Sender<SupervisorState>>);

#[derive(Clone, Copy, Debug, Default)]
struct SupervisorState {
    /// The first task that failed.
    failed: Option<&'static str>,
    /// Whether tasks may end.
    is_stopping: bool,
}

/// Guard of a watched task or thread, held for as long as it runs.
#[derive(Debug)]
#[must_use = "dropping the guard reports a failure"]
pub(super) struct TaskGuard {
    name: &'static str,
    supervisor: Supervisor,
    may_end: bool,
}

impl Supervisor {
    /// A guard of the task with this name.
    pub(super) fn watch(&self, name: &'static str) -> TaskGuard {
        TaskGuard { name, supervisor: self.clone(), may_end: false }
    }

    /// Reports that the task with this name has failed.
    pub(super) fn fail(&self, name: &'static str) {
        let is_first = self.0.send_if_modified(|state| {
            let is_first = state.failed.is_none() && !state.is_stopping;
            if is_first {
                state.failed = Some(name);
            }
            is_first
        });
        if is_first {
            tracing::error!(task = name, "task ended unexpectedly; shutting down");
        }
    }

    /// From now on the end of a task is not a failure.
    pub(super) fn stopping(&self) {
        self.0.send_modify(|state| state.is_stopping = true);
    }

    /// The task that failed, if any.
    pub(super) fn failed(&self) -> Option<&'static str> {
        self.0.borrow().failed
    }

    /// Waits for a task to fail.
    pub(super) async fn failure(&self) -> &'static str {
        let mut states = self.0.subscribe();
        loop {
            if let Some(name) = states.borrow_and_update().failed {
                return name;
            }
            if states.changed().await.is_err() {
                // Unreachable: the sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl TaskGuard {
    /// Ends the task regularly.
    pub(super) fn done(mut self) {
        self.may_end = true;
    }
}

impl Drop for TaskGuard {
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
    async fn a_task_that_panics_or_returns_has_failed_unless_it_is_done() {
        let supervisor = Supervisor::default();
        supervisor.watch("done").done();
        assert_eq!(supervisor.failed(), None);
        let guard = supervisor.watch("panics");
        let panics = tokio::spawn(async move {
            let _guard = guard;
            panic!("a test of what a panic does");
        });
        assert_eq!(supervisor.failure().await, "panics");
        assert!(panics.await.is_err());
        drop(supervisor.watch("returns"));
        assert_eq!(supervisor.failed(), Some("panics"), "only the first failure is the cause");
    }

    #[test]
    fn a_task_that_ends_during_shutdown_has_not_failed() {
        let supervisor = Supervisor::default();
        let guard = supervisor.watch("engine");
        supervisor.stopping();
        drop(guard);
        assert_eq!(supervisor.failed(), None);
    }
}

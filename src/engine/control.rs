//! Questions of readers, and what people ask for: silences, acknowledgements, pauses, reloads. What people ask for is
//! answered once it is on disk, and so waits until a large update is applied; questions do not.

use std::sync::Arc;

use super::Engine;
use super::handle::{Control, Quiet, Reply};
use crate::alerts::QuietError;
use crate::fleet::IngestOutcome;
use crate::machine::Event;
use crate::model::{RecordedInput, Time};

/// Whether it changes anything.
const fn is_wish(message: &Control) -> bool {
    let is_about_quiet = matches!(message, Control::Quiet(Quiet::Begin(..) | Quiet::End(..) | Quiet::Acknowledge(..)));
    is_about_quiet || matches!(message, Control::Monitoring(..) | Control::Reload(..))
}

impl Engine {
    /// Serves one of them. A reader that has gone away is not waiting for the answer.
    pub(super) fn take_control(&mut self, message: Control) {
        if is_wish(&message) {
            self.finish_applying();
        }
        let now = self.now();
        match message {
            Control::Health(reply) => drop(reply.send(self.health(now))),
            Control::View(reply) => drop(reply.send(Arc::new(self.view(now)))),
            Control::Alerts(filter, reply) => drop(reply.send(self.machine.list(now, &filter))),
            #[cfg(test)]
            Control::Panic => panic!("a test of what a panic does"),
            Control::Quiet(message) => self.take_quiet(now, message),
            Control::Monitoring(on, by, reply) => {
                drop(self.step(now, Event::Monitoring { on, by: &by }));
                reply.send(()).unwrap_or_default();
            }
            Control::Reload(settings, reply) => {
                self.reload(now, *settings);
                reply.send(()).unwrap_or_default();
            }
        }
    }

    fn take_quiet(&mut self, now: Time, message: Quiet) {
        match message {
            Quiet::Silences(reply) => drop(reply.send(self.machine.alerts().silences().to_vec())),
            Quiet::Begin(silence, reply) => {
                let arrival = RecordedInput::Silence((*silence).clone());
                let done = self.step(now, Event::Silence(*silence));
                self.answer_wish(now, arrival, done, reply);
            }
            Quiet::End(id, by, reply) => {
                let done = self.step(now, Event::Unsilence { id: &id, by: &by });
                self.answer_wish(now, RecordedInput::Unsilence { id: id.into(), by: by.into() }, done, reply);
            }
            Quiet::Acknowledge(fingerprint, by, comment, reply) => {
                let done = self.step(now, Event::Acknowledge { fingerprint, by: &by, comment: &comment });
                let arrival = RecordedInput::Ack { fingerprint, by: by.into(), comment: comment.into() };
                self.answer_wish(now, arrival, done, reply);
            }
            Quiet::Explain(fingerprint, reply) => {
                drop(reply.send(self.machine.explain(now, fingerprint).map(Box::new)));
            }
        }
    }

    /// Records what was done, and answers once it is on disk; what was refused is answered at once.
    fn answer_wish(
        &mut self,
        now: Time,
        arrival: RecordedInput,
        done: Result<IngestOutcome, QuietError>,
        reply: Reply<()>,
    ) {
        match done {
            Ok(_) => {
                if let Some(recorder) = &self.recorder {
                    recorder.record(now, arrival);
                }
                self.committer.answer_after_commit(move || drop(reply.send(Ok(()))));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

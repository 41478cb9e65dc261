//! What people ask of alerts: silences, acknowledgements, and why somebody was told or not.

use tokio::sync::oneshot;

use super::Engine;
use super::handle::{Control, Handle, Stopped};
use crate::alerts::QuietError;
use crate::fleet::Taken;
use crate::machine::{Event, Explanation};
use crate::model::{Arrival, Fingerprint, Silence, Time};

type Reply<T> = oneshot::Sender<Result<T, QuietError>>;

/// A question or wish about quiet.
#[derive(Debug)]
pub enum Quiet {
    /// The silences that are not over.
    Silences(oneshot::Sender<Vec<Silence>>),
    /// Begin this silence, or change the one of its id.
    Begin(Box<Silence>, Reply<()>),
    /// End the silence of this id; who says so.
    End(String, String, Reply<()>),
    /// Somebody looks after an alert: which, who, what they say.
    Acknowledge(Fingerprint, String, String, Reply<()>),
    /// How every receiver stands to an alert.
    Explain(Fingerprint, oneshot::Sender<Option<Box<Explanation>>>),
}

impl Handle {
    /// The silences that are not over, those that end first in front.
    pub async fn silences(&self) -> Result<Vec<Silence>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::Silences(reply))).await
    }

    /// Begins `silence`, or changes the one of its id; returns once that is on disk.
    pub async fn silence(&self, silence: Silence) -> Result<Result<(), QuietError>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::Begin(Box::new(silence), reply))).await
    }

    /// Ends the silence of that id; returns once that is on disk.
    pub async fn unsilence(&self, id: String, by: String) -> Result<Result<(), QuietError>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::End(id, by, reply))).await
    }

    /// Notes that `by` looks after an alert; returns once that is on disk.
    pub async fn acknowledge(
        &self,
        fingerprint: Fingerprint,
        by: String,
        comment: String,
    ) -> Result<Result<(), QuietError>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::Acknowledge(fingerprint, by, comment, reply))).await
    }

    /// How every receiver stands to an alert; `None` when it is not known any more.
    pub async fn explain(&self, fingerprint: Fingerprint) -> Result<Option<Box<Explanation>>, Stopped> {
        self.ask(|reply| Control::Quiet(Quiet::Explain(fingerprint, reply))).await
    }
}

impl Engine {
    /// Serves one of them. A reader that has gone away is not waiting for the answer.
    pub(super) fn take_quiet(&mut self, now: Time, message: Quiet) {
        match message {
            Quiet::Silences(reply) => drop(reply.send(self.machine.alerts().silences().to_vec())),
            Quiet::Begin(silence, reply) => {
                let arrival = Arrival::Silence((*silence).clone());
                let done = self.step(now, Event::Silence(*silence));
                self.answer_wish(now, arrival, done, reply);
            }
            Quiet::End(id, by, reply) => {
                let done = self.step(now, Event::Unsilence { id: &id, by: &by });
                self.answer_wish(now, Arrival::Unsilence { id: id.into(), by: by.into() }, done, reply);
            }
            Quiet::Acknowledge(fingerprint, by, comment, reply) => {
                let done = self.step(now, Event::Acknowledge { fingerprint, by: &by, comment: &comment });
                let arrival = Arrival::Ack { fingerprint, by: by.into(), comment: comment.into() };
                self.answer_wish(now, arrival, done, reply);
            }
            Quiet::Explain(fingerprint, reply) => {
                drop(reply.send(self.machine.explain(now, fingerprint).map(Box::new)));
            }
        }
    }

    /// Records what was done, and answers once it is on disk; what was refused is answered at once.
    fn answer_wish(&mut self, now: Time, arrival: Arrival, done: Result<Taken, QuietError>, reply: Reply<()>) {
        match done {
            Ok(_) => {
                if let Some(recorder) = &self.recorder {
                    recorder.note(now, arrival);
                }
                self.committer.answer_after_commit(move || drop(reply.send(Ok(()))));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

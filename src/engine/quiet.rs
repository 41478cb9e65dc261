//! What people ask of alerts: silences, acknowledgements, and why somebody was told or not.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::oneshot;

use super::handle::{Control, Handle, Stopped};
use super::{AlertView, Engine};
use crate::alerts::words;
use crate::alerts::{Effects, QuietError, Standing};
use crate::model::{Arrival, Decision, Event, Fingerprint, Notice, Silence, Time};

/// How a receiver stands to an alert now, as readers see it.
#[derive(Clone, Debug, Serialize)]
pub struct StandingView {
    /// Its name.
    pub receiver: Arc<str>,
    /// The level that it holds to be true; `None` when it was told nothing or that it is over.
    pub told: Option<&'static str>,
    /// Why it is not told anything now, as a word.
    pub reason: Option<&'static str>,
    /// How it stands, in a sentence.
    pub text: String,
}

/// An alert and how every receiver stands to it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The alert.
    pub alert: AlertView,
    /// The receivers, in the order of the configuration.
    pub receivers: Vec<StandingView>,
}

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
            Quiet::Silences(reply) => drop(reply.send(self.alerts.silences().to_vec())),
            Quiet::Begin(silence, reply) => {
                let arrival = Arrival::Silence((*silence).clone());
                let done = self.alerts.silence(now, *silence);
                self.done(now, arrival, done, reply);
            }
            Quiet::End(id, by, reply) => {
                let done = self.alerts.unsilence(now, &id, &by);
                let arrival = Arrival::Unsilence { id: id.into(), by: by.into() };
                self.done(now, arrival, done, reply);
            }
            Quiet::Acknowledge(fingerprint, by, comment, reply) => {
                let done = self.alerts.acknowledge(now, fingerprint, &by, &comment);
                let arrival = Arrival::Ack { fingerprint, by: by.into(), comment: comment.into() };
                self.done(now, arrival, done, reply);
            }
            Quiet::Explain(fingerprint, reply) => drop(reply.send(self.explanation(now, fingerprint).map(Box::new))),
        }
    }

    /// Takes care of what came of a wish, and answers once it is on disk.
    fn done(&mut self, now: Time, arrival: Arrival, done: Result<Effects, QuietError>, reply: Reply<()>) {
        match done {
            Ok(effects) => {
                if let Some(recorder) = &self.recorder {
                    recorder.note(now, arrival);
                }
                self.take_effects(now, effects);
                self.committer.answer_after_commit(move || drop(reply.send(Ok(()))));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn explanation(&self, now: Time, fingerprint: Fingerprint) -> Option<Explanation> {
        let (alert, standings) = self.alerts.standings(now, fingerprint)?;
        let receivers = standings.into_iter().map(StandingView::from).collect();
        Some(Explanation { alert: self.alert_view(now, alert), receivers })
    }

    /// Notes in the timelines of the alerts that `notices` are about what came of them.
    pub(super) fn note_outcome(&self, at: Time, notices: &[Arc<Notice>], event: impl Fn(&Notice) -> Event) {
        let of_alerts = notices.iter().filter(|notice| notice.kind.is_of_alert());
        let decisions = of_alerts.map(|notice| Decision {
            fingerprint: notice.fingerprint,
            at,
            level: notice.level,
            value: notice.value,
            threshold: notice.threshold,
            rule_version: Arc::from(""),
            event: event(notice),
        });
        self.store.history.decide(decisions.collect());
    }
}

impl From<Standing> for StandingView {
    fn from(standing: Standing) -> Self {
        let text = match (&standing.withheld, standing.told) {
            (Some(withheld), _) => words::withheld(withheld),
            (None, Some(level)) => format!("was told {level}; nothing new to tell"),
            (None, None) => "nothing to tell".to_owned(),
        };
        Self {
            receiver: standing.receiver,
            told: standing.told.map(crate::model::Level::as_str),
            reason: standing.withheld.map(|withheld| withheld.as_str()),
            text,
        }
    }
}

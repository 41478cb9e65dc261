//! Requests of readers, and changes that people make: silences, acknowledgements, pauses, reloads. Changes are applied after
//! a large update that is being applied, and answered once they are on disk; reads wait for neither.

use std::sync::Arc;

use super::Engine;
use super::handle::{Control, SilenceCommand, SilenceReply};
use super::live::{CoveredAlerts, LiveQuery};
use crate::alerts::SilenceError;
use crate::fleet::IngestOutcome;
use crate::machine::MachineEvent;
use crate::model::{AlertState, RecordedInput, Time};

/// How many of the alerts that a silence would cover are named.
const COVERED_EXAMPLES: usize = 3;

/// Whether a message changes anything.
const fn changes_state(message: &Control) -> bool {
    let is_change = matches!(
        message,
        Control::Silence(SilenceCommand::Begin(..) | SilenceCommand::End(..) | SilenceCommand::Acknowledge(..))
    );
    is_change || matches!(message, Control::Monitoring(..) | Control::Reload(..))
}

impl Engine {
    /// Handles one message. Answers to readers that have gone away are dropped.
    pub(super) fn take_control(&mut self, message: Control) {
        if changes_state(&message) {
            self.finish_applying();
        }
        let now = self.now();
        match message {
            Control::Health(reply) => drop(reply.send(self.health(now))),
            Control::View(reply) => drop(reply.send(Arc::new(self.view(now)))),
            Control::Alerts(filter, reply) => drop(reply.send(self.machine.list(now, &filter))),
            #[cfg(test)]
            Control::Panic => panic!("a test of what a panic does"),
            Control::Live(query) => self.answer_live(now, query),
            Control::Silence(message) => self.run_silence_command(now, message),
            Control::Monitoring(on, by, reply) => {
                drop(self.step(now, MachineEvent::Monitoring { on, by: &by }));
                reply.send(()).unwrap_or_default();
            }
            Control::Reload(settings, reply) => {
                self.reload(now, *settings);
                reply.send(()).unwrap_or_default();
            }
        }
    }

    /// Answers a read for the stream of events.
    fn answer_live(&self, now: Time, query: LiveQuery) {
        let alerts = self.machine.alerts();
        match query {
            LiveQuery::Views(changed, reply) => drop(reply.send(self.machine.alert_views(now, changed.iter()))),
            LiveQuery::Named(fingerprints, reply) => {
                let found = fingerprints.into_iter().filter_map(|fingerprint| alerts.find(fingerprint));
                drop(reply.send(self.machine.alert_views(now, found)));
            }
            LiveQuery::Covered(matchers, reply) => {
                let mut covered = CoveredAlerts::default();
                for alert in alerts.open().filter(|alert| matchers.matches(|label| alert.label(label))) {
                    let counted =
                        if alert.state == AlertState::Firing { &mut covered.firing } else { &mut covered.pending };
                    *counted += 1;
                    if covered.examples.len() < COVERED_EXAMPLES {
                        covered.examples.push((Arc::clone(&alert.rule), alert.subject.clone()));
                    }
                }
                drop(reply.send(covered));
            }
            LiveQuery::Worst(limit, reply) => drop(reply.send(self.machine.worst_alerts(limit))),
            LiveQuery::Silenced(reply) => {
                let silence_of = |alert| alerts.silence_of(now, alert).map(|silence| Arc::clone(&silence.id));
                let silenced = alerts.open().map(|alert| (alert.fingerprint, silence_of(alert)));
                drop(reply.send(silenced.collect()));
            }
        }
    }

    fn run_silence_command(&mut self, now: Time, message: SilenceCommand) {
        match message {
            SilenceCommand::Silences(reply) => drop(reply.send(self.machine.alerts().silences().to_vec())),
            SilenceCommand::Begin(silence, reply) => {
                let arrival = RecordedInput::Silence((*silence).clone());
                let done = self.step(now, MachineEvent::Silence(*silence));
                self.answer_change(now, arrival, done, reply);
            }
            SilenceCommand::End(id, by, reply) => {
                let done = self.step(now, MachineEvent::Unsilence { id: &id, by: &by });
                self.answer_change(now, RecordedInput::Unsilence { id: id.into(), by: by.into() }, done, reply);
            }
            SilenceCommand::Acknowledge(fingerprint, by, comment, reply) => {
                let done = self.step(now, MachineEvent::Acknowledge { fingerprint, by: &by, comment: &comment });
                let arrival = RecordedInput::Ack { fingerprint, by: by.into(), comment: comment.into() };
                self.answer_change(now, arrival, done, reply);
            }
            SilenceCommand::NotificationStatuses(fingerprint, reply) => {
                drop(reply.send(self.machine.explain_alert(now, fingerprint).map(Box::new)));
            }
        }
    }

    /// Records a change and answers once it is on disk; a rejection is answered at once.
    fn answer_change(
        &mut self,
        now: Time,
        arrival: RecordedInput,
        done: Result<IngestOutcome, SilenceError>,
        reply: SilenceReply<()>,
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

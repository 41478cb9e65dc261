//! Silences and acknowledgements: begun, ended, and announced to whom they keep something from.
//!
//! A watched agent could quiet its own watcher, so nothing is ever silenced in silence.

use std::sync::Arc;
use std::time::Duration;

use super::decide::not_for;
use super::{Alerts, Effects};
use crate::model::{
    Ack, Alert, AlertState, Audience, Fingerprint, Level, Notice, NoticeKind, ReceiverPolicy, Silence, Subject, Time,
    TimelineEvent,
};

/// Silences that can be known at once.
pub const MAX_SILENCES: usize = 1000;
/// The longest silence.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Why a silence or an acknowledgement is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuietError {
    /// There is nothing of that name.
    #[error("there is no {0}")]
    Unknown(String),
    /// The alert does not fire yet.
    #[error("alert {0} is pending; it can be acknowledged once it fires")]
    Pending(Fingerprint),
    /// It can't be so.
    #[error("{0}")]
    Invalid(String),
    /// There are too many.
    #[error("there are {MAX_SILENCES} silences already; end one first")]
    TooMany,
}

impl Alerts {
    /// The silences that are not over, those that end first in front.
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    /// The silence that covers `alert` at `now`: of several the one that lasts longest.
    pub fn silence_of(&self, now: Time, alert: &Alert) -> Option<&Silence> {
        self.silences
            .iter()
            .rev()
            .find(|silence| silence.is_active(now) && silence.matchers.cover(|label| alert.label(label)))
    }

    /// Takes over the silences of the ledger after a restart.
    pub fn restore_silences(&mut self, silences: Vec<Silence>) {
        self.silences = silences;
        self.silences.sort_unstable_by(|a, b| (a.ends_at, &a.id).cmp(&(b.ends_at, &b.id)));
        self.silence_turns_at = self.silences.first().map(|_| Time::default());
    }

    /// Begins `silence`, or changes the one of its id.
    pub fn silence(&mut self, now: Time, silence: Silence) -> Result<Effects, QuietError> {
        let known = self.silences.iter().position(|known| known.id == silence.id);
        if silence.ends_at <= silence.starts_at || silence.ends_at <= now {
            return Err(QuietError::Invalid("the silence would end before it begins, or is over already".to_owned()));
        }
        if silence.ends_at.since(now) > LONGEST {
            return Err(QuietError::Invalid("a silence ends within a year; begin it anew then".to_owned()));
        }
        if known.is_none() && self.silences.len() >= MAX_SILENCES {
            return Err(QuietError::TooMany);
        }
        if let Some(known) = known {
            let former = self.silences.remove(known);
            self.touch_covered(&former);
        }
        self.touch_covered(&silence);
        let what = if known.is_some() { "changed the silence of" } else { "silenced" };
        let text = format!(
            "{} {what} alerts with {} until {}{}",
            silence.created_by,
            silence.matchers,
            silence.ends_at,
            said(&silence.comment)
        );
        let mut effects = Effects::default();
        self.announce_into(now, &silence.id, &text, None, &mut effects);
        effects.silences.push(silence.clone());
        let place = self.silences.partition_point(|other| (other.ends_at, &other.id) < (silence.ends_at, &silence.id));
        self.silences.insert(place, silence);
        self.plan_silences(now);
        Ok(self.settle_into(now, effects))
    }

    /// Ends the silence of that id before its time.
    pub fn unsilence(&mut self, now: Time, id: &str, by: &str) -> Result<Effects, QuietError> {
        let place = self.silences.iter().position(|silence| *silence.id == *id);
        let place = place.ok_or_else(|| QuietError::Unknown(format!("silence {id}; it may have expired")))?;
        let silence = self.silences.remove(place);
        self.touch_covered(&silence);
        self.plan_silences(now);
        let mut effects = Effects::default();
        let text = format!("{by} ended the silence of alerts with {}", silence.matchers);
        self.announce_into(now, &silence.id, &text, None, &mut effects);
        effects.silences_over.push(silence.id);
        Ok(self.settle_into(now, effects))
    }

    /// Notes that `by` looks after an alert; noting it again replaces who does.
    pub fn acknowledge(
        &mut self,
        now: Time,
        fingerprint: Fingerprint,
        by: &str,
        comment: &str,
    ) -> Result<Effects, QuietError> {
        let unknown = || QuietError::Unknown(format!("firing alert {fingerprint}"));
        let slot = *self.by_fingerprint.get(&fingerprint).ok_or_else(unknown)?;
        let entry = self.entry_mut(slot).ok_or_else(unknown)?;
        match entry.alert.state {
            AlertState::Firing => {}
            AlertState::Pending => return Err(QuietError::Pending(fingerprint)),
            AlertState::Resolved => return Err(unknown()),
        }
        let ack = Ack { by: Arc::from(by), comment: Arc::from(comment), at: now, level: entry.alert.level };
        entry.dirty = true;
        entry.alert.changed_at = now;
        entry.alert.ack = Some(ack);
        let alert = entry.alert.clone();
        self.note(now, slot, TimelineEvent::Acknowledged { by: Arc::from(by), comment: Arc::from(comment) });
        self.touch(slot);
        let mut effects = Effects::default();
        let text = format!("{by} looks after {} of {}{}", alert.rule, alert.subject.name(), said(comment));
        self.announce_into(now, &format!("{fingerprint}"), &text, Some(&alert), &mut effects);
        Ok(self.settle_into(now, effects))
    }

    /// Tells people something about the sidecar that they would want to know of; `id` tells such news apart.
    pub fn announce(&mut self, now: Time, id: &str, text: &str) -> Effects {
        let mut effects = Effects::default();
        self.announce_into(now, id, text, None, &mut effects);
        self.settle_into(now, effects)
    }

    /// Tells how things are, once a day: the receivers of these names, or all that people read when there are none.
    pub fn digest(&mut self, now: Time, names: &[String], text: &str) -> Effects {
        let mut effects = Effects::default();
        for receiver in &self.receivers {
            let is_named = names.iter().any(|name| **name == *receiver.name);
            if is_named || (names.is_empty() && receiver.audience == Audience::People) {
                let subject = Subject::Sidecar { name: Arc::from("lookout") };
                let rule = Arc::from("Digest");
                let notice = Notice::new(&receiver.name, NoticeKind::Digest, Level::Info, rule, subject, now);
                effects.notices.push(Notice { message: Arc::from(text), ..notice });
            }
        }
        self.settle_into(now, effects)
    }

    /// As [`Alerts::announce`]: of `alert`, if there is one, to those who were notified of it, or, if nobody was, to
    /// those it is for. Programs hear of it where no receiver is for people: somebody must.
    fn announce_into(&mut self, now: Time, id: &str, text: &str, alert: Option<&Alert>, effects: &mut Effects) {
        let subject = Subject::Sidecar { name: Arc::from("lookout") };
        // Each piece of news is told by itself: none replaces another that waits.
        let named = Subject::Sidecar { name: Arc::from(format!("{id} {} {text}", now.as_millis())) };
        let fingerprint = Fingerprint::of("Announcement", &named);
        let text: Arc<str> = Arc::from(text);
        effects.announcements.push(Arc::clone(&text));
        let has_people = self.receivers.iter().any(|receiver| receiver.audience == Audience::People);
        let mut receivers: Vec<&ReceiverPolicy> =
            self.receivers.iter().filter(|receiver| receiver.audience == Audience::People || !has_people).collect();
        if let Some(alert) = alert {
            let is_told = |receiver: &&ReceiverPolicy| {
                alert.receivers.get(&receiver.name).is_some_and(|told| told.level.is_some())
            };
            let is_any_told = receivers.iter().any(is_told);
            receivers
                .retain(|receiver| if is_any_told { is_told(receiver) } else { not_for(receiver, alert).is_none() });
        }
        for receiver in receivers {
            let notice = Notice::new(
                &receiver.name,
                NoticeKind::Announcement,
                Level::Info,
                Arc::from("Announcement"),
                alert.map_or_else(|| subject.clone(), |alert| alert.subject.clone()),
                now,
            );
            effects.notices.push(Notice {
                key: Arc::from(format!("{fingerprint}-{:x}-0-{}", now.as_millis(), receiver.name)),
                fingerprint,
                incident: Arc::from(format!("{fingerprint}-{:x}", now.as_millis())),
                message: Arc::clone(&text),
                ..notice
            });
        }
    }

    /// Notes when the next silence begins or ends.
    fn plan_silences(&mut self, now: Time) {
        let turns = self.silences.iter().map(|it| if it.starts_at > now { it.starts_at } else { it.ends_at });
        self.silence_turns_at = turns.min();
    }

    /// Ends the silences whose time is over, and looks at what the beginning and the end of one changes.
    pub(super) fn turn_silences(&mut self, now: Time, effects: &mut Effects) {
        if self.silence_turns_at.is_none_or(|at| at > now) {
            return;
        }
        let (over, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.silences).into_iter().partition(|silence| silence.ends_at <= now);
        self.silences = kept;
        for silence in over {
            self.touch_covered(&silence);
            effects.silences_over.push(silence.id);
        }
        let begun: Vec<Silence> = self.silences.iter().filter(|silence| silence.starts_at <= now).cloned().collect();
        for silence in begun {
            self.touch_covered(&silence);
        }
        self.plan_silences(now);
    }

    /// Has every alert looked at that `silence` covers.
    fn touch_covered(&mut self, silence: &Silence) {
        self.touch_where(|entry| silence.matchers.cover(|label| entry.alert.label(label)));
    }
}

fn said(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!(": {comment}") }
}

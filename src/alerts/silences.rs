//! Silences and acknowledgements, and their announcement to the receivers that they suppress notifications for.
//!
//! An agent that runs on this machine could silence alerts about itself, so every silence is announced with its author.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::decide::exclusion;
use super::{AlertChanges, Alerts};
use crate::model::{
    Ack, Alert, AlertState, Audience, Fingerprint, Level, Notice, NoticeKind, ReceiverPolicy, Silence, Subject, Time,
    TimelineEvent,
};

/// The most silences at once.
pub const MAX_SILENCES: usize = 1000;
/// The longest silence.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Why a silence or an acknowledgement is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// There is no silence or firing alert with that id.
    #[error("there is no {0}")]
    Unknown(String),
    /// The alert is pending.
    #[error("alert {0} is pending; it can be acknowledged once it fires")]
    Pending(Fingerprint),
    /// The silence is invalid.
    #[error("{0}")]
    Invalid(String),
    /// There are too many.
    #[error("there are {MAX_SILENCES} silences already; end one first")]
    TooMany,
}

impl Alerts {
    /// The active and future silences, ordered by their end.
    pub fn silences(&self) -> &[Silence] {
        &self.silences
    }

    /// The active silence that matches `alert` at `now`: of several, the one that ends last.
    pub fn silence_of(&self, now: Time, alert: &Alert) -> Option<&Silence> {
        self.silences
            .iter()
            .rev()
            .find(|silence| silence.is_active(now) && silence.matchers.matches(|label| alert.label(label)))
    }

    /// Restores silences from the ledger after a restart.
    pub fn restore_silences(&mut self, silences: Vec<Silence>) {
        self.silences = silences;
        self.silences.sort_unstable_by(|a, b| (a.ends_at, &a.id).cmp(&(b.ends_at, &b.id)));
        self.next_silence_change = self.silences.first().map(|_| Time::default());
    }

    /// Creates `silence`, or changes the one with its id.
    pub fn silence(&mut self, now: Time, silence: Silence) -> Result<AlertChanges, SilenceError> {
        let known = self.silences.iter().position(|known| known.id == silence.id);
        if silence.ends_at <= silence.starts_at || silence.ends_at <= now {
            return Err(SilenceError::Invalid(
                "the silence ends before it starts, or in the past; choose a later end".to_owned(),
            ));
        }
        if silence.ends_at.since(now) > LONGEST {
            return Err(SilenceError::Invalid(
                "the silence is longer than a year; choose an earlier end and extend it then".to_owned(),
            ));
        }
        if known.is_none() && self.silences.len() >= MAX_SILENCES {
            return Err(SilenceError::TooMany);
        }
        if let Some(known) = known {
            let former = self.silences.remove(known);
            self.touch_matching(&former);
        }
        self.touch_matching(&silence);
        let what = if known.is_some() { "changed the silence of" } else { "silenced" };
        let until = silence.ends_at.on_clock(now, &TimeZone::UTC);
        let comment = quoted(&silence.comment);
        let text = format!("{} {what} {} until {until} UTC{comment}", silence.created_by, silence.matchers);
        let mut effects = AlertChanges::default();
        self.announce_into(now, &silence.id, &text, None, &mut effects);
        effects.silences_changed = true;
        effects.silences.push(silence.clone());
        let place = self.silences.partition_point(|other| (other.ends_at, &other.id) < (silence.ends_at, &silence.id));
        self.silences.insert(place, silence);
        self.schedule_silences(now);
        Ok(self.finish_into(now, effects))
    }

    /// Expires the silence with that id before its end.
    pub fn unsilence(&mut self, now: Time, id: &str, by: &str) -> Result<AlertChanges, SilenceError> {
        let place = self.silences.iter().position(|silence| *silence.id == *id);
        let place = place.ok_or_else(|| SilenceError::Unknown(format!("silence {id}; it may have expired")))?;
        let silence = self.silences.remove(place);
        self.touch_matching(&silence);
        self.schedule_silences(now);
        let mut effects = AlertChanges::default();
        let text = format!("{by} expired the silence of {}", silence.matchers);
        self.announce_into(now, &silence.id, &text, None, &mut effects);
        effects.silences_changed = true;
        effects.silences_over.push(silence.id);
        Ok(self.finish_into(now, effects))
    }

    /// Acknowledges a firing alert; another acknowledgement replaces the last one.
    pub fn acknowledge(
        &mut self,
        now: Time,
        fingerprint: Fingerprint,
        by: &str,
        comment: &str,
    ) -> Result<AlertChanges, SilenceError> {
        let unknown = || SilenceError::Unknown(format!("firing alert {fingerprint}"));
        let slot = *self.by_fingerprint.get(&fingerprint).ok_or_else(unknown)?;
        let entry = self.entry_mut(slot).ok_or_else(unknown)?;
        match entry.alert.state {
            AlertState::Firing => {}
            AlertState::Pending => return Err(SilenceError::Pending(fingerprint)),
            AlertState::Resolved => return Err(unknown()),
        }
        let ack = Ack { by: Arc::from(by), comment: Arc::from(comment), at: now, level: entry.alert.level };
        entry.dirty = true;
        entry.alert.changed_at = now;
        entry.alert.ack = Some(ack);
        let alert = entry.alert.clone();
        self.record(now, slot, TimelineEvent::Acknowledged { by: Arc::from(by), comment: Arc::from(comment) });
        self.touch(slot);
        let mut effects = AlertChanges::default();
        let text = format!("{by} acknowledged {} on {}{}", alert.rule, alert.subject.who(), quoted(comment));
        self.announce_into(now, &format!("{fingerprint}"), &text, Some(&alert), &mut effects);
        Ok(self.finish_into(now, effects))
    }

    /// Announces to people what was decided about the sidecar; `id` makes the announcement unique.
    pub fn announce(&mut self, now: Time, id: &str, text: &str) -> AlertChanges {
        let mut effects = AlertChanges::default();
        self.announce_into(now, id, text, None, &mut effects);
        self.finish_into(now, effects)
    }

    /// Sends the daily digest to the receivers of these names, or, if there are none, to all that people read.
    pub fn digest(&mut self, now: Time, names: &[String], text: &str) -> AlertChanges {
        let mut effects = AlertChanges::default();
        for receiver in &self.receivers {
            let is_named = names.iter().any(|name| **name == *receiver.name);
            if is_named || (names.is_empty() && receiver.audience == Audience::People) {
                let subject = Subject::Sidecar { name: Arc::from("lookout") };
                let rule = Arc::from("Digest");
                let notice = Notice::new(&receiver.name, NoticeKind::Digest, Level::Info, rule, subject, now);
                effects.notices.push(Notice { message: Arc::from(text), ..notice });
            }
        }
        self.finish_into(now, effects)
    }

    /// As [`Alerts::announce`]. An announcement about `alert` goes to the receivers that were notified of it, or, if there
    /// are none, to those it is routed to. Receivers that programs read get it only where no other receiver exists.
    fn announce_into(&mut self, now: Time, id: &str, text: &str, alert: Option<&Alert>, effects: &mut AlertChanges) {
        let subject = Subject::Sidecar { name: Arc::from("lookout") };
        // Each announcement has a fingerprint of its own, so that it does not replace a pending one.
        let named = Subject::Sidecar { name: Arc::from(format!("{id} {} {text}", now.as_millis())) };
        let fingerprint = Fingerprint::of("Announcement", &named);
        let text: Arc<str> = Arc::from(text);
        effects.announcements.push(Arc::clone(&text));
        let has_people = self.receivers.iter().any(|receiver| receiver.audience == Audience::People);
        let mut receivers: Vec<&ReceiverPolicy> =
            self.receivers.iter().filter(|receiver| receiver.audience == Audience::People || !has_people).collect();
        if let Some(alert) = alert {
            let is_notified = |receiver: &&ReceiverPolicy| {
                alert.receivers.get(&receiver.name).is_some_and(|state| state.level.is_some())
            };
            let is_any_notified = receivers.iter().any(is_notified);
            receivers.retain(|receiver| {
                if is_any_notified { is_notified(receiver) } else { exclusion(receiver, alert).is_none() }
            });
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

    /// Determines when a silence next starts or expires.
    fn schedule_silences(&mut self, now: Time) {
        let turns = self.silences.iter().map(|it| if it.starts_at > now { it.starts_at } else { it.ends_at });
        self.next_silence_change = turns.min();
    }

    /// Removes expired silences, and evaluates the alerts that match one which started or expired.
    pub(super) fn expire_silences(&mut self, now: Time, effects: &mut AlertChanges) {
        if self.next_silence_change.is_none_or(|at| at > now) {
            return;
        }
        effects.silences_changed = true;
        let (over, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.silences).into_iter().partition(|silence| silence.ends_at <= now);
        self.silences = kept;
        for silence in over {
            self.touch_matching(&silence);
            effects.silences_over.push(silence.id);
        }
        let begun: Vec<Silence> = self.silences.iter().filter(|silence| silence.starts_at <= now).cloned().collect();
        for silence in begun {
            self.touch_matching(&silence);
        }
        self.schedule_silences(now);
    }

    /// Has every alert that `silence` matches evaluated again.
    fn touch_matching(&mut self, silence: &Silence) {
        self.touch_where(|entry| silence.matchers.matches(|label| entry.alert.label(label)));
    }
}

/// A comment at the end of an announcement.
fn quoted(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!(": \"{comment}\"") }
}

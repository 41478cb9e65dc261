//! E-mail: one mail to all recipients, each of whom is told once even when others have to be tried again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::message::Mailbox;

use crate::model::{Notice, Receipt, Retry, SendError, SendReason, Time};

use super::config::RECIPIENTS;
use super::words::Words;
use smtp::{Patience, Server, Session};

mod mime;
pub(super) mod smtp;

/// How long it is remembered who got what, after the last attempt that asked: longer than any pause between two.
const REMEMBERED: Duration = Duration::from_secs(2 * 3600);
/// Most notices remembered; beyond it a recipient may be told twice.
const NOTICES_REMEMBERED: usize = 50_000;

/// Mail to some people through one server.
#[derive(Debug)]
pub(super) struct Email {
    from: Mailbox,
    to: Vec<Mailbox>,
    server: Server,
    patience: Patience,
    words: Words,
    /// By idempotency key, who got it; only while another recipient has yet to get it.
    told: Mutex<HashMap<Arc<str>, Told>>,
}

/// Which recipients got a notice: bit by place in `to`, of which there are at most [`RECIPIENTS`].
#[derive(Clone, Copy, Debug)]
struct Told {
    recipients: u128,
    at: Time,
}

const _: () = assert!(RECIPIENTS <= 128, "a recipient is a bit");

impl Email {
    /// Mail from `from` to `to` through `server`, in these words.
    pub(super) fn new(from: Mailbox, to: Vec<Mailbox>, server: Server, words: Words) -> Self {
        Self { from, to, server, patience: Patience::DEFAULT, words, told: Mutex::default() }
    }

    /// The same with another deadline for each step, for tests of a server that hangs.
    #[cfg(test)]
    pub(super) const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.patience.step = deadline;
        self
    }

    /// Sends `notices` in one mail to each recipient who did not get them yet.
    ///
    /// It is done when somebody got it and nobody can get it later: a recipient who is rejected is named in the receipt.
    /// It fails for good when all are rejected, and is tried again while somebody may still get it.
    pub(super) async fn send(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Receipt, SendError> {
        let result = self.attempt(now, notices).await;
        if result.as_ref().err().is_none_or(|error| error.retry == Retry::Never) {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            for notice in notices {
                told.remove(&notice.key);
            }
        }
        result
    }

    /// The mail that tells `notices` at `now`.
    pub(super) fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        mime::render(now, &self.from, &self.to, notices, &self.words.compose(now, notices))
    }

    async fn attempt(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Receipt, SendError> {
        let (groups, mut delivered) = self.outstanding(now, notices);
        if groups.is_empty() {
            return Ok(Receipt::default());
        }
        let mut session = Session::open(&self.server, self.patience).await?;
        let (mut pending, mut rejected) = (None, None);
        for (places, recipients) in groups {
            let due: Vec<Arc<Notice>> = places.iter().filter_map(|place| notices.get(*place)).cloned().collect();
            let mail = self
                .render(now, &due)
                .map_err(|error| SendError::permanent(SendReason::Message, format!("build the mail: {error}")))?;
            let addresses: Vec<_> =
                recipients.iter().filter_map(|place| self.to.get(*place)).map(|mailbox| &mailbox.email).collect();
            let answers = match session.deliver(&self.from.email, &addresses, &mail).await {
                Ok(answers) => answers,
                Err(error) if error.retry != Retry::Never => return Err(error),
                Err(error) => {
                    rejected = Some(error);
                    continue;
                }
            };
            let mut got = 0;
            for (place, answer) in recipients.iter().zip(answers) {
                match answer {
                    None => got |= 1_u128 << place,
                    Some(error) if error.retry == Retry::Never => rejected = Some(error),
                    Some(error) => pending = Some(error),
                }
            }
            delivered |= got != 0;
            self.remember(now, &due, got);
        }
        session.close().await;
        match (pending, rejected) {
            (Some(error), _) => Err(error),
            (None, Some(error)) if !delivered => Err(error),
            (None, amiss) => Ok(Receipt { amiss, ..Receipt::default() }),
        }
    }

    /// Which notices are still to be told to which recipients, and whether any recipient got any of them before.
    /// Recipients who lack the same notices share a mail.
    fn outstanding(&self, now: Time, notices: &[Arc<Notice>]) -> (BTreeMap<Vec<usize>, Vec<usize>>, bool) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, told| now.since(told.at) < REMEMBERED);
        let done: Vec<u128> =
            notices.iter().map(|notice| told.get(&notice.key).map_or(0, |told| told.recipients)).collect();
        let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for recipient in 0..self.to.len() {
            let lacking: Vec<usize> = done
                .iter()
                .enumerate()
                .filter(|(_, done)| **done >> recipient & 1 == 0)
                .map(|(place, _)| place)
                .collect();
            if !lacking.is_empty() {
                groups.entry(lacking).or_default().push(recipient);
            }
        }
        (groups, done.iter().any(|done| *done != 0))
    }

    fn remember(&self, now: Time, notices: &[Arc<Notice>], recipients: u128) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for notice in notices {
            if recipients == 0 || (told.len() >= NOTICES_REMEMBERED && !told.contains_key(&notice.key)) {
                continue;
            }
            let entry = told.entry(Arc::clone(&notice.key)).or_insert(Told { recipients: 0, at: now });
            entry.recipients |= recipients;
            entry.at = now;
        }
    }
}

#[cfg(test)]
mod tests;

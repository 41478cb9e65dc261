//! What goes to the ledger: gathered while the disk is busy, one commit at a time, sends released after it.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::alerts::Effects;
use crate::model::{Alert, AlertCounts, Fingerprint, Notice, Silence};
use crate::store::{Commit, LedgerCounts, LedgerHandle, NoticeOutcome, StoreError};

/// How long a commit may take before its notices are sent all the same.
const PATIENCE: Duration = Duration::from_secs(5);

type Committing = Pin<Box<dyn Future<Output = Committed> + Send>>;

/// What a commit brings about when it is over.
pub(super) struct Committed {
    /// Whether it is on disk.
    pub(super) result: Result<(), StoreError>,
    /// Notices that may be sent now.
    pub(super) notices: Vec<Arc<Notice>>,
    /// Senders of state that may be answered now.
    pub(super) answers: Vec<Answer>,
}

/// An answer that waits for the disk.
pub(super) type Answer = Box<dyn FnOnce() + Send>;

/// Gathers changes of the ledger and writes them one commit at a time.
pub(super) struct Committer {
    ledger: LedgerHandle,
    alerts: HashMap<Fingerprint, Alert>,
    forget: HashSet<Fingerprint>,
    notices: Vec<Arc<Notice>>,
    /// So many of the first notices were sent though they could not be written; they still are to be.
    sent: usize,
    answers: Vec<Answer>,
    settled: Vec<(Arc<str>, NoticeOutcome)>,
    silences: Vec<Silence>,
    silences_over: Vec<Arc<str>>,
    counts: LedgerCounts,
    /// Notices that were taken in and not released yet.
    undispatched: usize,
    is_dirty: bool,
    running: Option<Committing>,
    patience: Duration,
    /// How many transactions the ledger had written when a commit took too long.
    late: Option<u64>,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Committer").field("alerts", &self.alerts.len()).field("notices", &self.notices.len()).finish()
    }
}

impl Committer {
    pub(super) fn new(ledger: LedgerHandle, counts: LedgerCounts) -> Self {
        Self {
            ledger,
            alerts: HashMap::new(),
            forget: HashSet::new(),
            notices: Vec::new(),
            sent: 0,
            answers: Vec::new(),
            settled: Vec::new(),
            silences: Vec::new(),
            silences_over: Vec::new(),
            counts,
            undispatched: 0,
            is_dirty: false,
            running: None,
            patience: PATIENCE,
            late: None,
        }
    }

    /// Takes in what a step brought about, with its notices worded.
    pub(super) fn take(&mut self, effects: &mut Effects, notices: Vec<Arc<Notice>>, counts: &AlertCounts) {
        for alert in effects.changed.drain(..) {
            // It may have begun anew since it was to be forgotten.
            self.forget.remove(&alert.fingerprint);
            self.alerts.insert(alert.fingerprint, alert);
        }
        for fingerprint in effects.forgotten.drain(..) {
            self.alerts.remove(&fingerprint);
            self.forget.insert(fingerprint);
        }
        for silence in effects.silences.drain(..) {
            self.silences_over.retain(|id| *id != silence.id);
            self.silences.push(silence);
        }
        for id in effects.silences_over.drain(..) {
            self.silences.retain(|silence| silence.id != id);
            self.silences_over.push(id);
        }
        self.undispatched += notices.len();
        self.notices.extend(notices);
        self.counts = LedgerCounts { by_level: counts.raised, fired: counts.fired };
        self.is_dirty = true;
    }

    /// Commits again all that is known, since the ledger lost it.
    pub(super) fn take_all<'a>(&mut self, alerts: impl Iterator<Item = &'a Alert>, silences: &[Silence]) {
        for alert in alerts {
            self.alerts.entry(alert.fingerprint).or_insert_with(|| alert.clone());
        }
        let known: HashSet<Arc<str>> = self.silences.iter().map(|silence| Arc::clone(&silence.id)).collect();
        self.silences.extend(silences.iter().filter(|silence| !known.contains(&silence.id)).cloned());
        self.is_dirty = true;
    }

    /// Ticks off notices for the same reason.
    pub(super) fn settle(&mut self, notices: &[Arc<Notice>], settled: &NoticeOutcome) {
        self.settled.extend(notices.iter().map(|notice| (Arc::clone(&notice.key), settled.clone())));
        self.is_dirty = true;
    }

    /// Answers: at once, or, when something is to be told on account of what was sent, once that is on disk, so that
    /// whoever was answered knows that it will be told.
    pub(super) fn answer(&mut self, answer: impl FnOnce() + Send + 'static) {
        if self.notices.len() == self.sent { answer() } else { self.answers.push(Box::new(answer)) }
    }

    /// Answers once all that was taken in before is on disk.
    pub(super) fn answer_after_commit(&mut self, answer: impl FnOnce() + Send + 'static) {
        self.is_dirty = true;
        self.answers.push(Box::new(answer));
    }

    /// Ticks off a notice of which only the key is known.
    pub(super) fn settle_key(&mut self, key: Arc<str>, settled: NoticeOutcome) {
        self.settled.push((key, settled));
        self.is_dirty = true;
    }

    /// How many notices wait for the disk before they may be sent.
    pub(super) const fn undispatched(&self) -> usize {
        self.undispatched
    }

    /// The notices of the commit to come.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> &[Arc<Notice>] {
        &self.notices
    }

    /// Whether what is committed outlives the process, as far as is known.
    pub(super) fn is_ok(&self) -> bool {
        // A disk that hung is well again once it has written anything since.
        self.ledger.is_ok() && self.late.is_none_or(|written| self.ledger.written() > written)
    }

    /// Whether nothing waits or is being written.
    pub(super) const fn is_idle(&self) -> bool {
        self.running.is_none() && !self.is_dirty
    }

    /// Begins a commit when there is something to write, and waits for the one that runs. Returns the notices
    /// that may be sent now; pends for ever while there is nothing to write. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Committed {
        if self.running.is_none() {
            if !self.is_dirty {
                return std::future::pending().await;
            }
            self.begin();
        }
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let done = running.as_mut().await;
        self.running = None;
        self.undispatched = self.undispatched.saturating_sub(done.notices.len());
        self.late = matches!(done.result, Err(StoreError::Late { .. })).then(|| self.ledger.written());
        done
    }

    fn begin(&mut self) {
        let notices = std::mem::take(&mut self.notices);
        let unsent = notices.get(std::mem::take(&mut self.sent)..).unwrap_or_default().to_vec();
        let answers = std::mem::take(&mut self.answers);
        let commit = Commit {
            alerts: self.alerts.drain().map(|(_, alert)| alert).collect(),
            delete: self.forget.drain().collect(),
            notices,
            outcomes: std::mem::take(&mut self.settled),
            silences: std::mem::take(&mut self.silences),
            ended_silences: std::mem::take(&mut self.silences_over),
            counts: Some(self.counts),
        };
        self.is_dirty = false;
        let patience = self.patience;
        let late = StoreError::Late { path: self.ledger.path().to_owned(), within: patience };
        match self.ledger.submit(commit) {
            Ok(receipt) => {
                self.running = Some(Box::pin(async move {
                    let written = tokio::time::timeout(patience, receipt.written()).await;
                    Committed { result: written.unwrap_or(Err(late)), notices: unsent, answers }
                }));
            }
            // The disk has hung for so long that there is no room. Nothing is lost: it goes with the next commit.
            Err(commit) => {
                self.take_back(*commit);
                self.running = Some(Box::pin(async move {
                    tokio::time::sleep(patience).await;
                    Committed { result: Err(late), notices: unsent, answers }
                }));
            }
        }
    }

    /// Takes back what the ledger had no room for; its notices are sent all the same.
    fn take_back(&mut self, commit: Commit) {
        self.alerts = commit.alerts.into_iter().map(|alert| (alert.fingerprint, alert)).collect();
        self.forget = commit.delete.into_iter().collect();
        self.sent = commit.notices.len();
        self.notices = commit.notices;
        self.settled = commit.outcomes;
        self.silences = commit.silences;
        self.silences_over = commit.ended_silences;
        self.is_dirty = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_that_finds_no_room_is_written_once_there_is() {
        let (ledger, mut take) = LedgerHandle::hung(1);
        drop(ledger.submit(Commit::default()).expect("room for one"));
        let mut committer = Committer::new(ledger, LedgerCounts::default());
        committer.patience = Duration::from_millis(10);
        let take_over = |committer: &mut Committer, id: &str| {
            let mut effects = Effects { silences_over: vec![id.into()], ..Effects::default() };
            committer.take(&mut effects, Vec::new(), &AlertCounts::default());
        };
        take_over(&mut committer, "one");
        let done = committer.next().await;
        assert!(matches!(done.result, Err(StoreError::Late { .. })), "{:?}", done.result);
        take_over(&mut committer, "two");
        assert!(!committer.is_idle(), "it is still to be written");
        // The disk answers again.
        assert!(take().is_some(), "what filled the queue");
        let (done, written) = tokio::join!(committer.next(), async {
            loop {
                match take() {
                    Some(commit) => break commit,
                    None => tokio::task::yield_now().await,
                }
            }
        });
        assert!(done.result.is_ok() && committer.is_idle());
        assert_eq!(written.ended_silences, ["one".into(), "two".into()]);
    }
}

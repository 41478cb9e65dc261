//! Commits to the ledger: changes are batched while one commit is running, and notices are released when it is done.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::alerts::AlertChanges;
use crate::model::{Alert, AlertCounts, Fingerprint, Notice, Silence};
use crate::store::{Commit, LedgerCounts, LedgerHandle, NoticeOutcome, StoreError};

/// How long a commit may take before its notices are sent anyway.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

type Committing = Pin<Box<dyn Future<Output = Committed> + Send>>;

/// What a finished commit releases.
pub(super) struct Committed {
    /// Whether it is on disk.
    pub(super) result: Result<(), StoreError>,
    /// Notices that may be dispatched now.
    pub(super) notices: Vec<Arc<Notice>>,
    /// Answers that may be given now.
    pub(super) answers: Vec<PendingAnswer>,
}

/// An answer that waits for the disk.
pub(super) type PendingAnswer = Box<dyn FnOnce() + Send>;

/// Batches changes of the ledger and writes them, one commit at a time.
pub(super) struct Committer {
    ledger: LedgerHandle,
    alerts: HashMap<Fingerprint, Alert>,
    forget: HashSet<Fingerprint>,
    notices: Vec<Arc<Notice>>,
    /// The number of notices, from the first, that were dispatched without being written; they are still to be written.
    sent: usize,
    answers: Vec<PendingAnswer>,
    settled: Vec<(Arc<str>, NoticeOutcome)>,
    silences: Vec<Silence>,
    silences_over: Vec<Arc<str>>,
    counts: LedgerCounts,
    /// Notices that were not released yet.
    undispatched: usize,
    is_dirty: bool,
    running: Option<Committing>,
    timeout: Duration,
    /// Set when the last commit timed out: the number of transactions that the ledger had written by then.
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
            timeout: COMMIT_TIMEOUT,
            late: None,
        }
    }

    /// Adds the changes of a step, and its notices with texts.
    pub(super) fn take(&mut self, effects: &mut AlertChanges, notices: Vec<Arc<Notice>>, counts: &AlertCounts) {
        for alert in effects.changed.drain(..) {
            // It may have fired again since it was dropped.
            self.forget.remove(&alert.fingerprint);
            self.alerts.insert(alert.fingerprint, alert);
        }
        for fingerprint in effects.dropped.drain(..) {
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

    /// Adds all alerts and silences, after the ledger's file was lost.
    pub(super) fn take_all<'a>(&mut self, alerts: impl Iterator<Item = &'a Alert>, silences: &[Silence]) {
        for alert in alerts {
            self.alerts.entry(alert.fingerprint).or_insert_with(|| alert.clone());
        }
        let known: HashSet<Arc<str>> = self.silences.iter().map(|silence| Arc::clone(&silence.id)).collect();
        self.silences.extend(silences.iter().filter(|silence| !known.contains(&silence.id)).cloned());
        self.is_dirty = true;
    }

    /// Marks notices as delivered, superseded or dead-lettered.
    pub(super) fn settle(&mut self, notices: &[Arc<Notice>], settled: &NoticeOutcome) {
        self.settled.extend(notices.iter().map(|notice| (Arc::clone(&notice.key), settled.clone())));
        self.is_dirty = true;
    }

    /// Answers at once, or, if notices wait to be written, when they are: a sender that got its answer
    /// can rely on the notification.
    pub(super) fn answer(&mut self, answer: impl FnOnce() + Send + 'static) {
        if self.notices.len() == self.sent { answer() } else { self.answers.push(Box::new(answer)) }
    }

    /// Answers once all changes so far are on disk.
    pub(super) fn answer_after_commit(&mut self, answer: impl FnOnce() + Send + 'static) {
        self.is_dirty = true;
        self.answers.push(Box::new(answer));
    }

    /// Marks a notice of which only the key is known.
    pub(super) fn settle_key(&mut self, key: Arc<str>, settled: NoticeOutcome) {
        self.settled.push((key, settled));
        self.is_dirty = true;
    }

    /// How many notices wait for the disk.
    pub(super) const fn undispatched(&self) -> usize {
        self.undispatched
    }

    /// The notices of the commit to come.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> &[Arc<Notice>] {
        &self.notices
    }

    /// Whether commits are written, as far as is known.
    pub(super) fn is_ok(&self) -> bool {
        // A disk that hung works again once it has written anything since.
        self.ledger.is_ok() && self.late.is_none_or(|written| self.ledger.written() > written)
    }

    /// Whether nothing is waiting or being written.
    pub(super) const fn is_idle(&self) -> bool {
        self.running.is_none() && !self.is_dirty
    }

    /// Starts a commit if there is something to write, and waits for the running one. Never returns while there is nothing
    /// to write. Cancel-safe.
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
        let timeout = self.timeout;
        let late = StoreError::Late { path: self.ledger.path().to_owned(), within: timeout };
        match self.ledger.submit(commit) {
            Ok(receipt) => {
                self.running = Some(Box::pin(async move {
                    let written = tokio::time::timeout(timeout, receipt.written()).await;
                    Committed { result: written.unwrap_or(Err(late)), notices: unsent, answers }
                }));
            }
            // The ledger's queue is full, as the disk hangs. Nothing is lost: it is written with the next commit.
            Err(commit) => {
                self.take_back(*commit);
                self.running = Some(Box::pin(async move {
                    tokio::time::sleep(timeout).await;
                    Committed { result: Err(late), notices: unsent, answers }
                }));
            }
        }
    }

    /// Puts back what the ledger's queue had no room for; its notices are dispatched anyway.
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
    async fn a_commit_that_finds_the_queue_full_is_written_later() {
        let (ledger, mut take) = LedgerHandle::hung(1);
        drop(ledger.submit(Commit::default()).expect("room for one"));
        let mut committer = Committer::new(ledger, LedgerCounts::default());
        committer.timeout = Duration::from_millis(10);
        let take_over = |committer: &mut Committer, id: &str| {
            let mut effects = AlertChanges { silences_over: vec![id.into()], ..AlertChanges::default() };
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

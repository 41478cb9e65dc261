//! Comparison of the notifications before with those by the new rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Level, Notice, Subject, Time};

/// A notice that is in one of the lists or in both.
#[derive(Clone, Debug)]
pub(super) enum ComparedNotice {
    /// In both.
    Both {
        /// The one by the new rules.
        new: Arc<Notice>,
        /// The one before.
        before: Arc<Notice>,
    },
    /// Only by the new rules.
    New(Arc<Notice>),
    /// Only before.
    Before(Arc<Notice>),
}

impl ComparedNotice {
    /// The notice; the new one if it is in both.
    pub(super) const fn notice(&self) -> &Arc<Notice> {
        match self {
            Self::Both { new, .. } => new,
            Self::New(notice) | Self::Before(notice) => notice,
        }
    }

    /// Where it is, in words.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Both { .. } => "both",
            Self::New(_) => "only new",
            Self::Before(_) => "only before",
        }
    }

    fn at(&self) -> Time {
        self.notice().at
    }
}

/// Notices with the same receiver, rule, subject, kind and level are the same.
type NoticeKey<'a> = (&'a str, &'a str, &'a Subject, u8, Level);

fn key(notice: &Notice) -> NoticeKey<'_> {
    (&notice.receiver, &notice.rule, &notice.subject, notice.kind as u8, notice.level)
}

/// All notices of both lists in the order of time. The same notice in both is one entry if the two are at most `within`
/// apart.
pub(super) fn compare(before: &[Arc<Notice>], new: &[Arc<Notice>], within: Duration) -> Vec<ComparedNotice> {
    let mut by_key: BTreeMap<NoticeKey<'_>, [Vec<&Arc<Notice>>; 2]> = BTreeMap::new();
    for notice in before {
        by_key.entry(key(notice)).or_default()[0].push(notice);
    }
    for notice in new {
        by_key.entry(key(notice)).or_default()[1].push(notice);
    }
    let mut rows = Vec::new();
    for [mut before, mut new] in by_key.into_values() {
        before.sort_by_key(|notice| notice.at);
        new.sort_by_key(|notice| notice.at);
        let (mut before, mut new) = (before.into_iter().peekable(), new.into_iter().peekable());
        loop {
            match (before.peek(), new.peek()) {
                (Some(old), Some(recent)) if old.at.since(recent.at).max(recent.at.since(old.at)) <= within => {
                    rows.push(ComparedNotice::Both { new: Arc::clone(recent), before: Arc::clone(old) });
                    before.next();
                    new.next();
                }
                (Some(old), recent) if recent.is_none_or(|recent| old.at <= recent.at) => {
                    rows.push(ComparedNotice::Before(Arc::clone(old)));
                    before.next();
                }
                (_, Some(recent)) => {
                    rows.push(ComparedNotice::New(Arc::clone(recent)));
                    new.next();
                }
                _ => break,
            }
        }
    }
    rows.sort_by(|left, right| (left.at(), key(left.notice())).cmp(&(right.at(), key(right.notice()))));
    rows
}

/// Counts by rule and receiver: in both, only by the new rules, only before.
pub(super) fn counts(rows: &[ComparedNotice]) -> BTreeMap<(Arc<str>, Arc<str>), [u64; 3]> {
    let mut counts: BTreeMap<(Arc<str>, Arc<str>), [u64; 3]> = BTreeMap::new();
    for row in rows {
        let notice = row.notice();
        let [both, new, before] = counts.entry((Arc::clone(&notice.rule), Arc::clone(&notice.receiver))).or_default();
        match row {
            ComparedNotice::Both { .. } => *both += 1,
            ComparedNotice::New(_) => *new += 1,
            ComparedNotice::Before(_) => *before += 1,
        }
    }
    counts
}

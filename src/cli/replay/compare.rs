//! What was told before against what would be told now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Level, Notice, Subject, Time};

/// The same notice on one side or on both.
#[derive(Clone, Debug)]
pub(super) enum Row {
    /// Told by both.
    Both {
        /// By the new rules.
        new: Arc<Notice>,
        /// And before.
        before: Arc<Notice>,
    },
    /// Told by the new rules only.
    New(Arc<Notice>),
    /// Told only before.
    Before(Arc<Notice>),
}

impl Row {
    /// The notice; by the new rules, where they tell it.
    pub(super) const fn notice(&self) -> &Arc<Notice> {
        match self {
            Self::Both { new, .. } => new,
            Self::New(notice) | Self::Before(notice) => notice,
        }
    }

    /// Who told it, in a word.
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

/// What makes two notices the same: to whom, of what, saying what at which level.
type Key<'a> = (&'a str, &'a str, &'a Subject, u8, Level);

fn key(notice: &Notice) -> Key<'_> {
    (&notice.receiver, &notice.rule, &notice.subject, notice.kind as u8, notice.level)
}

/// All notices of both sides in the order of time. The same one on both sides is one row when it was told within
/// `within` of the other.
pub(super) fn compare(before: &[Arc<Notice>], new: &[Arc<Notice>], within: Duration) -> Vec<Row> {
    let mut by_key: BTreeMap<Key<'_>, [Vec<&Arc<Notice>>; 2]> = BTreeMap::new();
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
                (Some(old), Some(young)) if old.at.since(young.at).max(young.at.since(old.at)) <= within => {
                    rows.push(Row::Both { new: Arc::clone(young), before: Arc::clone(old) });
                    before.next();
                    new.next();
                }
                (Some(old), young) if young.is_none_or(|young| old.at <= young.at) => {
                    rows.push(Row::Before(Arc::clone(old)));
                    before.next();
                }
                (_, Some(young)) => {
                    rows.push(Row::New(Arc::clone(young)));
                    new.next();
                }
                _ => break,
            }
        }
    }
    rows.sort_by(|left, right| (left.at(), key(left.notice())).cmp(&(right.at(), key(right.notice()))));
    rows
}

/// By rule and receiver: told by both, only by the new, only before.
pub(super) fn counts(rows: &[Row]) -> BTreeMap<(Arc<str>, Arc<str>), [u64; 3]> {
    let mut counts: BTreeMap<(Arc<str>, Arc<str>), [u64; 3]> = BTreeMap::new();
    for row in rows {
        let notice = row.notice();
        let [both, new, before] = counts.entry((Arc::clone(&notice.rule), Arc::clone(&notice.receiver))).or_default();
        match row {
            Row::Both { .. } => *both += 1,
            Row::New(_) => *new += 1,
            Row::Before(_) => *before += 1,
        }
    }
    counts
}

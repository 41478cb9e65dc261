//! How fast and how much is sent to a receiver, and what has a message of its own.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Notice;

/// How fast and how much.
#[derive(Clone, Copy, Debug)]
pub(in crate::notify) struct Pace {
    /// After a message has left, how long what follows is grouped into the next.
    pub(in crate::notify) group_wait: Duration,
    /// Pause after the first failure; it doubles with each.
    pub(in crate::notify) first_pause: Duration,
    /// Longest pause we choose.
    pub(in crate::notify) longest_pause: Duration,
    /// A token each so long, and how many can be saved up; for receivers that limit our rate.
    pub(in crate::notify) bucket: Option<(Duration, u32)>,
    /// Most alerts that wait, without those in flight.
    pub(in crate::notify) capacity: usize,
    /// What has a message of its own while the rate allows it.
    pub(in crate::notify) group_by: GroupBy,
    /// Whether a message that failed is sent again as it was, so that its key stays the same.
    pub(in crate::notify) keeps_batches: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            group_wait: crate::notify::GROUP_WAIT,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(300),
            bucket: None,
            capacity: crate::notify::CAPACITY,
            group_by: GroupBy::None,
            keeps_batches: false,
        }
    }
}

impl Pace {
    /// Leaves its part of the rate to each of `sharing` receivers, of which this is one, that write to one place.
    pub(in crate::notify) fn share(&mut self, sharing: u32) {
        if let Some((each, burst)) = self.bucket
            && sharing > 1
        {
            self.bucket = Some((each.saturating_mul(sharing), (burst / sharing).max(1)));
        }
    }
}

/// What has a message of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// Nothing: what is due together is sent together.
    #[default]
    None,
    /// Each project.
    Project,
    /// Each rule.
    Rule,
}

impl GroupBy {
    pub(super) fn of(self, notice: &Notice) -> Option<&Arc<str>> {
        match self {
            Self::None => None,
            Self::Project => notice.subject.project(),
            Self::Rule => Some(&notice.rule),
        }
    }
}

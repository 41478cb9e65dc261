//! Windows over indicators: increases of counters and averages of gauges, in bounded memory.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use super::metric::RuleInput;
use crate::model::{Time, Window};

/// The approximate maximum number of samples kept per window; denser samples are merged.
const MAX_PIECES: u32 = 120;

/// A window that rules need; identical ones are shared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrackSpec {
    /// What it is over.
    pub(super) input: RuleInput,
    /// The length of the window.
    pub(super) over: Duration,
    /// Whether its average is computed, otherwise its increase.
    pub(super) average: bool,
}

impl TrackSpec {
    /// The name that it is saved under.
    pub(super) fn name(&self) -> Cow<'static, str> {
        match &self.input.metric {
            Some(metric) => Cow::Owned(metric.text().to_owned()),
            None => Cow::Borrowed(self.input.indicator.name()),
        }
    }
}

/// The windows of one agent, in the order of the rule set's specs.
pub(super) type Tracks = Box<[Track]>;

/// One window.
#[derive(Clone, Debug)]
pub(super) struct Track {
    over: Duration,
    average: bool,
    /// Since when the indicator is followed; `None` before its first value.
    since: Option<Time>,
    /// Whether the agent was new at `since`, so that nothing happened before.
    is_complete: bool,
    /// Increases with their times, or for an average the values with the times from which they held.
    pieces: VecDeque<(Time, f64)>,
    last: f64,
}

impl Track {
    pub(super) fn new(spec: &TrackSpec) -> Self {
        Self {
            over: spec.over,
            average: spec.average,
            since: None,
            is_complete: false,
            pieces: VecDeque::new(),
            last: 0.0,
        }
    }

    /// Records the value at `now`. The first value of a counter is its baseline, unless `counts_first`. `is_complete` says
    /// that the agent is new, so that nothing happened before. Returns whether anything has to be saved.
    pub(super) fn observe(&mut self, now: Time, value: f64, counts_first: bool, is_complete: bool) -> bool {
        let is_first = self.since.is_none();
        if is_first {
            (self.since, self.is_complete) = (Some(now), is_complete);
        }
        let step = if self.average {
            if !is_first && value == self.last {
                return false;
            }
            value
        } else if is_first && !counts_first {
            0.0
        } else {
            value - self.last
        };
        let changed = is_first || value != self.last;
        self.last = value;
        if !self.average && step <= 0.0 {
            return changed;
        }
        let piece = self.over / MAX_PIECES;
        match self.pieces.back_mut() {
            Some((at, last)) if now.since(*at) < piece => {
                if self.average {
                    *last = step;
                } else {
                    *last += step;
                }
            }
            _ => {
                self.pieces.push_back((now, step));
                self.drop_expired(now);
            }
        }
        true
    }

    /// The window in the form in which it is saved; `None` before the first value.
    pub(super) fn saved(&self, spec: &TrackSpec) -> Option<Window> {
        let since = self.since?;
        let after = |at: &Time| at.as_millis().saturating_sub(since.as_millis());
        Some(Window {
            indicator: spec.name(),
            over: u64::try_from(self.over.as_millis()).unwrap_or(u64::MAX),
            average: self.average,
            since,
            is_complete: self.is_complete,
            last: self.last,
            pieces: self.pieces.iter().map(|(at, step)| (after(at), *step)).collect(),
        })
    }

    /// Restores a saved window. Times are shifted by the downtime, which neither fills nor empties the window.
    pub(super) fn restore(&mut self, now: Time, saved: &Window, downtime: Duration) {
        let moved = |at: Time| at.plus(downtime).min(now);
        self.since = Some(moved(saved.since));
        (self.is_complete, self.last) = (saved.is_complete, saved.last);
        // No more samples than this window would have kept.
        let kept = MAX_PIECES as usize + 2;
        let pieces = saved.pieces.iter().skip(saved.pieces.len().saturating_sub(kept));
        let at = |after: i64| Time::from_millis(saved.since.as_millis().saturating_add(after));
        self.pieces = pieces.map(|(after, step)| (moved(at(*after)), *step)).collect();
        self.drop_expired(now);
    }

    /// Drops samples from before the window.
    fn drop_expired(&mut self, now: Time) {
        let start = now.minus(self.over);
        // The value that held when the window began is part of its average.
        let kept = usize::from(self.average);
        while self.pieces.get(kept).is_some_and(|(at, _)| *at <= start) {
            self.pieces.pop_front();
        }
    }

    /// The increase of the counter within the window.
    pub(super) fn increase(&mut self, now: Time) -> f64 {
        self.drop_expired(now);
        // `sum()` of an empty iterator would be `-0.0`.
        self.pieces.iter().fold(0.0, |sum, (_, step)| sum + step)
    }

    /// The average within the window that ends at `now`, weighted by time; `None` before the first value. With a later `now`
    /// than that of the last sample it is what the average will be if no other sample comes.
    pub(super) fn average(&self, now: Time) -> Option<f64> {
        let start = now.minus(self.over);
        let (mut weighted, mut total) = (0.0, 0.0);
        for (place, (at, value)) in self.pieces.iter().enumerate() {
            let end = self.pieces.get(place + 1).map_or(now, |(next, _)| *next);
            let seconds = end.max(start).seconds_since((*at).max(start));
            weighted += value * seconds;
            total += seconds;
        }
        if total > 0.0 { Some(weighted / total) } else { self.pieces.back().map(|(_, value)| *value) }
    }

    /// Whether everything within the window was observed.
    pub(super) fn is_covered(&self, now: Time) -> bool {
        self.since.is_some_and(|since| self.is_complete || now.since(since) >= self.over)
    }

    /// Whether the indicator was followed for the whole window.
    pub(super) fn is_full(&self, now: Time) -> bool {
        self.since.is_some_and(|since| now.since(since) >= self.over)
    }

    /// Whether there are no samples within the window.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// When its increase changes next without another sample.
    pub(super) fn next_change(&self, now: Time) -> Option<Time> {
        let full = self.since.map(|since| since.plus(self.over)).filter(|at| *at > now);
        let moves = self.pieces.front().map(|(at, _)| at.plus(self.over));
        [full, moves].into_iter().flatten().min()
    }

    /// Until when its average moves in one direction without another sample: until the window is full, and then until the
    /// next value begins to leave it. `None` if it stays as it is.
    pub(super) fn next_bend(&self, now: Time) -> Option<Time> {
        let full = self.since?.plus(self.over);
        let leaves = self.pieces.iter().skip(1).map(|(at, _)| at.plus(self.over)).find(|at| *at > now)?;
        Some(if full > now { full.min(leaves) } else { leaves })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Indicator;

    fn spec(average: bool) -> TrackSpec {
        TrackSpec { input: Indicator::Restarts.into(), over: Duration::from_secs(600), average }
    }

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    #[test]
    fn downtime_neither_fills_nor_empties_a_window() {
        for average in [false, true] {
            let mut before = track(average);
            for (second, value) in [(0, 5.0), (100, 7.0), (200, 8.0)] {
                before.observe(at(second), value, false, true);
            }
            let saved = before.saved(&spec(false)).expect("it has a value");
            let saved = serde_json::from_str(&serde_json::to_string(&saved).expect("JSON")).expect("the same");
            let mut after = track(average);
            after.restore(at(5_300), &saved, Duration::from_secs(5_000));
            assert_eq!(before.saved(&spec(false)).map(|it| it.pieces), after.saved(&spec(false)).map(|it| it.pieces));
            for second in [300, 650, 750, 900] {
                assert_eq!(before.increase(at(second)), after.increase(at(second + 5_000)), "{average} {second}");
                assert_eq!(before.is_covered(at(second)), after.is_covered(at(second + 5_000)));
                if average {
                    assert_eq!(before.average(at(second)), after.average(at(second + 5_000)), "{second}");
                }
            }
        }
    }

    #[test]
    fn restored_samples_are_not_in_the_future() {
        let mut before = track(false);
        before.observe(at(9_000), 5.0, false, true);
        before.observe(at(9_100), 7.0, false, true);
        let mut after = track(false);
        after.restore(at(100), &before.saved(&spec(false)).expect("a value"), Duration::ZERO);
        assert_eq!(after.increase(at(100)), 2.0);
        assert_eq!(after.increase(at(701)), 0.0);
    }

    fn track(average: bool) -> Track {
        Track::new(&spec(average))
    }

    #[test]
    fn an_increase_leaves_the_window_when_it_is_too_old() {
        let mut track = track(false);
        track.observe(at(0), 5.0, false, true);
        assert_eq!(track.increase(at(0)), 0.0, "the first value is a baseline");
        track.observe(at(100), 7.0, false, true);
        track.observe(at(200), 8.0, false, true);
        assert_eq!(track.increase(at(300)), 3.0);
        assert_eq!(track.next_change(at(600)), Some(at(700)));
        assert_eq!(track.increase(at(699)), 3.0);
        assert_eq!(track.increase(at(700)), 1.0);
        assert_eq!(track.increase(at(800)), 0.0);
    }

    #[test]
    fn a_first_value_counts_if_requested() {
        let mut track = track(false);
        track.observe(at(0), 5.0, true, true);
        assert_eq!(track.increase(at(1)), 5.0);
    }

    #[test]
    fn a_window_of_many_events_stays_small() {
        let mut track = track(false);
        for second in 0..100_000 {
            track.observe(at(second), second as f64, false, true);
        }
        assert!(track.pieces.len() <= MAX_PIECES as usize + 1, "{}", track.pieces.len());
        assert!((track.increase(at(99_999)) - 600.0).abs() <= 5.0);
    }

    #[test]
    fn an_average_is_weighted_by_time() {
        let mut track = track(true);
        track.observe(at(0), 1.0, false, true);
        track.observe(at(300), 0.0, false, true);
        assert_eq!(track.average(at(400)), Some(0.75));
        assert_eq!(track.average(at(900)), Some(0.0));
        assert_eq!(track.average(at(9_000)), Some(0.0));
    }

    #[test]
    fn an_average_moves_until_the_first_value_has_left_the_window() {
        let mut track = track(true);
        track.observe(at(0), 1.0, false, true);
        assert_eq!(track.next_bend(at(100)), None, "a single value is its own average");
        track.observe(at(300), 0.0, false, true);
        assert_eq!(track.next_bend(at(400)), Some(at(600)), "the window is full");
        assert_eq!(track.next_bend(at(600)), Some(at(900)), "the first value has left it");
        assert_eq!(track.next_bend(at(900)), None);
    }
}

//! Spending statistics of one agent: its rate over five minutes and about an hour, its baseline, tokens spent without
//! progress or while idle, and repeated errors.
//!
//! Each report is processed in constant time, and the statistics of an agent take a fixed 160 bytes. Thresholds belong to
//! the rules. Tokens here are those that count against budgets.
//!
//! Without further reports a rate only falls, and whether it is known does not change. Rules rely on that when they compute
//! the time of their next evaluation.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize, Serializer};

use super::Time;

/// The short window in minutes: long enough for one slow request, short enough to drop a burst soon.
const SHORT_MINUTES: i64 = 5;
/// The short window in seconds.
const SHORT: f64 = SHORT_MINUTES as f64 * 60.0;
/// Minutes kept: the short window reaches into one more minute than it is long.
const MINUTES_KEPT: usize = SHORT_MINUTES as usize + 1;
/// The time constant of the exponential decay of the long rate, in seconds: usage of an hour ago has a weight of 37 %.
const LONG: f64 = 3600.0;
/// The decayed observation time that a rate needs, in seconds: that of ten minutes.
const MIN_LONG_OBSERVED: f64 = 550.0;
/// Active minutes that a baseline needs.
const MIN_BASELINE_MINUTES: u16 = 30;
/// Active minutes that the baseline averages over: two hours of work.
const MAX_BASELINE_MINUTES: u16 = 120;
/// From this many active minutes on, a single minute is capped at [`BASELINE_CAP`] times the baseline, so that a runaway
/// agent does not raise its own baseline quickly.
const BASELINE_CAP_FROM: u16 = 10;
/// See [`BASELINE_CAP_FROM`].
const BASELINE_CAP: f32 = 3.0;
/// The expected interval of reports in milliseconds: a rate does not fall before it has passed without one.
const REPORT_INTERVAL_MILLIS: i64 = 60_000;
/// Tokens in the short window that a velocity needs: more than one long answer has.
const MIN_RECENT_TOKENS: f64 = 20_000.0;
/// How late usage may be reported, in seconds: usage reported this soon after work ended was used before.
const LATE_REPORT: f64 = 60.0;
/// Within how many seconds the same error counts as repeated: an hour.
const ERROR_WINDOW: f64 = 3600.0;
/// How many characters of an error are compared.
const MAX_ERROR_CHARS: usize = 300;
/// The maximum of a sum, so that it stays finite and readable when saved.
const MAX_AMOUNT: f64 = 1e30;

/// What is spent: the index in a pair of amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendKind {
    /// Tokens that count against budgets.
    Tokens,
    /// US dollars.
    Cost,
}

/// How fast an agent spends compared with its own baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Velocity {
    /// There is no baseline yet.
    Unknown,
    /// It spends too little for a comparison.
    BelowMinimum,
    /// The multiple of its baseline.
    Ratio(f64),
}

/// One report of usage.
#[derive(Clone, Copy, Debug)]
pub struct UsageReport {
    /// When it arrived.
    pub now: Time,
    /// When lookout started: the increase of a total that was last reported before then includes downtime.
    pub started_at: Time,
    /// Whether it was reported as a total, so that its increase was used since the last report; otherwise it was used now.
    pub is_total: bool,
    /// The increase in tokens.
    pub tokens: u64,
    /// The increase in US dollars.
    pub cost: f64,
    /// Since when the agent's status is one of not working; `None` while it is working.
    pub idle_since: Option<Time>,
}

/// The spending statistics of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spending {
    /// When usage was last reported.
    last_report: Time,
    /// Since when usage is observed without a gap; `None` before the first report.
    observed_since: Option<Time>,
    /// The newest minute in `per_minute`, counted from 1970.
    minute: i64,
    /// Usage in each of the last minutes, indexed by the minute modulo their number.
    per_minute: [[f32; 2]; MINUTES_KEPT],
    /// Usage with exponential decay as of `last_report`.
    #[serde(serialize_with = "pair_as_f32")]
    decayed: [f64; 2],
    /// Observed seconds with the same decay.
    #[serde(serialize_with = "as_f32")]
    observed_seconds: f64,
    /// Tokens per active minute.
    baseline: f32,
    /// How many active minutes went into the baseline, at most [`MAX_BASELINE_MINUTES`].
    baseline_minutes: u16,
    /// Whether it ever reported progress or a change of phase.
    reports_progress: bool,
    /// Tokens since its progress, phase or task last changed.
    since_progress: u64,
    /// Tokens since its status is one of not working.
    idle_tokens: u64,
    /// The digest of the last error.
    error: u32,
    /// How often in a row that error occurred.
    errors: u32,
    /// When it last occurred.
    error_at: Time,
}

/// Serializes a number with the precision of an `f32`, which is enough for a rate.
fn as_f32<S: Serializer>(number: &f64, out: S) -> Result<S::Ok, S::Error> {
    (*number as f32).serialize(out)
}

/// See [`as_f32`].
fn pair_as_f32<S: Serializer>(numbers: &[f64; 2], out: S) -> Result<S::Ok, S::Error> {
    numbers.map(|number| number as f32).serialize(out)
}

/// The factor by which a weight decays in `seconds`.
fn decay(seconds: f64) -> f64 {
    (-seconds / LONG).exp()
}

impl Spending {
    /// The statistics of an agent without usage; `reports_progress` is whether it has reported progress.
    pub fn new(reports_progress: bool) -> Self {
        Self { reports_progress, ..Self::default() }
    }

    /// Records one report of usage, including one without an increase.
    pub fn record(&mut self, usage: &UsageReport) {
        let UsageReport { now, is_total, .. } = *usage;
        let Some(since) = self.observed_since else {
            // The caller passes the first total as an increase of zero.
            (self.last_report, self.observed_since, self.minute) = (now, Some(now), minute_of(now));
            return self.add(usage, now);
        };
        if now < self.last_report {
            // The last report cannot be in the future.
            (self.last_report, self.observed_since) = (now, Some(since.min(now)));
        }
        let last = std::mem::replace(&mut self.last_report, now);
        let was_down = last < usage.started_at;
        let gap = now.seconds_since(last);
        let left = decay(gap);
        let watched = now.seconds_since(last.max(usage.started_at));
        self.observed_seconds = self.observed_seconds * left + LONG * (1.0 - decay(watched));
        self.decayed = self.decayed.map(|amount| amount * left);
        if was_down && gap > 60.0 {
            self.observed_since = Some(now);
        }
        if was_down && is_total {
            // The increase includes downtime, so no rate can be computed from it.
            return self.advance_to(minute_of(now));
        }
        self.add(usage, last);
    }

    /// Adds the increase of `usage`; that of a total is spread over the time since `last`.
    fn add(&mut self, usage: &UsageReport, last: Time) {
        let UsageReport { now, tokens, .. } = *usage;
        self.advance_to(minute_of(now));
        let amounts = [tokens as f64, usage.cost.clamp(0.0, MAX_AMOUNT)];
        let gap = now.seconds_since(last);
        let is_spread = usage.is_total && gap > 60.0;
        let weight = if is_spread { LONG * (1.0 - decay(gap)) / gap } else { 1.0 };
        for (faded, amount) in self.decayed.iter_mut().zip(amounts) {
            *faded = (*faded + amount * weight).min(MAX_AMOUNT);
        }
        for back in 0..MINUTES_KEPT as i64 {
            let minute = self.minute - back;
            let part = if is_spread {
                let (start, end) = (Time::from_millis(minute * 60_000), Time::from_millis((minute + 1) * 60_000));
                end.min(now).seconds_since(start.max(last)) / gap
            } else {
                f64::from(u8::from(back == 0))
            };
            if let Some(piece) = self.per_minute.get_mut(index_of(minute)) {
                for (sum, amount) in piece.iter_mut().zip(amounts) {
                    *sum = (*sum + (amount * part) as f32).min(MAX_AMOUNT as f32);
                }
            }
        }
        if self.reports_progress {
            self.since_progress = self.since_progress.saturating_add(tokens);
        }
        if usage.idle_since.is_some_and(|since| now.seconds_since(since) > LATE_REPORT) {
            self.idle_tokens = self.idle_tokens.saturating_add(tokens);
        }
    }

    /// Makes `minute` the newest; minutes that drop out go into the baseline.
    fn advance_to(&mut self, minute: i64) {
        if minute < self.minute {
            self.per_minute = Default::default();
            self.minute = minute;
        }
        for next in self.minute + 1..=minute.min(self.minute + MINUTES_KEPT as i64) {
            let Some(piece) = self.per_minute.get_mut(index_of(next)) else { continue };
            let [tokens, _] = std::mem::take(piece);
            if tokens > 0.0 {
                let is_capped = self.baseline_minutes >= BASELINE_CAP_FROM;
                let sample = if is_capped { tokens.min(BASELINE_CAP * self.baseline) } else { tokens };
                self.baseline_minutes = (self.baseline_minutes + 1).min(MAX_BASELINE_MINUTES);
                self.baseline += (sample - self.baseline) / f32::from(self.baseline_minutes);
            }
        }
        self.minute = minute;
    }

    /// Records that the progress, phase or task changed. `is_progress` is whether it was more than the task.
    pub fn record_progress(&mut self, is_progress: bool) {
        self.reports_progress |= is_progress;
        self.since_progress = 0;
    }

    /// Records that the agent is working again.
    pub fn record_work(&mut self) {
        self.idle_tokens = 0;
    }

    /// Records that the agent failed for `reason`; numbers and ids in the reason do not make it a different error. `is_new`
    /// says that this is another failure, rather than a possibly different reason for the last one.
    pub fn record_failure(&mut self, now: Time, reason: &str, is_new: bool) {
        let error = digest(reason);
        if !is_new && error == self.error && self.errors > 0 {
            return;
        }
        let again = error == self.error && self.same_errors(now).is_some();
        self.errors = if again { self.errors.saturating_add(1) } else { 1 };
        (self.error, self.error_at) = (error, now);
    }

    /// Records that the agent completed a task, which ends a series of errors.
    pub fn record_success(&mut self) {
        self.errors = 0;
    }

    /// The time as of which the rate at `now` is computed: that of the last report, or later after [`REPORT_INTERVAL_MILLIS`].
    fn as_of(&self, now: Time) -> Time {
        Time::from_millis(now.as_millis().saturating_sub(REPORT_INTERVAL_MILLIS)).max(self.last_report)
    }

    /// Usage within the short window at `now`; its oldest minute counts in proportion.
    fn recent_sum(&self, kind: SpendKind, now: Time) -> f64 {
        let minute = minute_of(now).max(self.minute);
        let gone = (now.as_millis() - minute * 60_000).clamp(0, 60_000) as f64 / 60_000.0;
        let pieces = (0..MINUTES_KEPT as i64).map(|back| {
            let piece =
                self.per_minute.get(index_of(self.minute - back)).map_or(0.0, |piece| f64::from(piece[kind as usize]));
            match minute - (self.minute - back) {
                ..SHORT_MINUTES => piece,
                SHORT_MINUTES => piece * (1.0 - gone),
                _ => 0.0,
            }
        });
        pieces.fold(0.0, |sum, piece| sum + piece)
    }

    /// Whether the whole short window had been observed at the last report.
    fn is_covered(&self) -> bool {
        self.observed_since.is_some_and(|since| self.last_report.seconds_since(since) >= SHORT)
    }

    /// The rate per second: the lower of the rates over five minutes and over about an hour, so that neither a short burst
    /// nor earlier usage exaggerates it. `None` until usage was observed for ten minutes.
    pub fn rate(&self, kind: SpendKind, now: Time) -> Option<f64> {
        if !self.is_covered() || self.observed_seconds < MIN_LONG_OBSERVED {
            return None;
        }
        let now = self.as_of(now);
        let left = decay(now.seconds_since(self.last_report));
        let long = self.decayed[kind as usize] * left / (self.observed_seconds * left + LONG * (1.0 - left));
        Some(long.min(self.recent_sum(kind, now) / SHORT))
    }

    /// Tokens per minute over the last five minutes, compared with the baseline.
    pub fn velocity(&self, now: Time) -> Velocity {
        if !self.is_covered() || self.baseline_minutes < MIN_BASELINE_MINUTES {
            return Velocity::Unknown;
        }
        let recent = self.recent_sum(SpendKind::Tokens, self.as_of(now));
        if recent < MIN_RECENT_TOKENS {
            return Velocity::BelowMinimum;
        }
        Velocity::Ratio(recent / SHORT_MINUTES as f64 / f64::from(self.baseline))
    }

    /// Tokens since its progress, phase or task last changed; `None` if it never reported progress.
    pub fn since_progress(&self) -> Option<u64> {
        self.reports_progress.then_some(self.since_progress)
    }

    /// Tokens since its status is one of not working; `None` before any usage.
    pub fn idle_tokens(&self) -> Option<u64> {
        self.observed_since.map(|_| self.idle_tokens)
    }

    /// A number that changes with anything that rates depend on.
    pub fn rate_basis(&self) -> u64 {
        let [tokens, cost] = self.decayed.map(f64::to_bits);
        tokens.rotate_left(7)
            ^ cost.rotate_left(31)
            ^ self.last_report.as_millis().unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// A number that changes with anything that [`Self::same_errors`] depends on.
    pub fn error_basis(&self) -> u64 {
        u64::from(self.errors).rotate_left(48) ^ self.error_at.as_millis().unsigned_abs()
    }

    /// How often in a row it failed with the same error, each within an hour of the one before; `None` if it did not fail
    /// within the last hour.
    pub fn same_errors(&self, now: Time) -> Option<u32> {
        (self.errors > 0 && now.seconds_since(self.error_at) < ERROR_WINDOW).then_some(self.errors)
    }
}

fn minute_of(now: Time) -> i64 {
    now.as_millis().div_euclid(60_000)
}

fn index_of(minute: i64) -> usize {
    minute.rem_euclid(MINUTES_KEPT as i64) as usize
}

/// A digest of an error that is stable over restarts. All words that contain a digit are treated as equal.
fn digest(text: &str) -> u32 {
    let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    let start = text.char_indices().nth(MAX_ERROR_CHARS).map_or(text, |(end, _)| text.get(..end).unwrap_or(text));
    for word in start.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if word.contains(|letter: char| letter.is_ascii_digit()) {
            0_u8.hash(&mut hasher);
        } else {
            word.hash(&mut hasher);
        }
    }
    hasher.finish() as u32
}

#[cfg(test)]
mod tests;

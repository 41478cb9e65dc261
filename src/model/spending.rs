//! How an agent spends: its pace now and over the last hour, its own norm, and what it spent for nothing.
//!
//! Owns the arithmetic: everything is kept as reports come in, in constant time and in a fixed 160 bytes an
//! agent, and read as of a moment. Refuses thresholds: what is too much is the rules' business.
//!
//! Tokens here are those that count towards budgets. With no report, every pace only falls as time goes by,
//! and whether a pace is known does not change, so that a deadline can be computed for what time alone changes.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize, Serializer};

use super::Time;

/// The short window in minutes: long enough for one slow request, short enough that a burst is soon out of it.
const SHORT_MINUTES: i64 = 5;
/// The short window in seconds.
const SHORT: f64 = SHORT_MINUTES as f64 * 60.0;
/// Minutes kept: the short window reaches into one more.
const PIECES: usize = SHORT_MINUTES as usize + 1;
/// The time constant of the long pace in seconds: what was spent an hour ago weighs 37 %.
const LONG: f64 = 3600.0;
/// How much of the long window must have been seen: ten minutes' worth, fading included.
const LONG_SEEN: f64 = 550.0;
/// Minutes with spending that make a norm.
const NORM_MINUTES: u16 = 30;
/// So many active minutes weigh in a norm: two hours of work.
const NORM_WEIGHT: u16 = 120;
/// From so many on, one minute counts for at most [`NORM_CAP`] norms, so that a runaway does not become the norm.
const NORM_SETTLED: u16 = 10;
/// See [`NORM_SETTLED`].
const NORM_CAP: f32 = 3.0;
/// A silence of so many milliseconds is the rhythm of reports: no pace falls before.
const RHYTHM: i64 = 60_000;
/// Fewer tokens in the short window are too few to speak of speed: one long answer has as many.
const FEW_TOKENS: f64 = 20_000.0;
/// Usage is often reported late: so many seconds after work ended, what comes in was used before.
const LATE: f64 = 60.0;
/// How many seconds the same error counts as coming again: an hour.
const ERROR_LASTS: f64 = 3600.0;
/// Longest part of an error's text that is told apart, in characters.
const ERROR_TEXT: usize = 300;
/// The most that is kept of one amount: sums of it stay finite, and what is saved stays readable.
const MOST: f64 = 1e30;

/// What is spent; a place in each pair of amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendKind {
    /// Tokens that count towards budgets.
    Tokens,
    /// US dollars.
    Cost,
}

/// How fast an agent spends against its own norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Velocity {
    /// It has not been watched for long enough.
    Unknown,
    /// It spends so little that no norm matters.
    Slow,
    /// So many times its norm.
    Ratio(f64),
}

/// One report of usage.
#[derive(Clone, Copy, Debug)]
pub struct UsageReport {
    /// When it came in.
    pub now: Time,
    /// When the sidecar started: a total that was last heard before it covers our downtime.
    pub started_at: Time,
    /// Whether it is a total, so that what it adds was used since the one before; else it is used now.
    pub is_total: bool,
    /// Tokens that it adds.
    pub tokens: u64,
    /// US dollars that it adds.
    pub cost: f64,
    /// Since when the agent says that it does not work; `None` while it works.
    pub idle_since: Option<Time>,
}

/// The spending of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spending {
    /// When usage was last reported.
    at: Time,
    /// Since when it is seen without a hole; `None` before the first report of usage.
    since: Option<Time>,
    /// The minute, counted from 1970, of the newest piece.
    minute: i64,
    /// What each of the last minutes spent, by minute modulo their number.
    pieces: [[f32; 2]; PIECES],
    /// What was spent, fading with [`LONG`], up to `at`.
    #[serde(serialize_with = "short_pair")]
    faded: [f64; 2],
    /// Seconds that were seen, fading alike.
    #[serde(serialize_with = "short")]
    seen: f64,
    /// Tokens in an active minute.
    norm: f32,
    /// How many minutes the norm is made of, at most [`NORM_WEIGHT`].
    norm_minutes: u16,
    /// Whether it has ever reported progress or gone from one phase to another.
    progresses: bool,
    /// Tokens since its progress, phase or task last changed.
    since_progress: u64,
    /// Tokens since it said that it does not work.
    idle: u64,
    /// A digest of the last error's text.
    error: u32,
    /// How often in a row that was the error.
    errors: u32,
    /// When it last was.
    error_at: Time,
}

/// Written with seven digits, which is all that a pace deserves and reads back the same.
fn short<S: Serializer>(number: &f64, out: S) -> Result<S::Ok, S::Error> {
    (*number as f32).serialize(out)
}

/// See [`short`].
fn short_pair<S: Serializer>(numbers: &[f64; 2], out: S) -> Result<S::Ok, S::Error> {
    numbers.map(|number| number as f32).serialize(out)
}

/// What is left of a weight after `seconds`.
fn fading(seconds: f64) -> f64 {
    (-seconds / LONG).exp()
}

impl Spending {
    /// Of an agent that has not spent yet; `progresses` says whether it has reported progress.
    pub fn new(progresses: bool) -> Self {
        Self { progresses, ..Self::default() }
    }

    /// Takes in one report of usage, also one that adds nothing.
    pub fn book(&mut self, usage: &UsageReport) {
        let UsageReport { now, is_total, .. } = *usage;
        let Some(since) = self.since else {
            // The first total is a baseline and comes here as nothing.
            (self.at, self.since, self.minute) = (now, Some(now), minute_of(now));
            return self.spend(usage, now);
        };
        if now < self.at {
            // The clock was set back: nothing that was seen lies ahead.
            (self.at, self.since) = (now, Some(since.min(now)));
        }
        let last = std::mem::replace(&mut self.at, now);
        let was_down = last < usage.started_at;
        let gap = now.seconds_since(last);
        let left = fading(gap);
        let watched = now.seconds_since(last.max(usage.started_at));
        self.seen = self.seen * left + LONG * (1.0 - fading(watched));
        self.faded = self.faded.map(|amount| amount * left);
        if was_down && gap > 60.0 {
            self.since = Some(now);
        }
        if was_down && is_total {
            // Our downtime is neither spending nor progress.
            return self.turn(minute_of(now));
        }
        self.spend(usage, last);
    }

    /// Books what `usage` adds; a total's step was used since `last`.
    fn spend(&mut self, usage: &UsageReport, last: Time) {
        let UsageReport { now, tokens, .. } = *usage;
        self.turn(minute_of(now));
        let amounts = [tokens as f64, usage.cost.clamp(0.0, MOST)];
        let gap = now.seconds_since(last);
        let is_spread = usage.is_total && gap > 60.0;
        let weight = if is_spread { LONG * (1.0 - fading(gap)) / gap } else { 1.0 };
        for (faded, amount) in self.faded.iter_mut().zip(amounts) {
            *faded = (*faded + amount * weight).min(MOST);
        }
        for back in 0..PIECES as i64 {
            let minute = self.minute - back;
            let part = if is_spread {
                let (start, end) = (Time::from_millis(minute * 60_000), Time::from_millis((minute + 1) * 60_000));
                end.min(now).seconds_since(start.max(last)) / gap
            } else {
                f64::from(u8::from(back == 0))
            };
            if let Some(piece) = self.pieces.get_mut(place_of(minute)) {
                for (sum, amount) in piece.iter_mut().zip(amounts) {
                    *sum = (*sum + (amount * part) as f32).min(MOST as f32);
                }
            }
        }
        if self.progresses {
            self.since_progress = self.since_progress.saturating_add(tokens);
        }
        if usage.idle_since.is_some_and(|since| now.seconds_since(since) > LATE) {
            self.idle = self.idle.saturating_add(tokens);
        }
    }

    /// Makes `minute` the newest; the norm learns from those that leave.
    fn turn(&mut self, minute: i64) {
        if minute < self.minute {
            self.pieces = Default::default();
            self.minute = minute;
        }
        for next in self.minute + 1..=minute.min(self.minute + PIECES as i64) {
            let Some(piece) = self.pieces.get_mut(place_of(next)) else { continue };
            let [tokens, _] = std::mem::take(piece);
            if tokens > 0.0 {
                let is_settled = self.norm_minutes >= NORM_SETTLED;
                let sample = if is_settled { tokens.min(NORM_CAP * self.norm) } else { tokens };
                self.norm_minutes = (self.norm_minutes + 1).min(NORM_WEIGHT);
                self.norm += (sample - self.norm) / f32::from(self.norm_minutes);
            }
        }
        self.minute = minute;
    }

    /// Notes that the progress, phase or task changed. `progresses` says that it was more than the task.
    pub fn moved(&mut self, progresses: bool) {
        self.progresses |= progresses;
        self.since_progress = 0;
    }

    /// Notes that the agent works again.
    pub fn works(&mut self) {
        self.idle = 0;
    }

    /// Notes that the agent failed for `reason`. Numbers and ids in it do not make it another error. `is_new`
    /// says that it is another failure, else the same one is told with a reason that may be another.
    pub fn failed(&mut self, now: Time, reason: &str, is_new: bool) {
        let error = digest(reason);
        if !is_new && error == self.error && self.errors > 0 {
            return;
        }
        let again = error == self.error && self.same_errors(now).is_some();
        self.errors = if again { self.errors.saturating_add(1) } else { 1 };
        (self.error, self.error_at) = (error, now);
    }

    /// Notes that the agent ended a task well, so that no error comes again.
    pub fn succeeded(&mut self) {
        self.errors = 0;
    }

    /// The moment as of which a pace at `now` is: the last report's, and later only after [`RHYTHM`].
    fn as_of(&self, now: Time) -> Time {
        Time::from_millis(now.as_millis().saturating_sub(RHYTHM)).max(self.at)
    }

    /// What the short window holds at `now`: a part of its oldest minute counts, as if spent evenly.
    fn recent(&self, what: SpendKind, now: Time) -> f64 {
        let minute = minute_of(now).max(self.minute);
        let gone = (now.as_millis() - minute * 60_000).clamp(0, 60_000) as f64 / 60_000.0;
        let pieces = (0..PIECES as i64).map(|back| {
            let piece =
                self.pieces.get(place_of(self.minute - back)).map_or(0.0, |piece| f64::from(piece[what as usize]));
            match minute - (self.minute - back) {
                ..SHORT_MINUTES => piece,
                SHORT_MINUTES => piece * (1.0 - gone),
                _ => 0.0,
            }
        });
        pieces.fold(0.0, |sum, piece| sum + piece)
    }

    /// Whether the short window was seen whole when usage was last reported.
    fn is_covered(&self) -> bool {
        self.since.is_some_and(|since| self.at.seconds_since(since) >= SHORT)
    }

    /// At least how much it spends in a second, by the last five minutes and by about the last hour, so that
    /// neither a burst nor an old habit makes it more; `None` until it was seen for ten minutes.
    pub fn pace(&self, what: SpendKind, now: Time) -> Option<f64> {
        if !self.is_covered() || self.seen < LONG_SEEN {
            return None;
        }
        let now = self.as_of(now);
        let left = fading(now.seconds_since(self.at));
        let long = self.faded[what as usize] * left / (self.seen * left + LONG * (1.0 - left));
        Some(long.min(self.recent(what, now) / SHORT))
    }

    /// Its tokens per minute in the last five minutes, in multiples of what an active minute of its own spends.
    pub fn velocity(&self, now: Time) -> Velocity {
        if !self.is_covered() || self.norm_minutes < NORM_MINUTES {
            return Velocity::Unknown;
        }
        let recent = self.recent(SpendKind::Tokens, self.as_of(now));
        if recent < FEW_TOKENS {
            return Velocity::Slow;
        }
        Velocity::Ratio(recent / SHORT_MINUTES as f64 / f64::from(self.norm))
    }

    /// Tokens since its progress, phase or task last changed; `None` for one that never reported progress.
    pub fn since_progress(&self) -> Option<u64> {
        self.progresses.then_some(self.since_progress)
    }

    /// Tokens since it said that it does not work; `None` before any usage.
    pub fn idle(&self) -> Option<u64> {
        self.since.map(|_| self.idle)
    }

    /// A number that differs when anything does from which paces follow: whatever is booked moves the time or the sums.
    pub fn pace_basis(&self) -> u64 {
        let [tokens, cost] = self.faded.map(f64::to_bits);
        tokens.rotate_left(7)
            ^ cost.rotate_left(31)
            ^ self.at.as_millis().unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The same for errors that come again.
    pub fn error_basis(&self) -> u64 {
        u64::from(self.errors).rotate_left(48) ^ self.error_at.as_millis().unsigned_abs()
    }

    /// How often in a row, each within an hour of the one before, it failed with the same error; `None` when
    /// it did not, or the last time is an hour ago.
    pub fn same_errors(&self, now: Time) -> Option<u32> {
        (self.errors > 0 && now.seconds_since(self.error_at) < ERROR_LASTS).then_some(self.errors)
    }
}

fn minute_of(now: Time) -> i64 {
    now.as_millis().div_euclid(60_000)
}

fn place_of(minute: i64) -> usize {
    minute.rem_euclid(PIECES as i64) as usize
}

/// A digest of an error's text that means the same after a restart; words with a digit in them are all one.
fn digest(text: &str) -> u32 {
    let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    let start = text.char_indices().nth(ERROR_TEXT).map_or(text, |(end, _)| text.get(..end).unwrap_or(text));
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

//! Tokens and cost of a stream: totals where it says them, and until then at least what its messages say.
//!
//! A total that is not read yet leaves the sum too low, and the next one sets it right.

use crate::decode::read::MAX_COUNT;

/// Tokens by type, as in [`crate::model::TokenType::ALL`].
pub(super) type Tokens = [u64; 5];

/// Adds up what one process after another says.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// What processes used that are over.
    before: Tokens,
    cost_before: f64,
    /// The last total of the process that runs.
    last: Tokens,
    cost_last: f64,
    /// What its messages said since.
    live: Tokens,
}

impl Meter {
    /// Notes what a message used beyond what was noted of it before.
    pub(super) fn add(&mut self, used: &Tokens) {
        plus(&mut self.live, used);
    }

    /// Notes what the process used since its start. `is_first` says that this is its first total.
    ///
    /// A total lower than the one before and the messages since then together is that of another process, since each
    /// message counts in it.
    pub(super) fn total(&mut self, total: &Tokens, cost: Option<f64>, is_first: bool) {
        // A run that failed before its first answer says nothing of those before it.
        if sum(total) == 0 {
            return;
        }
        let mut least = self.last;
        plus(&mut least, &self.live);
        if is_first || sum(total) < sum(&least) {
            plus(&mut self.before, &self.last);
            self.cost_before += self.cost_last;
            self.cost_last = 0.0;
            // Messages of a process that ended without a total.
            for (place, live) in self.live.iter().enumerate() {
                let beyond = live.saturating_sub(total.get(place).copied().unwrap_or(0));
                if let Some(before) = self.before.get_mut(place) {
                    *before = before.saturating_add(beyond);
                }
            }
        }
        self.last = *total;
        self.cost_last = cost.unwrap_or(self.cost_last);
        self.live = Tokens::default();
    }

    /// Notes that another process begins.
    pub(super) fn begin_anew(&mut self) {
        plus(&mut self.before, &self.last);
        plus(&mut self.before, &self.live);
        self.cost_before += self.cost_last;
        (self.last, self.live, self.cost_last) = (Tokens::default(), Tokens::default(), 0.0);
    }

    /// Tokens used so far.
    pub(super) fn tokens(&self) -> Tokens {
        let mut all = self.before;
        plus(&mut all, &self.last);
        plus(&mut all, &self.live);
        all.map(|count| count.min(MAX_COUNT))
    }

    /// US dollars used so far.
    pub(super) fn cost(&self) -> f64 {
        self.cost_before + self.cost_last
    }
}

fn plus(to: &mut Tokens, more: &Tokens) {
    for (to, more) in to.iter_mut().zip(more) {
        *to = to.saturating_add(*more);
    }
}

fn sum(tokens: &Tokens) -> u64 {
    tokens.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(input: u64, output: u64) -> Tokens {
        [input, output, 0, 0, 0]
    }

    #[test]
    fn a_total_replaces_what_messages_said_and_never_adds_to_it() {
        let mut meter = Meter::default();
        meter.add(&of(100, 1));
        assert_eq!(meter.tokens(), of(100, 1));
        meter.total(&of(100, 57), Some(0.5), false);
        assert_eq!((meter.tokens(), meter.cost()), (of(100, 57), 0.5));
        // The next turn of the same process: its total contains the first.
        meter.add(&of(100, 1));
        meter.total(&of(200, 114), Some(1.0), false);
        assert_eq!((meter.tokens(), meter.cost()), (of(200, 114), 1.0));
    }

    #[test]
    fn a_total_that_is_too_low_is_that_of_another_process() {
        let mut meter = Meter::default();
        for round in 1..=3 {
            // Each process says the very same.
            meter.add(&of(100, 1));
            meter.total(&of(100, 57), Some(0.5), false);
            assert_eq!((meter.tokens(), meter.cost()), (of(100 * round, 57 * round), 0.5 * round as f64));
        }
        // One dies without a total, the next one is well.
        meter.add(&of(100, 1));
        meter.add(&of(100, 1));
        meter.total(&of(100, 57), Some(0.5), false);
        assert_eq!(meter.tokens(), of(500, 228));
    }

    #[test]
    fn a_skipped_total_is_made_good_by_the_next_one() {
        let mut meter = Meter::default();
        meter.add(&of(100, 1));
        // The result of the first turn and the messages of the second were not read.
        meter.total(&of(200, 114), Some(1.0), false);
        assert_eq!((meter.tokens(), meter.cost()), (of(200, 114), 1.0));
        meter.begin_anew();
        meter.total(&of(10, 10), None, true);
        assert_eq!((meter.tokens(), meter.cost()), (of(210, 124), 1.0));
    }

    #[test]
    fn a_total_of_nothing_is_no_other_process() {
        let mut meter = Meter::default();
        meter.total(&of(100, 57), Some(0.5), false);
        meter.total(&of(0, 0), Some(0.0), false);
        meter.total(&of(200, 114), Some(1.0), false);
        assert_eq!((meter.tokens(), meter.cost()), (of(200, 114), 1.0));
    }

    #[test]
    fn nothing_goes_over() {
        let mut meter = Meter::default();
        meter.add(&of(u64::MAX, 500));
        meter.add(&of(u64::MAX, 0));
        assert_eq!(meter.tokens(), of(MAX_COUNT, 500));
    }
}

//! Tokens and cost of a stream: the totals that it prints, and until then the sum of its messages, which is at most as
//! much. A skipped total is made up for by the next one.

use crate::decode::read::MAX_COUNT;

/// Tokens by type, as in [`crate::model::TokenType::ALL`].
pub(super) type Tokens = [u64; 5];

/// The usage of all processes of the stream.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The usage of earlier processes.
    before: Tokens,
    cost_before: f64,
    /// The last total of the current process.
    last: Tokens,
    cost_last: f64,
    /// The usage of its messages since.
    live: Tokens,
}

impl Meter {
    /// Adds the usage of a message that was not added yet.
    pub(super) fn add(&mut self, used: &Tokens) {
        plus(&mut self.live, used);
    }

    /// Sets the total of the process since its start. `is_first`: this is the process's first total.
    ///
    /// A total lower than the last one plus the messages since belongs to a new process, since totals include messages.
    pub(super) fn total(&mut self, total: &Tokens, cost: Option<f64>, is_first: bool) {
        // A run that failed before its first answer has a total of 0, even in a longer process.
        if sum(total) == 0 {
            if let Some(cost) = cost.filter(|cost| *cost > 0.0) {
                self.cost_alone(cost, is_first);
            }
            return;
        }
        let mut least = self.last;
        plus(&mut least, &self.live);
        if is_first || sum(total) < sum(&least) {
            plus(&mut self.before, &self.last);
            self.cost_before += self.cost_last;
            self.cost_last = 0.0;
            // What exceeds the total was used by a process that ended without one.
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

    /// Sets the cost of the process since its start, given without tokens: those of its messages still count.
    fn cost_alone(&mut self, cost: f64, is_first: bool) {
        if is_first || cost < self.cost_last {
            plus(&mut self.before, &self.last);
            self.last = Tokens::default();
            self.cost_before += self.cost_last;
        }
        self.cost_last = cost;
    }

    /// Starts a new process.
    pub(super) fn start_process(&mut self) {
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
    fn a_total_replaces_the_sum_of_messages() {
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
    fn a_lower_total_belongs_to_a_new_process() {
        let mut meter = Meter::default();
        for round in 1..=3 {
            // Each process prints the same usage.
            meter.add(&of(100, 1));
            meter.total(&of(100, 57), Some(0.5), false);
            assert_eq!((meter.tokens(), meter.cost()), (of(100 * round, 57 * round), 0.5 * round as f64));
        }
        // One process ends without a total, the next one prints its total.
        meter.add(&of(100, 1));
        meter.add(&of(100, 1));
        meter.total(&of(100, 57), Some(0.5), false);
        assert_eq!(meter.tokens(), of(500, 228));
    }

    #[test]
    fn the_next_total_makes_up_for_a_skipped_one() {
        let mut meter = Meter::default();
        meter.add(&of(100, 1));
        // The result of the first turn and the messages of the second were not read.
        meter.total(&of(200, 114), Some(1.0), false);
        assert_eq!((meter.tokens(), meter.cost()), (of(200, 114), 1.0));
        meter.start_process();
        meter.total(&of(10, 10), None, true);
        assert_eq!((meter.tokens(), meter.cost()), (of(210, 124), 1.0));
    }

    #[test]
    fn a_total_of_zero_starts_no_process() {
        let mut meter = Meter::default();
        meter.total(&of(100, 57), Some(0.5), false);
        meter.total(&of(0, 0), Some(0.0), false);
        meter.total(&of(200, 114), Some(1.0), false);
        assert_eq!((meter.tokens(), meter.cost()), (of(200, 114), 1.0));
    }

    #[test]
    fn a_cost_without_tokens_counts() {
        let mut meter = Meter::default();
        meter.add(&of(100, 1));
        meter.total(&Tokens::default(), Some(0.5), true);
        assert_eq!((meter.tokens(), meter.cost()), (of(100, 1), 0.5));
        // The same process, another one, and one with tokens again.
        meter.total(&Tokens::default(), Some(0.75), false);
        meter.total(&Tokens::default(), Some(0.25), false);
        assert_eq!(meter.cost(), 1.0);
        meter.total(&of(200, 114), Some(0.5), false);
        assert_eq!((meter.tokens(), meter.cost()), (of(200, 114), 1.25));
    }

    #[test]
    fn sums_saturate() {
        let mut meter = Meter::default();
        meter.add(&of(u64::MAX, 500));
        meter.add(&of(u64::MAX, 0));
        assert_eq!(meter.tokens(), of(MAX_COUNT, 500));
    }
}

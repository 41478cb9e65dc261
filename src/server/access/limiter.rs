//! The limit on failed logins.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::Time;

/// Failed logins of an address within [`WINDOW`] after which others are refused.
const MAX_FAILURES: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 4096;

/// Failed logins by address. An IPv6 address stands for its /64, which usually belongs to one machine.
#[derive(Debug, Default)]
pub(super) struct LoginLimiter(Mutex<HashMap<IpAddr, Vec<Time>>>);

impl LoginLimiter {
    /// Counts a login of `address` as failed until [`LoginLimiter::succeeded`]: otherwise many at once would pass. The error is
    /// how long to wait.
    pub(super) fn begin(&self, now: Time, address: IpAddr) -> Result<(), Duration> {
        let mut failures = self.failures();
        let key = network(address);
        if !failures.contains_key(&key) && failures.len() >= MAX_ADDRESSES {
            failures.retain(|_, times| times.last().is_some_and(|last| now.since(*last) < WINDOW));
            if failures.len() >= MAX_ADDRESSES
                && let Some(oldest) =
                    failures.iter().min_by_key(|(_, times)| times.last().copied()).map(|(key, _)| *key)
            {
                failures.remove(&oldest);
            }
        }
        let times = failures.entry(key).or_default();
        times.retain(|time| now.since(*time) < WINDOW);
        if times.len() >= MAX_FAILURES {
            let oldest = times.first().copied().unwrap_or(now);
            return Err(oldest.plus(WINDOW).since(now));
        }
        times.push(now);
        Ok(())
    }

    /// The last login that `address` began did not fail.
    pub(super) fn succeeded(&self, address: IpAddr) {
        let mut failures = self.failures();
        let key = network(address);
        if let Some(times) = failures.get_mut(&key) {
            times.pop();
            if times.is_empty() {
                failures.remove(&key);
            }
        }
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<IpAddr, Vec<Time>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> 64))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn ten_failures_a_minute_are_allowed() {
        let (limiter, clock) = (LoginLimiter::default(), Clock::at(Time::from_millis(1_000_000)));
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().expect("an address"));
        for _ in 0..MAX_FAILURES {
            assert_eq!(limiter.begin(clock.now(), one), Ok(()));
            clock.advance(Duration::from_secs(2));
        }
        assert_eq!(limiter.begin(clock.now(), one), Err(Duration::from_secs(40)));
        assert_eq!(
            limiter.begin(clock.now(), "::ffff:10.0.0.1".parse().expect("an address")),
            Err(Duration::from_secs(40))
        );
        assert_eq!(limiter.begin(clock.now(), other), Ok(()), "another address is not affected");
        clock.advance(Duration::from_secs(40));
        assert_eq!(limiter.begin(clock.now(), one), Ok(()), "the first failure is a minute old");
        assert_eq!(limiter.begin(clock.now(), one), Err(Duration::from_secs(2)));
        // Success does not count, and does not wipe out the failures before it.
        clock.advance(Duration::from_secs(2));
        for _ in 0..100 {
            assert_eq!(limiter.begin(clock.now(), one), Ok(()));
            limiter.succeeded(one);
        }
        clock.advance(WINDOW);
        assert_eq!(limiter.begin(clock.now(), one), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let limiter = LoginLimiter::default();
        let now = Time::from_millis(1);
        let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, last, 0, 0, last]);
        for last in 0..10 {
            assert_eq!(limiter.begin(now, address(last)), Ok(()));
        }
        assert!(limiter.begin(now, address(99)).is_err());
        assert_eq!(limiter.begin(now, IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])), Ok(()));
    }

    #[test]
    fn a_flood_from_many_addresses_takes_bounded_memory() {
        let limiter = LoginLimiter::default();
        for number in 0..20_000_u32 {
            let now = Time::from_millis(i64::from(number));
            assert_eq!(limiter.begin(now, IpAddr::from(number.to_be_bytes())), Ok(()));
        }
        assert!(limiter.failures().len() <= MAX_ADDRESSES);
    }
}

//! A shared pool of a scarce resource, such as memory for bodies. When it is exhausted, the holder that has gone longest
//! without progress is asked to release its share. While there is capacity, slow holders are left alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Minimum interval at which a waiter checks again.
const RECHECK: Duration = Duration::from_millis(50);

/// A pool of units.
#[derive(Debug)]
pub(super) struct SharedPool {
    free: Arc<Semaphore>,
    units: usize,
    /// How long a holder may keep its share without progress while others wait.
    hold: Duration,
    /// How long a request waits for units.
    max_wait: Duration,
    holders: Mutex<PoolHolders>,
}

#[derive(Debug, Default)]
struct PoolHolders {
    next: u64,
    /// Units that all waiters need together.
    wanted: usize,
    all: Vec<PoolHolder>,
}

#[derive(Debug)]
struct PoolHolder {
    id: u64,
    /// When it began or last made progress.
    since: Instant,
    units: usize,
    give_way: CancellationToken,
}

/// No units are available, and no holder can release enough in time.
#[derive(Debug)]
pub(super) struct PoolExhausted;

impl SharedPool {
    pub(super) fn new(units: usize, hold: Duration, max_wait: Duration) -> Arc<Self> {
        let units = units.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { free: Arc::new(Semaphore::new(units)), units, hold, max_wait, holders: Mutex::default() })
    }

    /// An empty share, held since `since`. Its holder must release it when `give_way` is cancelled.
    pub(super) fn share(self: &Arc<Self>, since: Instant, give_way: CancellationToken) -> PoolShare {
        let mut holders = self.lock();
        let id = holders.next;
        holders.next += 1;
        holders.all.push(PoolHolder { id, since, units: 0, give_way });
        PoolShare { pool: Arc::clone(self), id, held: None }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    fn lock(&self) -> MutexGuard<'_, PoolHolders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks holders to release their shares, oldest first, until all waiters can be served. Returns when to check again at the
    /// latest, or `None` when all of them together would not suffice for the `units` that holder `id` needs.
    fn reclaim(&self, id: u64, units: usize, now: Instant) -> Option<Instant> {
        let mut holders = self.lock();
        holders.all.sort_by_key(|holder| holder.since);
        let others = || holders.all.iter().filter(|holder| holder.id != id);
        let given: usize = others().filter(|holder| holder.give_way.is_cancelled()).map(|holder| holder.units).sum();
        let mut coming = self.free.available_permits() + given;
        let mut needed = Vec::new();
        for holder in others().filter(|holder| holder.units > 0 && !holder.give_way.is_cancelled()) {
            if coming >= holders.wanted.max(units) {
                break;
            }
            coming += holder.units;
            needed.push(holder);
        }
        if coming < units {
            return None;
        }
        let is_due = |holder: &&&PoolHolder| holder.since + self.hold <= now;
        needed.iter().take_while(is_due).for_each(|holder| holder.give_way.cancel());
        let next = needed.iter().find(|holder| !is_due(holder)).map(|holder| holder.since + self.hold);
        // Other holders may have come or gone by then.
        let later = now + self.hold.max(RECHECK);
        Some(next.map_or(later, |next| next.min(later)))
    }
}

/// The share of one holder, released on drop.
#[derive(Debug)]
pub(super) struct PoolShare {
    pool: Arc<SharedPool>,
    id: u64,
    held: Option<OwnedSemaphorePermit>,
}

impl PoolShare {
    /// Number of held units.
    pub(super) fn units(&self) -> usize {
        self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Acquires `more` units, at most up to the size of the pool.
    pub(super) async fn grow(&mut self, more: usize) -> Result<(), PoolExhausted> {
        let more = more.min(self.pool.units.saturating_sub(self.units()));
        let count = u32::try_from(more).map_err(|_| PoolExhausted)?;
        if let Ok(taken) = Arc::clone(&self.pool.free).try_acquire_many_owned(count) {
            self.add(taken);
            return Ok(());
        }
        let deadline = Instant::now() + self.pool.max_wait;
        let _waiting = PoolWaiter::new(&self.pool, more);
        loop {
            let now = Instant::now();
            let again = self.pool.reclaim(self.id, more, now).filter(|_| now < deadline).ok_or(PoolExhausted)?;
            let taking = Arc::clone(&self.pool.free).acquire_many_owned(count);
            if let Ok(Ok(taken)) = timeout_at(again.min(deadline), taking).await {
                self.add(taken);
                return Ok(());
            }
        }
    }

    /// Records progress of the holder.
    pub(super) fn progressed(&self) {
        if let Some(holder) = self.pool.lock().all.iter_mut().find(|holder| holder.id == self.id) {
            holder.since = Instant::now();
        }
    }

    /// Exempts the share from being reclaimed, since its holder can no longer give way.
    pub(super) fn exempt(&self) {
        self.pool.lock().all.retain(|holder| holder.id != self.id);
    }

    fn add(&mut self, taken: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(taken),
            none => *none = Some(taken),
        }
        let units = self.units();
        if let Some(holder) = self.pool.lock().all.iter_mut().find(|holder| holder.id == self.id) {
            holder.units = units;
        }
    }
}

/// Guard that counts the units of a waiter.
struct PoolWaiter(Arc<SharedPool>, usize);

impl PoolWaiter {
    fn new(pool: &Arc<SharedPool>, units: usize) -> Self {
        pool.lock().wanted += units;
        Self(Arc::clone(pool), units)
    }
}

impl Drop for PoolWaiter {
    fn drop(&mut self) {
        self.0.lock().wanted -= self.1;
    }
}

impl Drop for PoolShare {
    fn drop(&mut self) {
        self.exempt();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(600);

    /// A share of `units` since `since`.
    async fn taken(pool: &Arc<SharedPool>, units: usize, since: Instant) -> (PoolShare, CancellationToken) {
        let give_way = CancellationToken::new();
        let mut share = pool.share(since, give_way.clone());
        share.grow(units).await.expect("units are available");
        (share, give_way)
    }

    #[tokio::test]
    async fn the_oldest_holders_give_way_and_no_more_than_needed() {
        let (pool, start) = (SharedPool::new(4, HOLD, LONG), Instant::now());
        let newest = taken(&pool, 1, start + HOLD / 2).await;
        let (oldest, middle) = (taken(&pool, 1, start).await, taken(&pool, 2, start + HOLD / 4).await);
        let asked = || [&oldest, &middle, &newest].map(|(_, token)| token.is_cancelled());
        let late = pool.share(start, CancellationToken::new());
        assert_eq!(pool.reclaim(late.id, 2, start + HOLD / 2), Some(start + HOLD), "the first to give way");
        assert_eq!(asked(), [false; 3]);
        assert_eq!(pool.reclaim(late.id, 2, start + HOLD), Some(start + HOLD / 4 + HOLD));
        assert_eq!(asked(), [true, false, false]);
        let _waiting = PoolWaiter::new(&pool, 3);
        pool.reclaim(late.id, 2, start + HOLD * 5 / 4).expect("units can be reclaimed");
        assert_eq!(asked(), [true, true, false], "for all three that are waited for");
        assert_eq!(pool.reclaim(late.id, 5, start + HOLD * 2), None, "there is not so much");
    }

    #[tokio::test]
    async fn a_holder_with_progress_gives_way_last() {
        let (pool, past) = (SharedPool::new(2, HOLD, LONG), Instant::now());
        let (quick, stalled) = (taken(&pool, 1, past).await, taken(&pool, 1, past).await);
        quick.0.progressed();
        pool.reclaim(u64::MAX, 1, past + HOLD).expect("units can be reclaimed");
        assert_eq!([&quick, &stalled].map(|(_, token)| token.is_cancelled()), [false, true]);
    }

    #[tokio::test]
    async fn a_request_waits_until_another_holder_releases() {
        let pool = SharedPool::new(2, Duration::ZERO, LONG);
        let (share, give_way) = taken(&pool, 2, Instant::now()).await;
        let slow = async {
            give_way.cancelled().await;
            drop(share);
        };
        let mut late = pool.share(Instant::now(), CancellationToken::new());
        let (grown, ()) = tokio::join!(late.grow(1), slow);
        grown.expect("units are available now");
        assert_eq!((late.units(), pool.free()), (1, 1));
        drop(late);
        assert_eq!(pool.free(), 2);
    }

    #[tokio::test]
    async fn no_holder_gives_way_in_vain_and_waiting_is_bounded() {
        let pool = SharedPool::new(4, Duration::ZERO, Duration::from_millis(1));
        let start = Instant::now();
        let (exempt, slow) = (taken(&pool, 3, start).await, taken(&pool, 1, start).await);
        exempt.0.exempt();
        assert!(pool.share(start, CancellationToken::new()).grow(2).await.is_err());
        assert!(!exempt.1.is_cancelled() && !slow.1.is_cancelled());
        assert!(pool.share(start, CancellationToken::new()).grow(1).await.is_err(), "it does not let go");
        assert!(slow.1.is_cancelled());
    }

    #[tokio::test]
    async fn a_request_larger_than_the_pool_gets_all_of_it() {
        let pool = SharedPool::new(2, HOLD, HOLD);
        let mut share = pool.share(Instant::now(), CancellationToken::new());
        share.grow(usize::MAX).await.expect("all of it");
        share.grow(1).await.expect("it has all already");
        assert_eq!((share.units(), pool.free()), (2, 0));
    }
}

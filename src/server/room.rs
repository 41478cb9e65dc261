//! Something scarce that slow peers may hold, such as memory for bodies: who needs room and finds none gets that of
//! whoever has held theirs longest without getting on.
//!
//! So what is slow gives way to what is not, and nobody who is merely slow is bothered while there is room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How soon one that waits looks again at the earliest.
const RECHECK: Duration = Duration::from_millis(50);

/// Units that are shared out.
#[derive(Debug)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    units: usize,
    /// How long a share is left to its holder whoever needs it.
    hold: Duration,
    /// How long somebody waits for room.
    patience: Duration,
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    next: u64,
    /// What those who wait need together.
    wanted: usize,
    all: Vec<Holder>,
}

#[derive(Debug)]
struct Holder {
    id: u64,
    /// When it began, or last got on.
    since: Instant,
    units: usize,
    give_way: CancellationToken,
}

/// There is no room, and nobody to take it from.
#[derive(Debug)]
pub(super) struct NoRoom;

impl Room {
    pub(super) fn new(units: usize, hold: Duration, patience: Duration) -> Arc<Self> {
        let units = units.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { free: Arc::new(Semaphore::new(units)), units, hold, patience, holders: Mutex::default() })
    }

    /// A share of nothing yet, which began at `since`. Its holder lets go of it when `give_way` is cancelled.
    pub(super) fn share(self: &Arc<Self>, since: Instant, give_way: CancellationToken) -> Share {
        let mut holders = self.lock();
        let id = holders.next;
        holders.next += 1;
        holders.all.push(Holder { id, since, units: 0, give_way });
        Share { room: Arc::clone(self), id, held: None }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks holders to give way to all that wait, oldest first, and says when to ask again at the latest; `None` when all of
    /// them together would not do for the `units` that holder `id` needs.
    fn make(&self, id: u64, units: usize, now: Instant) -> Option<Instant> {
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
        let is_due = |holder: &&&Holder| holder.since + self.hold <= now;
        needed.iter().take_while(is_due).for_each(|holder| holder.give_way.cancel());
        let next = needed.iter().find(|holder| !is_due(holder)).map(|holder| holder.since + self.hold);
        // Others may have come or gone by then.
        let later = now + self.hold.max(RECHECK);
        Some(next.map_or(later, |next| next.min(later)))
    }
}

/// What one of the holders holds; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<Room>,
    id: u64,
    held: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// How much it is.
    pub(super) fn units(&self) -> usize {
        self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Takes so much more, or what there is in all when that is less.
    pub(super) async fn grow(&mut self, more: usize) -> Result<(), NoRoom> {
        let more = more.min(self.room.units.saturating_sub(self.units()));
        let count = u32::try_from(more).map_err(|_| NoRoom)?;
        if let Ok(taken) = Arc::clone(&self.room.free).try_acquire_many_owned(count) {
            self.add(taken);
            return Ok(());
        }
        let deadline = Instant::now() + self.room.patience;
        let _waiting = Waiting::new(&self.room, more);
        loop {
            let now = Instant::now();
            let again = self.room.make(self.id, more, now).filter(|_| now < deadline).ok_or(NoRoom)?;
            let taking = Arc::clone(&self.room.free).acquire_many_owned(count);
            if let Ok(Ok(taken)) = timeout_at(again.min(deadline), taking).await {
                self.add(taken);
                return Ok(());
            }
        }
    }

    /// Its peer made progress, so that it is not the slowest any more.
    pub(super) fn progressed(&self) {
        if let Some(holder) = self.room.lock().all.iter_mut().find(|holder| holder.id == self.id) {
            holder.since = Instant::now();
        }
    }

    /// It is no longer its peer for which it is held: nobody is asked to give way who can't.
    pub(super) fn settle(&self) {
        self.room.lock().all.retain(|holder| holder.id != self.id);
    }

    fn add(&mut self, taken: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(taken),
            none => *none = Some(taken),
        }
        let units = self.units();
        if let Some(holder) = self.room.lock().all.iter_mut().find(|holder| holder.id == self.id) {
            holder.units = units;
        }
    }
}

/// While it lives, somebody waits for so much.
struct Waiting(Arc<Room>, usize);

impl Waiting {
    fn new(room: &Arc<Room>, units: usize) -> Self {
        room.lock().wanted += units;
        Self(Arc::clone(room), units)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().wanted -= self.1;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(600);

    /// A share of so many units since then.
    async fn taken(room: &Arc<Room>, units: usize, since: Instant) -> (Share, CancellationToken) {
        let give_way = CancellationToken::new();
        let mut share = room.share(since, give_way.clone());
        share.grow(units).await.expect("there is room");
        (share, give_way)
    }

    #[tokio::test]
    async fn the_oldest_gives_way_once_others_had_their_chance_and_no_more_than_needed() {
        let (room, start) = (Room::new(4, HOLD, LONG), Instant::now());
        let newest = taken(&room, 1, start + HOLD / 2).await;
        let (oldest, middle) = (taken(&room, 1, start).await, taken(&room, 2, start + HOLD / 4).await);
        let asked = || [&oldest, &middle, &newest].map(|(_, token)| token.is_cancelled());
        let late = room.share(start, CancellationToken::new());
        assert_eq!(room.make(late.id, 2, start + HOLD / 2), Some(start + HOLD), "the first to give way");
        assert_eq!(asked(), [false; 3]);
        assert_eq!(room.make(late.id, 2, start + HOLD), Some(start + HOLD / 4 + HOLD));
        assert_eq!(asked(), [true, false, false]);
        let _waiting = Waiting::new(&room, 3);
        room.make(late.id, 2, start + HOLD * 5 / 4).expect("there will be room");
        assert_eq!(asked(), [true, true, false], "for all three that are waited for");
        assert_eq!(room.make(late.id, 5, start + HOLD * 2), None, "there is not so much");
    }

    #[tokio::test]
    async fn who_gets_on_goes_after_who_does_not() {
        let (room, past) = (Room::new(2, HOLD, LONG), Instant::now());
        let (quick, stalled) = (taken(&room, 1, past).await, taken(&room, 1, past).await);
        quick.0.progressed();
        room.make(u64::MAX, 1, past + HOLD).expect("there will be room");
        assert_eq!([&quick, &stalled].map(|(_, token)| token.is_cancelled()), [false, true]);
    }

    #[tokio::test]
    async fn who_needs_room_waits_until_another_lets_go() {
        let room = Room::new(2, Duration::ZERO, LONG);
        let (share, give_way) = taken(&room, 2, Instant::now()).await;
        let slow = async {
            give_way.cancelled().await;
            drop(share);
        };
        let mut late = room.share(Instant::now(), CancellationToken::new());
        let (grown, ()) = tokio::join!(late.grow(1), slow);
        grown.expect("there is room now");
        assert_eq!((late.units(), room.free()), (1, 1));
        drop(late);
        assert_eq!(room.free(), 2);
    }

    #[tokio::test]
    async fn nobody_gives_way_in_vain_and_nobody_waits_without_end() {
        let room = Room::new(4, Duration::ZERO, Duration::from_millis(1));
        let start = Instant::now();
        let (settled, slow) = (taken(&room, 3, start).await, taken(&room, 1, start).await);
        settled.0.settle();
        assert!(room.share(start, CancellationToken::new()).grow(2).await.is_err());
        assert!(!settled.1.is_cancelled() && !slow.1.is_cancelled());
        assert!(room.share(start, CancellationToken::new()).grow(1).await.is_err(), "it does not let go");
        assert!(slow.1.is_cancelled());
    }

    #[tokio::test]
    async fn what_is_larger_than_all_takes_all() {
        let room = Room::new(2, HOLD, HOLD);
        let mut share = room.share(Instant::now(), CancellationToken::new());
        share.grow(usize::MAX).await.expect("all of it");
        share.grow(1).await.expect("it has all already");
        assert_eq!((share.units(), room.free()), (2, 0));
    }
}

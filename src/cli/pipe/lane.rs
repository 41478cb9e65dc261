//! The queue from the copying to the parsing thread, and of used buffers back. Bounded in pieces and in parsed bytes
//! per second.

use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::copy::BUFFER;
use crate::cli::pipe::stream::skim::{Keep, Lane, Piece};
use crate::clock::Stopwatch;

/// Most pieces in the queue.
const PIECES: usize = 32;
/// Most bytes per second of whole blocks that are parsed: far more than agents print, and less than a tenth of a
/// processor, so that parsing takes no time from the agent.
const READ_RATE: f64 = (32 << 20) as f64;
/// Most bytes parsed at once.
const BURST: f64 = (PIECES * BUFFER) as f64;

/// The copying thread's end of the queue.
pub(super) struct LaneChannels {
    pieces: SyncSender<Piece>,
    read: Receiver<Piece>,
    needs: Arc<OnceLock<Keep>>,
    watch: Stopwatch,
    /// When `left` was updated.
    counted_at: Duration,
    /// Bytes that may be parsed now.
    left: f64,
}

impl LaneChannels {
    /// The copying thread's end, the parser's end, and the sender that returns used buffers. The parser sets `needs`.
    pub(super) fn new(needs: Arc<OnceLock<Keep>>) -> (Self, Receiver<Piece>, SyncSender<Piece>) {
        let (pieces, incoming) = mpsc::sync_channel(PIECES);
        let (used, read) = mpsc::sync_channel(PIECES);
        let lane = Self { pieces, read, needs, watch: Stopwatch::start(), counted_at: Duration::ZERO, left: BURST };
        (lane, incoming, used)
    }

    /// Takes `bytes` from the budget, if it has as many.
    fn affords(&mut self, bytes: usize) -> bool {
        let now = self.watch.elapsed();
        let gained = now.saturating_sub(self.counted_at).as_secs_f64() * READ_RATE;
        (self.left, self.counted_at) = ((self.left + gained).min(BURST), now);
        let affords = self.left >= bytes as f64;
        if affords {
            self.left -= bytes as f64;
        }
        affords
    }
}

impl Lane for LaneChannels {
    fn offer(&mut self, piece: Piece) -> Option<Piece> {
        if let Piece::Lines(lines) = &piece
            && lines.has_buffer()
            && !self.affords(lines.parts().map(<[u8]>::len).iter().sum())
        {
            return Some(piece);
        }
        match self.pieces.try_send(piece) {
            Err(TrySendError::Full(piece)) => Some(piece),
            // The parser is gone; copying continues without it.
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
        }
    }

    fn hand(&mut self, piece: Piece) {
        drop(self.pieces.send(piece));
    }

    fn buffer(&mut self) -> Vec<u8> {
        match self.read.try_recv() {
            Ok(Piece::Lines(lines)) if lines.has_buffer() => lines.into_buffer(),
            _ => vec![0; BUFFER],
        }
    }

    fn needs(&self) -> Option<Keep> {
        self.needs.get().copied()
    }
}

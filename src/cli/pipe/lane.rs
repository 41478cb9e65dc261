//! The way from copying to understanding, and of its buffers back: bounded in pieces, and in what it takes of a processor.

use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::copy::BUFFER;
use crate::cli::pipe::stream::skim::{Keep, Lane, Piece};
use crate::clock::Stopwatch;

/// Pieces that may wait to be understood.
const PIECES: usize = 32;
/// Whole blocks that are read for what lines between totals say, in bytes per second: far more than agents print, and
/// less than a tenth of a processor, which is the agent's and that of who reads its output.
const READ_RATE: f64 = (32 << 20) as f64;
/// What may come at once, in bytes.
const BURST: f64 = (PIECES * BUFFER) as f64;

/// The end where the stream is copied.
pub(super) struct Channels {
    pieces: SyncSender<Piece>,
    read: Receiver<Piece>,
    needs: Arc<OnceLock<Keep>>,
    watch: Stopwatch,
    /// When `left` was counted.
    counted_at: Duration,
    /// Bytes of whole blocks that may be read now.
    left: f64,
}

impl Channels {
    /// The lane, where its pieces arrive, and where those that were read are given back for their buffers. `needs` is set
    /// by who understands.
    pub(super) fn new(needs: Arc<OnceLock<Keep>>) -> (Self, Receiver<Piece>, SyncSender<Piece>) {
        let (pieces, incoming) = mpsc::sync_channel(PIECES);
        let (used, read) = mpsc::sync_channel(PIECES);
        let lane = Self { pieces, read, needs, watch: Stopwatch::start(), counted_at: Duration::ZERO, left: BURST };
        (lane, incoming, used)
    }

    /// Whether so many bytes more may be read now.
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

impl Lane for Channels {
    fn offer(&mut self, piece: Piece) -> Option<Piece> {
        if let Piece::Lines(lines) = &piece
            && lines.has_buffer()
            && !self.affords(lines.parts().map(<[u8]>::len).iter().sum())
        {
            return Some(piece);
        }
        match self.pieces.try_send(piece) {
            Err(TrySendError::Full(piece)) => Some(piece),
            // Nobody understands any more; what is passed on does not depend on it.
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

//! Cuts a stream into blocks of whole lines and hands them on to whoever reads them, never waiting for that reader
//! longer than tokens need.
//!
//! While the reader keeps up, it gets every line. When it falls behind, blocks are passed over, but for two things: the
//! newest block is put off rather than dropped, so that the end of a stream is always read, and of the others the lines
//! that hold certain words are handed on, in order and once. Those words are on every line that says totals, and totals
//! contain what the lines before them said.

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::MAX_LINE;

/// So much of a line that is not over yet is shown, in bytes.
const SHOWN: usize = 4096;

/// Which lines must not be passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those that hold one of the words.
    Lines(&'static [&'static str]),
    /// All: then the stream waits for its reader.
    Everything,
}

/// What is handed on.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Whole lines; only the very last one may lack its end.
    Lines(Vec<u8>),
    /// The end of a line that is not over yet; it comes again when it is.
    Open(Vec<u8>),
}

/// The way to the reader.
pub trait Lane {
    /// Hands `piece` on, or gives it back when the reader is behind.
    fn offer(&mut self, piece: Piece) -> Option<Piece>;
    /// Hands `piece` on, as soon as there is room for it.
    fn hand(&mut self, piece: Piece);
    /// An empty buffer, used before where there is one.
    fn buffer(&mut self) -> Vec<u8>;
    /// Takes back a buffer that was not handed on.
    fn give_back(&mut self, buffer: Vec<u8>);
}

/// Cuts one stream.
#[derive(Debug)]
pub struct Skimmer {
    finders: Vec<Finder<'static>>,
    waits: bool,
    /// The line that is not over yet.
    open: Vec<u8>,
    /// Whether that line is too long to be read.
    overlong: bool,
    /// The newest block, while the reader is behind.
    put_off: Option<Vec<u8>>,
}

impl Skimmer {
    /// A skimmer that keeps these lines.
    pub fn new(keep: Keep) -> Self {
        let words = if let Keep::Lines(words) = keep { words } else { &[] };
        let finders = words.iter().map(|word| Finder::new(*word)).collect();
        Self { finders, waits: keep == Keep::Everything, open: Vec::new(), overlong: false, put_off: None }
    }

    /// Takes in the next bytes of the stream.
    pub fn take(&mut self, bytes: &[u8], lane: &mut impl Lane) {
        let (lines, rest) = match memrchr(b'\n', bytes) {
            Some(last) => bytes.split_at(last + 1),
            None => (&[][..], bytes),
        };
        if !lines.is_empty() {
            let mut block = lane.buffer();
            if self.overlong {
                let end = memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
                block.extend_from_slice(lines.get(end..).unwrap_or_default());
            } else {
                block.append(&mut self.open);
                block.extend_from_slice(lines);
            }
            self.overlong = false;
            self.open.clear();
            if block.is_empty() { lane.give_back(block) } else { self.pass(block, lane) }
        }
        if !rest.is_empty() && !self.overlong {
            if self.open.len() + rest.len() > MAX_LINE {
                self.overlong = true;
                self.open = Vec::new();
                return;
            }
            self.open.extend_from_slice(rest);
            // Shown only where it is looked at soon; whoever is behind has more to read.
            if self.put_off.is_none() {
                let shown = self.open.get(self.open.len().saturating_sub(SHOWN)..).unwrap_or_default().to_vec();
                drop(lane.offer(Piece::Open(shown)));
            }
        }
    }

    /// Hands on what is left when the stream is over.
    pub fn finish(&mut self, lane: &mut impl Lane) {
        if let Some(block) = self.put_off.take() {
            lane.hand(Piece::Lines(block));
        }
        if !self.open.is_empty() {
            lane.hand(Piece::Lines(std::mem::take(&mut self.open)));
        }
    }

    fn pass(&mut self, block: Vec<u8>, lane: &mut impl Lane) {
        if self.waits {
            return lane.hand(Piece::Lines(block));
        }
        if let Some(older) = self.put_off.take()
            && let Some(Piece::Lines(older)) = lane.offer(Piece::Lines(older))
        {
            self.sift(&older, lane);
            lane.give_back(older);
            self.put_off = Some(block);
            return;
        }
        if let Some(Piece::Lines(block)) = lane.offer(Piece::Lines(block)) {
            self.put_off = Some(block);
        }
    }

    /// Hands on the lines of `block` that must be read.
    fn sift(&self, block: &[u8], lane: &mut impl Lane) {
        let mut rest = block;
        let mut next: Vec<Option<usize>> = self.finders.iter().map(|finder| finder.find(rest)).collect();
        while let Some(hit) = next.iter().flatten().min().copied() {
            let (before, after) = rest.split_at(hit);
            let start = memrchr(b'\n', before).map_or(0, |end| end + 1);
            let end = hit + memchr(b'\n', after).map_or(after.len(), |end| end + 1);
            let mut line = lane.buffer();
            line.extend_from_slice(rest.get(start..end).unwrap_or_default());
            lane.hand(Piece::Lines(line));
            rest = rest.get(end..).unwrap_or_default();
            for (finder, next) in self.finders.iter().zip(&mut next) {
                *next = match *next {
                    Some(at) if at >= end => Some(at - end),
                    Some(_) => finder.find(rest),
                    None => None,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests;

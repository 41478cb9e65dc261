//! Cuts a stream into blocks of whole lines and hands them on to whoever reads them, never waiting for that reader
//! longer than tokens need.
//!
//! While the reader keeps up, it gets every line. When it falls behind, blocks are passed over, but for two things: the
//! newest block is put off rather than dropped, so that the end of a stream is always read, and of the others the lines
//! that hold certain words are handed on, in order and once. Those words are on every line that says totals, and totals
//! contain what the lines before them said.

use std::ops::Range;

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memrchr};

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
    Lines(Lines),
    /// The end of a line that is not over yet; it comes again when it is.
    Open(Vec<u8>),
}

/// Whole lines, most of them where they were read to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// What comes first: a line that began in an earlier buffer.
    first: Vec<u8>,
    /// A buffer, and where in it the others are.
    buffer: Vec<u8>,
    others: Range<usize>,
}

impl Lines {
    /// The lines, in order.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.first, self.buffer.get(self.others.clone()).unwrap_or_default()]
    }

    /// The buffer, to be used again; empty where there is none.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// The way to the reader.
pub trait Lane {
    /// Hands `piece` on, or gives it back when the reader is behind.
    fn offer(&mut self, piece: Piece) -> Option<Piece>;
    /// Hands `piece` on, as soon as there is room for it.
    fn hand(&mut self, piece: Piece);
    /// A buffer to read to, used before where there is one.
    fn buffer(&mut self) -> Vec<u8>;
    /// Which lines the reader needs, once it knows better than at the start.
    fn needs(&self) -> Option<Keep>;
}

/// A word that is looked for at the speed of memory.
#[derive(Debug)]
struct Word {
    word: &'static [u8],
    finder: Finder<'static>,
    /// A capital letter in it and its place. Words of protocols hardly have any, so that it is looked for alone, which
    /// takes a third of the time.
    capital: Option<(usize, u8)>,
}

impl Word {
    fn new(word: &'static str) -> Self {
        let word = word.as_bytes();
        let capital = word.iter().copied().enumerate().find(|(_, byte)| byte.is_ascii_uppercase());
        Self { word, finder: Finder::new(word), capital }
    }

    /// Where it first is in `text`.
    fn find(&self, text: &[u8]) -> Option<usize> {
        let Some((place, byte)) = self.capital else { return self.finder.find(text) };
        let mut starts = memchr_iter(byte, text).filter_map(|at| at.checked_sub(place));
        starts.find(|start| text.get(*start..).is_some_and(|text| text.starts_with(self.word)))
    }
}

/// Cuts one stream.
#[derive(Debug)]
pub struct Skimmer {
    words: Vec<Word>,
    waits: bool,
    /// Whether the words are those of the stream's own format.
    is_narrow: bool,
    /// The line that is not over yet.
    open: Vec<u8>,
    /// Whether that line is too long to be read.
    overlong: bool,
    /// The newest lines, while the reader is behind.
    put_off: Option<Lines>,
    /// A buffer that was passed over: the next one, while it is still warm.
    spare: Option<Vec<u8>>,
}

impl Skimmer {
    /// A skimmer that keeps these lines.
    pub fn new(keep: Keep) -> Self {
        let waits = keep == Keep::Everything;
        let mut skimmer = Self {
            words: Vec::new(),
            waits,
            is_narrow: false,
            open: Vec::new(),
            overlong: false,
            put_off: None,
            spare: None,
        };
        skimmer.narrow(keep);
        skimmer
    }

    /// Keeps these lines from now on. Whoever needs every line goes on to need it.
    fn narrow(&mut self, keep: Keep) {
        if let Keep::Lines(words) = keep {
            self.words = words.iter().map(|word| Word::new(word)).collect();
        }
    }

    /// Takes in the next bytes of the stream, the first `length` of `buffer`, and returns a buffer for those after them.
    pub fn take(&mut self, buffer: Vec<u8>, length: usize, lane: &mut impl Lane) -> Vec<u8> {
        let bytes = buffer.get(..length).unwrap_or(&buffer);
        let end = memrchr(b'\n', bytes).map_or(0, |last| last + 1);
        let (lines, rest) = bytes.split_at(end);
        let mut first = Vec::new();
        let mut start = 0;
        if !lines.is_empty() && (self.overlong || !self.open.is_empty()) {
            // The end of a line that began before.
            start = memchr(b'\n', lines).map_or(end, |at| at + 1);
            if !self.overlong {
                first = std::mem::take(&mut self.open);
                first.extend_from_slice(lines.get(..start).unwrap_or_default());
            }
            self.overlong = false;
        }
        if !rest.is_empty() && !self.overlong {
            self.overlong = self.open.len() + rest.len() > MAX_LINE;
            if self.overlong {
                self.open = Vec::new();
            } else {
                self.open.extend_from_slice(rest);
            }
        }
        let next = if start < end {
            self.pass(Lines { first, buffer, others: start..end }, lane);
            self.spare.take().unwrap_or_else(|| lane.buffer())
        } else {
            if !first.is_empty() {
                self.pass(Lines { first, ..Lines::default() }, lane);
            }
            buffer
        };
        // Shown only where it is looked at soon: whoever is behind has more to read.
        if !self.open.is_empty() && self.put_off.is_none() {
            let shown = self.open.get(self.open.len().saturating_sub(SHOWN)..).unwrap_or_default().to_vec();
            drop(lane.offer(Piece::Open(shown)));
        }
        next
    }

    /// Hands on what is left when the stream is over.
    pub fn finish(&mut self, lane: &mut impl Lane) {
        if let Some(lines) = self.put_off.take() {
            lane.hand(Piece::Lines(lines));
        }
        if !self.open.is_empty() {
            lane.hand(Piece::Lines(Lines { first: std::mem::take(&mut self.open), ..Lines::default() }));
        }
    }

    fn pass(&mut self, lines: Lines, lane: &mut impl Lane) {
        if self.waits {
            return lane.hand(Piece::Lines(lines));
        }
        if let Some(older) = self.put_off.take()
            && let Some(Piece::Lines(older)) = lane.offer(Piece::Lines(older))
        {
            if !self.is_narrow
                && let Some(keep) = lane.needs()
            {
                self.narrow(keep);
                self.is_narrow = true;
            }
            let kept = self.sift(&older);
            if !kept.is_empty() {
                lane.hand(Piece::Lines(Lines { first: kept, ..Lines::default() }));
            }
            self.spare = Some(older.into_buffer()).filter(|buffer| !buffer.is_empty()).or(self.spare.take());
            self.put_off = Some(lines);
            return;
        }
        if let Some(Piece::Lines(lines)) = lane.offer(Piece::Lines(lines)) {
            self.put_off = Some(lines);
        }
    }

    /// Those of `lines` that must be read.
    fn sift(&self, lines: &Lines) -> Vec<u8> {
        let mut kept = Vec::new();
        for part in lines.parts() {
            let mut rest = part;
            let mut next: Vec<Option<usize>> = self.words.iter().map(|word| word.find(rest)).collect();
            while let Some(hit) = next.iter().flatten().min().copied() {
                let (before, after) = rest.split_at(hit);
                let start = memrchr(b'\n', before).map_or(0, |end| end + 1);
                let end = hit + memchr(b'\n', after).map_or(after.len(), |end| end + 1);
                kept.extend_from_slice(rest.get(start..end).unwrap_or_default());
                rest = rest.get(end..).unwrap_or_default();
                for (word, next) in self.words.iter().zip(&mut next) {
                    *next = match *next {
                        Some(at) if at >= end => Some(at - end),
                        Some(_) => word.find(rest),
                        None => None,
                    };
                }
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests;

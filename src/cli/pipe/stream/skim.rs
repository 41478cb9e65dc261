//! Splits a stream into blocks of whole lines for the parser, and waits for it only where token counts would be lost.
//!
//! While the parser keeps up, it gets every line. When it falls behind, blocks are skipped, with two exceptions: the
//! newest block is deferred, so that the end of the stream is always parsed, and of skipped blocks the lines with
//! totals, failures or retries are still passed on, in order.

use std::ops::Range;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::MAX_LINE;
use super::document::{self, BYTE_ORDER_MARK, JsonDocument};

/// Bytes of an unfinished line that are passed on.
const OPEN_LINE_MAX: usize = 4096;

/// Which lines must not be skipped. They are recognised by their beginning, in the same pass that finds newlines.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// None.
    Nothing,
    /// All for which this is false.
    Unless(fn(&[u8]) -> bool),
    /// All lines that start with an object and for which this is false.
    ObjectsUnless(fn(&[u8]) -> bool),
    /// All: the stream waits for the parser.
    Everything,
}

/// Bytes at the beginning of a line that are enough to recognise a document.
const SHORT: usize = 32;

/// The start of an object with at least one key, at the beginning of the input and of a later line.
const OBJECT: &[u8] = b"{\"";
const OBJECT_AFTER: &[u8] = b"\n{\"";

/// A part of the stream for the parser.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Whole lines; only the last one of the stream may lack its newline.
    Lines(LineBlock),
    /// The end of an unfinished line, which follows again as a whole.
    Open(Vec<u8>),
}

/// Whole lines, most of them in the buffer of the read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LineBlock {
    /// The first line, if it started in an earlier buffer.
    first: Vec<u8>,
    /// The buffer, and the range of the other lines in it.
    buffer: Vec<u8>,
    others: Range<usize>,
}

impl LineBlock {
    /// The lines, in order.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.first, self.buffer.get(self.others.clone()).unwrap_or_default()]
    }

    /// Whether there is a buffer.
    pub const fn has_buffer(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The buffer, for reuse; empty if there is none.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// The queue to the parser.
pub trait Lane {
    /// Queues `piece`, or returns it if the parser is behind.
    fn offer(&mut self, piece: Piece) -> Option<Piece>;
    /// Queues `piece`, and waits for room.
    fn hand(&mut self, piece: Piece);
    /// A buffer for the next read, reused if possible.
    fn buffer(&mut self) -> Vec<u8>;
    /// Which lines the parser needs, once it knows the format.
    fn needs(&self) -> Option<Keep>;
}

/// Splits one stream.
#[derive(Debug)]
pub struct Skimmer {
    keep: Keep,
    /// Whether `keep` is already that of the detected format.
    is_narrow: bool,
    objects: Finder<'static>,
    /// The unfinished line.
    open: Vec<u8>,
    /// Whether that line is too long to be parsed.
    overlong: bool,
    /// LineBlock of older blocks that must be read, while the reader is behind.
    kept: Vec<u8>,
    /// The newest block, while the parser is behind.
    deferred: Option<LineBlock>,
    /// The buffer of a skipped block, for reuse while it is in the processor's cache.
    spare: Option<Vec<u8>>,
    /// Whether JSON may be written otherwise than line by line.
    finds_documents: bool,
    /// Whether the unfinished line looked like a document and is not one.
    is_refused: bool,
    /// The unfinished document.
    document: Option<JsonDocument>,
}

impl Skimmer {
    /// A skimmer that keeps these lines; `documents`: whether JSON can span lines.
    pub fn new(keep: Keep, documents: bool) -> Self {
        Self {
            keep,
            is_narrow: false,
            objects: Finder::new(OBJECT_AFTER),
            open: Vec::new(),
            overlong: false,
            kept: Vec::new(),
            deferred: None,
            spare: None,
            finds_documents: documents,
            is_refused: false,
            document: None,
        }
    }

    /// Processes the next bytes of the stream, the first `length` of `buffer`, and returns a buffer for the next read.
    pub fn take(&mut self, buffer: Vec<u8>, length: usize, lane: &mut impl Lane) -> Vec<u8> {
        let bytes = buffer.get(..length).unwrap_or(&buffer);
        if self.document.is_none() && self.next_document(bytes).is_none() {
            return self.take_lines(buffer, length, lane);
        }
        let (mut rest, mut objects) = (bytes, Vec::new());
        while !rest.is_empty() {
            rest = match self.document.take() {
                Some(document) => self.take_document(document, rest, &mut objects, lane),
                None => self.take_before_document(rest, &mut objects, lane),
            };
        }
        self.pass_first(&mut objects, lane);
        buffer
    }

    /// Where in `bytes` JSON starts that is not a single line.
    fn next_document(&self, bytes: &[u8]) -> Option<usize> {
        if !self.finds_documents {
            return None;
        }
        let is_free = !self.overlong && !self.is_refused;
        if is_free && (1..=SHORT).contains(&self.open.len()) {
            let joined = [&self.open, bytes.get(..SHORT).unwrap_or(bytes)].concat();
            if document::start(&joined, true) == Some(0) {
                return Some(0);
            }
        }
        document::start(bytes, is_free && self.open.is_empty())
    }

    /// Processes the lines before the next document, starts that, and returns the bytes from there on.
    fn take_before_document<'b>(&mut self, bytes: &'b [u8], objects: &mut Vec<u8>, lane: &mut impl Lane) -> &'b [u8] {
        let start = self.next_document(bytes);
        let (lines, rest) = bytes.split_at(start.unwrap_or(bytes.len()));
        if !lines.is_empty() {
            self.pass_first(objects, lane);
            self.take_part(lines, lane);
        }
        if start.is_some() {
            // The unfinished line is the beginning of the document.
            let mut document = JsonDocument::default();
            document.read(&std::mem::take(&mut self.open), objects);
            self.document = Some(document);
        }
        rest
    }

    /// Processes bytes of the document, adds complete objects to `objects`, and returns the bytes after it.
    fn take_document<'b>(
        &mut self,
        mut document: JsonDocument,
        bytes: &'b [u8],
        objects: &mut Vec<u8>,
        lane: &mut impl Lane,
    ) -> &'b [u8] {
        let read = document.read(bytes, objects);
        if document.is_over() {
            let raw = document.into_raw();
            if !raw.is_empty() {
                self.pass_first(objects, lane);
                self.take_back(&raw, lane);
            }
        } else {
            self.document = Some(document);
        }
        bytes.get(read..).unwrap_or_default()
    }

    /// Processes input as lines that turned out not to be a document.
    fn take_back(&mut self, raw: &[u8], lane: &mut impl Lane) {
        self.take_part(raw, lane);
        self.is_refused = !self.open.is_empty();
    }

    /// Processes the next bytes as lines.
    fn take_lines(&mut self, buffer: Vec<u8>, length: usize, lane: &mut impl Lane) -> Vec<u8> {
        let (mut first, others) = self.cut(buffer.get(..length).unwrap_or(&buffer));
        let next = if others.is_empty() {
            self.pass_first(&mut first, lane);
            buffer
        } else {
            self.pass(LineBlock { first, buffer, others }, lane);
            self.spare.take().unwrap_or_else(|| lane.buffer())
        };
        self.show_open(lane);
        next
    }

    /// Processes a part of a buffer as lines.
    fn take_part(&mut self, bytes: &[u8], lane: &mut impl Lane) {
        let (mut first, others) = self.cut(bytes);
        first.extend_from_slice(bytes.get(others).unwrap_or_default());
        self.pass_first(&mut first, lane);
        self.show_open(lane);
    }

    /// Splits `bytes` into the end of the unfinished line and the range of the other whole lines; keeps the rest as the
    /// unfinished line.
    fn cut(&mut self, bytes: &[u8]) -> (Vec<u8>, Range<usize>) {
        let end = memrchr(b'\n', bytes).map_or(0, |last| last + 1);
        let (lines, rest) = bytes.split_at(end);
        let mut first = Vec::new();
        let mut start = 0;
        if !lines.is_empty() {
            if self.overlong || !self.open.is_empty() {
                start = memchr(b'\n', lines).map_or(end, |at| at + 1);
                if !self.overlong {
                    first = std::mem::take(&mut self.open);
                    first.extend_from_slice(lines.get(..start).unwrap_or_default());
                }
            }
            (self.overlong, self.is_refused) = (false, false);
        }
        if !rest.is_empty() && !self.overlong {
            self.open.extend_from_slice(rest);
            if self.open.len() > MAX_LINE {
                let line = std::mem::take(&mut self.open);
                if self.finds_documents && line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line).starts_with(OBJECT) {
                    let mut document = JsonDocument::line();
                    document.read(&line, &mut Vec::new());
                    self.document = Some(document).filter(|document| !document.is_over());
                }
                self.overlong = self.document.is_none();
            }
        }
        (first, start..end)
    }

    /// Passes on the unfinished line, unless the parser is behind.
    fn show_open(&self, lane: &mut impl Lane) {
        if !self.open.is_empty() && self.deferred.is_none() {
            let shown = self.open.get(self.open.len().saturating_sub(OPEN_LINE_MAX)..).unwrap_or_default().to_vec();
            drop(lane.offer(Piece::Open(shown)));
        }
    }

    /// Passes on the rest at the end of the stream.
    pub fn finish(&mut self, lane: &mut impl Lane) {
        if let Some(document) = self.document.take() {
            self.take_back(&document.into_raw(), lane);
        }
        self.hand_kept(lane);
        if let Some(lines) = self.deferred.take() {
            lane.hand(Piece::Lines(lines));
        }
        if !self.open.is_empty() {
            lane.hand(Piece::Lines(LineBlock { first: std::mem::take(&mut self.open), ..LineBlock::default() }));
        }
    }

    /// Whether a block is deferred.
    pub const fn is_behind(&self) -> bool {
        self.deferred.is_some()
    }

    /// Offers deferred lines again, the oldest first.
    pub fn settle(&mut self, lane: &mut impl Lane) {
        if !self.kept.is_empty() {
            let kept = LineBlock { first: std::mem::take(&mut self.kept), ..LineBlock::default() };
            if let Some(Piece::Lines(kept)) = lane.offer(Piece::Lines(kept)) {
                self.kept = kept.first;
                return;
            }
        }
        if let Some(lines) = self.deferred.take()
            && let Some(Piece::Lines(lines)) = lane.offer(Piece::Lines(lines))
        {
            self.deferred = Some(lines);
        }
    }

    /// Passes on `lines`, which are in no buffer, and clears them.
    fn pass_first(&mut self, lines: &mut Vec<u8>, lane: &mut impl Lane) {
        if !lines.is_empty() {
            self.pass(LineBlock { first: std::mem::take(lines), ..LineBlock::default() }, lane);
        }
    }

    fn pass(&mut self, lines: LineBlock, lane: &mut impl Lane) {
        if !self.is_narrow
            && let Some(keep) = lane.needs()
        {
            (self.keep, self.is_narrow) = (keep, true);
        }
        if let Keep::Everything = self.keep {
            self.hand_kept(lane);
            if let Some(older) = self.deferred.take() {
                lane.hand(Piece::Lines(older));
            }
            return lane.hand(Piece::Lines(lines));
        }
        self.settle(lane);
        if self.deferred.is_some() && lines.parts().iter().all(|part| part.trim_ascii().is_empty()) {
            // Blank lines do not replace the deferred block.
            self.spare(lines);
        } else if let Some(older) = self.deferred.take() {
            self.sift(&older);
            // Beyond this size, wait for the parser.
            if self.kept.len() > MAX_LINE {
                self.hand_kept(lane);
            }
            self.spare(older);
            self.deferred = Some(lines);
        } else if let Some(Piece::Lines(lines)) = lane.offer(Piece::Lines(lines)) {
            self.deferred = Some(lines);
        }
    }

    /// Keeps the buffer of `lines` for the next bytes.
    fn spare(&mut self, lines: LineBlock) {
        if lines.has_buffer() {
            self.spare = Some(lines.into_buffer());
        }
    }

    fn hand_kept(&mut self, lane: &mut impl Lane) {
        if !self.kept.is_empty() {
            lane.hand(Piece::Lines(LineBlock { first: std::mem::take(&mut self.kept), ..LineBlock::default() }));
        }
    }

    /// Keeps those of `lines` that must be parsed.
    fn sift(&mut self, lines: &LineBlock) {
        let mut kept = std::mem::take(&mut self.kept);
        for part in lines.parts() {
            match self.keep {
                Keep::Nothing => {}
                Keep::Unless(is_minor) => {
                    let mut rest = part;
                    while !rest.is_empty() {
                        rest = keep_first(rest, is_minor, &mut kept);
                    }
                }
                Keep::ObjectsUnless(is_minor) => {
                    let mut next = if part.starts_with(OBJECT) { Some(part) } else { self.next_object(part) };
                    while let Some(lines) = next {
                        let rest = keep_first(lines, is_minor, &mut kept);
                        next = if rest.starts_with(OBJECT) { Some(rest) } else { self.next_object(rest) };
                    }
                }
                Keep::Everything => kept.extend_from_slice(part),
            }
        }
        self.kept = kept;
    }

    /// `lines` from the first object on that is not at their start.
    fn next_object<'a>(&self, lines: &'a [u8]) -> Option<&'a [u8]> {
        self.objects.find(lines).and_then(|end| lines.get(end + 1..))
    }
}

/// Adds the first of `lines` to `kept` unless it is minor, and returns the others.
fn keep_first<'a>(lines: &'a [u8], is_minor: fn(&[u8]) -> bool, kept: &mut Vec<u8>) -> &'a [u8] {
    let (first, others) = lines.split_at(memchr(b'\n', lines).map_or(lines.len(), |end| end + 1));
    if !is_minor(first) {
        kept.extend_from_slice(first);
    }
    others
}

#[cfg(test)]
mod tests;

//! Cuts a stream into blocks of whole lines and hands them on to whoever reads them, never waiting for that reader
//! longer than tokens need.
//!
//! While the reader keeps up, it gets every line. When it falls behind, blocks are passed over, but for two things: the
//! newest block is put off rather than dropped, so that what a stream says last is always read, and of the others the
//! lines that count are handed on, in order and once: those that may say a total, which contains what the lines before
//! said, or what is counted one by one.

use std::ops::Range;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::MAX_LINE;
use super::document::{self, BYTE_ORDER_MARK, Document};

/// So much of a line that is not over yet is shown, in bytes.
const SHOWN: usize = 4096;

/// Which lines must not be passed over. Lines are known by how they begin: each is looked at, at the speed at which
/// their ends are found.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// None of them counts.
    Nothing,
    /// All but those of which this is true.
    Unless(fn(&[u8]) -> bool),
    /// The same of lines that begin an object; those of text, which are shorter, are not even counted.
    ObjectsUnless(fn(&[u8]) -> bool),
    /// All: then the stream waits for its reader.
    Everything,
}

/// So much of a line may have come before it shows that a document begins there, in bytes.
const SHORT: usize = 32;

/// How a line begins that is an object with at least one key, and where one begins after another line.
const OBJECT: &[u8] = b"{\"";
const OBJECT_AFTER: &[u8] = b"\n{\"";

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

    /// Whether there is a buffer.
    pub const fn has_buffer(&self) -> bool {
        !self.buffer.is_empty()
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

/// Cuts one stream.
#[derive(Debug)]
pub struct Skimmer {
    keep: Keep,
    /// Whether that is what the stream's own format needs.
    is_narrow: bool,
    objects: Finder<'static>,
    /// The line that is not over yet.
    open: Vec<u8>,
    /// Whether that line is too long to be read.
    overlong: bool,
    /// Lines of older blocks that must be read, while the reader is behind.
    kept: Vec<u8>,
    /// The newest lines, while the reader is behind.
    put_off: Option<Lines>,
    /// A buffer that was passed over: the next one, while it is still warm.
    spare: Option<Vec<u8>>,
    /// Whether JSON may be written otherwise than line by line.
    finds_documents: bool,
    /// Whether the line that is not over yet looked like a document and is none.
    is_refused: bool,
    /// The document that is not over yet.
    document: Option<Document>,
}

impl Skimmer {
    /// A skimmer that keeps these lines; `documents` says whether JSON may be written otherwise than line by line.
    pub fn new(keep: Keep, documents: bool) -> Self {
        Self {
            keep,
            is_narrow: false,
            objects: Finder::new(OBJECT_AFTER),
            open: Vec::new(),
            overlong: false,
            kept: Vec::new(),
            put_off: None,
            spare: None,
            finds_documents: documents,
            is_refused: false,
            document: None,
        }
    }

    /// Takes in the next bytes of the stream, the first `length` of `buffer`, and returns a buffer for those after them.
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

    /// Where in `bytes` JSON begins that is not written line by line.
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

    /// Takes in the lines before the next document, begins that, and returns the bytes from there.
    fn take_before_document<'b>(&mut self, bytes: &'b [u8], objects: &mut Vec<u8>, lane: &mut impl Lane) -> &'b [u8] {
        let start = self.next_document(bytes);
        let (lines, rest) = bytes.split_at(start.unwrap_or(bytes.len()));
        if !lines.is_empty() {
            self.pass_first(objects, lane);
            self.take_part(lines, lane);
        }
        if start.is_some() {
            // A line that had barely begun was the beginning of it.
            let mut document = Document::default();
            document.read(&std::mem::take(&mut self.open), objects);
            self.document = Some(document);
        }
        rest
    }

    /// Takes in bytes of the document, adds its objects that end to `objects`, and returns the bytes that follow it.
    fn take_document<'b>(
        &mut self,
        mut document: Document,
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

    /// Takes what turned out to be no document for the lines that it is.
    fn take_back(&mut self, raw: &[u8], lane: &mut impl Lane) {
        self.take_part(raw, lane);
        self.is_refused = !self.open.is_empty();
    }

    /// Takes in the next bytes where they are lines.
    fn take_lines(&mut self, buffer: Vec<u8>, length: usize, lane: &mut impl Lane) -> Vec<u8> {
        let (mut first, others) = self.cut(buffer.get(..length).unwrap_or(&buffer));
        let next = if others.is_empty() {
            self.pass_first(&mut first, lane);
            buffer
        } else {
            self.pass(Lines { first, buffer, others }, lane);
            self.spare.take().unwrap_or_else(|| lane.buffer())
        };
        self.show_open(lane);
        next
    }

    /// Takes in some bytes of a buffer where they are lines.
    fn take_part(&mut self, bytes: &[u8], lane: &mut impl Lane) {
        let (mut first, others) = self.cut(bytes);
        first.extend_from_slice(bytes.get(others).unwrap_or_default());
        self.pass_first(&mut first, lane);
        self.show_open(lane);
    }

    /// Cuts `bytes` into the line that began before, if it ends there, and where the other whole lines are; keeps what
    /// is not over yet.
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
                    let mut document = Document::line();
                    document.read(&line, &mut Vec::new());
                    self.document = Some(document).filter(|document| !document.is_over());
                }
                self.overlong = self.document.is_none();
            }
        }
        (first, start..end)
    }

    /// Shows the line that is not over yet, only where it is looked at soon: whoever is behind has more to read.
    fn show_open(&self, lane: &mut impl Lane) {
        if !self.open.is_empty() && self.put_off.is_none() {
            let shown = self.open.get(self.open.len().saturating_sub(SHOWN)..).unwrap_or_default().to_vec();
            drop(lane.offer(Piece::Open(shown)));
        }
    }

    /// Hands on what is left when the stream is over.
    pub fn finish(&mut self, lane: &mut impl Lane) {
        if let Some(document) = self.document.take() {
            self.take_back(&document.into_raw(), lane);
        }
        self.hand_kept(lane);
        if let Some(lines) = self.put_off.take() {
            lane.hand(Piece::Lines(lines));
        }
        if !self.open.is_empty() {
            lane.hand(Piece::Lines(Lines { first: std::mem::take(&mut self.open), ..Lines::default() }));
        }
    }

    /// Whether lines are put off that the reader has not got yet.
    pub const fn is_behind(&self) -> bool {
        self.put_off.is_some()
    }

    /// Offers lines that were put off again, the older ones first, while nothing else comes.
    pub fn settle(&mut self, lane: &mut impl Lane) {
        if !self.kept.is_empty() {
            let kept = Lines { first: std::mem::take(&mut self.kept), ..Lines::default() };
            if let Some(Piece::Lines(kept)) = lane.offer(Piece::Lines(kept)) {
                self.kept = kept.first;
                return;
            }
        }
        if let Some(lines) = self.put_off.take()
            && let Some(Piece::Lines(lines)) = lane.offer(Piece::Lines(lines))
        {
            self.put_off = Some(lines);
        }
    }

    /// Passes on `lines`, if any, that are in no buffer, and empties them.
    fn pass_first(&mut self, lines: &mut Vec<u8>, lane: &mut impl Lane) {
        if !lines.is_empty() {
            self.pass(Lines { first: std::mem::take(lines), ..Lines::default() }, lane);
        }
    }

    fn pass(&mut self, lines: Lines, lane: &mut impl Lane) {
        if !self.is_narrow
            && let Some(keep) = lane.needs()
        {
            (self.keep, self.is_narrow) = (keep, true);
        }
        if let Keep::Everything = self.keep {
            self.hand_kept(lane);
            if let Some(older) = self.put_off.take() {
                lane.hand(Piece::Lines(older));
            }
            return lane.hand(Piece::Lines(lines));
        }
        self.settle(lane);
        if self.put_off.is_some() && lines.parts().iter().all(|part| part.trim_ascii().is_empty()) {
            // What was said last is still what was put off.
            self.spare(lines);
        } else if let Some(older) = self.put_off.take() {
            self.sift(&older);
            // Only who must read more than that is waited for.
            if self.kept.len() > MAX_LINE {
                self.hand_kept(lane);
            }
            self.spare(older);
            self.put_off = Some(lines);
        } else if let Some(Piece::Lines(lines)) = lane.offer(Piece::Lines(lines)) {
            self.put_off = Some(lines);
        }
    }

    /// Keeps the buffer of `lines` for the next bytes.
    fn spare(&mut self, lines: Lines) {
        if lines.has_buffer() {
            self.spare = Some(lines.into_buffer());
        }
    }

    fn hand_kept(&mut self, lane: &mut impl Lane) {
        if !self.kept.is_empty() {
            lane.hand(Piece::Lines(Lines { first: std::mem::take(&mut self.kept), ..Lines::default() }));
        }
    }

    /// Keeps those of `lines` that must be read.
    fn sift(&mut self, lines: &Lines) {
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

    /// `lines` from the first object that does not begin them.
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

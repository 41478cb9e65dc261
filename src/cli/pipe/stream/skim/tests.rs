//! What is handed on, for any stream, however it comes and however far its reader is behind.

use proptest::prelude::*;

use super::*;

/// A parser with room for a given number of pieces at each offer.
struct Slow {
    room: Vec<bool>,
    asked: usize,
    lines: Vec<u8>,
    open: Vec<u8>,
    largest: usize,
    size: usize,
    needs: Option<Keep>,
}

impl Slow {
    fn new(room: &[bool], size: usize) -> Self {
        Self { room: room.to_vec(), asked: 0, lines: Vec::new(), open: Vec::new(), largest: 0, size, needs: None }
    }
}

impl Lane for Slow {
    fn offer(&mut self, piece: Piece) -> Option<Piece> {
        self.asked += 1;
        if self.room.is_empty() || self.room[self.asked % self.room.len()] {
            self.hand(piece);
            return None;
        }
        Some(piece)
    }

    fn hand(&mut self, piece: Piece) {
        match piece {
            Piece::Lines(lines) => {
                self.largest = self.largest.max(lines.parts().map(<[u8]>::len).iter().sum());
                self.lines.extend(lines.parts().concat());
            }
            Piece::Open(open) => self.open = open,
        }
    }

    fn buffer(&mut self) -> Vec<u8> {
        vec![b'\n'; self.size]
    }

    fn needs(&self) -> Option<Keep> {
        self.needs
    }
}

/// Lines that begin an object are minor unless they go on with `s`, others unless they begin with `toTal`.
fn is_minor(line: &[u8]) -> bool {
    if line.starts_with(b"{\"") { !line.starts_with(b"{\"s") } else { !line.starts_with(b"toTal") }
}

fn skim(stream: &[u8], sizes: &[usize], keep: Keep, room: &[bool]) -> Slow {
    let mut skimmer = Skimmer::new(keep, false);
    let mut lane = Slow::new(room, sizes.iter().copied().max().unwrap_or(1));
    let (mut rest, mut turn) = (stream, 0);
    let mut buffer = lane.buffer();
    while !rest.is_empty() {
        let (bytes, after) = rest.split_at(sizes[turn % sizes.len()].clamp(1, rest.len()));
        buffer[..bytes.len()].copy_from_slice(bytes);
        buffer = skimmer.take(buffer, bytes.len(), &mut lane);
        (rest, turn) = (after, turn + 1);
    }
    skimmer.finish(&mut lane);
    lane
}

fn kept(lines: &[u8], keep: Keep) -> Vec<&[u8]> {
    let counts = |line: &&[u8]| match keep {
        Keep::Nothing => false,
        Keep::Unless(is_minor) => !line.is_empty() && !is_minor(line),
        Keep::ObjectsUnless(is_minor) => line.starts_with(b"{\"") && !is_minor(line),
        Keep::Everything => true,
    };
    lines.split(|byte| *byte == b'\n').filter(counts).collect()
}

/// Lines of letters that often begin as those do that count.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        3 => Just(b"\n".to_vec()),
        1 => Just(b"toTal".to_vec()),
        2 => Just(b"{\"".to_vec()),
        1 => Just(b"sum".to_vec()),
        1 => Just(b"{".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

fn keeps() -> impl Strategy<Value = Keep> {
    prop_oneof![Just(Keep::Nothing), Just(Keep::Unless(is_minor)), Just(Keep::ObjectsUnless(is_minor))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_that_keeps_up_gets_every_byte(
        stream in streams(), sizes in proptest::collection::vec(1..30_usize, 1..5),
    ) {
        prop_assert_eq!(skim(&stream, &sizes, Keep::Unless(is_minor), &[]).lines, stream);
    }

    #[test]
    fn a_reader_that_must_have_all_gets_all(
        stream in streams(), sizes in proptest::collection::vec(1..30_usize, 1..5),
        room in proptest::collection::vec(any::<bool>(), 1..6),
    ) {
        prop_assert_eq!(skim(&stream, &sizes, Keep::Everything, &room).lines, stream);
    }

    #[test]
    fn lines_that_count_come_once_and_in_order_however_far_it_is_behind(
        stream in streams(), keep in keeps(), sizes in proptest::collection::vec(1..30_usize, 1..5),
        room in proptest::collection::vec(any::<bool>(), 1..6),
    ) {
        let lane = skim(&stream, &sizes, keep, &room);
        prop_assert_eq!(kept(&lane.lines, keep), kept(&stream, keep));
        // Whatever else comes are whole lines of the stream, its last one among them.
        let last = |lines: &[u8]| lines.split(|byte| *byte == b'\n').rev().find(|line| !line.is_empty()).map(<[u8]>::to_vec);
        prop_assert_eq!(last(&lane.lines), last(&stream));
        let known: std::collections::HashSet<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
        prop_assert!(lane.lines.split(|byte| *byte == b'\n').all(|line| known.contains(line)));
    }
}

#[test]
fn a_slow_parser_gets_totals_and_the_end() {
    let lane = skim(b"1\n2\ntoTal 3\n4\n5\n6", &[2], Keep::Unless(is_minor), &[false]);
    assert_eq!(String::from_utf8_lossy(&lane.lines), "toTal 3\n5\n6");
}

#[test]
fn only_the_line_that_is_too_long_is_skipped() {
    let mut stream = b"before\n".to_vec();
    stream.extend(vec![b'x'; 3 * MAX_LINE]);
    stream.extend(b"\nafter\nend");
    for size in [1000, 70_000, 5 * MAX_LINE] {
        let lane = skim(&stream, &[size], Keep::Unless(is_minor), &[]);
        assert!(lane.lines.starts_with(b"before\n") && lane.lines.ends_with(b"after\nend"), "{size}");
        assert!(lane.largest <= size.max(MAX_LINE) + size + 7, "{size}: {}", lane.largest);
    }
    // Without an end it takes no more than a line may.
    let mut skimmer = Skimmer::new(Keep::Unless(is_minor), false);
    let mut lane = Slow::new(&[], 65_536);
    for _ in 0..64 {
        skimmer.take(vec![0; 65_536], 65_536, &mut lane);
        assert!(skimmer.open.len() <= MAX_LINE);
    }
    assert!(lane.lines.is_empty());
}

#[test]
fn the_end_of_an_unfinished_line_is_passed_on() {
    let lane = skim(b"one\nGo on? [y/N] ", &[100], Keep::Unless(is_minor), &[]);
    assert_eq!(lane.open, b"Go on? [y/N] ");
    assert_eq!(lane.lines, b"one\nGo on? [y/N] ");
}

#[test]
fn a_deferred_block_is_passed_on_in_a_pause() {
    let mut skimmer = Skimmer::new(Keep::Nothing, false);
    let mut lane = Slow::new(&[false], 8);
    skimmer.take(b"question".to_vec(), 8, &mut lane);
    skimmer.take(b"?\n".to_vec(), 2, &mut lane);
    assert!(skimmer.is_behind() && lane.lines.is_empty());
    skimmer.settle(&mut lane);
    assert!(skimmer.is_behind() && lane.lines.is_empty());
    lane.room = vec![true];
    skimmer.settle(&mut lane);
    assert!(!skimmer.is_behind());
    assert_eq!(lane.lines, b"question?\n");
}

#[test]
fn once_the_format_is_known_fewer_lines_are_kept() {
    let mut skimmer = Skimmer::new(Keep::Everything, false);
    let mut lane = Slow::new(&[false], 8);
    skimmer.take(b"a\n".to_vec(), 2, &mut lane);
    assert_eq!(lane.lines, b"a\n");
    lane.needs = Some(Keep::Nothing);
    skimmer.take(b"b\n".to_vec(), 2, &mut lane);
    skimmer.take(b"c\n".to_vec(), 2, &mut lane);
    skimmer.finish(&mut lane);
    assert_eq!(lane.lines, b"a\nc\n");
}

/// What comes of `text`, `times` times over, in buffers of `size`, where documents are looked for.
fn documents(text: &str, times: usize, size: usize) -> String {
    let mut skimmer = Skimmer::new(Keep::Everything, true);
    let mut lane = Slow::new(&[], 1);
    for bytes in text.repeat(times).as_bytes().chunks(size) {
        skimmer.take(bytes.to_vec(), bytes.len(), &mut lane);
    }
    skimmer.finish(&mut lane);
    String::from_utf8(lane.lines).expect("text")
}

#[test]
fn consecutive_documents_need_no_more_memory_than_one() {
    for (text, expected) in [
        ("[{}]\n", "{}\n"),
        ("{\n\"a\":1\n}\n", "{\"a\":1}\n"),
        ("[{}]x\n", "{}\nx\n"),
        ("words\n[{}]", "words\n{}\n"),
        // What looks like a document at its beginning and is none, as Python prints its lists.
        ("[{'a': 1}]\n", "[{'a': 1}]\n"),
        ("[{\"a\": True}]\n", "[{\"a\": True}]\n"),
        ("[{\"a\": \"\n", "[{\"a\": \"\n"),
        ("{\n  A\n}\n", "{\n  A\n}\n"),
    ] {
        for size in [1, 3, 7, 128 * 1024] {
            let times = (128 * 1024) / text.len();
            let found = documents(text, times, size);
            let mut lines: Vec<&str> = found.lines().filter(|line| !line.is_empty()).collect();
            lines.dedup();
            assert!(found.matches(expected).count() + 1 >= times, "{text:?} {size}: {:.200}", found);
            assert!(lines.len() <= expected.lines().count() * times, "{text:?} {size}");
        }
    }
}

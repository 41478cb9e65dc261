//! Piped output: split into lines, parsed in each format and by patterns, and reported as a state.
//!
//! The first line holds the format and the patterns as JSON; the rest is the output, in pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lookout::cli::pipe::stream::skim::{Keep, Lane, Piece, Skimmer};
use lookout::cli::pipe::stream::{RunCounts, StreamEnding, StreamFormat, StreamReader};
use lookout::config::pipe::PipeConfig;
use lookout::ingest::{decode_state, encode_state};
use lookout::model::telemetry::Telemetry;
use lookout::model::{Batch, Time};
use lookout_fuzz::watch::Watch;

fuzz_target!(|input: &[u8]| {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return };
    let (head, output) = (&input[..end], &input[end + 1..]);
    let Some((kind, patterns)) = head.split_first() else { return };
    let format = match kind % 4 {
        0 => StreamFormat::Auto,
        1 => StreamFormat::ClaudeCode,
        2 => StreamFormat::Codex,
        _ if kind & 16 != 0 => StreamFormat::GeminiCli,
        _ => StreamFormat::Text,
    };
    let config: PipeConfig = serde_json::from_slice(patterns).unwrap_or_default();
    let (patterns, problems) = config.read();
    if !problems.is_empty() {
        return;
    }
    let mut reader = StreamReader::new(format, patterns, None);
    let mut watch = Watch::new(input.len() % 2 == 0);
    let mut reported = RunCounts::default();
    let mut lane = All { is_slow: kind & 4 != 0, pieces: Vec::new() };
    // When everything is forwarded, documents are not split into lines.
    let is_whole = kind & 8 != 0;
    let keep = if is_whole { Keep::Everything } else { reader.keep() };
    let mut skimmer = Skimmer::new(keep, !is_whole && reader.reads_documents());
    for piece in output.split(|byte| *byte == 0) {
        skimmer.take(piece.to_vec(), piece.len(), &mut lane);
        report(&mut watch, &mut reader, &mut lane, &mut reported);
    }
    skimmer.finish(&mut lane);
    if is_whole {
        whole(output, &lane);
    }
    report(&mut watch, &mut reader, &mut lane, &mut reported);
    reader.finish(watch.now, StreamEnding::Over);
    assert!(reader.state().ended || reader.state().status.is_over(), "what ended is over");
    report(&mut watch, &mut reader, &mut lane, &mut reported);
});

/// A consumer that may be slow, and the pieces that it received.
struct All {
    is_slow: bool,
    pieces: Vec<Piece>,
}

impl Lane for All {
    fn offer(&mut self, piece: Piece) -> Option<Piece> {
        if self.is_slow {
            return Some(piece);
        }
        self.pieces.push(piece);
        None
    }

    fn hand(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    fn buffer(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn needs(&self) -> Option<Keep> {
        None
    }
}

/// Panics if a line that must be read was not forwarded; `lane` was emptied after each piece but the last ones.
fn whole(output: &[u8], lane: &All) {
    let handed: usize = lane.pieces.iter().map(length).sum();
    assert!(handed <= output.len(), "no line is handed on twice");
}

fn length(piece: &Piece) -> usize {
    match piece {
        Piece::Lines(lines) => lines.parts().iter().map(|part| part.len()).sum(),
        Piece::Open(_) => 0,
    }
}

/// Reads the forwarded pieces and reports them to the fleet; panics if a count fell or a report is rejected.
fn report(watch: &mut Watch, reader: &mut StreamReader, lane: &mut All, reported: &mut RunCounts) {
    for piece in lane.pieces.drain(..) {
        match piece {
            Piece::Lines(lines) => lines.parts().iter().for_each(|part| reader.lines(watch.now, part)),
            Piece::Open(line) => reader.open_line(&line),
        }
    }
    let state = reader.state();
    for (now, before) in state.counts.whole.iter().zip(reported.whole) {
        assert!(*now >= before, "a count fell: {:?} after {reported:?}", state.counts);
    }
    assert!(state.progress.is_none_or(|progress| (0.0..=100.0).contains(&progress)), "{state:?}");
    reported.note(&state.counts);
    let now: Time = watch.now;
    let agents = vec![state.update("piped", &state.counts, Some(now))];
    let written = encode_state(&Batch { project: "default".into(), agents, ..Batch::default() });
    let batch = decode_state(&written, now).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert!(batch.rejected.is_empty(), "{:?}: {written}", batch.rejected);
    watch.fleet.push(now, batch);
    watch.evaluate();
    watch.show(&Telemetry::default());
}

//! Copies standard input to standard output, with a copy for the parser.
//!
//! Each read is written before anything else is done with it. Both ends may be non-blocking, since any program that
//! shares a terminal can make it so.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cli::pipe::stream::StreamEnding;
use crate::cli::pipe::stream::skim::{Lane, Skimmer};

/// Most bytes of one read: the same as `cat`, and twice the size of a pipe.
pub(super) const BUFFER: usize = 128 * 1024;

/// Streams of more bytes than this get a larger pipe, for fewer context switches. Others do not, since the kernel
/// limits the total size of a user's pipes.
const LARGE: usize = 64 << 20;
#[cfg(target_os = "linux")]
const LARGE_PIPE: usize = 512 * 1024;
/// A pause of this length leaves time to parse blocks that were deferred.
const IDLE_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Copies until the input ends or the reader closes the output. At the end both are closed, so that neither the agent
/// nor the reader waits for the last report.
pub(super) fn copy(mut skimmer: Skimmer, lane: &mut impl Lane) -> anyhow::Result<StreamEnding> {
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().context("open standard input")?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned().context("open standard output")?);
    let mut buffer = lane.buffer();
    let mut passed = 0_usize;
    let copied = loop {
        while skimmer.is_behind() && is_idle(&input) {
            skimmer.settle(lane);
        }
        let length = match read(&mut input, &mut buffer) {
            Ok(0) => break Ok(StreamEnding::Over),
            Ok(length) => length,
            Err(error) => break Err(error).context("read standard input"),
        };
        match write(&mut output, buffer.get(..length).unwrap_or_default()) {
            Ok(()) => {
                let before = passed;
                passed = passed.saturating_add(length);
                if before < LARGE && passed >= LARGE {
                    enlarge(&input);
                }
                buffer = skimmer.take(buffer, length, lane);
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break Ok(StreamEnding::ReaderGone),
            Err(error) => break Err(error).context("write standard output"),
        }
    };
    drop((input, output));
    if let Ok(nothing) = File::options().read(true).write(true).open("/dev/null") {
        // If this fails, they are closed at the exit.
        rustix::stdio::dup2_stdin(&nothing).unwrap_or_default();
        rustix::stdio::dup2_stdout(&nothing).unwrap_or_default();
    }
    skimmer.finish(lane);
    copied
}

/// Gives `input` a larger pipe. This fails for other files than pipes, and at the kernel's limit.
#[cfg(target_os = "linux")]
fn enlarge(input: &impl AsFd) {
    rustix::pipe::fcntl_setpipe_size(input, LARGE_PIPE).unwrap_or_default();
}

/// Elsewhere a pipe's size cannot be set.
#[cfg(not(target_os = "linux"))]
const fn enlarge(_input: &impl AsFd) {}

/// Whether the input pauses.
fn is_idle(input: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&IDLE_PAUSE)) == Ok(0)
}

fn read(input: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) => retry(&error, input, PollFlags::IN).then_some(()).ok_or(error)?,
            read => return read,
        }
    }
}

fn write(output: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(error) => retry(&error, output, PollFlags::OUT).then_some(()).ok_or(error)?,
        }
    }
    Ok(())
}

/// Whether to try again after `error`; waits until that makes sense.
fn retry(error: &io::Error, stream: &impl AsFd, flags: PollFlags) -> bool {
    match error.kind() {
        ErrorKind::Interrupted => true,
        ErrorKind::WouldBlock => {
            // A signal ends the wait early; retry then, too.
            let waited = poll(&mut [PollFd::new(stream, flags)], None);
            waited.is_ok() || waited == Err(rustix::io::Errno::INTR)
        }
        _ => false,
    }
}

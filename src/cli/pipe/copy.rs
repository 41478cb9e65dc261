//! Standard input to standard output, as it comes, with a copy for who understands it.
//!
//! Each read is written before anything else is done with it. Both ends may be non-blocking: a terminal is, once any
//! program that shares it has made it so.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cli::pipe::stream::Ending;
use crate::cli::pipe::stream::skim::{Lane, Skimmer};

/// So much is read at once, in bytes: as `cat` does it, and twice what a pipe holds.
pub(super) const BUFFER: usize = 128 * 1024;

/// A stream that has brought so much is a large one, in bytes, and gets a larger pipe: fewer turns between the program
/// that writes and this one. Others keep what they have, since the kernel bounds the pipes of all of a user's programs.
const LARGE: usize = 64 << 20;
#[cfg(target_os = "linux")]
const LARGE_PIPE: usize = 512 * 1024;
/// A stream that brings nothing for so long leaves time to catch up on what was put off.
const CALM: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Copies until the stream ends or nobody reads it any more. At the end both streams are closed, so that neither the
/// agent nor who reads it waits for what is done afterwards.
pub(super) fn copy(mut skimmer: Skimmer, lane: &mut impl Lane) -> anyhow::Result<Ending> {
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().context("open standard input")?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned().context("open standard output")?);
    let mut buffer = lane.buffer();
    let mut passed = 0_usize;
    let copied = loop {
        while skimmer.is_behind() && is_calm(&input) {
            skimmer.settle(lane);
        }
        let length = match read(&mut input, &mut buffer) {
            Ok(0) => break Ok(Ending::Over),
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
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break Ok(Ending::ReaderGone),
            Err(error) => break Err(error).context("write standard output"),
        }
    };
    drop((input, output));
    if let Ok(nothing) = File::options().read(true).write(true).open("/dev/null") {
        // Where that fails, they are closed with the process.
        rustix::stdio::dup2_stdin(&nothing).unwrap_or_default();
        rustix::stdio::dup2_stdout(&nothing).unwrap_or_default();
    }
    skimmer.finish(lane);
    copied
}

/// Gives `input` a larger pipe. What is no pipe, or may not grow, is read as it is.
#[cfg(target_os = "linux")]
fn enlarge(input: &impl AsFd) {
    rustix::pipe::fcntl_setpipe_size(input, LARGE_PIPE).unwrap_or_default();
}

/// Elsewhere a pipe's size cannot be set.
#[cfg(not(target_os = "linux"))]
const fn enlarge(_input: &impl AsFd) {}

/// Whether nothing comes for a while.
fn is_calm(input: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&CALM)) == Ok(0)
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
            // A signal ends the wait early, and then it is tried again, too.
            let waited = poll(&mut [PollFd::new(stream, flags)], None);
            waited.is_ok() || waited == Err(rustix::io::Errno::INTR)
        }
        _ => false,
    }
}

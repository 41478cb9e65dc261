//! A socket whose other end must read, and that takes turns: a write that makes no progress for too long is an error,
//! and a large answer goes out in pieces between which others are served.
//!
//! Without the one, answers that nobody fetches would be kept for as long as their askers like. Without the other,
//! whoever sends state would wait while the system copies a page of megabytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a write may wait for the other end.
const STALL: Duration = Duration::from_secs(10);

/// Bytes written in one turn: copying them takes some tens of microseconds.
const PIECE: usize = 64 * 1024;

/// A socket that gives up on who does not read.
pub(super) struct Stalls<S> {
    inner: S,
    waiting: Option<Pin<Box<Sleep>>>,
    stall: Duration,
    /// Bytes written since others had their turn.
    written: usize,
    turn: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Stalls<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner, waiting: None, stall: STALL, written: 0, turn: None }
    }

    /// Turns a wait that lasts too long into an error.
    fn bound<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let stall = self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(stall)));
        waiting.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ready when the next piece may be written: after each, whatever else there is to do comes first.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.written >= PIECE {
            let turn = self.turn.get_or_insert_with(|| Box::pin(tokio::task::yield_now()));
            ready!(turn.as_mut().poll(context));
            (self.turn, self.written) = (None, 0);
        }
        Poll::Ready(())
    }

    /// Counts what `polled` wrote.
    fn wrote(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &polled {
            self.written += count;
        }
        self.bound(context, polled)
    }
}

/// The start of `bytes` that one turn takes.
fn piece(bytes: &[u8]) -> &[u8] {
    bytes.get(..PIECE).unwrap_or(bytes)
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalls<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalls<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(context));
        let polled = Pin::new(&mut self.inner).poll_write(context, piece(bytes));
        self.wrote(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(context));
        let mut room = PIECE;
        let fitting = slices.iter().take_while(|slice| {
            let fits = slice.len() <= room;
            room = room.saturating_sub(slice.len());
            fits
        });
        let polled = match (slices.get(..fitting.count()), slices.first()) {
            (Some([]), Some(first)) => Pin::new(&mut self.inner).poll_write(context, piece(first)),
            (fitting, _) => Pin::new(&mut self.inner).poll_write_vectored(context, fitting.unwrap_or(slices)),
        };
        self.wrote(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(context);
        self.bound(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(context);
        self.bound(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn who_reads_is_served_and_who_never_reads_is_not() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut near = Stalls { stall: Duration::from_millis(50), ..Stalls::new(near) };
        let (sent, read) =
            tokio::join!(near.write_all(&[7; 16]), async { far.read_exact(&mut [0; 16]).await.map(drop) });
        sent.and(read).expect("it moves");
        let error = near.write_all(&[7; 5]).await.expect_err("it does not move");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_large_answer_lets_others_in_between_its_pieces() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let answer: Vec<u8> = (0..10 * PIECE + 1).map(|at| (at % 251) as u8).collect();
        for is_vectored in [false, true] {
            let (near, mut far) = tokio::io::duplex(answer.len());
            let mut near = Stalls::new(near);
            let turns = AtomicUsize::new(0);
            let write = async {
                let mut rest = &answer[..];
                while !rest.is_empty() {
                    let (first, second) = rest.split_at(rest.len().min(100));
                    let slices = [IoSlice::new(first), IoSlice::new(second)];
                    let count = if is_vectored { near.write_vectored(&slices).await } else { near.write(rest).await };
                    rest = &rest[count.expect("it writes")..];
                }
            };
            let others = async {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = write => {}
                () = others => {}
            }
            assert!(turns.into_inner() >= 10, "others had their turn after each piece");
            let mut read = vec![0; answer.len()];
            far.read_exact(&mut read).await.expect("it is there");
            assert!(read == answer, "and all of it arrives in order");
        }
    }
}

//! A socket with a write timeout that also yields between the pieces of a large response.
//!
//! Without the timeout, a client that does not read would keep its response in memory. Without yielding, other requests
//! would wait while the kernel copies megabytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Timeout of a write without progress.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes written before yielding, which takes some tens of microseconds.
const PIECE: usize = 64 * 1024;

/// The socket.
pub(super) struct WriteTimeout<S> {
    inner: S,
    waiting: Option<Pin<Box<Sleep>>>,
    stall: Duration,
    /// Bytes written since the last yield.
    written: usize,
    turn: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> WriteTimeout<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner, waiting: None, stall: WRITE_TIMEOUT, written: 0, turn: None }
    }

    /// Returns an error when a write has been pending for too long.
    fn bound<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let stall = self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(stall)));
        waiting.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ready when the next piece may be written; yields to other tasks after each piece.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.written >= PIECE {
            let turn = self.turn.get_or_insert_with(|| Box::pin(tokio::task::yield_now()));
            ready!(turn.as_mut().poll(context));
            (self.turn, self.written) = (None, 0);
        }
        Poll::Ready(())
    }

    /// Counts written bytes.
    fn wrote(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &polled {
            self.written += count;
        }
        self.bound(context, polled)
    }
}

/// The first piece of `bytes`.
fn piece(bytes: &[u8]) -> &[u8] {
    bytes.get(..PIECE).unwrap_or(bytes)
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
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
        let mut remaining = PIECE;
        let fitting = slices.iter().take_while(|slice| {
            let fits = slice.len() <= remaining;
            remaining = remaining.saturating_sub(slice.len());
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
    async fn a_client_that_does_not_read_times_out() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut near = WriteTimeout { stall: Duration::from_millis(50), ..WriteTimeout::new(near) };
        let (sent, read) =
            tokio::join!(near.write_all(&[7; 16]), async { far.read_exact(&mut [0; 16]).await.map(drop) });
        sent.and(read).expect("it moves");
        let error = near.write_all(&[7; 5]).await.expect_err("it does not move");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_large_response_yields_between_its_pieces() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let answer: Vec<u8> = (0..10 * PIECE + 1).map(|at| (at % 251) as u8).collect();
        for is_vectored in [false, true] {
            let (near, mut far) = tokio::io::duplex(answer.len());
            let mut near = WriteTimeout::new(near);
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
            assert!(turns.into_inner() >= 10, "it yielded after each piece");
            let mut read = vec![0; answer.len()];
            far.read_exact(&mut read).await.expect("it is there");
            assert!(read == answer, "all of it arrives in order");
        }
    }
}

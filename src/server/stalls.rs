//! A socket whose other end must read: a write that makes no progress for too long is an error.
//!
//! Without it, answers that nobody fetches would be kept for as long as their askers like.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a write may wait for the other end.
const STALL: Duration = Duration::from_secs(10);

/// A socket that gives up on who does not read.
#[derive(Debug)]
pub(super) struct Stalls<S> {
    inner: S,
    waiting: Option<Pin<Box<Sleep>>>,
    stall: Duration,
}

impl<S> Stalls<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner, waiting: None, stall: STALL }
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
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.bound(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.bound(context, polled)
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
        let mut near = Stalls { inner: near, waiting: None, stall: Duration::from_millis(50) };
        let (sent, read) =
            tokio::join!(near.write_all(&[7; 16]), async { far.read_exact(&mut [0; 16]).await.map(drop) });
        sent.and(read).expect("it moves");
        let error = near.write_all(&[7; 5]).await.expect_err("it does not move");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

//! The body of one stream: reads the ring at the pace of its client.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};

use super::event::{EventKind, frame};
use super::filter::{StreamFilter, StreamForm};
use super::{OpenStream, StreamHub};
use crate::config::server::Role;
use crate::server::access::{AccessRules, RequestEnds, Requirement};

/// How often a stream without events is seen to be alive, and its token checked.
const PING_EVERY: Duration = Duration::from_secs(15);

/// How long a stream of a user that a proxy names goes on: the next request shows whether the proxy still does. Clients
/// resume where it ended.
const LONGEST_OF_PROXY: Duration = Duration::from_secs(600);

/// The request of a stream, which is checked again while the stream is open.
pub(super) struct StreamAccess {
    pub(super) rules: watch::Receiver<Arc<AccessRules>>,
    /// Its method, target and headers.
    pub(super) request: Request<()>,
    pub(super) ends: RequestEnds,
    pub(super) opened_at: Instant,
}

impl StreamAccess {
    /// Whether the request would still be allowed.
    async fn is_allowed(&mut self) -> bool {
        let rules = Arc::clone(&self.rules.borrow_and_update());
        rules.renew(self.request.headers()).await;
        let caller = rules.check(&self.request, Requirement::Role(Role::Read), self.ends);
        caller.is_ok_and(|caller| !caller.is_of_proxy() || self.opened_at.elapsed() < LONGEST_OF_PROXY)
    }
}

/// One viewer.
pub(super) struct Viewer {
    hub: StreamHub,
    head: watch::Receiver<u64>,
    stop: CancellationToken,
    position: u64,
    filter: StreamFilter,
    /// What is sent next.
    frames: VecDeque<Bytes>,
    ping: Pin<Box<Sleep>>,
    access: StreamAccess,
    _open: OpenStream,
}

impl Viewer {
    /// A viewer that resumes after the event with the id `last`, or begins with what changes from now on.
    pub(super) fn new(open: OpenStream, filter: StreamFilter, last: Option<&str>, access: StreamAccess) -> Self {
        let hub = open.hub().clone();
        let (head, stop) = (hub.head(filter.form()), hub.stop_token());
        let (position, id, is_missing) = hub.begin_at(filter.form(), last);
        let mut frames = VecDeque::from([Bytes::from(format!(": lookout\nretry: 2000\nid: {id}\n\n"))]);
        if is_missing {
            frames.push_back(resync(&hub, filter.form(), position, "unknown_id"));
        }
        let ping = Box::pin(tokio::time::sleep(PING_EVERY));
        Self { hub, head, stop, position, filter, frames, ping, access, _open: open }
    }

    /// Reads from the ring; returns whether there is anything to send.
    fn fill(&mut self) -> bool {
        // Marked as seen first, so that what is added meanwhile wakes this viewer again.
        drop(self.head.borrow_and_update());
        match self.hub.read(self.position, &self.filter, &mut self.frames) {
            Ok(position) => {
                self.position = position;
                self.hub.sent(self.frames.len());
            }
            // Its client was too slow, and is not waited for.
            Err((position, _)) => {
                self.position = position;
                self.frames.push_back(resync(&self.hub, self.filter.form(), position, "too_slow"));
            }
        }
        !self.frames.is_empty()
    }

    /// A comment by which a client sees that the stream is alive, and resumes from here even if it wants few events.
    fn push_ping(&mut self) {
        let id = self.hub.id_before(self.filter.form(), self.position);
        self.frames.push_back(Bytes::from(format!(": ping\nid: {id}\n\n")));
    }

    /// Waits until there is something to send; `false` when the stream ends.
    async fn wait(mut self) -> (Self, bool) {
        loop {
            // A token may have been revoked in its file, a session may have ended. Checked here, since while there is always
            // something to send, the timer below is not reached.
            if Instant::now() >= self.ping.deadline() {
                if !self.access.is_allowed().await {
                    return (self, false);
                }
                self.ping.as_mut().reset(Instant::now() + PING_EVERY);
                self.push_ping();
                return (self, true);
            }
            if self.fill() {
                return (self, true);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return (self, false),
                _ = self.access.rules.changed() => {
                    if !self.access.is_allowed().await {
                        return (self, false);
                    }
                }
                changed = self.head.changed() => {
                    if changed.is_err() {
                        return (self, false);
                    }
                }
                () = &mut self.ping => {}
            }
        }
    }
}

/// Events are missing, and the client is to fetch everything again.
fn resync(hub: &StreamHub, form: StreamForm, position: u64, reason: &str) -> Bytes {
    hub.resynced();
    frame(hub.id_before(form, position), EventKind::Resync, &format!(r#"{{"reason": "{reason}"}}"#))
}

/// The body of a viewer's response.
pub(super) struct ViewerBody {
    /// `None` while `waiting` has it.
    viewer: Option<Viewer>,
    waiting: ReusableBoxFuture<'static, (Option<Viewer>, bool)>,
}

impl ViewerBody {
    pub(super) fn new(viewer: Viewer) -> Self {
        Self { viewer: Some(viewer), waiting: ReusableBoxFuture::new(wait(None)) }
    }
}

async fn wait(viewer: Option<Viewer>) -> (Option<Viewer>, bool) {
    match viewer {
        Some(viewer) => {
            let (viewer, goes_on) = viewer.wait().await;
            (Some(viewer), goes_on)
        }
        None => (None, false),
    }
}

impl http_body::Body for ViewerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(bytes) = self.viewer.as_mut().and_then(|viewer| viewer.frames.pop_front()) {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(viewer) = self.viewer.take() {
                self.waiting.set(wait(Some(viewer)));
            }
            let (viewer, goes_on) = ready!(self.waiting.poll(context));
            if !goes_on {
                self.waiting.set(wait(None));
                return Poll::Ready(None);
            }
            self.viewer = viewer;
        }
    }
}

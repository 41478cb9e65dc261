//! A connection to a service that fails on command: refused, or cut before the answer comes back.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::program::within;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: all goes through.
    None,
    /// They are closed at once.
    Away,
    /// What is sent arrives; the answer is lost with the connection.
    AnswersLost,
}

struct Link {
    fault: Fault,
    /// How often a client connected since then.
    attempts: usize,
    open: Vec<TcpStream>,
}

/// Stands between a client and a service.
pub(crate) struct Unreliable {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    link: Arc<Mutex<Link>>,
}

impl Unreliable {
    /// In front of the service at `upstream`.
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let link = Arc::new(Mutex::new(Link { fault: Fault::None, attempts: 0, open: Vec::new() }));
        let shared = Arc::clone(&link);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut link = shared.lock().unwrap();
                link.attempts += 1;
                let service = if link.fault == Fault::Away { None } else { TcpStream::connect(upstream).ok() };
                let Some(service) = service else { continue };
                for stream in [&client, &service] {
                    link.open.push(stream.try_clone().expect("a handle"));
                }
                let (from_client, to_service) = (client.try_clone(), service.try_clone());
                thread::spawn(move || pass(from_client.expect("a handle"), to_service.expect("a handle"), None));
                let shared = Arc::clone(&shared);
                thread::spawn(move || pass(service, client, Some(&shared)));
            }
        });
        Self { address, link }
    }

    /// From now on; connections that are open end.
    pub(crate) fn set(&self, fault: Fault) {
        let mut link = self.link.lock().unwrap();
        (link.fault, link.attempts) = (fault, 0);
        for stream in link.open.drain(..) {
            // It may have ended.
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Waits until a client has connected under this fault.
    pub(crate) fn wait_for_attempt(&self) {
        within(Duration::from_secs(60), "an attempt", || (self.link.lock().unwrap().attempts > 0).then_some(()));
    }
}

/// Copies until one side ends; answers, for which there is a link, only while none are lost.
fn pass(mut from: TcpStream, mut to: TcpStream, link: Option<&Mutex<Link>>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let is_lost = link.is_some_and(|link| link.lock().unwrap().fault == Fault::AnswersLost);
        if is_lost || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        stream.shutdown(Shutdown::Both).ok();
    }
}
